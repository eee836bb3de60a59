"""From one vector per token to one per utterance, always with the mask.

Legend: B utterances, T tokens (padded), D features, K layers.
"""

from collections.abc import Sequence

from torch import Tensor

from merc.compute import masked


def masked_mean(hidden_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over the tokens where the mask is True, [B, D] in float32 regardless of the type of ``hidden_BTD``
    (:func:`merc.compute.masked.masked_mean`).
    """
    return masked.masked_mean(hidden_BTD.float(), mask_BT)


def mean_of_layers(hidden_BTD: Sequence[Tensor]) -> Tensor:
    """Mean over K layers, in float32.

    Args:
        hidden_BTD: K tensors of one shape.
    """
    total = hidden_BTD[0].float()
    for layer in hidden_BTD[1:]:
        total = total + layer.float()
    return total / len(hidden_BTD)


def weighted_layers(hidden_BTD: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Weighted sum over K layers, with weights normalised to sum one, in float32.

    Args:
        hidden_BTD: K tensors of one shape.
        weights: K numbers, at least 0 and not all 0.
    """
    weighted = [(layer, weight / sum(weights)) for layer, weight in zip(hidden_BTD, weights, strict=True) if weight]
    first, share = weighted[0]
    total = first.float() * share
    for layer, share in weighted[1:]:
        total.add_(layer.float(), alpha=share)
    return total


def masked_variance(hidden_BTD: Tensor, mask_BT: Tensor, mean_BD: Tensor) -> Tensor:
    """Mean squared distance from the mean, over the tokens where the mask is True, in float32.

    Args:
        hidden_BTD, mask_BT: as for :func:`masked_mean`.
        mean_BD: its result.

    Returns:
        [B, D] float32; zeros if the mask of a row is True at most once.
    """
    return masked_mean((hidden_BTD.float() - mean_BD.unsqueeze(1)).square(), mask_BT)
