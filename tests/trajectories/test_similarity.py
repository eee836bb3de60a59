"""Each similarity against hand-computed values, against a slow loop from its definition, and against what all must satisfy."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.trajectories.similarity import NAMES, binned, similarity

Labels = NDArray[np.int16]
Make = Callable[..., list[Labels]]


def _matrix(name: str, trajectories: Sequence[Sequence[int]], classes: int = 4, bins: int = 8) -> NDArray[np.float64]:
    return similarity(name, bins).matrix([np.array(trajectory, np.int16) for trajectory in trajectories], classes)


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


SLOW = {"histogram": _slow_histogram, "transition": _slow_transition, "edit": _slow_edit, "path": _slow_path}


def test_every_similarity_has_a_slow_reference() -> None:
    assert set(SLOW) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_equals_a_loop_from_the_definition(name: str, random_trajectories: Make) -> None:
    trajectories = random_trajectories(60)
    expected = [[SLOW[name](one.tolist(), other.tolist()) for other in trajectories] for one in trajectories]
    # Both sides are in float64 and differ in the order of a few dozen additions.
    np.testing.assert_allclose(similarity(name, 8).matrix(trajectories, 4), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_is_symmetric_one_with_itself_and_between_zero_and_one(name: str, random_trajectories: Make) -> None:
    matrix = similarity(name, 8).matrix(random_trajectories(150, classes=7, longest=33, seed=2), 7)
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


def test_edit_tells_more_than_a_hundred_classes_apart() -> None:
    assert _matrix("edit", [[label] for label in range(150)], classes=150).tolist() == np.eye(150).tolist()


def test_path_by_hand() -> None:
    assert binned([np.array([0, 1, 1], np.int16)], 2, bins=2).reshape(2, 2) == pytest.approx(np.array([[2 / 3, 1 / 3], [0, 1]]))
    matrix = _matrix("path", [[0, 1, 1], [0, 1], [0, 0, 1, 1, 1, 1], [1, 0]], classes=2, bins=2)
    # Bins (2/3,1/3)(0,1); (1,0)(0,1); the first stretched; (0,1)(1,0).
    np.testing.assert_allclose(matrix[0], [1, (2 / 3 + 1) / 2, 1, (1 / 3 + 0) / 2], atol=1e-15)


def test_path_sees_the_order_and_not_the_length() -> None:
    matrix = _matrix("path", [[0, 1], [0] * 50 + [1] * 50, [1, 0]])
    assert matrix[0].tolist() == [1, 1, 0]


def test_blocks_of_any_size_give_the_same_bits(random_trajectories: Make) -> None:
    trajectories = random_trajectories(90, classes=7, longest=30, seed=3)
    for name in NAMES:
        one = similarity(name, 8)
        described = one.describe(trajectories, 7)
        whole = one.compare(described, described)
        for size in (1, 7, 64):
            blocks = [one.compare(described[begin : begin + size], described) for begin in range(0, 90, size)]
            assert (np.concatenate(blocks) == whole).all(), (name, size)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_trajectory_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="trajectory 1 of 2 is empty"):
        _matrix(name, [[0], []])


def test_an_unknown_name_gives_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no similarity 'dtw'; one of histogram, transition, edit, path"):
        similarity("dtw", 8)
