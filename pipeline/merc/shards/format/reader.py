"""Reads shards: a split in any order and in bounded memory, one dialogue by id, the vectors of a column as arrays.

    dialogues = Dialogues(root, "train", ["text", "text_present", "emotion_index"])
    for epoch in range(10):
        for batch in dialogues.batches(32, seed=epoch, part=Part(rank=1, ranks=4)):
            batch["text"], batch["text_present"], batch["emotion_index"], batch["mask"]  # [B, T, D] and three times [B, T]

Torch's ``DataLoader`` reads the same through :mod:`merc.shards.torch_batches`.
"""  # noqa: E501

import difflib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter

from merc import files
from merc.errors import BadSettings, BadTable, RawDataMissing, nearest
from merc.layout import Layout, with_shards
from merc.records.dialogue import SPLITS
from merc.shards.format import files as shard_files
from merc.shards.format.batches import LENGTH, DecodedGroup, padded, vectors_of
from merc.shards.format.meta import Info, Moments
from merc.shards.format.order import Part, windows
from merc.shards.format.row_groups import check_version, with_equal_lists, without_nulls

__all__ = ["Dialogues", "Part", "dialogue", "info", "read_split", "row_groups", "splits", "stats", "vectors_of"]

_WHOLE = Part()
_STATS = TypeAdapter(dict[str, Moments])


def splits(root: Path) -> list[str]:
    """The existing splits, in the order train, dev, test."""
    return [split for split in SPLITS if shard_files.find(root, split)]


def info_of(layout: Layout) -> dict[str, Any]:
    """``meta/info.json`` of a dataset's shards.

    Raises:
        RawDataMissing: if it has none; the message names the command that makes them, and the datasets that have
            shards.
    """
    there = with_shards(layout.out)
    if layout.dataset not in there:
        close = difflib.get_close_matches(layout.dataset, there, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        known = (
            f"{layout.out} has shards of {', '.join(there)}{hint}" if there else f"{layout.out} has no shards at all."
        )
        raise RawDataMissing(
            f"there are no shards of {layout.dataset!r}, and {known} This makes them:\n  merc-extract --dataset"
            f" {layout.dataset}"
        )
    return info(layout.shards)


def read_split(root: Path, split: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads a split into memory: one row per dialogue, in order (columns: :mod:`merc.shards.format.schema`).

    Args:
        root: folder of the shards.
        split: ``train``, ``dev`` or ``test``.
        columns: only these; None for all.

    Raises:
        BadTable: if there is no such split or column, or a file is missing, damaged, or not a shard of this schema
            version.
    """
    return pa.concat_tables(
        [with_equal_lists(without_nulls(file.read(columns), file.path), file.path) for file in _open(root, split)]
    )


def row_groups(root: Path, split: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The same, one row group at a time. Raises ``BadTable`` as :func:`read_split`."""
    for file in _open(root, split):
        for group in range(file.metadata.num_row_groups):
            yield with_equal_lists(without_nulls(file.read(columns, [group]), file.path), file.path)


def dialogue(root: Path, dialogue_id: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The row of one dialogue; only the vectors of its row group are decoded.

    Args:
        root: folder of the shards.
        dialogue_id: such as ``train/dia0``.
        columns: only these; None for all.

    Raises:
        BadTable: if there is no such dialogue; the message gives the nearest id.
    """
    split = dialogue_id.partition("/")[0]
    paths = shard_files.find(root, split)
    for file in map(shard_files.open_shard, paths):
        for group in file.groups_that_may_hold("dialogue_id", dialogue_id):
            ids = file.read(["dialogue_id"], [group])["dialogue_id"].to_pylist()
            if dialogue_id in ids:
                return file.read(columns, [group]).slice(ids.index(dialogue_id), 1)
    known = [
        one
        for path in paths
        for one in without_nulls(shard_files.open_shard(path).read(["dialogue_id"]), path)["dialogue_id"].to_pylist()
    ]
    close = (
        nearest(dialogue_id, known)
        if len(known) <= 20
        else nearest(dialogue_id, known).partition("valid:")[0] + f"there are {len(known)} in {split}"
    )
    raise BadTable(f"{root}: no dialogue {dialogue_id!r}; {close}")


class Dialogues:
    """A split, dialogue by dialogue or in padded batches, however large it is.

    Row groups are decoded by threads a little ahead of their use: ``threads`` + 1 of them are in memory, while
    shuffling ``threads`` + ``window``.

    Args:
        root: folder of the shards.
        split: ``train``, ``dev`` or ``test``.
        columns: only these are read; None for all.
        window: number of row groups whose dialogues are shuffled together (:func:`merc.shards.format.order.windows`).
        threads: number of decoding threads.

    Raises:
        BadTable: if there is no such split or column, or a file is missing, damaged, not a shard of this schema
            version, or has other columns than the first.
        BadSettings: if ``threads`` is below 1.
    """

    def __init__(
        self, root: Path, split: str, columns: Sequence[str] | None = None, *, window: int = 8, threads: int = 4
    ) -> None:
        if threads < 1:
            raise BadSettings(f"{threads} threads; valid: from 1")
        self.files = _open(root, split)
        self.window, self.threads = window, threads
        self.columns = list(self.files[0].schema.names if columns is None else columns)
        self.files[0].check_columns(self.columns)
        for file in self.files:
            if not file.schema.equals(self.files[0].schema):
                raise BadTable(f"{file.path}: other columns than those of {self.files[0].path}")
        self._groups = [(file, group) for file in self.files for group in range(file.metadata.num_row_groups)]
        self._rows_per_group = [file.metadata.row_group(group).num_rows for file, group in self._groups]

    def __len__(self) -> int:
        """Number of dialogues in the split."""
        return sum(self._rows_per_group)

    def rows(self, *, seed: int | None = None, part: Part = _WHOLE, start: int = 0) -> Iterator[dict[str, Any]]:
        """Dialogues, one after another.

        Args:
            seed: seed of the shuffle; the same seed gives the same order, so use another one for every epoch. None: the
                order of the files.
            part: the share of a rank and worker; with the same seed, all of them together read every dialogue once.
            start: number of dialogues of this part to skip, to continue where another run stopped; they are not read.

        Yields:
            Column → value, for a dialogue of T utterances: float32 [T, D] for vectors, arrays [T] for numbers and flags
            (NaN where null), lists of T strings, a string or a number. Arrays are read-only views of a whole row group:
            copy what you keep.

        Raises:
            BadSettings: if ``seed`` or ``start`` is negative.
            BadTable: if a file is damaged, or the lists of a dialogue differ in length.
        """
        return self._iterate(self.columns, seed, part, start)

    def batches(
        self, size: int, *, seed: int | None = None, part: Part = _WHOLE, start: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Batches of ``size`` dialogues (the last may have fewer), padded to the longest of each.

        Args:
            size: dialogues per batch, from 1.
            seed, part, start: see :meth:`rows`; ``start`` counts dialogues here, too.

        Yields:
            Column → value, see :func:`merc.shards.format.batches.padded`: vectors [B, T, D], numbers and flags [B, T],
            ``mask`` [B, T], ``n_utterances`` [B].

        Raises:
            BadSettings, BadTable: see :meth:`rows`; and if ``size`` is below 1.
        """
        if size < 1:
            raise BadSettings(f"batches of {size} dialogues; valid: from 1")
        rows = self._iterate([*self.columns, *({LENGTH} - {*self.columns})], seed, part, start)
        return (padded(batch) for batch in iter(lambda: list(islice(rows, size)), []))

    def _iterate(self, columns: list[str], seed: int | None, part: Part, start: int) -> Iterator[dict[str, Any]]:
        first, last = part.span(len(self))
        if start < 0:
            raise BadSettings(f"start {start}; valid: from 0")
        return self._picked(columns, list(windows(self._rows_per_group, (first + start, last), seed, self.window)))

    def _picked(self, columns: list[str], picked: list[NDArray[np.int64]]) -> Iterator[dict[str, Any]]:
        wanted = [*columns, *({LENGTH} - {*columns})]

        def decode(number: int) -> DecodedGroup:
            file, group = self._groups[number]
            return DecodedGroup(file.read(wanted, [group], threads=False), f"{file.path}, row group {group}")

        needed = [np.unique(picks_R2[:, 0]).tolist() for picks_R2 in picked]
        decoded = _ahead(decode, [group for groups in needed for group in groups], self.threads)
        held: dict[int, DecodedGroup] = {}
        try:
            for picks_R2, groups in zip(picked, needed, strict=True):
                held.clear()
                held.update(zip(groups, decoded, strict=False))
                for group, row in picks_R2.tolist():
                    yield held[group].row(row, columns)
        finally:
            decoded.close()


def info(root: Path) -> dict[str, Any]:
    """``meta/info.json``: ``classes``, ``dims``, ``modalities``, ``encoders``, ``counts``, the fingerprint and more.

    Raises:
        BadTable: if it is missing, has another schema version, or lacks a key.
    """
    path = root / "meta" / "info.json"
    if not path.is_file():
        raise BadTable(f"{root}: not a folder of shards: there is no meta/info.json")
    content = files.read_json(path)
    check_version(path, content if isinstance(content, dict) else {})
    found: dict[str, Any] = files.read_record(path, Info, "the record of shards")
    return found


def stats(root: Path) -> dict[str, Any]:
    """``meta/stats.json``: modality → ``count``, ``mean``, ``std``; per feature, over the present utterances of the
    train split.

    A feature that never varies has ``std`` 0; without a train split all are 0.

    Raises:
        BadTable: if it is missing, or contains something else.
    """
    path = root / "meta" / "stats.json"
    if not path.is_file():
        raise BadTable(f"{root}: not a folder of shards: there is no meta/stats.json")
    found: dict[str, Any] = files.read_record(path, _STATS, "the statistics of shards")
    return found


def _open(root: Path, split: str) -> list[shard_files.ShardFile]:
    paths = shard_files.find(root, split)
    if not paths:
        raise BadTable(f"{root}: no split {split!r}; {nearest(split, splits(root))}")
    return [shard_files.open_shard(path) for path in paths]


def _ahead(
    decode: Callable[[int], DecodedGroup], groups: Iterable[int], threads: int
) -> Generator[DecodedGroup, None, None]:
    """The decoded groups in order, at most ``threads`` + 1 of them ahead of their use."""
    waiting: deque[Future[DecodedGroup]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for group in groups:
            waiting.append(pool.submit(decode, group))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # even if the caller stops halfway
        pool.shutdown(cancel_futures=True)
