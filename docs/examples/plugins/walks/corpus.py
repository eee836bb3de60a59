"""Walks: conversations on walks, one JSON file per split.

Paper and home: none, this is an example. Licence: Apache-2.0.
Known defects: none. A real corpus lists here the defects of its distribution, and how they are handled.
"""

import json
from pathlib import Path
from typing import Any

from merc.corpora.engine.base import CorpusConfig, CorpusReader, Reading
from merc.corpora.engine.labels import LabelSet
from merc.errors import BadTable, RawDataMissing
from merc.records.dialogue import Dialogue, Utterance

LABELS = LabelSet("walks", ("glad", "curious", "cross"), merge={"happy": "glad"})


class Walks(CorpusReader):
    """Reads ``train.json``, ``dev.json`` and ``test.json``, each a list of dialogues."""

    LABEL_SETS = ("walks",)
    SOURCE = "Walks needs no request: docs/adding/corpus.md shows all of it."
    EXPECTED_TREE = "walks/\n  train.json\n  dev.json\n  test.json"

    class Config(CorpusConfig):
        """Settings of Walks."""

        label_set: str = "walks"
        """The only label set."""
        strangers: bool = True
        """Whether dialogues with strangers are also read."""

    config: Config

    def read(self, root: Path, raw: Path, *, media: frozenset[str], splits: tuple[str, ...]) -> Reading:
        """See :meth:`CorpusReader.read`; Walks has text only."""
        dialogues = [
            self._dialogue(split, given)
            for split in splits
            for given in self._load(root, split)
            if self.config.strangers or not given["strangers"]
        ]
        return Reading(dialogues, labels=LABELS)

    def _load(self, root: Path, split: str) -> list[dict[str, Any]]:
        path = root / f"{split}.json"
        if not path.is_file():
            raise RawDataMissing(f"{path} is missing. Expected:\n{self.EXPECTED_TREE}\n{self.SOURCE}")
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def _dialogue(self, split: str, given: dict[str, Any]) -> Dialogue:
        utterances = tuple(
            Utterance(
                source_utterance_id=f"{given['id']}_{number}",
                speaker=turn["who"],
                text=turn["says"],
                emotion=self._emotion(given["id"], turn["feels"]),
                start_seconds=0.0,
                end_seconds=0.0,
            )
            for number, turn in enumerate(given["turns"])
        )
        return Dialogue(split=split, source_dialogue_id=given["id"], utterances=utterances)

    def _emotion(self, dialogue: str, emotion: str) -> str:
        if emotion and LABELS.index(emotion) < 0:
            raise BadTable(f"dialogue {dialogue}: unknown emotion {emotion!r}; valid: {', '.join(LABELS.classes)}")
        return LABELS.merge.get(emotion, emotion)
