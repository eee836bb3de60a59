import csv
from pathlib import Path

import numpy as np
import pytest

from merc.encoders.engine.base import UtteranceInput
from merc.encoders.engine.batching import by_length, one_by_one, padding_share, scatter


def test_batches_hold_the_budget_and_each_item_once() -> None:
    lengths = np.random.default_rng(0).geometric(0.07, size=3000)
    batches = by_length(lengths, budget=512)
    assert sorted(np.concatenate(batches).tolist()) == list(range(3000))
    assert all(len(batch) * lengths[batch].max() <= 512 for batch in batches)


def test_longest_items_come_first_and_equal_ones_keep_their_order() -> None:
    assert [batch.tolist() for batch in by_length([3, 7, 3, 1, 7, 3], budget=9)] == [[1], [4], [0, 2, 5], [3]]


def test_an_item_beyond_the_budget_is_a_batch_of_its_own() -> None:
    assert [batch.tolist() for batch in by_length([2, 50, 2], budget=10)] == [[1], [0, 2]]


def test_no_items_give_no_batches() -> None:
    assert by_length([], budget=10) == []
    assert padding_share([], []) == 0.0


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="budget of 0"):
        by_length([1, 2], budget=0)


def test_padding_is_counted_over_all_batches() -> None:
    # 2 x 4 and 1 x 1 units, of which 3 + 4 + 1 are real
    assert padding_share([4, 3, 1], [np.array([0, 1]), np.array([2])]) == pytest.approx(1 / 9)


def test_sorting_saves_most_of_the_padding() -> None:
    lengths = np.random.default_rng(1).geometric(0.07, size=2000)
    in_order = [np.arange(start, min(start + 32, 2000)) for start in range(0, 2000, 32)]
    assert padding_share(lengths, in_order) > 0.6
    assert padding_share(lengths, by_length(lengths, budget=1024)) < 0.1


def test_scatter_fills_the_other_places_with_zeros_and_sorts_remarks() -> None:
    encoded = scatter(
        np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32), [3, 1], 4, [(2, "no_text", "b"), (0, "no_text", "a")]
    )
    assert encoded.embeddings.tolist() == [[0, 0], [3, 4], [0, 0], [1, 2]]
    assert encoded.present.tolist() == [False, True, False, True]
    assert encoded.remarks == [(0, "no_text", "a"), (2, "no_text", "b")]


def test_one_by_one_keeps_remarks_of_present_and_absent_vectors() -> None:
    def encode_one(utterance: UtteranceInput):
        if not utterance.text:
            return None, [("no_text", "empty")]
        return np.full(2, len(utterance.text), dtype=np.float32), [("padded", "short")] if len(
            utterance.text
        ) < 2 else []

    encoded = one_by_one([UtteranceInput(utterance_id=text, text=text) for text in ("abc", "", "a")], 2, encode_one)
    assert encoded.embeddings.tolist() == [[3, 3], [0, 0], [1, 1]]
    assert encoded.remarks == [(1, "no_text", "empty"), (2, "padded", "short")]


@pytest.mark.parametrize("budget", [256, 1024, 65_536])
def test_padding_stays_within_the_limit_regardless_of_the_budget(budget: int) -> None:
    lengths = np.random.default_rng(2).geometric(0.07, size=4000)
    batches = by_length(lengths, budget)
    assert sorted(np.concatenate(batches).tolist()) == list(range(4000))
    shares = [padding_share(lengths[batch], [np.arange(len(batch))]) for batch in batches]
    assert 0 < max(shares) <= 0.04 + 1e-12


def test_a_batch_is_closed_just_before_the_limit() -> None:
    # 10 + 9 + 9: padding of 1 in 20, then 2 in 30
    assert [batch.tolist() for batch in by_length([10, 9, 9], 100, max_padding=0.05)] == [[0, 1], [2]]
    assert [batch.tolist() for batch in by_length([10, 9, 9], 100, max_padding=0.07)] == [[0, 1, 2]]
    assert [batch.tolist() for batch in by_length([10, 9, 9], 100, max_padding=0.0)] == [[0], [1, 2]]


def test_padding_of_real_transcripts_is_below_five_percent(real_data: Path) -> None:
    with (real_data / "meld" / "dev_sent_emo.csv").open(encoding="utf-8", newline="") as file:
        lengths = [len(row["Utterance"].split()) + 2 for row in csv.DictReader(file)]
    assert len(lengths) == 1109
    for budget in (1024, 65_536):
        assert padding_share(lengths, by_length(lengths, budget)) < 0.05
