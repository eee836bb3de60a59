"""What a similarity of trajectories must offer, so that the nearest dialogues of a corpus of any size can be found
exactly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merc.trajectories.trajectory import Labels

Sketches = tuple[NDArray[Any], ...]
"""Arrays with one row per description."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How to compare descriptions: in [0, 1], 1 for a description with itself, symmetric.

    A corpus is compared block by block, and no result may depend on the rest of a block. Most pairs are never compared:
    ``bound`` computes an upper bound of the similarity from two sets of sketches.

    Attributes:
        compare: (descriptions of Q, descriptions of M) → (Q, M) float64.
        pairs: (P descriptions, P descriptions) → (P,) float64, bit-identical to ``compare``.
        sketch: descriptions → arrays of N rows each.
        bound: (sketches of Q, sketches of M) → (Q, M) float32, never below ``compare``.
        order: descriptions → indices that put similar descriptions near each other, which only makes the search faster.
        pair_cost: approximate cost of a pair by ``pairs`` relative to one in a matrix.
    """

    compare: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]
    pairs: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]
    sketch: Callable[[NDArray[Any]], Sketches]
    bound: Callable[[Sketches, Sketches], NDArray[np.float32]]
    order: Callable[[NDArray[Any]], NDArray[np.int64]]
    pair_cost: int = 4


@dataclass(frozen=True, kw_only=True)
class Similarity(Comparison):
    """One way to compare trajectories.

    Attributes:
        describe: (trajectories, number of classes C) → descriptions, (N, d) of floats or an object array of N strings.
    """

    describe: Callable[[Sequence[Labels], int], NDArray[Any]]

    def matrix(self, trajectories: Sequence[Labels], classes: int) -> NDArray[np.float64]:
        """All pairs, (N, N); for few trajectories, since the memory grows with their square."""
        described = self.describe(trajectories, classes)
        return self.compare(described, described)


def by_columns(described: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices that sort the rows by their first column, then by their second, and so on."""
    order: NDArray[np.int64] = np.lexsort(described.T[::-1])
    return order


def dot_bound(queries: Sketches, candidates: Sketches) -> NDArray[np.float32]:
    """The inner products, (Q, M), of vectors of length 1, plus the maximum rounding error of float32."""
    shared: NDArray[np.float32] = queries[0] @ candidates[0].T
    shared += rounding(queries[0].shape[1])
    return shared


def rounding(dim: int) -> np.float32:
    """Upper bound of the rounding error of an inner product of two vectors of length 1 in float32.

    The products of d numbers, each of them rounded, summed in any order, are off by less than (d + 5) 2⁻²⁴ (Higham,
    Accuracy and Stability of Numerical Algorithms, 2002, section 3.1); twice that is used.

    Args:
        dim: d.
    """
    return np.float32((dim + 5) * 2.0**-23)
