"""Confidence penalty: overconfident scores are penalised.

Pereyra et al., Regularizing Neural Networks by Penalizing Confident Output Distributions, ICLR workshop 2017, eq. 2:

    L = - mean over utterances of H(p),   H(p) = - Σ_c p_c ln p_c
"""

from typing import Any

from torch import Tensor

from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.losses.engine.adapters import labelled_rows
from merc.training.losses.engine.base import MERCLoss
from merc.training.models.engine.base import MERCOutput


class ConfidencePenalty(MERCLoss):
    """The negative entropy of the scores of labelled utterances; exactly 0 in a batch without any."""

    class Config(Settings):
        """Settings of the loss; its weight is the recipe's."""

        temperature: float = 1.0
        """Temperature by which the scores are divided first."""

    config: Config

    def forward(self, output: MERCOutput, batch: DialogueBatch, **state: Any) -> Tensor:
        logits_NC = labelled_rows(output.logits, batch).float() / self.config.temperature
        log_p_NC = logits_NC.log_softmax(dim=1)
        return (log_p_NC.exp() * log_p_NC).sum() / max(len(log_p_NC), 1)
