"""TA@K and RSA against loops and scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from merc.evaluation.engine.alignment import (
    alignment_at_k,
    cosines,
    length_nearness,
    like_length,
    representational_similarity,
)


def problem(seed, count=9):
    rng = np.random.default_rng(seed)
    features, similarity = rng.normal(size=(count, 4)), rng.random((count, count))
    allowed = rng.random((count, count)) < 0.6
    allowed = (allowed | allowed.T) & ~np.eye(count, dtype=bool)
    return cosines(features), (similarity + similarity.T) / 2, allowed, rng.integers(1, 20, count)


@given(seed=st.integers(0, 10**6), k=st.integers(1, 10))
@settings(max_examples=25, deadline=None)
def test_the_alignment_is_the_one_written_with_loops(seed, k):
    near, alike, allowed, _ = problem(seed)
    nearest, best, every = [], [], []
    for row in range(9):
        others = [other for other in range(9) if allowed[row, other]]
        if not others:
            continue
        nearest.append(
            np.mean([alike[row, other] for other in sorted(others, key=lambda other: -near[row, other])[:k]])
        )
        best.append(np.mean(sorted((alike[row, other] for other in others), reverse=True)[:k]))
        every.append(np.mean([alike[row, other] for other in others]))
    found = alignment_at_k(near, alike, allowed, k)
    expected = {"found": np.mean(nearest), "random": np.mean(every), "oracle": np.mean(best)}
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    room = expected["oracle"] - expected["random"]
    assert (
        found["ta"] is None
        if room <= 1e-12
        else found["ta"] == pytest.approx((expected["found"] - expected["random"]) / room)
    )


def test_neighbours_by_the_similarity_itself_reach_1_and_the_others_are_below():
    near, alike, allowed, _ = problem(1)
    assert alignment_at_k(alike, alike, allowed, 3)["ta"] == 1.0
    assert alignment_at_k(near, alike, allowed, 3)["ta"] < 1
    assert alignment_at_k(-alike, alike, allowed, 3)["ta"] < 0


def test_of_nothing_to_compare_there_is_no_alignment():
    near, alike, allowed, sizes = problem(2)
    nobody = np.zeros_like(allowed)
    assert set(alignment_at_k(near, alike, nobody, 3).values()) == {None}
    assert set(representational_similarity(near, alike, nobody, sizes).values()) == {None}
    assert alignment_at_k(near, np.ones_like(alike), allowed, 3)["ta"] is None  # all dialogues are alike
    assert representational_similarity(near, np.ones_like(alike), allowed, sizes)["rsa"] is None


@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_the_correlation_is_scipys_and_the_partial_one_that_of_the_residuals_of_ranks(seed):
    near, alike, allowed, sizes = problem(seed)
    pairs = [(row, other) for row in range(9) for other in range(row + 1, 9) if allowed[row, other]]
    columns = np.array([[near[pair], alike[pair], -abs(int(sizes[pair[0]]) - int(sizes[pair[1]]))] for pair in pairs]).T
    found = representational_similarity(near, alike, allowed, sizes)
    assert found["rsa"] == pytest.approx(stats.spearmanr(columns[0], columns[1]).statistic, abs=1e-5)
    ranks = np.array([stats.rankdata(column) for column in columns])
    left = [rank - np.polyval(np.polyfit(ranks[2], rank, 1), ranks[2]) for rank in ranks[:2]]
    assert found["rsa_given_length"] == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-4)


def test_a_row_of_zeros_is_near_nothing():
    found = cosines(np.array([[3.0, 4.0], [0.0, 0.0], [4.0, 3.0]]))
    np.testing.assert_allclose(found, [[1, 0, 0.96], [0, 0, 0], [0.96, 0, 1]])


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=9), share=st.sampled_from([0.1, 0.5, 0.8, 1.0]))
@settings(max_examples=25, deadline=None)
def test_dialogues_of_like_length_are_those_that_loops_find(sizes, share):
    found, near = like_length(np.array(sizes), share), length_nearness(np.array(sizes))
    for row, size in enumerate(sizes):
        for column, other in enumerate(sizes):
            assert found[row, column] == (min(size, other) / max(size, other) >= share)
            assert near[row, column] == -abs(size - other)


def test_what_length_alone_explains_is_gone_among_dialogues_of_one_length():
    sizes = np.repeat([5, 10, 20], 20)
    rng = np.random.default_rng(0)
    noise = rng.random((60, 60))
    alike = 1 / (1 - length_nearness(sizes)) + 0.01 * (noise + noise.T)  # the similarity follows length
    near = length_nearness(sizes) + 0.01 * rng.random((60, 60))  # and so does nearness, which depends on nothing else
    different = ~np.eye(60, dtype=bool)
    assert alignment_at_k(near, alike, different, 5)["ta"] > 0.9
    assert abs(alignment_at_k(near, alike, different & like_length(sizes, 0.8), 5)["ta"]) < 0.2
