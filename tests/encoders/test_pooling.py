import pytest
import torch

from pipeline.encoders.pooling import masked_mean, mean_of_layers


def test_the_mean_is_over_unmasked_tokens_alone() -> None:
    hidden_BTD = torch.tensor([[[1.0, 10.0], [3.0, 30.0], [100.0, 100.0]], [[5.0, 6.0], [9.0, 9.0], [9.0, 9.0]]])
    mask_BT = torch.tensor([[True, True, False], [True, False, False]])
    assert masked_mean(hidden_BTD, mask_BT).tolist() == [[2.0, 20.0], [5.0, 6.0]]


def test_what_stands_at_masked_places_does_not_matter() -> None:
    hidden_BTD = torch.tensor([[[1.0], [float("nan")], [float("inf")]]])
    assert masked_mean(hidden_BTD, torch.tensor([[True, False, False]])).tolist() == [[1.0]]


def test_a_row_without_tokens_is_zero() -> None:
    assert masked_mean(torch.ones(1, 2, 3), torch.zeros(1, 2, dtype=torch.bool)).tolist() == [[0.0, 0.0, 0.0]]


def test_half_precision_is_summed_in_float32() -> None:
    # 4096 times 0.1: in float16 the sum would stop growing at 256
    mean = masked_mean(torch.full((1, 4096, 1), 0.1, dtype=torch.float16), torch.ones(1, 4096, dtype=torch.bool))
    assert mean.dtype == torch.float32
    assert mean.item() == pytest.approx(0.1, abs=1e-4)


def test_layers_are_averaged_in_float32() -> None:
    layers = [torch.full((1, 1, 2), value, dtype=torch.bfloat16) for value in (1.0, 2.0, 4.0, 9.0)]
    mean = mean_of_layers(layers)
    assert mean.dtype == torch.float32
    assert mean.tolist() == [[[4.0, 4.0]]]
