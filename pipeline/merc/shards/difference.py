"""What :mod:`merc.shards.diff` finds: how two folders of shards differ."""

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa


@dataclass
class Ids:
    """Ids that are in only one folder.

    Attributes:
        both: number in both.
        only: number only in the first, and only in the second.
        first: an example of each, or empty.
    """

    both: int = 0
    only: tuple[int, int] = (0, 0)
    first: tuple[str, str] = ("", "")

    def add(self, both: int, one: pa.Array | pa.ChunkedArray, other: pa.Array | pa.ChunkedArray) -> None:
        """Adds the ids of one piece: the number in both, and those in only one."""
        self.both += both
        self.only = (self.only[0] + len(one), self.only[1] + len(other))
        self.first = (self.first[0] or _first(one), self.first[1] or _first(other))


def _first(ids: pa.Array | pa.ChunkedArray) -> str:
    return str(ids[0].as_py()) if len(ids) else ""


@dataclass
class VectorChange:
    """How the vectors of one modality differ, over the utterances in both.

    Attributes:
        compared: number of utterances present in both.
        changed: number of these with different vectors.
        largest: greatest absolute difference of a number.
        lowest_cosine, mean_cosine: over the changed ones; 1 if there are none.
        worst: the utterance with the greatest difference.
        lost, gained: number of utterances present only in the first, and only in the second.
        lengths: length of the vectors in each, if they differ; nothing is compared then.
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
        dialogues: ids in one or both.
        utterances: the same for utterances of dialogues in both.
        vectors: modality → how its vectors differ, for modalities in both.
        columns: column → number of differing entries, and the first of them; only for columns that differ.
        failures: number of failure rows only in the first, and only in the second.
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
        """True if anything differs."""
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
        info: dotted key of ``meta/info.json`` → the two values; None if missing.
        versions: library → the two versions; these alone do not count as a difference.
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
