"""What :mod:`merc.shards.diff` finds: how two folders of shards differ."""

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa


@dataclass
class Ids:
    """Which are in one folder only.

    Attributes:
        both: how many are in both.
        only: how many are only in the first, only in the second.
        first: one of each, or empty.
    """

    both: int = 0
    only: tuple[int, int] = (0, 0)
    first: tuple[str, str] = ("", "")

    def add(self, both: int, one: pa.Array | pa.ChunkedArray, other: pa.Array | pa.ChunkedArray) -> None:
        """Adds the ids of one piece: how many are in both, and those in one alone."""
        self.both += both
        self.only = (self.only[0] + len(one), self.only[1] + len(other))
        self.first = (self.first[0] or _first(one), self.first[1] or _first(other))


def _first(ids: pa.Array | pa.ChunkedArray) -> str:
    return str(ids[0].as_py()) if len(ids) else ""


@dataclass
class VectorChange:
    """How the vectors of one modality differ, over the utterances in both.

    Attributes:
        compared: utterances that are present in both.
        changed: of these, whose vectors differ.
        largest: greatest absolute difference of a number.
        lowest_cosine, mean_cosine: over those that are changed; 1 if none is.
        worst: the utterance with the greatest difference.
        lost, gained: utterances that are present only in the first, only in the second.
        lengths: length of the vectors in each, if those differ: nothing is compared then.
    """

    compared: int = 0
    changed: int = 0
    largest: float = 0.0
    lowest_cosine: float = 1.0
    mean_cosine: float = 1.0
    worst: str = ""
    lost: int = 0
    gained: int = 0
    lengths: tuple[int, int] | None = None

    @property
    def differs(self) -> bool:
        return bool(self.changed or self.lost or self.gained or self.lengths)


@dataclass
class SplitChange:
    """How one split differs.

    Attributes:
        dialogues: which are where.
        utterances: the same, of the dialogues in both.
        vectors: modality → how its vectors differ; of modalities in both.
        columns: column → how many entries differ, and the first of them; only columns that differ.
        failures: failure rows only in the first, only in the second.
        trajectories: columns of the trajectory tables that differ.
    """

    dialogues: Ids = field(default_factory=Ids)
    utterances: Ids = field(default_factory=Ids)
    vectors: dict[str, VectorChange] = field(default_factory=dict)
    columns: dict[str, tuple[int, str]] = field(default_factory=dict)
    failures: tuple[int, int] = (0, 0)
    trajectories: list[str] = field(default_factory=list)

    @property
    def differs(self) -> bool:
        """True if anything does."""
        of_ids = any(any(ids.only) for ids in (self.dialogues, self.utterances))
        return (
            of_ids
            or any(change.differs for change in self.vectors.values())
            or bool(self.columns or any(self.failures) or self.trajectories)
        )


@dataclass
class Difference:
    """How two folders differ.

    Attributes:
        splits: split → how it differs, for the splits in both.
        only: splits only in the first, only in the second.
        columns: columns only in the first, only in the second.
        info: dotted key of ``meta/info.json`` → the two values; None where there is none.
        versions: library → the two versions, which alone make no difference.
    """

    splits: dict[str, SplitChange]
    only: tuple[list[str], list[str]]
    columns: tuple[list[str], list[str]]
    info: dict[str, tuple[Any, Any]]
    versions: dict[str, tuple[Any, Any]]

    @property
    def differs(self) -> bool:
        return bool(any(self.only) or any(self.columns) or self.info) or any(
            split.differs for split in self.splits.values()
        )
