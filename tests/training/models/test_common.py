"""Steps that models share."""

import pytest
import torch

from pipeline.training.models.common import Dropout, Projection, backwards, masked_mean, padded, real_rows


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


def test_the_mean_of_nothing_is_zeros():
    values_BTD = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [50.0, 50.0]], [[50.0, 50.0]] * 3])
    mask_BT = torch.tensor([[True, True, False], [False] * 3])
    assert masked_mean(values_BTD, mask_BT).tolist() == [[2, 4], [0, 0]]


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
    assert (values == 0).float().mean().item() == pytest.approx(0.3, abs=0.005)  # four standard errors of the mean are 0.004
    assert values[values > 0].unique().tolist() == torch.tensor([1 / 0.7], dtype=dtype).tolist()


def test_dropout_does_nothing_in_eval_or_without_a_rate():
    values = torch.randn(50)
    assert torch.equal(Dropout(0.3).eval()(values), values)
    assert torch.equal(Dropout(0.0)(values), values)
