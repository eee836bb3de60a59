"""The controls compared with hand-computed values, a loop over all permutations, and scipy's rank correlation."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from merc.trajectories.controls import order_excess, pair_report, partial_correlation, sample_pairs, spearman
from merc.trajectories.similarity import similarity

Labels = NDArray[np.int16]
PLANE = np.array([[0.0, 0.0], [0.8, 0.4], [-0.7, 0.7], [-0.7, -0.4]])


def _labels(*values: int) -> Labels:
    return np.array(values, np.int16)


def _excess(
    name: str, trajectories: list[Labels], pairs: list[tuple[int, int]], number: int = 50, seed: int = 0
) -> list[float]:
    some, others = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
    return order_excess(
        trajectories, 4, similarity(name, 8, PLANE), (some, others), permutations=number, seed=seed
    ).tolist()


@pytest.mark.parametrize("name", ["transition", "edit", "path", "path_speakers", "dtw"])
def test_order_excess_is_one_for_twins_and_zero_where_no_shuffle_changes_anything(name: str) -> None:
    trajectories = [_labels(0, 1, 2, 3), _labels(0, 1, 2, 3), _labels(1, 1, 1), _labels(1, 1, 1)]
    assert _excess(name, trajectories, [(0, 1), (2, 3)]) == [1, 0]


def test_order_excess_comes_to_that_of_all_permutations() -> None:
    one, other = [0, 0, 1, 2], [0, 1, 1, 2]
    edit = similarity("edit", 8)
    shuffled = [
        edit.matrix([_labels(*a), _labels(*b)], 3)[0, 1] for a in permutations(one) for b in permutations(other)
    ]
    expected = (0.75 - np.mean(shuffled)) / (1 - np.mean(shuffled))
    # The mean over 4000 shuffles has a standard error of 0.004.
    assert _excess("edit", [_labels(*one), _labels(*other)], [(0, 1)], number=4000) == pytest.approx(
        [expected], abs=0.02
    )


def test_order_excess_of_random_trajectories_is_nought_on_average(
    random_trajectories: Callable[..., list[Labels]],
) -> None:
    trajectories = random_trajectories(60, longest=20)
    excess = _excess("path", trajectories, [(index, index + 1) for index in range(59)], number=20)
    assert abs(float(np.mean(excess))) < 0.05


def test_the_same_seed_shuffles_alike_and_another_does_not() -> None:
    trajectories = [_labels(0, 1, 2, 3, 0), _labels(0, 0, 1, 3, 2)]
    assert (
        _excess("edit", trajectories, [(0, 1)])
        == _excess("edit", trajectories, [(0, 1)])
        != _excess("edit", trajectories, [(0, 1)], seed=1)
    )


def test_without_pairs_there_is_no_excess() -> None:
    nothing = np.empty(0, np.int64)
    assert order_excess([], 4, similarity("transition", 8), (nothing, nothing), permutations=2, seed=0).tolist() == []


def test_all_pairs_are_taken_where_they_are_few_and_else_a_sample_without_dialogues_paired_with_themselves() -> None:
    some, others = sample_pairs(4, 6, seed=0)
    assert list(zip(some.tolist(), others.tolist(), strict=True)) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    some, others = sample_pairs(30, 400, seed=0)
    assert len(some) == 400
    assert (some < others).all()
    assert set(some.tolist()) | set(others.tolist()) == set(range(30))
    assert (
        [len(side) for side in sample_pairs(1, 10, seed=0)]
        == [len(side) for side in sample_pairs(0, 10, seed=0)]
        == [0, 0]
    )


def test_rank_correlation_is_that_of_scipy_with_ties() -> None:
    rng = np.random.default_rng(0)
    some, others = rng.integers(0, 6, 200), rng.integers(0, 4, 200)
    assert spearman(some, others + some) == pytest.approx(stats.spearmanr(some, others + some).statistic, abs=1e-6)
    assert spearman(np.ones(5), np.arange(5)) is None
    assert spearman(np.ones(1), np.ones(1)) is None


def test_a_partial_correlation_takes_away_what_both_owe_to_a_third() -> None:
    assert partial_correlation(0.25, 0.5, 0.5) == 0
    assert partial_correlation(0.6, 0.0, 0.5) == pytest.approx(0.6 / np.sqrt(0.75), abs=1e-6)
    assert partial_correlation(0.6, 1.0, 0.5) is None
    assert partial_correlation(None, 0.1, 0.5) is None


def test_the_report_tells_length_and_scenario_from_the_rest() -> None:
    pairs = sample_pairs(4, 6, seed=0)
    # Pairs 01 02 03 12 13 23; 0 and 1 are of one scenario, 3 of none.
    values = {"edit": np.array([0.9, 0.5, 0.1, 0.6, 0.2, 0.4]), "path": np.array([0.8, 0.5, 0.3, 0.4, 0.1, 0.2])}
    report = pair_report(values, [10, 9, 7, 1], ["a", "a", "b", ""], pairs)
    assert report["pairs"] == 6
    # |ΔL| 1 3 9 2 8 6: edit follows it but for nothing.
    assert report["with_length"]["edit"] == 1
    assert report["with_length"]["path"] == pytest.approx(
        stats.spearmanr(values["path"], [-1, -3, -9, -2, -8, -6]).statistic, abs=1e-6
    )
    between = report["between"]["edit~path"]
    assert between["plain"] == pytest.approx(stats.spearmanr(values["edit"], values["path"]).statistic, abs=1e-6)
    assert between["given_length"] is None
    assert between["other_scenario"] == pytest.approx(
        stats.spearmanr(values["edit"][1:], values["path"][1:]).statistic, abs=1e-6
    )
    assert report["scenarios"] == {
        "same_pairs": 1,
        "means": {"edit": {"same": 0.9, "other": 0.36}, "path": {"same": 0.8, "other": 0.3}},
    }


def test_dialogues_of_no_scenario_share_none() -> None:
    report = pair_report({"edit": np.array([0.5])}, [1, 2], ["", ""], sample_pairs(2, 1, seed=0))
    assert report["scenarios"] == {"same_pairs": 0, "means": {"edit": {"same": None, "other": 0.5}}}
