"""From one vector per token to one per utterance, always with the mask.

Legend: B utterances, T tokens (padded), D features, K layers.
"""

from collections.abc import Sequence

from torch import Tensor


def masked_mean(hidden_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over the tokens where the mask is True, in float32.

    Args:
        hidden_BTD: any float type; what stands where the mask is False does not matter, not even NaN.
        mask_BT: bool.

    Returns:
        [B, D] float32; zeros where a row's mask is all False.
    """
    kept_BTD = hidden_BTD.float().masked_fill(~mask_BT.unsqueeze(-1), 0.0)
    return kept_BTD.sum(dim=1) / mask_BT.sum(dim=1, keepdim=True).clamp(min=1)


def mean_of_layers(hidden_BTD: Sequence[Tensor]) -> Tensor:
    """Mean over K layers, in float32.

    Args:
        hidden_BTD: K tensors of one shape.
    """
    total = hidden_BTD[0].float()
    for layer in hidden_BTD[1:]:
        total = total + layer.float()
    return total / len(hidden_BTD)
