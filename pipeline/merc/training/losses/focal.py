"""Focal loss: cross-entropy in which an utterance counts less, the more confident the model already is.

Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 4: -(1 - p_y)^γ ln p_y; with class weights eq. 5.

``legacy_focal`` is what the published code of MMGCN (Hu et al., ACL 2021) computes under that name: (1 - y ln p)^γ ·
(-ln p), y one-hot, averaged over utterances *and* classes. It increases the weight of hard utterances instead of
reducing that of easy ones, and penalises every class for being unlikely. Only for comparison.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.losses.cross_entropy import ClassWeights, weights_of
from merc.training.losses.engine.adapters import labelled_rows
from merc.training.losses.engine.base import MERCLoss, TrainingFacts
from merc.training.losses.engine.contrastive import counted_rows
from merc.training.losses.engine.kernel import Reduction, at_least_float32, reduced
from merc.training.models.engine.base import MERCOutput


class FocalLoss(nn.Module):
    """-w(y) (1 - p_y)^γ ln p_y over labelled rows; γ = 0 without weights is the cross-entropy.

    Args:
        gamma: γ, at least 0.
        class_weights: [C], or None: all 1. The mean is still taken over the number of rows.
        legacy_focal: the other formula at the head of this module.
        reduction: ``mean`` over labelled rows, ``sum`` or ``none``.

    Raises:
        ValueError: if γ is negative.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
        >>> FocalLoss(gamma=0.0)(logits, labels=torch.tensor([0, 1]))
        tensor(0.4100)
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        class_weights: Tensor | None = None,
        legacy_focal: bool = False,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        if not gamma >= 0:
            raise ValueError(f"gamma must be at least 0, not {gamma}")
        self.gamma = gamma
        self.legacy_focal = legacy_focal
        self.reduction = reduction
        self.register_buffer("class_weights", class_weights)

    def forward(self, logits: Tensor, *, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of a batch, in float32 (float64 stays).

        Args:
            logits: [N, C], or [B, T, C]; log-probabilities are logits too.
            labels: long [N] or [B, T]; -1 = unlabelled.
            mask: bool [N] or [B, T], True = real; None: all are.

        Returns:
            A scalar; [N], or [B · T], for the reduction ``none``; exactly 0 if nothing is labelled.

        Raises:
            ValueError: if shapes do not fit.
        """
        logits_NC, labels_N, counted_N = counted_rows(logits, mask, labels)
        labels_N = labels_N.clamp(min=0)
        log_p_NC = at_least_float32(logits_NC).log_softmax(dim=1)
        log_p_N = log_p_NC.gather(1, labels_N[:, None]).squeeze(1)
        if self.legacy_focal:
            factors_NC = torch.ones_like(log_p_NC).scatter(1, labels_N[:, None], ((1 - log_p_N) ** self.gamma)[:, None])
            values_N = -(factors_NC * log_p_NC).mean(dim=1)
        else:
            # Kept away from zero, where the derivative of a root is infinite; no gradient passes there.
            rest_N = (-torch.expm1(log_p_N)).clamp(min=torch.finfo(log_p_N.dtype).tiny)
            values_N = -(rest_N**self.gamma) * log_p_N
        if self.class_weights is not None:
            values_N = values_N * self.class_weights.index_select(0, labels_N)
        return reduced(values_N.masked_fill(~counted_N, 0.0), counted_N, self.reduction)


class Focal(MERCLoss):
    """:class:`FocalLoss` over the batch's labelled utterances, with weights of mean 1 over the train utterances."""

    class Config(Settings):
        """Settings of the focal loss."""

        gamma: float = Field(default=2.0, ge=0)
        """γ, how much less an utterance counts if the model is sure of it; 0: cross-entropy."""
        class_weights: ClassWeights = "none"
        """Weight of a class, as for ``cross_entropy``."""
        effective_beta: float = Field(default=0.999, gt=0, lt=1)
        """β of the class weights ``effective``."""
        legacy_focal: bool = False
        """Use the formula of MMGCN's code instead, which is not a focal loss, to compare with its figures."""

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        weights_C = (
            None
            if config.class_weights == "none"
            else weights_of(facts.class_counts, config.class_weights, config.effective_beta)
        )
        self.loss = FocalLoss(gamma=config.gamma, class_weights=weights_C, legacy_focal=config.legacy_focal)

    def forward(self, output: MERCOutput, batch: DialogueBatch, **state: Any) -> Tensor:
        value: Tensor = self.loss(labelled_rows(output.logits, batch), labels=labelled_rows(batch.labels, batch))
        return value
