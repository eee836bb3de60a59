import pytest
import torch

from merc.encoders.engine.pooling import masked_mean, masked_variance, mean_of_layers, weighted_layers


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


def test_weights_of_layers_need_not_sum_to_one() -> None:
    layers = [torch.full((1, 1, 2), value, dtype=torch.bfloat16) for value in (1.0, 2.0, 4.0)]
    weighted = weighted_layers(layers, [1.0, 0.0, 3.0])
    assert weighted.dtype == torch.float32
    assert weighted.tolist() == [[[3.25, 3.25]]]


def test_a_layer_without_weight_does_not_matter() -> None:
    layers = [torch.tensor([[[2.0]]]), torch.tensor([[[float("nan")]]])]
    assert weighted_layers(layers, [0.5, 0.0]).tolist() == [[[2.0]]]
    assert weighted_layers(layers[::-1], [0.0, 0.5]).tolist() == [[[2.0]]]


def test_each_layer_needs_a_weight() -> None:
    with pytest.raises(ValueError, match="shorter"):
        weighted_layers([torch.ones(1, 1, 1)] * 3, [1.0, 1.0])


def test_the_variance_is_over_unmasked_tokens_alone() -> None:
    hidden_BTD = torch.tensor([[[1.0], [3.0], [float("nan")]], [[7.0], [100.0], [100.0]]])
    mask_BT = torch.tensor([[True, True, False], [True, False, False]])
    assert masked_variance(hidden_BTD, mask_BT, masked_mean(hidden_BTD, mask_BT)).tolist() == [[1.0], [0.0]]


def test_a_small_variance_next_to_a_large_mean_is_not_lost() -> None:
    hidden_BTD = torch.tensor([[[4096.0], [4097.0]]])
    mask_BT = torch.ones(1, 2, dtype=torch.bool)
    assert masked_variance(hidden_BTD, mask_BT, masked_mean(hidden_BTD, mask_BT)).tolist() == [[0.25]]
