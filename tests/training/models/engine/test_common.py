"""Steps shared by models."""

import pytest
import torch

from merc.training.models.engine.common import (
    Dropout,
    Projection,
    padded,
    present_shares,
    real_rows,
)


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
