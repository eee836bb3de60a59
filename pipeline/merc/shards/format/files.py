"""The Parquet files of a split: found, checked, and read by row group."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from merc import parquet
from merc.errors import BadTable, nearest
from merc.records.dialogue import SPLITS
from merc.shards.format.cutting import file_name
from merc.shards.format.row_groups import opened
from merc.shards.format.schema import check_dialogues


@dataclass(frozen=True)
class ShardFile:
    """One file of dialogues, with its footer read once; it is closed between reads, so that mapped pages do not
    accumulate.

    Attributes:
        path: the file.
        identity: distinguishes it from another file that has replaced it.
        metadata: its footer.
        schema: its columns.
    """

    path: Path
    identity: tuple[int, int, int]
    metadata: parquet.FileMetaData
    schema: pa.Schema

    def read(
        self, columns: Sequence[str] | None = None, groups: Sequence[int] | None = None, *, threads: bool = True
    ) -> pa.Table:
        """Rows of the file, from a memory map.

        Args:
            columns: only these; None for all.
            groups: only these row groups; None for all.
            threads: let Arrow decode the columns in parallel.

        Raises:
            BadTable: if there is no such column, or the file is truncated, damaged, or not the one that was opened.
        """
        self.check_columns(columns or ())
        wanted = None if columns is None else list(columns)
        self._check_identity()
        try:
            with parquet.opened(self.path, metadata=self.metadata, memory_map=True) as file:
                every = range(self.metadata.num_row_groups) if groups is None else groups
                return file.read_row_groups(list(every), columns=wanted, use_threads=threads)
        finally:  # a replaced file is the better explanation, with or without apparent damage
            self._check_identity()

    def _check_identity(self) -> None:
        if _identity(self.path) != self.identity:
            raise BadTable(
                f"{self.path}: it was replaced after it was opened; open the shards again, so that two versions are"
                " not mixed"
            )

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raises ``BadTable`` if the file lacks one of ``columns``; the message gives the nearest name."""
        for name in columns:
            if name not in self.schema.names:
                raise BadTable(f"{self.path}: no column {name!r}; {nearest(name, self.schema.names)}")

    def groups_that_may_hold(self, column: str, value: str) -> Iterator[int]:
        """Row groups whose smallest and largest ``column`` enclose ``value``, or are unknown; the column must contain
        strings, not lists.
        """
        position = self.schema.names.index(
            column
        )  # the columns before it are not lists either, so each is one Parquet leaf
        for group in range(self.metadata.num_row_groups):
            statistics = self.metadata.row_group(group).column(position).statistics
            if statistics is None or not statistics.has_min_max or statistics.min <= value <= statistics.max:
                yield group


def open_shard(path: Path) -> ShardFile:
    """Reads a file's footer.

    Raises:
        BadTable: if it is not a Parquet file, not a shard, or has another schema version.
    """
    identity = _identity(path)
    with opened(path, memory_map=True) as file:
        check_dialogues(file.schema_arrow, path)
        return ShardFile(path, identity, file.metadata, file.schema_arrow)


def _identity(path: Path) -> tuple[int, int, int]:
    """Inode, size and modification time of the file at ``path``."""
    try:
        found = path.stat()
    except OSError as error:
        raise BadTable(f"{path}: cannot be read: {error.strerror}") from error
    return found.st_ino, found.st_size, found.st_mtime_ns


def find(root: Path, split: str) -> list[Path]:
    """The files of a split, in order; empty if ``split`` is not the name of one.

    Raises:
        BadTable: if one of those implied by the names (``train-00000-of-00002.parquet``) is missing, or there are
            others.
    """
    paths = sorted((root / "dialogues").glob(f"{split}-*-of-*.parquet")) if split in SPLITS else []
    if paths:
        counted = re.search(r"-of-(\d+)$", paths[0].stem)
        wanted = (
            [file_name(split, index, int(counted.group(1))) for index in range(int(counted.group(1)))]
            if counted
            else []
        )
        there = [path.name for path in paths]
        if there != wanted:
            missing, strange = (
                ", ".join(sorted(names)) or "none" for names in ({*wanted} - {*there}, {*there} - {*wanted})
            )
            raise BadTable(
                f"{paths[0].parent}: going by {there[0]}, files of {split} are missing: {missing}; and some are from"
                f" another run: {strange}"
            )
    return paths
