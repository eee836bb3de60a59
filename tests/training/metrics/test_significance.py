"""The significance tests compared with scipy, closed forms and resampling written with loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from merc.training.metrics import significance
from merc.training.metrics.significance import (
    bootstrap_interval,
    cluster_bootstrap,
    holm,
    paired_t_test,
    resampled_weighted_f1,
    seeds_needed,
    significant,
)
from merc.training.metrics.weighted_f1 import weighted_f1

OPTIONS = {"resamples": 60, "confidence": 0.95, "seed": 0}


@given(seed=st.integers(0, 10**6), seeds=st.integers(2, 8))
@settings(max_examples=30, deadline=None)
def test_the_t_test_is_scipys(seed, seeds):
    first, second = np.random.default_rng(seed).random((2, seeds))
    expected = stats.ttest_rel(first, second)
    found = paired_t_test(first, second)
    assert found["t"] == pytest.approx(expected.statistic)
    assert found["p"] == pytest.approx(expected.pvalue)
    assert found["degrees_of_freedom"] == seeds - 1
    assert found["difference"] == pytest.approx(first.mean() - second.mean())


def test_with_five_seeds_the_bound_of_five_percent_is_2_776():
    # mean 1, deviation chosen so that t is 2.776
    spread = math.sqrt(5) / 2.776
    differences = 1 + spread * np.array([-1, -1, 0, 1, 1]) / np.std([-1, -1, 0, 1, 1], ddof=1)
    found = paired_t_test(differences, np.zeros(5))
    assert (found["t"], found["p"]) == (pytest.approx(2.776), pytest.approx(0.05, abs=1e-4))


def test_differences_that_never_vary_are_certain_or_none():
    assert paired_t_test([0.7, 0.6, 0.5], [0.6, 0.5, 0.4])["p"] == 0.0
    assert paired_t_test([0.7, 0.6], [0.7, 0.6]) == {"difference": 0.0, "t": 0.0, "p": 1.0, "degrees_of_freedom": 1}


@pytest.mark.parametrize(("first", "second"), [([0.5], [0.4]), ([0.5, 0.6], [0.4]), ([], [])])
def test_a_paired_test_needs_pairs(first, second):
    with pytest.raises(ValueError, match="at least two"):
        paired_t_test(first, second)


# By hand: sorted, times 4, 3, 2, 1, never falling, at most 1.
@pytest.mark.parametrize(
    ("given_p", "expected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([], []),
        ([0.01, 0.01, 0.01], [0.03, 0.03, 0.03]),
    ],
)
def test_holm_steps_down(given_p, expected):
    assert holm(given_p) == pytest.approx(expected)


def problem(seed=0, dialogues=9, seeds=2):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 6, dialogues)
    labels = rng.integers(-1, 3, lengths.sum())
    return labels, rng.integers(0, 3, (seeds, len(labels))), rng.integers(0, 3, (seeds + 1, len(labels))), lengths


def test_the_bootstrap_is_the_one_written_with_loops():
    labels, first, second, lengths = problem()
    found = cluster_bootstrap(labels, first, second, lengths, 3, **OPTIONS)
    starts = np.cumsum(lengths) - lengths
    times = np.random.default_rng(0).multinomial(9, np.full(9, 1 / 9), size=60)

    def mean_f1(predictions, drawn):
        rows = np.concatenate(
            [np.arange(starts[k], starts[k] + lengths[k]) for k, count in enumerate(drawn) for _ in range(count)]
        )
        rows = rows[labels[rows] >= 0]
        return np.mean([weighted_f1(labels[rows], one[rows], 3) for one in predictions])

    differences = [mean_f1(first, drawn) - mean_f1(second, drawn) for drawn in times]
    assert found["low"] == pytest.approx(np.percentile(differences, 2.5))
    assert found["high"] == pytest.approx(np.percentile(differences, 97.5))
    assert found["difference"] == pytest.approx(mean_f1(first, np.ones(9, int)) - mean_f1(second, np.ones(9, int)))
    assert found == cluster_bootstrap(labels, first, second, lengths, 3, **OPTIONS)


def test_a_recipe_does_not_differ_from_itself():
    labels, first, _, lengths = problem()
    assert cluster_bootstrap(labels, first, first, lengths, 3, **OPTIONS) == {
        "difference": 0.0,
        "low": 0.0,
        "high": 0.0,
    }


def test_a_recipe_that_is_always_right_is_better_than_one_that_never_is():
    labels = np.arange(40) % 3
    found = cluster_bootstrap(labels, labels[None], (labels[None] + 1) % 3, np.full(10, 4), 3, **OPTIONS)
    assert found == {"difference": 1.0, "low": 1.0, "high": 1.0}


def test_utterances_that_hang_together_widen_the_interval():
    rng = np.random.default_rng(3)
    right = np.repeat(rng.random(20) < 0.5, 10)  # a dialogue is all right or all wrong
    labels = rng.integers(0, 2, 200)
    first, second = np.where(right, labels, 1 - labels)[None], rng.integers(0, 2, (1, 200))
    together = cluster_bootstrap(labels, first, second, np.full(20, 10), 2, **OPTIONS)
    apart = cluster_bootstrap(labels, first, second, np.ones(200, dtype=np.int64), 2, **OPTIONS)
    assert together["high"] - together["low"] > 1.5 * (apart["high"] - apart["low"])


def test_what_does_not_fit_is_refused():
    labels, first, second, lengths = problem()
    with pytest.raises(ValueError, match="dialogues of"):
        cluster_bootstrap(labels, first, second, lengths[1:], 3, **OPTIONS)
    with pytest.raises(ValueError, match="nothing is labelled"):
        cluster_bootstrap(np.full_like(labels, -1), first, second, lengths, 3, **OPTIONS)
    with pytest.raises(ValueError, match=r"confidence of 95"):
        cluster_bootstrap(labels, first, second, lengths, 3, resamples=10, confidence=95, seed=0)


@pytest.mark.parametrize(
    ("p", "low", "high", "expected"),
    [
        (0.01, 0.1, 0.2, True),
        (0.01, -0.2, -0.1, True),
        (0.06, 0.1, 0.2, False),
        (0.01, -0.1, 0.2, False),
        (0.01, 0.0, 0.2, False),
    ],
)
def test_significant_is_what_both_tests_say(p, low, high, expected):
    assert significant(p, low, high, level=0.05) is expected


def test_pieces_of_the_draws_are_the_draws(monkeypatch):
    labels, first, second, lengths = problem()
    whole = cluster_bootstrap(labels, first, second, lengths, 3, **OPTIONS)
    monkeypatch.setattr(significance, "_COUNTS", 30)
    assert len(list(significance._draws(9, 60, 0))) == 21
    assert cluster_bootstrap(labels, first, second, lengths, 3, **OPTIONS) == whole


def test_scores_kept_of_a_recipe_give_the_same_interval():
    labels, first, second, lengths = problem(3)
    kept = [resampled_weighted_f1(labels, one, lengths, 3, resamples=60, seed=0) for one in (first, second)]
    assert [len(one) for one in kept] == [61, 61]
    assert bootstrap_interval(*kept, confidence=0.95) == cluster_bootstrap(labels, first, second, lengths, 3, **OPTIONS)


@pytest.mark.parametrize(
    ("effect", "level", "power"), [(0.6, 0.05, 0.8), (1.5, 0.05, 0.8), (1.0, 0.01, 0.9), (4.0, 0.05, 0.95)]
)
def test_the_seeds_needed_are_those_with_which_simulated_tests_find_the_difference(effect, level, power):
    spread = np.array([-1.0, 0.0, 1.0])  # deviation 1
    needed = seeds_needed(spread + effect, level=level, power=power)
    rng = np.random.default_rng(0)

    def found(seeds):
        drawn = rng.normal(effect, 1, (40_000, seeds))
        return (stats.ttest_1samp(drawn, 0, axis=1).pvalue < level).mean()

    assert found(needed) > power - 0.01
    assert needed == 2 or found(needed - 1) < power + 0.01


def test_no_number_of_seeds_finds_no_difference_and_two_find_one_that_never_varies():
    assert seeds_needed([0.1, -0.1], level=0.05, power=0.8) is None
    assert seeds_needed([0.01, -0.012, 0.001], level=0.05, power=0.8) is None  # several thousand
    assert seeds_needed([0.01, -0.012, 0.001], level=0.05, power=0.8, most=10_000) > 1000
    assert seeds_needed([0.1, 0.1], level=0.05, power=0.8) == 2
    with pytest.raises(ValueError, match="at least two seeds, not 1"):
        seeds_needed([0.1], level=0.05, power=0.8)
