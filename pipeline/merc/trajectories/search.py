"""The K best of many descriptions for each of them, exactly, without comparing all pairs.

Query rows meet the candidates block by block, those next to them in the similarity's order first. A pair whose upper bound lies
below what is the query's K-th best so far is passed over; the others are compared. A bound only ever passes over what is strictly
below the K-th, so that ties are decided by the position and the result is that of a full sort. No array holds more than
``ROWS`` x ``COLUMNS`` pairs.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from merc.trajectories.base import Comparison, Sketches

# Similarities are compared as whole millionths: ratios that are equal on paper, such as 1/√3 and 2/√12, differ in the
# last bit of a float, and would be ordered by that bit instead of by id.
STEPS = 1_000_000
# A block of bounds, 1 MB of float32, stays in the processor's cache.
ROWS = 256
COLUMNS = 1024
# So many times K promising pairs are compared first, to know what a pair must reach.
SEEDS = 4
_NOBODY = -1


def best_of_each(
    described: NDArray[Any], by: Comparison, neighbours: int, groups: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The most similar descriptions of each, never itself; of equally similar ones, those that come first.

    Args:
        described: U descriptions.
        by: how to compare.
        neighbours: K, at least 1.
        groups: (U,) numbers; descriptions of one group, if it is not negative, are not compared. None: all are.

    Returns:
        Indices (U, K), best first, and similarities in millionths (U, K); -1 in both where there are fewer candidates.
    """
    order = by.order(described)
    # Descriptions may be large: no copy where they are in order already.
    ordered = described if (np.diff(order) == 1).all() else described[order]
    search = _Search(ordered, by.sketch(ordered), by, neighbours, order, None if groups is None else groups[order])
    keys = np.empty((len(described), neighbours), np.int64)
    for begin in range(0, len(described), ROWS):
        keys[order[begin : begin + ROWS]] = search.rows(begin)
    steps, reversed_index = np.divmod(keys, len(described))
    nobody = keys == _NOBODY
    return np.where(nobody, _NOBODY, len(described) - 1 - reversed_index), np.where(nobody, _NOBODY, steps)


class _Search:
    """Descriptions in the similarity's order; ``original`` holds their indices before."""

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

    def rows(self, begin: int) -> NDArray[np.int64]:
        """The best keys, (rows, K), largest first, of the ``ROWS`` descriptions from ``begin`` on. See :meth:`_keys`."""
        end = min(begin + ROWS, len(self.described))
        best = np.full((end - begin, self.neighbours), _NOBODY, np.int64)
        own = begin // COLUMNS
        blocks = sorted(range(-(-len(self.described) // COLUMNS)), key=lambda block: abs(block - own))
        seed = self._seed(slice(begin, end), slice(own * COLUMNS, min((own + 1) * COLUMNS, len(self.described))))
        for block in blocks:
            columns = slice(block * COLUMNS, (block + 1) * COLUMNS)
            # The least key of a row is its K-th; of nobody yet it is negative.
            least = np.maximum(best.min(axis=1) // len(self.described), seed)
            rows, found, steps = self._compare(slice(begin, end), columns, least)
            best = _merge(best, rows, self._keys(begin + rows, columns.start + found, steps))
        return -np.sort(-best, axis=1)

    def _seed(self, rows: slice, columns: slice) -> NDArray[np.int64]:
        """What the K-th best of each row is at least, in millionths, by a look at the most promising columns; -1 where there are too few."""
        width, taken = columns.stop - columns.start, SEEDS * self.neighbours
        if taken * self.by.pair_cost * SEEDS > width:
            return np.full(rows.stop - rows.start, _NOBODY)
        bound = self._bound(rows, columns)
        barred = self._barred(np.arange(rows.start, rows.stop)[:, None], np.arange(columns.start, columns.stop))
        column = np.argpartition(np.where(barred, np.float32(1), -bound), taken, axis=1)[:, :taken]
        row = np.repeat(np.arange(len(column)), taken)
        steps = np.rint(self.by.pairs(self.described[rows][row], self.described[columns][column.ravel()]) * STEPS).astype(np.int64).reshape(column.shape)
        steps[np.take_along_axis(barred, column, axis=1)] = _NOBODY
        least: NDArray[np.int64] = np.partition(steps, taken - self.neighbours, axis=1)[:, taken - self.neighbours]
        return least

    def _bound(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        return self.by.bound(tuple(sketch[rows] for sketch in self.sketches), tuple(sketch[columns] for sketch in self.sketches))

    def _barred(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which pairs must not be: a description with itself, and two of one group."""
        barred: NDArray[np.bool_] = rows == columns
        if self.groups is not None:
            barred |= (self.groups[rows] == self.groups[columns]) & (self.groups[rows] >= 0)
        return barred

    def _compare(self, rows: slice, columns: slice, least: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Row, column and similarity in millionths of the pairs that are not below ``least`` of their row, by row."""
        bound = self._bound(rows, columns)
        # What is rounded to ``least`` or more; the next lower float32, since the limit is rounded as well.
        limit = np.nextafter(((least - 0.5) / STEPS).astype(np.float32), np.float32(-np.inf))
        may_be = bound >= limit[:, None]
        if np.count_nonzero(may_be) * self.by.pair_cost > may_be.size:
            some_rows, some_columns = np.flatnonzero(may_be.any(axis=1)), np.flatnonzero(may_be.any(axis=0))
            if not len(some_rows):
                return some_rows, some_rows, some_rows
            row, column, steps = self._from_matrix(rows.start + some_rows, columns.start + some_columns, least[some_rows])
            return some_rows[row], some_columns[column], steps
        row, column = np.divmod(np.flatnonzero(may_be), may_be.shape[1])
        steps = np.rint(self.by.pairs(self.described[rows][row], self.described[columns][column]) * STEPS).astype(np.int64)
        enough = steps >= least[row]
        return row[enough], column[enough], steps[enough]

    def _from_matrix(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64], least: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The same of all pairs of some rows and columns."""
        matrix = self.by.compare(self.described[rows], self.described[columns])
        if least.min() < 0 and len(columns) > self.neighbours:
            # Nothing to reach yet: then the K-th of this matrix.
            matrix[self._barred(rows[:, None], columns)] = _NOBODY
            best = np.partition(matrix, len(columns) - self.neighbours, axis=1)[:, len(columns) - self.neighbours]
            least = np.maximum(least, np.rint(best * STEPS).astype(np.int64))
        # A little below what is rounded to ``least``, so that the last bit of a product decides nothing.
        flat = np.flatnonzero(matrix >= ((least - 0.75) / STEPS)[:, None])
        row, column = np.divmod(flat, len(columns))
        steps = np.rint(matrix.ravel()[flat] * STEPS).astype(np.int64)
        enough = steps >= least[row]
        return row[enough], column[enough], steps[enough]

    def _keys(self, rows: NDArray[np.int64], columns: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.int64]:
        """Similarity and place in one number, the more similar and, of equals, the earlier the larger; of no candidate it is -1."""
        keys = steps * len(self.described) + (len(self.described) - 1 - self.original[columns])
        return np.where(self._barred(rows, columns), _NOBODY, keys)


def _merge(best: NDArray[np.int64], rows: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The K largest keys of each row, of those there and of new ones.

    Args:
        best: (rows, K), in any order.
        rows: (P,) ascending.
        keys: (P,).
    """
    if not len(rows):
        return best
    counts = np.bincount(rows, minlength=len(best))
    kept = best.shape[1]
    padded = np.full((len(best), kept + counts.max()), _NOBODY, np.int64)
    padded[:, :kept] = best
    padded[rows, kept + np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)] = keys
    largest: NDArray[np.int64] = np.partition(padded, counts.max(), axis=1)[:, counts.max() :]
    return largest
