"""Mean features compared with numpy's least squares and a loop, read from real Parquet files."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from merc.layout import Layout
from merc.shards.format import reader
from merc.trajectories import pooled
from merc.trajectories.pooled import COMPARISON, LengthTrend, Means, read_means, whole


def test_means_are_over_the_present_utterances_standardised_and_weighted(
    write_shards: Callable[..., Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooled, "_BATCH", 2)
    rows = [
        ("train/a", "AB", [2, 4]),
        ("train/b", "ABA", [-1, 6, -1]),
        ("train/c", "A", [-1]),
        ("train/d", "AAA", [0, -1, 1]),
    ]
    layout = write_shards({"train": rows})
    means = read_means(layout.shards, "train", ["text"], reader.stats(layout.shards))
    # Vectors are (1, label / 10), mean (0.5, 0.5), deviation (0.5, 0.25), two features.
    expected = np.array([[1, (0.3 - 0.5) / 0.25], [1, (0.6 - 0.5) / 0.25], [0, 0], [1, (0.05 - 0.5) / 0.25]]) / np.sqrt(
        2
    )
    np.testing.assert_allclose(means.values, expected, rtol=1e-6)
    assert means.lengths.tolist() == [2, 3, 1, 3]
    assert means.there.tolist() == [True, True, False, True]


def _means(number: int, seed: int = 0) -> Means:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 30, number)
    values = (
        rng.normal(size=(number, 6)) / np.sqrt(lengths)[:, None] + np.outer(np.log(lengths), rng.normal(size=6)) + 3
    )
    return Means(values.astype(np.float32), lengths, rng.random(number) > 0.1)


def test_the_trend_of_length_is_that_of_least_squares() -> None:
    means = _means(200)
    trend = LengthTrend.fit(means)
    known = means.there
    design = np.stack([np.ones(known.sum()), np.log(means.lengths[known])], axis=1)
    fitted, *_ = np.linalg.lstsq(design, means.values[known].astype(np.float64), rcond=None)
    np.testing.assert_allclose(trend.slope, fitted[1], rtol=1e-5)
    np.testing.assert_allclose(trend.mean - trend.slope * trend.centre, fitted[0], rtol=1e-4)
    expected = means.values[known] - design @ fitted
    described = trend.describe(means)
    np.testing.assert_allclose(
        described / np.linalg.norm(described, axis=1, keepdims=True),
        expected / np.linalg.norm(expected, axis=1, keepdims=True),
        atol=1e-5,
    )


def test_what_is_left_of_features_that_length_explains_does_not_go_with_length() -> None:
    means = _means(300)
    some, others = np.triu_indices(int(means.there.sum()), 1)
    lengths = means.lengths[means.there]
    apart = np.abs(lengths[some] - lengths[others])

    def with_length(described: np.ndarray[Any, Any]) -> float:
        return float(np.corrcoef(COMPARISON.pairs(described[some], described[others]), -apart)[0, 1])

    before, after = with_length(LengthTrend.flat().describe(means)), with_length(LengthTrend.fit(means).describe(means))
    assert before > 0.3
    assert abs(after) < 0.1


@pytest.mark.parametrize("lengths", [[5, 5, 5], [5], []])
def test_without_a_spread_of_lengths_only_the_mean_is_taken_away(lengths: list[int]) -> None:
    values = np.arange(2 * len(lengths), dtype=np.float32).reshape(-1, 2) ** 2
    trend = LengthTrend.fit(Means(values, np.array(lengths, np.int64), np.ones(len(lengths), np.bool_)))
    assert not trend.slope.any()
    np.testing.assert_array_equal(trend.mean, values.mean(axis=0, dtype=np.float64) if lengths else [0])


def test_similarity_is_the_cosine_moved_to_zero_and_one() -> None:
    described = whole(np.array([[3.0, 4.0], [6.0, 8.0], [-3.0, -4.0], [4.0, -3.0], [0.0, 0.0], [1.0, 0.0]]))
    assert COMPARISON.compare(described, described)[0] == pytest.approx([1, 1, 0, 0.5, 0.5, 0.8], abs=1e-6)


def test_whole_numbers_are_the_same_alone_and_together_and_have_no_negative_zero() -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 700))
    vectors[:, ::50] = -1e-12
    together = whole(vectors)
    assert (together == np.rint(together)).all()
    assert not np.signbit(together[:, ::50]).any()
    np.testing.assert_array_equal(together, np.concatenate([whole(vectors[index : index + 1]) for index in range(50)]))
    matrix = COMPARISON.compare(together, together)
    some, others = np.divmod(np.arange(2500), 50)
    np.testing.assert_array_equal(COMPARISON.pairs(together[some], together[others]), matrix.ravel())
    np.testing.assert_array_equal(np.diag(matrix), 1)


def test_no_similarity_exceeds_its_bound() -> None:
    described = whole(np.random.default_rng(2).normal(size=(200, 40)) * 1e-3 + 1)
    sketches = COMPARISON.sketch(described)
    assert (COMPARISON.bound(sketches, sketches) >= COMPARISON.compare(described, described)).all()
