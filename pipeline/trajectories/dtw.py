"""``dtw``: how far apart two paths through the plane of valence and arousal are when each may be stretched to fit the other.

Dynamic time warping (Sakoe & Chiba 1978, symmetric form without a window): the least sum of Euclidean distances over all ways to
walk through both paths together, one step in one of them or in both at a time. Both paths have R bins. Divided by 2R it lies in
[0, 1], since walking in step costs no more than R times the largest distance of two labels, which may be 2; the similarity is 1
minus that.

Two bounds keep most pairs from being computed, in the manner of Yi, Jagadish & Faloutsos (1998): the ends of the paths meet, and
every bin in between meets some point of the other path, so that it is at least as far away as the other's convex hull.

Legend: N dialogues, Q queries, M candidates, P pairs, C classes, R bins, U directions, H hulls.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.trajectories.base import Similarity, Sketches, by_columns
from pipeline.trajectories.trajectory import Labels

LARGEST_DISTANCE = 2.0
# A hull is known by how far it reaches in so many directions; with 16, distances to it are seen at 98 per cent or more.
_DIRECTIONS = 16
# Pairs at once: the distances of a row of bins stay in the processor's cache.
_PAIRS = 2048


def similarity(binned: Callable[[Sequence[Labels], int], NDArray[np.float64]], plane_C2: NDArray[np.float64]) -> Similarity:
    """The similarity for classes that lie at the points ``plane_C2``.

    Args:
        binned: (trajectories, C) → (N, R·C), what share of each bin each class covers; C at most 52.
        plane_C2: valence and arousal of each class; no two may be farther than 2 apart.

    Raises:
        ValueError: if two are.
    """
    apart = np.linalg.norm(plane_C2[:, None] - plane_C2[None], axis=2)
    if apart.max() > LARGEST_DISTANCE:
        one, other = np.unravel_index(apart.argmax(), apart.shape)
        raise ValueError(f"classes {one} and {other} are {apart.max():.3f} apart in valence and arousal; at most {LARGEST_DISTANCE}")
    return Similarity(
        describe=partial(describe, binned=binned, plane_C2=plane_C2),
        compare=compare,
        pairs=compare_pairs,
        sketch=partial(sketch, plane_C2=plane_C2),
        bound=bound,
        order=by_columns,
        pair_cost=1,
    )


def describe(
    trajectories: Sequence[Labels], classes: int, *, binned: Callable[[Sequence[Labels], int], NDArray[np.float64]], plane_C2: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Valence and arousal of every bin, and last which classes there are, as the sum of their powers of two: (N, 2R + 1)."""
    shares_NRC = binned(trajectories, classes).reshape(len(trajectories), -1, classes)
    # Class by class, not as a matrix product: the same bins shall give the same bits wherever they stand, on every machine.
    paths_NR2 = sum((shares_NRC[:, :, index, None] * point_2 for index, point_2 in enumerate(plane_C2)), start=np.zeros(2))
    there_NC = shares_NRC.any(axis=1)
    return np.hstack([paths_NR2.reshape(len(trajectories), -1), there_NC @ 2.0 ** np.arange(classes)[:, None]])


def cost(some_PR2: NDArray[np.float64], others_PR2: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cost of the cheapest way through each pair of paths, (P,); the paths of a pair may differ in length."""
    costs = np.empty(len(some_PR2))
    for begin in range(0, len(costs), _PAIRS):
        part = slice(begin, begin + _PAIRS)
        x_RP, y_RP = (np.ascontiguousarray(some_PR2[part, :, axis].T) for axis in (0, 1))
        other_x_RP, other_y_RP = (np.ascontiguousarray(others_PR2[part, :, axis].T) for axis in (0, 1))
        before_RP = np.empty(0)
        for row, (x_P, y_P) in enumerate(zip(x_RP, y_RP, strict=True)):
            now_RP = np.sqrt(np.square(other_x_RP - x_P) + np.square(other_y_RP - y_P))
            if row == 0:
                now_RP = np.cumsum(now_RP, axis=0)
            else:
                now_RP[0] += before_RP[0]
                above_RP = np.minimum(before_RP[1:], before_RP[:-1])
                for column in range(1, len(now_RP)):
                    now_RP[column] += np.minimum(above_RP[column - 1], now_RP[column - 1])
            before_RP = now_RP
        costs[part] = before_RP[-1]
    return costs


def compare_pairs(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Similarity of each description with the one beside it, (P,)."""
    bins = some.shape[1] // 2
    return 1.0 - cost(some[:, :-1].reshape(-1, bins, 2), others[:, :-1].reshape(-1, bins, 2)) / (2 * bins)


def compare(queries: NDArray[np.float64], candidates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Similarity of all pairs, (Q, M)."""
    rows = [compare_pairs(np.broadcast_to(query, candidates.shape), candidates) for query in queries]
    return np.array(rows).reshape(len(queries), len(candidates))


def sketch(described: NDArray[np.float64], *, plane_C2: NDArray[np.float64]) -> Sketches:
    """First point and last (N, 2) each, number of the hull (N,), and the distances of the bins in between to every hull, summed (N, H)."""
    paths_NR2 = described[:, :-1].reshape(len(described), -1, 2)
    hulls, number_N = np.unique(described[:, -1].astype(np.int64), return_inverse=True)
    angles = np.arange(_DIRECTIONS) * (2 * np.pi / _DIRECTIONS)
    directions_2U = np.stack([np.cos(angles), np.sin(angles)])
    reach_CU = plane_C2 @ directions_2U
    sums_NH = np.zeros((len(described), len(hulls)), np.float32)
    for place, hull in enumerate(hulls.tolist()):
        reach_U = reach_CU[[index for index in range(len(plane_C2)) if hull >> index & 1]].max(axis=0)
        for bin_ in range(1, paths_NR2.shape[1] - 1):
            sums_NH[:, place] += np.maximum((paths_NR2[:, bin_] @ directions_2U - reach_U).max(axis=1), 0)
    ends = paths_NR2[:, [0, -1]].astype(np.float32)
    return ends[:, 0], ends[:, 1] if paths_NR2.shape[1] > 1 else np.zeros_like(ends[:, 0]), number_N.ravel(), sums_NH, np.full(len(ends), paths_NR2.shape[1])


def bound(queries: Sketches, candidates: Sketches) -> NDArray[np.float32]:
    """The similarity that the ends and the hulls allow, (Q, M)."""
    cost_QM = _apart(queries[0], candidates[0])
    cost_QM += _apart(queries[1], candidates[1])
    cost_QM += np.maximum(queries[3][:, candidates[2]], candidates[3][:, queries[2]].T)
    cost_QM /= np.float32(-2 * queries[4][0])
    # Sums of 2R numbers of at most 2 in float32, divided by 2R: 1e-5 is more than they can be off by.
    cost_QM += np.float32(1 + 1e-5)
    return cost_QM


def _apart(some_Q2: NDArray[np.float32], others_M2: NDArray[np.float32]) -> NDArray[np.float32]:
    squared: NDArray[np.float32] = np.square(some_Q2[:, :1] - others_M2[:, 0]) + np.square(some_Q2[:, 1:] - others_M2[:, 1])
    return np.sqrt(squared, out=squared)
