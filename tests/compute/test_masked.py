import torch

from merc.compute.masked import masked_mean


def test_the_mean_of_nothing_is_zeros():
    values_BTD = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [50.0, 50.0]], [[50.0, 50.0]] * 3])
    mask_BT = torch.tensor([[True, True, False], [False] * 3])
    assert masked_mean(values_BTD, mask_BT).tolist() == [[2, 4], [0, 0]]
