"""In which order dialogues are read, and how they are divided among processes. Nothing is read here.

row groups       0 │ 1 │ 2 │ 3 │ 4 │ 5          as they are in the files
shuffled groups  4 │ 1 │ 5 ┊ 0 │ 3 │ 2          by the seed
windows          └── mixed ──┘ └── mixed ──┘     all dialogues of this many groups, by the seed
parts            ├─ part 0 ─┼─ part 1 ─┼─ part 2 ─┤   spans of this order
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from merc.errors import BadSettings


@dataclass(frozen=True)
class Part:
    """One process's dialogues of an order: the order is divided into a span per rank, and that into a span per worker.

    Attributes:
        rank: number among ``ranks`` processes that train one model together.
        worker: number among ``workers`` processes that read for one rank.

    Raises:
        BadSettings: if there is no such rank or worker.
    """

    rank: int = 0
    ranks: int = 1
    worker: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        for name, index, count in (("rank", self.rank, self.ranks), ("worker", self.worker, self.workers)):
            if not 0 <= index < count:
                raise BadSettings(f"{name} {index} of {count}; valid: 0 to {count - 1}")

    def span(self, total: int) -> tuple[int, int]:
        """Half-open positions among ``total``. Ranks differ by at most one dialogue, and so do the workers of a rank;
        none has more than an earlier one.

        Example:
            >>> [Part(rank=rank, ranks=2, worker=worker, workers=2).span(9) for rank in (0, 1) for worker in (0, 1)]
            [(0, 3), (3, 5), (5, 7), (7, 9)]
        """
        first, last = _span(total, self.rank, self.ranks)
        start, stop = _span(last - first, self.worker, self.workers)
        return first + start, first + stop


def _span(total: int, part: int, parts: int) -> tuple[int, int]:
    size, more = divmod(total, parts)
    start = part * size + min(part, more)
    return start, start + size + (part < more)


def windows(
    rows_per_group: Sequence[int], span: tuple[int, int], seed: int | None, groups_per_window: int
) -> Iterator[NDArray[np.int64]]:
    """The dialogues at the positions ``span`` of an order, window by window.

    Args:
        rows_per_group: dialogues of each row group, in the order of the files.
        span: half-open; dialogues before it cost nothing.
        seed: None: the order of the files, and each row group is a window. Otherwise the row groups are shuffled, and
            then the dialogues of every ``groups_per_window`` groups. If row groups are of equal size, every dialogue is
            equally likely at every position, but those of one row group stay within one window. A split with at most
            ``groups_per_window`` row groups is shuffled as a whole.
        groups_per_window: number of row groups in memory at a time.

    Yields:
        int64 [n, 2]: row group, and row within it.

    Raises:
        BadSettings: if ``seed`` is negative or ``groups_per_window`` below 1.
    """
    if groups_per_window < 1 or (seed is not None and seed < 0):
        raise BadSettings(f"a seed of {seed} and windows of {groups_per_window} row groups; valid: from 0, and from 1")
    groups = (
        np.arange(len(rows_per_group)) if seed is None else np.random.default_rng(seed).permutation(len(rows_per_group))
    )
    width = 1 if seed is None else groups_per_window
    low = 0
    for number, first in enumerate(range(0, len(groups), width), start=1):
        together = groups[first : first + width]
        high = low + sum(rows_per_group[group] for group in together)
        if low < span[1] and high > span[0]:
            picks_R2 = np.concatenate(
                [
                    np.stack([np.full(rows_per_group[group], group), np.arange(rows_per_group[group])], axis=1)
                    for group in together
                ]
            )
            if seed is not None:
                # A separate generator for every window, so that those before the span need not be drawn.
                picks_R2 = np.random.default_rng([seed, number]).permutation(picks_R2)
            yield picks_R2[max(span[0] - low, 0) : span[1] - low]
        low = high
