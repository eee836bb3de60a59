"""The problems found by a check: counted by kind, and the first of each kind in full."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

LISTED = 20
"""This many of a kind are reported in full; otherwise a problem of a whole corpus would fill the screen."""

UNREADABLE = "unreadable"
KINDS = {
    UNREADABLE: "not a Parquet or JSON file, truncated, or of another schema version",
    "schema": "other columns or types than the schema says",
    "metadata": "a file's metadata contradict meta/info.json",
    "lengths": "lists of a dialogue that differ in length",
    "ids": "an id twice, or that does not begin with its split",
    "splits": "a dialogue in two splits, or in the file of another one",
    "speakers": "speaker_index does not number the speakers by first appearance",
    "labels": "emotion_index outside the classes, or not the index of the emotion",
    "finite": "a value that is not finite",
    "presence": "absent without zeros or without a failure row, or present with either",
    "failures": "a failure row about a nonexistent utterance, or with an unknown reason",
    "info": "meta/info.json contradicts the content",
    "stats": "meta/stats.json does not fit the vectors",
    "manifest": "a file that is missing, not listed, or not the one that meta/manifest.json describes",
    "trajectories": "not the labels of the dialogues",
    "neighbours": "a neighbour that is unknown, of another split, the dialogue itself, or out of order",
}


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        kind: a key of :data:`KINDS`.
        file: relative to the shards.
        what: description, with the values.
        dialogue_id, column: where it is; empty if it concerns the file as a whole.
    """

    kind: str
    file: str
    what: str
    dialogue_id: str = ""
    column: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.kind, self.file, self.dialogue_id, self.column, self.what) if part)


@dataclass
class Problems:
    """All problems.

    Attributes:
        listed: the first :data:`LISTED` of each kind.
        counts: kind → number.
    """

    listed: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, file: str, what: str, *, dialogue_id: str = "", column: str = "", times: int = 1) -> None:
        """Adds a problem; ``times``: number of similar ones that it represents."""
        if kind not in KINDS:
            raise ValueError(f"no kind of problem {kind!r}; one of {', '.join(KINDS)}")
        if self.counts[kind] < LISTED:
            self.listed.append(Problem(kind, file, what, dialogue_id, column))
        self.counts[kind] += times

    def add_rows(
        self, kind: str, file: str, found: Sequence[tuple[str, str]], *, column: str = "", times: int | None = None
    ) -> None:
        """Adds one problem per ``(dialogue id, words)``; ``times``: their number if ``found`` contains only the first
        of them.
        """
        for dialogue_id, what in found:
            self.add(kind, file, what, dialogue_id=dialogue_id, column=column)
        self.counts[kind] += (len(found) if times is None else times) - len(found)
