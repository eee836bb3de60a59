"""``dtw``: the distance of two paths through the plane of valence and arousal if each may be stretched to fit the
other.

Dynamic time warping (Sakoe & Chiba 1978, symmetric form without a window): the minimum sum of Euclidean distances over
all ways to walk through both paths together, one step in one of them or in both at a time. Both paths have R bins.
Divided by 2R it is in [0, 1], since walking in step costs at most R times the largest distance of two labels, which may
be 2; the similarity is 1 minus that.

A bound saves the computation of most pairs: the first points of both paths are matched, and so are the last, and every
bin in between is matched to some point of the other path, which costs at least the distance to the nearest one. With
points moved to a few landmarks, that sum is a matrix product, from which the distances moved are subtracted.

Legend: N dialogues, Q queries, M candidates, P pairs, C classes, R bins, L landmarks.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from merc.trajectories.base import Similarity, Sketches, by_columns
from merc.trajectories.trajectory import Labels

LARGEST_DISTANCE = 2.0
# The most frequent points of a corpus. More make the bound tighter and more expensive; with 128, for 12,000 dialogues
# like MELD's, 7 of 100 pairs are left, where exact distances would leave 5.
_LANDMARKS = 128
# Number of pairs at once: the distances of a row of bins stay in the processor's cache.
_PAIRS = 2048


def similarity(
    binned: Callable[[Sequence[Labels], int], NDArray[np.float64]], plane_C2: NDArray[np.float64]
) -> Similarity:
    """The similarity for classes at the points ``plane_C2``.

    Args:
        binned: (trajectories, C) → (N, R·C), the share of each bin that each class covers.
        plane_C2: valence and arousal of each class; no two may be farther than 2 apart.

    Raises:
        ValueError: if two are.
    """
    apart = np.linalg.norm(plane_C2[:, None] - plane_C2[None], axis=2)
    if apart.max() > LARGEST_DISTANCE:
        one, other = np.unravel_index(apart.argmax(), apart.shape)
        raise ValueError(
            f"classes {one} and {other} are {apart.max():.3f} apart in valence and arousal; at most {LARGEST_DISTANCE}"
        )
    return Similarity(
        describe=partial(describe, binned=binned, plane_C2=plane_C2),
        compare=compare,
        pairs=compare_pairs,
        sketch=sketch,
        bound=bound,
        order=by_columns,
        pair_cost=1,
    )


def describe(
    trajectories: Sequence[Labels],
    classes: int,
    *,
    binned: Callable[[Sequence[Labels], int], NDArray[np.float64]],
    plane_C2: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Valence and arousal of every bin, (N, R·2)."""
    shares_NRC = binned(trajectories, classes).reshape(len(trajectories), -1, classes)
    # Class by class, not as a matrix product: the same bins must give the same bits at every position, on every
    # machine.
    paths_NR2 = sum(
        (shares_NRC[:, :, index, None] * point_2 for index, point_2 in enumerate(plane_C2)), start=np.zeros(2)
    )
    return paths_NR2.reshape(len(trajectories), -1)


def cost(some_PR2: NDArray[np.float64], others_PR2: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cost of the cheapest alignment of each pair of paths, (P,); the paths of a pair may differ in length."""
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
    """Similarity of each description with the one next to it, (P,)."""
    bins = some.shape[1] // 2
    shared: NDArray[np.float64] = 1.0 - cost(some.reshape(-1, bins, 2), others.reshape(-1, bins, 2)) / (2 * bins)
    return shared


def compare(queries: NDArray[np.float64], candidates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Similarity of all pairs, (Q, M)."""
    rows = [compare_pairs(np.broadcast_to(query, candidates.shape), candidates) for query in queries]
    return np.array(rows).reshape(len(queries), len(candidates))


def sketch(described: NDArray[np.float64]) -> Sketches:
    """First and last point, (N, 2) each; for the bins between them, the number at each landmark (N, L) and the distance
    moved to it.

    Before the last, the distance of each landmark to the nearest point of the path, (N, L).
    """
    paths_NR2 = described.reshape(len(described), -1, 2)
    bins = paths_NR2.shape[1]
    inner_NI2 = paths_NR2[:, 1:-1]
    landmarks_L2 = _landmarks(inner_NI2)
    there_NL = np.zeros((len(paths_NR2), len(landmarks_L2)), np.float32)
    nearest_NL = np.full(there_NL.shape, np.inf, np.float32)
    moved_N = np.zeros(len(paths_NR2), np.float32)
    for begin in range(0, len(paths_NR2), _PAIRS):
        part = slice(begin, begin + _PAIRS)
        for bin_ in range(bins):
            apart_PL = np.linalg.norm(paths_NR2[part, bin_, None] - landmarks_L2, axis=2)
            np.minimum(nearest_NL[part], apart_PL, out=nearest_NL[part])
            if 0 < bin_ < bins - 1:
                rows = np.arange(len(apart_PL))
                there_NL[begin + rows, apart_PL.argmin(axis=1)] += 1
                moved_N[part] += apart_PL.min(axis=1)
    ends_N22 = paths_NR2[:, [0, -1]].astype(np.float32)
    # A path of one bin has one end, which must not be counted twice.
    last_N2 = ends_N22[:, 1] if bins > 1 else np.zeros_like(ends_N22[:, 1])
    return ends_N22[:, 0], last_N2, there_NL, nearest_NL, moved_N, np.full(len(ends_N22), bins)


def _landmarks(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The most frequent points, (L, 2); in case of ties, those with the lowest valence."""
    complex_ = np.ascontiguousarray(points).reshape(-1, 2).view(np.complex128).ravel()
    different, counts = np.unique(complex_, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:_LANDMARKS]
    return different[most].view(np.float64).reshape(-1, 2)


def bound(queries: Sketches, candidates: Sketches) -> NDArray[np.float32]:
    """The similarity that the ends and the landmarks allow, (Q, M)."""
    first, last, there, nearest, moved, bins = queries
    other_first, other_last, other_there, other_nearest, other_moved, _ = candidates
    cost_QM = there @ other_nearest.T
    cost_QM -= moved[:, None]
    other_cost_QM = nearest @ other_there.T
    other_cost_QM -= other_moved
    np.maximum(cost_QM, other_cost_QM, out=cost_QM)
    cost_QM += _apart(first, other_first)
    cost_QM += _apart(last, other_last)
    cost_QM /= np.float32(-2 * bins[0])
    # Float32 adds up about L + R numbers, at most 2R in total, with an error below (L + R) 2⁻²⁴ of that.
    cost_QM += np.float32(1 + (_LANDMARKS + bins[0]) * 2.0**-23)
    return cost_QM


def _apart(some_Q2: NDArray[np.float32], others_M2: NDArray[np.float32]) -> NDArray[np.float32]:
    squared: NDArray[np.float32] = np.square(some_Q2[:, :1] - others_M2[:, 0]) + np.square(
        some_Q2[:, 1:] - others_M2[:, 1]
    )
    return np.sqrt(squared, out=squared)
