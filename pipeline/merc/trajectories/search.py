"""The K best of many descriptions for each of them, exactly, without comparing all pairs.

Descriptions are compared block by block, neighbours in the similarity's order first, and each pair of blocks once: a
pair counts for both members. A pair whose upper bound is below the K-th best so far of both is skipped; the others are
compared. Only pairs strictly below the K-th are skipped, so ties are decided by position and the result is that of a
full sort. No array has more than ``ROWS`` x ``COLUMNS`` pairs.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from merc.trajectories.base import Comparison, Sketches

# Similarities are compared in whole millionths: mathematically equal ratios, such as 1/√3 and 2/√12, differ in the last
# bit of a float, and would be ordered by that bit instead of by id.
STEPS = 1_000_000
# A block of bounds, 1 MB of float32, stays in the processor's cache.
ROWS = 256
COLUMNS = 1024
# This many times K promising pairs are compared first, to get a threshold.
SEEDS = 4
_NOBODY = -1


def best_of_each(
    described: NDArray[Any], by: Comparison, neighbours: int, groups: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The most similar descriptions for each, never itself; in case of ties, those that come first.

    Args:
        described: U descriptions.
        by: how to compare.
        neighbours: K, at least 1.
        groups: (U,) numbers; descriptions with the same non-negative group are not compared. None: all are.

    Returns:
        Indices (U, K), best first, and similarities in millionths (U, K); -1 in both if there are fewer candidates.
    """
    order = by.order(described)
    # Descriptions may be large: no copy if they are already in order.
    ordered = described if (np.diff(order) == 1).all() else described[order]
    keys = np.empty((len(described), neighbours), np.int64)
    keys[order] = _Search(
        ordered, by.sketch(ordered), by, neighbours, order, None if groups is None else groups[order]
    ).keys()
    steps, reversed_index = np.divmod(keys, len(described))
    nobody = keys == _NOBODY
    return np.where(nobody, _NOBODY, len(described) - 1 - reversed_index), np.where(nobody, _NOBODY, steps)


class _Search:
    """Descriptions in the similarity's order; ``original`` holds their original indices.

    Attributes:
        best: (U, K) keys of the best so far for each, in any order. A key combines similarity and position in one
            number: larger for a higher similarity and, in case of ties, an earlier position; -1 for an empty slot.
        least: (U,) millionths that a pair must reach to be among the best of each; -1 if any pair does.
    """

    def __init__(
        self,
        described: NDArray[Any],
        sketches: Sketches,
        by: Comparison,
        neighbours: int,
        original: NDArray[np.int64],
        groups: NDArray[np.int64] | None,
    ) -> None:
        self.described, self.sketches, self.by, self.neighbours = described, sketches, by, neighbours
        self.original, self.groups = original, groups
        self.best = np.full((len(described), neighbours), _NOBODY, np.int64)
        self.least = np.full(len(described), _NOBODY, np.int64)

    def keys(self) -> NDArray[np.int64]:
        """The best keys for each, (U, K), largest first."""
        blocks = [
            slice(begin, min(begin + COLUMNS, len(self.described))) for begin in range(0, len(self.described), COLUMNS)
        ]
        for apart in range(len(blocks)):
            for block, columns in zip(blocks, blocks[apart:], strict=False):
                for begin in range(block.start, block.stop, ROWS):
                    rows = slice(begin, min(begin + ROWS, block.stop))
                    if apart == 0:
                        self.least[rows] = self._seed(rows, columns)
                    self._meet(rows, columns, within=apart == 0)
        return -np.sort(-self.best, axis=1)

    def _seed(self, rows: slice, columns: slice) -> NDArray[np.int64]:
        """A lower bound of the K-th best of each row, in millionths, from the most promising columns; -1 if there are
        too few.
        """
        width, taken = columns.stop - columns.start, SEEDS * self.neighbours
        if taken * self.by.pair_cost * SEEDS > width:
            return np.full(rows.stop - rows.start, _NOBODY)
        bound = self._bound(rows, columns)
        barred = self._barred(np.arange(rows.start, rows.stop)[:, None], np.arange(columns.start, columns.stop))
        column = np.argpartition(np.where(barred, np.float32(1), -bound), taken, axis=1)[:, :taken]
        row = np.repeat(np.arange(len(column)), taken)
        steps = (
            np.rint(self.by.pairs(self.described[rows][row], self.described[columns][column.ravel()]) * STEPS)
            .astype(np.int64)
            .reshape(column.shape)
        )
        steps[np.take_along_axis(barred, column, axis=1)] = _NOBODY
        least: NDArray[np.int64] = np.partition(steps, taken - self.neighbours, axis=1)[:, taken - self.neighbours]
        return least

    def _bound(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        return self.by.bound(
            tuple(sketch[rows] for sketch in self.sketches), tuple(sketch[columns] for sketch in self.sketches)
        )

    def _barred(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which pairs are excluded: a description with itself, and two of the same group."""
        barred: NDArray[np.bool_] = rows == columns
        if self.groups is not None:
            barred |= (self.groups[rows] == self.groups[columns]) & (self.groups[rows] >= 0)
        return barred

    def _meet(self, rows: slice, columns: slice, *, within: bool) -> None:
        """Compares rows with columns, only for the rows if these are ``within`` the columns, else for both."""
        bound = self._bound(rows, columns)
        may_be = bound >= (
            _limit(self.least[rows])[:, None]
            if within
            else np.minimum.outer(_limit(self.least[rows]), _limit(self.least[columns]))
        )
        if np.count_nonzero(may_be) * self.by.pair_cost > may_be.size:
            some, others, steps = self._from_matrix(
                rows.start + np.flatnonzero(may_be.any(axis=1)),
                columns.start + np.flatnonzero(may_be.any(axis=0)),
                within,
            )
        else:
            row, column = np.divmod(np.flatnonzero(may_be), may_be.shape[1])
            some, others = rows.start + row, columns.start + column
            steps = np.rint(self.by.pairs(self.described[some], self.described[others]) * STEPS).astype(np.int64)
        self._take(some, others, steps)
        if not within:
            self._take(others, some, steps)

    def _from_matrix(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64], within: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Row, column and similarity in millionths of all pairs of some rows and columns that are relevant to either
        member.
        """
        if not len(rows):
            return rows, rows, rows
        matrix = self.by.compare(self.described[rows], self.described[columns])
        least = self.least[rows]
        if within and least.min() < 0 and len(columns) > self.neighbours:
            # No threshold yet: use the K-th of this matrix.
            matrix[self._barred(rows[:, None], columns)] = _NOBODY
            best = np.partition(matrix, len(columns) - self.neighbours, axis=1)[:, len(columns) - self.neighbours]
            least = np.maximum(least, np.rint(best * STEPS).astype(np.int64))
        # Slightly below what is rounded to ``least``, so that the last bit of a product decides nothing.
        enough = (least - 0.75) / STEPS
        flat = np.flatnonzero(
            matrix >= (enough[:, None] if within else np.minimum.outer(enough, (self.least[columns] - 0.75) / STEPS))
        )
        row, column = np.divmod(flat, len(columns))
        return rows[row], columns[column], np.rint(matrix.ravel()[flat] * STEPS).astype(np.int64)

    def _take(self, owners: NDArray[np.int64], others: NDArray[np.int64], steps: NDArray[np.int64]) -> None:
        """Inserts the others among the best of their owners where they qualify."""
        enough = (steps >= self.least[owners]) & ~self._barred(owners, others)
        owners, others, steps = owners[enough], others[enough], steps[enough]
        if not len(owners):
            return
        keys = steps * len(self.described) + (len(self.described) - 1 - self.original[others])
        by_owner = np.argsort(owners, kind="stable")
        touched, begins, counts = np.unique(owners[by_owner], return_index=True, return_counts=True)
        candidates = np.full((len(touched), self.neighbours + counts.max()), _NOBODY, np.int64)
        candidates[:, : self.neighbours] = self.best[touched]
        place = self.neighbours + np.arange(len(owners)) - np.repeat(begins, counts)
        candidates[np.repeat(np.arange(len(touched)), counts), place] = keys[by_owner]
        best = np.partition(candidates, counts.max(), axis=1)[:, counts.max() :]
        self.best[touched] = best
        # The smallest key is the K-th; it is negative while slots are empty.
        self.least[touched] = np.maximum(self.least[touched], best.min(axis=1) // len(self.described))


def _limit(least: NDArray[np.int64]) -> NDArray[np.float32]:
    """Threshold of values that are rounded to ``least`` or more; the next lower float32, since it is rounded as
    well.
    """
    limit: NDArray[np.float32] = np.nextafter(((least - 0.5) / STEPS).astype(np.float32), np.float32(-np.inf))
    return limit
