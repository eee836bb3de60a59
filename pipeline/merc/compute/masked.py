"""Means over unmasked places: tokens of an utterance, utterances of a dialogue.

Legend: B rows, T places in a row (padded), D features.
"""

from torch import Tensor


def masked_mean(values_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over the places where the mask is True, [B, D] in the dtype of the values; zeros for a row without such
    places.

    Values where the mask is False do not matter, not even NaN.

    Example:
        >>> import torch
        >>> masked_mean(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]))
        tensor([[2.]])
    """
    sums_BD = values_BTD.masked_fill(~mask_BT[..., None], 0.0).sum(dim=1)
    return sums_BD / mask_BT.sum(dim=1, keepdim=True).clamp(min=1)
