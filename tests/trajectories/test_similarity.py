"""Each similarity compared with hand-computed values and with a slow loop from its definition, and checked for what all
must satisfy.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from dtaidistance import dtw_ndim
from numpy.typing import NDArray

from merc.trajectories import dtw
from merc.trajectories.similarity import NAMES, binned, similarity

Labels = NDArray[np.int16]
Make = Callable[..., list[Labels]]
# Valence and arousal of four classes, repeated for tests with more.
PLANE = np.array([[0.0, 0.0], [0.8, 0.4], [-0.7, 0.7], [-0.7, -0.4]] * 40)


def _matrix(name: str, trajectories: Sequence[Sequence[int]], classes: int = 4, bins: int = 8) -> NDArray[np.float64]:
    return similarity(name, bins, PLANE[:classes]).matrix(
        [np.array(trajectory, np.int16) for trajectory in trajectories], classes
    )


def _cosine(one: Counter[object], other: Counter[object]) -> float:
    dot = sum(one[key] * other[key] for key in one)
    return dot / math.sqrt(sum(n * n for n in one.values()) * sum(n * n for n in other.values()))


def _slow_histogram(one: list[int], other: list[int]) -> float:
    return _cosine(Counter(one), Counter(other))


def _slow_transition(one: list[int], other: list[int]) -> float:
    if len(one) == 1 or len(other) == 1:
        return float(one == other)
    return _cosine(Counter(pairwise(one)), Counter(pairwise(other)))


def _slow_edit(one: list[int], other: list[int]) -> float:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one):
        last, row[0] = row[0], i + 1
        for j, b in enumerate(other):
            last, row[j + 1] = row[j + 1], min(row[j] + 1, row[j + 1] + 1, last + (a != b))
    return 1 - row[-1] / max(len(one), len(other))


def _slow_bins(trajectory: list[int], bins: int) -> list[Counter[int]]:
    length = len(trajectory)
    shares: list[Counter[int]] = [Counter() for _ in range(bins)]
    for r in range(bins):
        for t, label in enumerate(trajectory):
            shares[r][label] += max(0.0, min((t + 1) / length, (r + 1) / bins) - max(t / length, r / bins)) * bins  # type: ignore[assignment]
    return shares


def _slow_path(one: list[int], other: list[int], bins: int = 8) -> float:
    pairs = zip(_slow_bins(one, bins), _slow_bins(other, bins), strict=True)
    return sum(sum(min(p[label], q[label]) for label in p) for p, q in pairs) / bins


def _slow_speakers(one: list[int], other: list[int], classes: int = 2, bins: int = 8) -> float:
    total = 0.0
    for slot in range(9):
        parts = [[label % classes for label in labels if label // classes == slot] for labels in (one, other)]
        if all(parts):
            p, q = (_slow_bins(part, bins) for part in parts)
            a, b = len(parts[0]) / len(one), len(parts[1]) / len(other)
            total += sum(min(a * p[r][label], b * q[r][label]) for r in range(bins) for label in range(classes)) / bins
    return total


def _slow_dtw(one: list[int], other: list[int], bins: int = 8) -> float:
    paths = [
        [sum(share * PLANE[label] for label, share in shares.items()) for shares in _slow_bins(labels, bins)]
        for labels in (one, other)
    ]
    cost = np.full((bins + 1, bins + 1), np.inf)
    cost[0, 0] = 0
    for i, p in enumerate(paths[0]):
        for j, q in enumerate(paths[1]):
            cost[i + 1, j + 1] = math.dist(p, q) + min(cost[i, j], cost[i, j + 1], cost[i + 1, j])
    return float(1 - cost[-1, -1] / (2 * bins))


SLOW: dict[str, Callable[[list[int], list[int]], float]] = {
    "histogram": _slow_histogram,
    "transition": _slow_transition,
    "edit": _slow_edit,
    "path": _slow_path,
    "path_speakers": _slow_speakers,
    "dtw": _slow_dtw,
}


def test_every_similarity_has_a_slow_reference() -> None:
    assert set(SLOW) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_equals_a_loop_from_the_definition(name: str, random_trajectories: Make) -> None:
    trajectories = random_trajectories(40)
    expected = [[SLOW[name](one.tolist(), other.tolist()) for other in trajectories] for one in trajectories]
    # Both sides are in float64 and differ in the order of a few dozen additions.
    classes = 2 if name == "path_speakers" else 4  # two speakers with two classes each
    np.testing.assert_allclose(
        similarity(name, 8, PLANE[:classes]).matrix(trajectories, classes), expected, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("name", NAMES)
def test_is_symmetric_one_with_itself_and_between_zero_and_one(name: str, random_trajectories: Make) -> None:
    matrix = similarity(name, 8, PLANE[:7]).matrix(random_trajectories(150, classes=7, longest=33, seed=2), 7)
    assert (matrix == matrix.T).all()
    assert (np.diag(matrix) == 1).all()
    assert matrix.min() >= 0
    assert matrix.max() <= 1 + 1e-15


def test_histogram_by_hand() -> None:
    matrix = _matrix("histogram", [[0, 0, 1], [1, 0, 0], [0, 1, 0, 0, 1, 0], [2], [0, 1]])
    # Counts (2,1,0), (2,1,0), (4,2,0), (0,0,1), (1,1,0): neither order nor length matters.
    np.testing.assert_allclose(matrix[0], [1, 1, 1, 0, 3 / math.sqrt(10)], atol=1e-15)


def test_transition_by_hand() -> None:
    matrix = _matrix("transition", [[0, 0, 1], [0, 1], [1, 0], [0], [0], [1]])
    # Bigrams {00, 01}, {01}, {10}, and three dialogues of one utterance.
    expected = [
        [1, 1 / math.sqrt(2), 0, 0, 0, 0],
        [1 / math.sqrt(2), 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    np.testing.assert_allclose(matrix, expected, atol=1e-15)


def test_transitions_never_run_from_one_dialogue_into_the_next() -> None:
    assert _matrix("transition", [[0, 1], [2, 3], [1, 2]])[2].tolist() == [0, 0, 1]


def test_edit_by_hand() -> None:
    matrix = _matrix("edit", [[0, 1, 2, 3], [0, 2, 3], [3, 2, 1, 0], [0, 1, 2, 3, 3, 3, 3, 3]])
    # One deletion of four; reversed: no fewer than four changes; four insertions of eight.
    assert matrix[0].tolist() == [1, 0.75, 0, 0.5]


def test_edit_distinguishes_more_than_a_hundred_classes() -> None:
    assert _matrix("edit", [[label] for label in range(150)], classes=150).tolist() == np.eye(150).tolist()


def test_path_by_hand() -> None:
    assert binned([np.array([0, 1, 1], np.int16)], 2, bins=2).reshape(2, 2) == pytest.approx(
        np.array([[2 / 3, 1 / 3], [0, 1]])
    )
    matrix = _matrix("path", [[0, 1, 1], [0, 1], [0, 0, 1, 1, 1, 1], [1, 0]], classes=2, bins=2)
    # Bins (2/3,1/3)(0,1); (1,0)(0,1); the first stretched; (0,1)(1,0).
    np.testing.assert_allclose(matrix[0], [1, (2 / 3 + 1) / 2, 1, (1 / 3 + 0) / 2], atol=1e-15)


def test_path_sees_the_order_and_not_the_length() -> None:
    matrix = _matrix("path", [[0, 1], [0] * 50 + [1] * 50, [1, 0]])
    assert matrix[0].tolist() == [1, 1, 0]


def test_blocks_of_any_size_give_the_same_bits(random_trajectories: Make) -> None:
    trajectories = random_trajectories(90, classes=7, longest=30, seed=3)
    for name in NAMES:
        one = similarity(name, 8, PLANE[:7])
        described = one.describe(trajectories, 7)
        whole = one.compare(described, described)
        for size in (1, 7, 64):
            blocks = [one.compare(described[begin : begin + size], described) for begin in range(0, 90, size)]
            assert (np.concatenate(blocks) == whole).all(), (name, size)
        some, others = np.divmod(np.arange(90 * 90), 90)
        assert (one.pairs(described[some], described[others]) == whole.ravel()).all(), name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bins", [1, 2, 8])
def test_no_similarity_exceeds_its_bound(name: str, bins: int, random_trajectories: Make) -> None:
    trajectories = [
        *random_trajectories(150, classes=7, longest=30, seed=4),
        *random_trajectories(150, classes=2, longest=4, seed=5),
    ]
    one = similarity(name, bins, PLANE[:7])
    described = one.describe(trajectories, 7)
    sketches = one.sketch(described)
    # Without a tolerance: the bound leaves room for the rounding of float32.
    assert (one.bound(sketches, sketches) >= one.compare(described, described)).all()
    assert sorted(one.order(described).tolist()) == list(range(300))


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_trajectory_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="trajectory 1 of 2 is empty"):
        _matrix(name, [[0], []])


def test_an_unknown_name_gives_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match="no similarity 'dwt'; one of histogram, transition, edit, path, path_speakers, dtw"
    ):
        similarity("dwt", 8)


def test_dtw_needs_to_know_where_the_classes_lie() -> None:
    with pytest.raises(ValueError, match="dtw needs the valence and arousal"):
        similarity("dtw", 8)
    with pytest.raises(ValueError, match=r"classes 0 and 1 are 2\.010 apart"):
        similarity("dtw", 8, np.array([[1.0, 0.0], [-1.0, 0.2]]))


def test_dtw_by_hand() -> None:
    matrix = _matrix("dtw", [[0, 1], [0, 0, 0, 1], [1, 0], [0]], bins=4)
    # Bins 0011, 0001, 1100, 0000; the first two warp into each other; joy is √0.8 from neutral.
    joy = math.sqrt(0.8)
    np.testing.assert_allclose(matrix[0], [1, 1, 1 - 4 * joy / 8, 1 - 2 * joy / 8], atol=1e-12)


def test_dtw_of_paths_of_different_lengths() -> None:
    # Classes as corners of a simplex whose sides are 1: the cost is the number of steps at which the labels differ.
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(0.75)]])
    a, b, c = corners[[0, 0, 1, 2]], corners[[0, 1, 1, 2, 2]], corners[[2, 2, 1, 0]]
    assert dtw.cost(a[None], b[None]).tolist() == [0.0]
    np.testing.assert_allclose(dtw.cost(a[None], c[None]) / 8, [0.375], atol=1e-15)


def test_dtw_costs_are_those_of_dtaidistance(random_trajectories: Make) -> None:
    paths = np.random.default_rng(7).normal(size=(40, 8, 2))
    some, others = np.triu_indices(40, 1)
    expected = dtw_ndim.distance_matrix_fast(list(paths), compact=True, parallel=False, inner_dist="euclidean")
    np.testing.assert_allclose(dtw.cost(paths[some], paths[others]), expected, rtol=1e-14)


def test_path_speakers_by_hand() -> None:
    # Two classes; speaker 0 says 0, 0, 1 and speaker 1 says 1 in all but the last, where one speaker says it all.
    matrix = _matrix("path_speakers", [[0, 0, 1, 3], [0, 3, 0, 1], [2, 1, 1, 0], [0, 0, 1, 1]], classes=2, bins=3)
    # The order matters only within speakers. Third: 1, 1, 0 meets 0, 0, 1 in no bin, and their partners differ.
    # Fourth: bins (1,0) (½,½) (0,1) against ¾ of (1,0) (1,0) (0,1), which leaves (¾ + ½ + ¾) / 3.
    np.testing.assert_allclose(matrix[0], [1, 1, 0, 2 / 3], atol=1e-12)
