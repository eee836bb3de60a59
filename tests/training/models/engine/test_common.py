"""Steps shared by models."""

import pytest
import torch

from merc.training.models.engine.common import (
    Dropout,
    Projection,
    backwards,
    not_in_halves_on_cpu,
    padded,
    present_shares,
    real_rows,
)


def test_backwards_turns_each_dialogue_and_leaves_its_padding():
    values_BTD = torch.tensor([[1.0, 2.0, 3.0, 9.0], [4.0, 9.0, 9.0, 9.0], [5.0, 6.0, 7.0, 8.0]])[..., None]
    lengths_B = torch.tensor([3, 1, 4])
    turned_BTD = backwards(values_BTD, lengths_B)
    assert turned_BTD[..., 0].tolist() == [[3, 2, 1, 9], [4, 9, 9, 9], [8, 7, 6, 5]]
    assert torch.equal(backwards(turned_BTD, lengths_B), values_BTD)


def test_real_rows_go_back_to_where_they_were(make_batch):
    batch = make_batch([2, 4, 1])
    values_BTX = torch.arange(24.0).view(3, 4, 2)
    rows_NX = real_rows(values_BTX, batch)
    assert rows_NX[:, 0].tolist() == [0, 2, 8, 10, 12, 14, 16]
    assert torch.equal(padded(rows_NX, batch), values_BTX.masked_fill(~batch.utterance_mask[..., None], 0.0))
    assert torch.equal(padded(rows_NX.expand(5, 6, -1, -1), batch)[4, 5], padded(rows_NX, batch))


def test_modalities_that_are_present_have_equal_shares_and_all_have_where_none_is(make_batch):
    batch = make_batch([4])
    masks = {
        "text": [True, True, False, False],
        "audio": [True, False, False, False],
        "visual": [True, True, True, False],
    }
    batch.modality_mask.update({name: torch.tensor([mask]) for name, mask in masks.items()})
    expected = [[1 / 3, 1 / 3, 1 / 3], [1 / 2, 0, 1 / 2], [0, 0, 1], [1 / 3, 1 / 3, 1 / 3]]
    torch.testing.assert_close(present_shares(batch, ["text", "audio", "visual"])[0], torch.tensor(expected))
    torch.testing.assert_close(present_shares(batch, ["audio"]), torch.ones(1, 4, 1))


def test_absent_vectors_are_the_learned_one():
    projection = Projection(2, 3)
    torch.nn.init.normal_(projection.absent_H)
    output = projection(torch.ones(1, 2, 2), torch.tensor([[True, False]]))
    assert torch.equal(output[0, 0], projection.linear(torch.ones(2)))
    assert torch.equal(output[0, 1], projection.absent_H)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_keeps_the_share_that_it_should_and_the_mean(dtype):
    torch.manual_seed(0)
    values = Dropout(0.3)(torch.ones(200_000, dtype=dtype))
    assert values.dtype == dtype
    assert (values == 0).float().mean().item() == pytest.approx(
        0.3, abs=0.005
    )  # four standard errors of the mean are 0.004
    assert values[values > 0].unique().tolist() == torch.tensor([1 / 0.7], dtype=dtype).tolist()


def test_dropout_does_nothing_in_eval_or_without_a_rate():
    values = torch.randn(50)
    assert torch.equal(Dropout(0.3).eval()(values), values)
    assert torch.equal(Dropout(0.0)(values), values)


def test_under_mixed_precision_a_recurrence_on_a_cpu_sees_and_gives_float32():
    lstm = torch.nn.LSTM(3, 2, batch_first=True)
    seen = []

    def states(values_BTD):
        seen.append(values_BTD.dtype)
        return lstm(values_BTD)[0]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found_BTH = not_in_halves_on_cpu(states, torch.randn(2, 4, 3, dtype=torch.bfloat16))
    assert (found_BTH.dtype, seen) == (torch.float32, [torch.float32])
    doubles = not_in_halves_on_cpu(lambda values_BTD: values_BTD, torch.randn(1, 1, 3, dtype=torch.float64))
    assert doubles.dtype == torch.float64
