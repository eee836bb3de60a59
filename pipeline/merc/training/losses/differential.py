"""The differential regulariser of LSDGNN: the representations of a dialogue in two branches should differ.

Legend: B dialogues, T utterances, D features, L layers.

    s, f                  outputs of the branches in a layer, [B, T, D] each, minus their mean over the dialogues
    loss = Σ_layers 1 / mean_b ‖ s_b / ‖s_b‖ - f_b / ‖f_b‖ ‖          over all numbers of a dialogue b

Source: Li, Xu and Qiao, Long-Short Distance Graph Neural Networks and Improved Curriculum Learning for Emotion
Recognition in Conversation, ECAI 2025, and its code (LiXinran6/LSDGNN_ICL at 4dbfeed). Unlike in that code, padding is
excluded from means and norms: the mean at a position is over the dialogues that have it; and if the distance is zero,
as in a batch of a single dialogue, which equals the mean, the term is 0 instead of infinite.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from merc.errors import BadSettings
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.losses.engine.base import MERCLoss, TrainingFacts
from merc.training.losses.engine.kernel import at_least_float32
from merc.training.models.engine.base import MERCOutput


class DifferentialLoss(nn.Module):
    """The equation at the head of this file.

    Example:
        >>> short_BTD = torch.tensor([[[1.0]], [[-1.0]]])
        >>> DifferentialLoss()({"layer 1": short_BTD}, {"layer 1": -short_BTD}, mask=torch.ones(2, 1, dtype=torch.bool))
        tensor(0.5000)
    """

    def forward(self, short: Mapping[str, Tensor], long: Mapping[str, Tensor], *, mask: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            short: layer → [B, T, D], output of one branch. long: layer → [B, T, D], output of the other.
            mask: bool [B, T], the real utterances.

        Returns:
            A scalar, in float32 or float64.

        Raises:
            ValueError: if the branches differ in their layers or shapes.
        """
        shapes = [{name: tuple(values.shape) for name, values in branch.items()} for branch in (short, long)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"the branches must have the same layers and shapes, not {shapes[0]} and {shapes[1]}")
        with torch.autocast(mask.device.type, enabled=False):
            terms = [_of_layer(short[name], long[name], mask) for name in short]
            return torch.stack(terms).sum()


def _of_layer(short_BTD: Tensor, long_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    distances_B = torch.linalg.vector_norm(_direction(short_BTD, mask_BT) - _direction(long_BTD, mask_BT), dim=-1)
    distance, there = distances_B.mean(), distances_B.any()
    # The inner `where` keeps infinity out of the gradient of values that the outer one discards.
    return torch.where(there, 1 / torch.where(there, distance, 1.0), distance * 0.0)


def _direction(values_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """[B, T · D], each dialogue minus the mean, scaled to length 1."""
    padding_BT1 = ~mask_BT[..., None]
    real_BTD = at_least_float32(values_BTD).masked_fill(padding_BT1, 0.0)
    mean_TD = real_BTD.sum(dim=0) / mask_BT.sum(dim=0).clamp(min=1)[:, None]
    centred_BX = (real_BTD - mean_TD).masked_fill(padding_BT1, 0.0).flatten(1)
    direction_BX: Tensor = centred_BX / (torch.linalg.vector_norm(centred_BX, dim=-1, keepdim=True) + 1e-6)
    return direction_BX


class Differential(MERCLoss):
    """:class:`DifferentialLoss` between ``short_distance`` and ``long_distance`` in :attr:`MERCOutput.extras`.

    Raises:
        BadSettings: if the model does not return these.
    """

    class Config(Settings):
        """The differential regulariser has no settings."""

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        if not {"short_distance", "long_distance"} <= facts.gives.extras:
            raise BadSettings(
                "differential compares branches over short and long distances, which lsdgnn has; leave it out of the"
                " recipe"
            )
        self.loss = DifferentialLoss()

    def forward(self, output: MERCOutput, batch: DialogueBatch, **state: Any) -> Tensor:
        value: Tensor = self.loss(
            output.extras["short_distance"], output.extras["long_distance"], mask=batch.utterance_mask
        )
        return value
