"""Recap: an utterance, with a fading recap of the earlier ones. Causal.

Legend: B dialogues, T utterances, H hidden units, C classes.

    features_BTD ─ Linear, summed over modalities ─► x ─┬────────────────────────► + ─ ReLU ─► hidden ─ Linear ─► logits
         absent: learned                               └─ Σ_j<i λ^(i-j) x_j ─ Linear ─┘
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from merc.compute.masked import masked_mean
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.models.engine.common import Projection


class Recap(MERCModel):
    """``unimodal`` are the projected features."""

    class Config(Settings):
        """Settings of the model."""

        hidden_units: int = Field(default=64, ge=1)
        """H."""
        fading: float = Field(default=0.5, gt=0, lt=1)
        """λ, how much of an utterance remains one turn later."""

    causal = True

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        self.gives = Gives(hidden=config.hidden_units, unimodal=dict.fromkeys(dims, config.hidden_units))
        self.project = nn.ModuleDict({name: Projection(dim, config.hidden_units) for name, dim in dims.items()})
        self.recap = nn.Linear(config.hidden_units, config.hidden_units)
        self.classify = nn.Linear(config.hidden_units, classes)
        self.fading = config.fading

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        masks = batch.modality_mask
        unimodal = {name: self.project[name](batch.features[name], masks[name]) for name in self.modalities}
        x_BTH = torch.stack(list(unimodal.values())).sum(dim=0)
        hidden_BTH = (x_BTH + self.recap(self._weights(x_BTH) @ x_BTH)).relu()
        return MERCOutput(
            logits=self.classify(hidden_BTH),
            hidden=hidden_BTH,
            unimodal=unimodal,
            pooled={name: masked_mean(values_BTH, masks[name]) for name, values_BTH in unimodal.items()},
        )

    def _weights(self, x_BTH: Tensor) -> Tensor:
        """[T, T], λ^(i-j) below the diagonal. Padding comes after all real utterances, so that none of them sees it."""
        turns_T = torch.arange(x_BTH.shape[1], device=x_BTH.device)
        steps_TT = turns_T[:, None] - turns_T[None, :]
        return torch.where(steps_TT > 0, self.fading ** steps_TT.clamp(min=0).float(), 0.0)
