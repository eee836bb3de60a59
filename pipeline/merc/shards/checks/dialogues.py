"""Checks of the dialogue tables, one row group at a time; data to be compared over a whole split is kept in compact
arrays.

Legend: K dialogues, N utterances, D features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from merc.errors import BadTable
from merc.shards.checks.problems import LISTED, UNREADABLE, Problems
from merc.shards.facts import Facts
from merc.shards.format import reader
from merc.shards.format.moments import RunningMoments
from merc.shards.format.row_groups import column, merc, opened
from merc.shards.format.schema import per_utterance


@dataclass
class SeenSplit:
    """Data of one split, for the checks that need all of it; each list has one entry per row group.

    Attributes:
        dialogue_ids, utterance_ids: of the dialogues and utterances, in order.
        lengths: utterances of each dialogue.
        labels: ``emotion_index`` of the utterances.
        present: modality → bool per utterance.
        complete: False if a part could not be read, so that missing data may exist.
    """

    dialogue_ids: list[pa.Array] = field(default_factory=list)
    utterance_ids: list[pa.Array] = field(default_factory=list)
    lengths: list[NDArray[np.int64]] = field(default_factory=list)
    labels: list[NDArray[np.int64]] = field(default_factory=list)
    present: dict[str, list[NDArray[np.bool_]]] = field(default_factory=dict)
    complete: bool = True

    @cached_property
    def dialogues(self) -> pa.ChunkedArray:
        """All dialogue ids; like the following ones, to be used after all files have been read."""
        return pa.chunked_array(self.dialogue_ids, pa.string())

    @cached_property
    def utterances(self) -> pa.ChunkedArray:
        """All utterance ids."""
        return pa.chunked_array(self.utterance_ids, pa.string())

    @cached_property
    def bounds(self) -> NDArray[np.int64]:
        """First utterance of each dialogue, followed by the total number."""
        return np.concatenate([[0], *self.lengths]).astype(np.int64).cumsum()

    def dialogue_of(self, utterance: int) -> str:
        """Id of an utterance's dialogue."""
        return str(self.dialogues[int(np.searchsorted(self.bounds, utterance, side="right")) - 1].as_py())


class DialogueCheck:
    """Checks the dialogue tables of one dataset, file by file.

    Args:
        root: folder of the shards.
        facts: their expected properties.
        problems: what is wrong is added to it.

    Attributes:
        seen: split → its data.
        moments: modality → mean and deviation of the train split's present vectors.
    """

    def __init__(self, root: Path, facts: Facts, problems: Problems) -> None:
        self.root, self.facts, self.problems = root, facts, problems
        self.seen: dict[str, SeenSplit] = {}
        self.moments = {modality: RunningMoments(dim) for modality, dim in facts.dims.items()}

    def check(self, path: Path, split: str, *, train: bool) -> None:
        """Checks one file of a split, every row group; with ``train`` its vectors are added to the statistics."""
        seen = self.seen.setdefault(split, SeenSplit(present={modality: [] for modality in self.facts.dims}))
        file = path.relative_to(self.root).as_posix()
        try:
            with opened(path) as parquet:
                if not self._check_schema(parquet.schema_arrow, file):
                    seen.complete = False
                    return
                for index in range(parquet.num_row_groups):
                    self._check_rows(parquet.read_row_group(index), file, split, seen, train=train)
        except BadTable as error:
            seen.complete = False
            self.problems.add(UNREADABLE, file, str(error).removeprefix(f"{path}: "))

    def _check_schema(self, found: pa.Schema, file: str) -> bool:
        """Whether the columns are those of the contract; otherwise their content cannot be checked."""
        try:
            wanted = self.facts.schema
        except UnicodeEncodeError:
            self.problems.add(
                "metadata", file, "meta/info.json has half characters in its names, which no Parquet file can hold"
            )
            return False
        if found.equals(wanted, check_metadata=False):
            there, said = merc(found), merc(wanted)
            for key in sorted({*there, *said}):
                if there.get(key) != said.get(key):
                    self.problems.add("metadata", file, f"{key} is not that of meta/info.json")
            return True
        for name in sorted({*found.names, *wanted.names}):
            has, wants = (_described(one, name) for one in (found, wanted))
            if has != wants:
                self.problems.add("schema", file, f"{has} instead of {wants}", column=name)
        if found.names != wanted.names and set(found.names) == set(wanted.names):
            self.problems.add("schema", file, f"columns in the order {', '.join(found.names)}")
        return False

    def _check_rows(self, rows: pa.Table, file: str, split: str, seen: SeenSplit, *, train: bool) -> None:
        sound = self._with_equal_lengths(rows, file)
        if sound.num_rows < rows.num_rows:
            seen.complete = False
        rows = sound
        if not rows.num_rows:
            return
        ids: list[str] = rows["dialogue_id"].to_pylist()
        lengths_K = rows["n_utterances"].to_numpy().astype(np.int64)
        told = _Told(self.problems, file, ids, np.repeat(np.arange(len(ids)), lengths_K))
        self._check_ids(rows, split, told)
        self._check_speakers(rows, told)
        labels_N = self._check_labels(rows, told)
        for name, _, kind in per_utterance(transcripts=self.facts.transcripts, quality=self.facts.quality_columns):
            if pa.types.is_floating(kind):
                values_N: NDArray[np.float64] = column(rows, name).flatten().fill_null(0).to_numpy()
                told.utterances("finite", ~np.isfinite(values_N), "not finite", column=name)
        for modality in self.facts.dims:
            seen.present[modality].append(self._check_vectors(rows, modality, told, train=train))
        seen.dialogue_ids.append(column(rows, "dialogue_id"))
        seen.utterance_ids.append(column(rows, "utterance_ids").flatten())
        seen.lengths.append(lengths_K)
        seen.labels.append(labels_N)

    def _check_vectors(self, rows: pa.Table, modality: str, told: "_Told", *, train: bool) -> NDArray[np.bool_]:
        present_N: NDArray[np.bool_] = column(rows, f"{modality}_present").flatten().to_numpy(zero_copy_only=False)
        values_ND, _ = reader.vectors_of(rows[modality])
        finite_N: NDArray[np.bool_] = np.asarray(np.isfinite(values_ND).all(axis=1))
        told.utterances("finite", ~finite_N, "not finite", column=modality)
        zeros_N = ~values_ND.any(axis=1)
        told.utterances("presence", present_N & zeros_N, "present, but its vector is all zeros", column=modality)
        told.utterances(
            "presence", ~present_N & ~zeros_N, "not present, but its vector is not all zeros", column=modality
        )
        if train:
            self.moments[modality].add(values_ND[present_N])
        return present_N

    def _with_equal_lengths(self, rows: pa.Table, file: str) -> pa.Table:
        """Reports dialogues whose lists differ in length, and returns the others."""
        lengths_K, good_K = rows["n_utterances"].to_numpy(), np.ones(rows.num_rows, dtype=bool)
        told = _Told(self.problems, file, rows["dialogue_id"].to_pylist(), np.arange(rows.num_rows))
        told.dialogues("lengths", lengths_K < 1, lambda row: f"{lengths_K[row]} utterances", column="n_utterances")
        for name in rows.column_names:
            if pa.types.is_list(rows[name].type):
                found_K = column(rows, name).value_lengths().fill_null(-1).to_numpy()
                wrong_K = found_K != lengths_K
                told.dialogues("lengths", wrong_K, partial(_lengths_differ, found_K, lengths_K), column=name)
                good_K &= ~wrong_K
        return (
            rows
            if good_K.all() and lengths_K.min(initial=1) > 0
            else rows.filter(pa.array(good_K & (lengths_K > 0))).combine_chunks()
        )

    def _check_ids(self, rows: pa.Table, split: str, told: "_Told") -> None:
        for name in ("dialogue_id", "utterance_ids"):
            values = column(rows, name)
            flat = values.flatten() if pa.types.is_list(values.type) else values
            wrong = pc.invert(pc.starts_with(flat, f"{split}/")).to_numpy(zero_copy_only=False)
            tell = told.utterances if pa.types.is_list(values.type) else told.dialogues
            tell("ids", wrong, f"does not begin with {split}/", column=name)
        told.dialogues(
            "splits",
            pc.not_equal(rows["split"], split).to_numpy(),
            f"a row of another split in a file of {split}",
            column="split",
        )

    def _check_speakers(self, rows: pa.Table, told: "_Told") -> None:
        """The same index if and only if the same name, and ``n_speakers`` of them from 0."""
        index_N = column(rows, "speaker_index").flatten().to_numpy().astype(np.int64)
        names = column(rows, "speakers").flatten().dictionary_encode()
        triple = np.unique(np.stack([told.owner, names.indices.to_numpy().astype(np.int64), index_N], axis=1), axis=0)
        wrong_K = np.zeros(len(told.ids), dtype=bool)
        for pair in (triple[:, :2], triple[:, ::2]):
            different, counts = np.unique(pair, axis=0, return_counts=True)
            wrong_K[different[counts > 1, 0]] = True
        told.dialogues(
            "speakers", wrong_K, "one name with two numbers, or one number with two names", column="speaker_index"
        )
        most_K = np.full(len(told.ids), -1)
        np.maximum.at(most_K, triple[:, 0], triple[:, 2])
        number_K = np.bincount(triple[:, 0], minlength=len(told.ids))
        said_K = rows["n_speakers"].to_numpy()
        wrong_K = ~wrong_K & ((most_K + 1 != said_K) | (number_K != said_K))
        told.dialogues(
            "speakers",
            wrong_K,
            lambda row: f"{said_K[row]}, but there are {number_K[row]}, numbered up to {most_K[row]}",
            column="n_speakers",
        )

    def _check_labels(self, rows: pa.Table, told: "_Told") -> NDArray[np.int64]:
        labels = column(rows, "emotion_index").flatten()
        index_N: NDArray[np.int64] = labels.fill_null(-2).to_numpy()
        classes = len(self.facts.labels.classes)
        strange_N = (index_N < -1) | (index_N >= classes)
        told.utterances(
            "labels",
            strange_N,
            lambda row: f"{labels[row].as_py()}; valid: -1 to {classes - 1}",
            column="emotion_index",
        )
        emotions = column(rows, "emotions").flatten().dictionary_encode()
        wanted = np.array(
            [self.facts.labels.index(emotion) for emotion in emotions.dictionary.to_pylist()], dtype=np.int64
        )
        wanted_N = wanted[emotions.indices.to_numpy()]
        told.utterances(
            "labels",
            ~strange_N & (index_N != wanted_N),
            lambda row: f"{index_N[row]}, but {emotions[row].as_py()!r} has {wanted_N[row]}",
            column="emotion_index",
        )
        return index_N


def _described(schema: pa.Schema, name: str) -> str:
    if name not in schema.names:
        return "nothing"
    field = schema.field(name)
    return f"{field.type}{'' if field.nullable else ' not null'}"


def _lengths_differ(found_K: NDArray[np.int64], wanted_K: NDArray[np.int64], row: int) -> str:
    return f"{found_K[row]} entries for {wanted_K[row]} utterances"


@dataclass(frozen=True)
class _Told:
    """Reports problems of the rows of one row group: ``owner`` is the dialogue of each utterance."""

    problems: Problems
    file: str
    ids: Sequence[str]
    owner: NDArray[np.int64]

    def dialogues(
        self, kind: str, wrong_K: NDArray[np.bool_], words: str | Callable[[int], str], *, column: str
    ) -> None:
        rows = np.flatnonzero(wrong_K)
        found = [(self.ids[row], words if isinstance(words, str) else words(int(row))) for row in rows[:LISTED]]
        self.problems.add_rows(kind, self.file, found, column=column, times=len(rows))

    def utterances(
        self, kind: str, wrong_N: NDArray[np.bool_], words: str | Callable[[int], str], *, column: str
    ) -> None:
        """As :meth:`dialogues`, with the position in the dialogue."""
        rows = np.flatnonzero(wrong_N)
        found = []
        for row in rows[:LISTED].tolist():
            position = row - int(np.searchsorted(self.owner, self.owner[row]))
            found.append(
                (self.ids[self.owner[row]], f"utterance {position}: {words if isinstance(words, str) else words(row)}")
            )
        self.problems.add_rows(kind, self.file, found, column=column, times=len(rows))
