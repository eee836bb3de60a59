"""How two folders of shards differ: dialogues, vectors by how much, presence, labels and texts, and provenance.

Both are read as streams, joined by dialogue id and within a dialogue by utterance id; if the orders agree, every row
group is read once.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from merc.job import flat
from merc.records.dialogue import SPLITS
from merc.shards.difference import Difference, SplitChange, VectorChange
from merc.shards.facts import Facts, dialogue_rows
from merc.shards.format import reader
from merc.shards.format.row_groups import column, files_of, opened
from merc.shards.format.schema import per_utterance
from merc.shards.lookup import Lookup
from merc.shards.rewriting import read_failures

_IDS, _UTTERANCES = "dialogue_id", "utterance_ids"
_PER_DIALOGUE = ("corpus", "scenario", "n_speakers")
# What made the content: of the record's other keys, some follow from the content, which is compared directly, some
# represent it, and `settings` determines where files are split.
_WHAT_MADE_IT = (
    "corpus",
    "corpus_settings",
    "counts_compared",
    "deviations",
    "encoders",
    "label_set",
    "classes",
    "redistribution",
    "source",
    "selection",
    "versions",
)
_NONE = pa.array([], pa.string())


def diff(one: Path, other: Path, *, tolerance: float = 0.0) -> Difference:
    """Compares the shards in ``one`` with those in ``other``.

    Args:
        one, other: folders of shards.
        tolerance: a vector counts as changed if one of its numbers differs by more than this.

    Raises:
        BadTable: if a folder contains no shards, or one of its files cannot be read.
    """
    infos = reader.info(one), reader.info(other)
    facts = Facts.of(infos[0]), Facts.of(infos[1])
    splits = [[split for split in SPLITS if files_of(root, "dialogues", split)] for root in (one, other)]
    names = [fact.schema.names for fact in facts]
    compared = [split for split in splits[0] if split in splits[1]]
    differing = _differing(infos)
    return Difference(
        splits={split: _compare_split((one, other), split, facts, tolerance) for split in compared},
        only=(
            [split for split in splits[0] if split not in compared],
            [split for split in splits[1] if split not in compared],
        ),
        columns=(
            [name for name in names[0] if name not in names[1]],
            [name for name in names[1] if name not in names[0]],
        ),
        info={key: pair for key, pair in differing.items() if "versions" not in key.split(".")},
        versions={key: pair for key, pair in differing.items() if "versions" in key.split(".")},
    )


def _differing(infos: tuple[Mapping[str, Any], Mapping[str, Any]]) -> dict[str, tuple[Any, Any]]:
    """Differing dotted keys of what made the content; for encoders, only those of modalities in both."""
    shared = set(infos[0]["encoders"]) & set(infos[1]["encoders"])
    flats = []
    for info in infos:
        kept = {key: info[key] for key in _WHAT_MADE_IT if key in info}
        if all(one.get("quality") for one in infos):
            kept["quality"] = info["quality"]["settings"]
        kept["encoders"] = {
            modality: {**facts, "fingerprint": None}
            for modality, facts in info["encoders"].items()
            if modality in shared
        }
        flats.append(flat(kept))
    one, other = flats
    return {key: (one.get(key), other.get(key)) for key in sorted({*one, *other}) if one.get(key) != other.get(key)}


def _compare_split(roots: tuple[Path, Path], split: str, facts: tuple[Facts, Facts], tolerance: float) -> SplitChange:
    change = SplitChange()
    comparison = _Comparison(facts, change, tolerance)
    second = Lookup(roots[1], split, facts[1])
    met: list[pa.Array] = []
    for rows in dialogue_rows(roots[0], split, facts[0]):
        ids = column(rows, _IDS)
        met.append(ids)
        there = pc.is_in(ids, value_set=second.ids)
        change.dialogues.add(there.true_count, ids.filter(pc.invert(there)), _NONE)
        both = rows.filter(there)
        if both.num_rows:
            comparison.add(both, second.take(column(both, _IDS)))
    known = pc.is_in(second.ids, value_set=pa.chunked_array(met, pa.string()))
    change.dialogues.add(0, _NONE, second.ids.filter(pc.invert(known)))
    comparison.finish()
    one, other = (_counted(read_failures(root, split)) for root in roots)
    change.failures = ((one - other).total(), (other - one).total())
    change.trajectories = _differing_trajectories(roots, split)
    return change


def _counted(failed: pa.Table) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(failed[name].to_pylist() for name in failed.column_names), strict=True))


def _differing_trajectories(roots: tuple[Path, Path], split: str) -> list[str]:
    """Columns of the trajectory tables that differ, or that only one of them has; empty if neither folder has
    trajectories.
    """
    paths = [files_of(root, "trajectories", split) for root in roots]
    if not all(paths):
        return ["the whole table"] if any(paths) else []
    names = [_names(one[0]) for one in paths]
    differing = sorted(set(names[0]) ^ set(names[1]))
    for name in (name for name in names[0] if name in names[1]):
        one, other = (_by_dialogue(files, name) for files in paths)
        if not one.equals(other):
            differing.append(name)
    return differing


def _names(path: Path) -> list[str]:
    with opened(path) as file:
        return list(file.schema_arrow.names)


def _by_dialogue(paths: Sequence[Path], name: str) -> pa.ChunkedArray:
    """A column in the order of the dialogue ids."""
    pieces = []
    for path in paths:
        with opened(path) as file:
            pieces.append(file.read(columns=list({_IDS, name})))
    rows = pa.concat_tables(pieces)
    return rows[name].take(pc.sort_indices(rows[_IDS]))


class _Comparison:
    """Compares rows of the same dialogues, piece by piece, into a :class:`SplitChange`."""

    def __init__(self, facts: tuple[Facts, Facts], change: SplitChange, tolerance: float) -> None:
        self.facts, self.change, self.tolerance = facts, change, tolerance
        transcripts = all(fact.transcripts for fact in facts)
        quality = [name for name in facts[0].quality_columns if name in facts[1].quality_columns]
        self.lists = [
            name for name, _, _ in per_utterance(transcripts=transcripts, quality=quality) if name != _UTTERANCES
        ]
        for modality, dim in facts[0].dims.items():
            if modality in facts[1].dims:
                lengths = (dim, facts[1].dims[modality])
                change.vectors[modality] = VectorChange(lengths=lengths if lengths[0] != lengths[1] else None)
        self.cosines: dict[str, float] = defaultdict(float)

    def add(self, one: pa.Table, other: pa.Table) -> None:
        """Rows of the same dialogues in the same order."""
        for name in _PER_DIALOGUE:
            self._count(name, column(one, name), column(other, name), column(one, _IDS))
        ids = [column(rows, _UTTERANCES).flatten() for rows in (one, other)]
        place = pc.index_in(ids[0], value_set=ids[1])
        there = place.is_valid()
        back = pc.is_in(ids[1], value_set=ids[0])
        self.change.utterances.add(there.true_count, ids[0].filter(pc.invert(there)), ids[1].filter(pc.invert(back)))
        rows = np.flatnonzero(there.to_numpy(zero_copy_only=False)), place.drop_null().to_numpy()
        shared = ids[0].take(pa.array(rows[0]))
        self._note(_UTTERANCES, shared.filter(pa.array(np.diff(rows[1], prepend=-1) < 0)))  # in another order
        for name in self.lists:
            values = [
                column(table, name).flatten().take(pa.array(index))
                for table, index in zip((one, other), rows, strict=True)
            ]
            self._count(name, values[0], values[1], shared)
        for modality, change in self.change.vectors.items():
            flags = [
                column(table, f"{modality}_present").flatten().to_numpy(zero_copy_only=False)[index]
                for table, index in zip((one, other), rows, strict=True)
            ]
            change.lost += int((flags[0] & ~flags[1]).sum())
            change.gained += int((~flags[0] & flags[1]).sum())
            if change.lengths is None:
                both = flags[0] & flags[1]
                vectors = [
                    reader.vectors_of(table[modality])[0][index[both]]
                    for table, index in zip((one, other), rows, strict=True)
                ]
                self._compare_vectors(modality, change, vectors, shared.filter(pa.array(both)))

    def finish(self) -> None:
        """Turns sums into means."""
        for modality, change in self.change.vectors.items():
            if change.changed:
                change.mean_cosine = self.cosines[modality] / change.changed

    def _compare_vectors(
        self, modality: str, change: VectorChange, vectors: Sequence[NDArray[np.float32]], ids: pa.Array
    ) -> None:
        change.compared += len(ids)
        one_ND, other_ND = (values.astype(np.float64) for values in vectors)
        difference_N = np.abs(one_ND - other_ND).max(axis=1, initial=0.0)
        changed = np.flatnonzero(~(difference_N <= self.tolerance))  # written so that NaN counts as changed
        if not len(changed):
            return
        norms = np.linalg.norm(one_ND[changed], axis=1) * np.linalg.norm(other_ND[changed], axis=1)
        cosines = (one_ND[changed] * other_ND[changed]).sum(axis=1) / norms
        change.changed += len(changed)
        self.cosines[modality] += float(cosines.sum())
        change.lowest_cosine = min(change.lowest_cosine, float(cosines.min()))
        worst = changed[int(np.argmax(difference_N[changed]))]
        if not difference_N[worst] <= change.largest:
            change.largest, change.worst = float(difference_N[worst]), ids[int(worst)].as_py()

    def _count(self, name: str, one: pa.Array, other: pa.Array, ids: pa.Array) -> None:
        same = pc.or_kleene(pc.equal(one, other), pc.and_(one.is_null(), other.is_null())).fill_null(False)
        if pa.types.is_floating(one.type):
            same = pc.or_(same, pc.and_(pc.is_nan(one), pc.is_nan(other)).fill_null(False))
        self._note(name, ids.filter(pc.invert(same)))

    def _note(self, name: str, wrong: pa.Array) -> None:
        if len(wrong):
            before, first = self.change.columns.get(name, (0, wrong[0].as_py()))
            self.change.columns[name] = (before + len(wrong), first)
