"""Emotion-label-guided contrastive learning (ELCL): every emotion has an anchor, which attracts its utterances.

Reconstruction from the abstract of MERC-KDC (Kim, Park and Kim, ICUFN 2025) after EACL (Yu et al., Emotion-Anchored
Contrastive Learning, NAACL Findings 2024):

    L_i = -ln softmax_c(cos(z_i, e_c) / τ)[y_i] + w · (contrastive loss with the anchors as further rows)

so that every utterance has a positive, and optionally EACL's angle loss, which spreads the anchors. The contrastive
loss is the focal one of :mod:`merc.training.losses.focal_contrastive`, with which that paper replaces the supervised
contrastive loss; γ = 0 and α = 0 give the latter, ``out``.
"""

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from merc.training.losses.engine.adapters import OnHidden
from merc.training.losses.engine.base import TrainingFacts
from merc.training.losses.engine.contrastive import ContrastiveLoss, same_label, with_anchors
from merc.training.losses.engine.kernel import Reduction, at_least_float32, normalised, off_diagonal
from merc.training.losses.focal_contrastive import class_weights


class LabelGuidedLoss(ContrastiveLoss):
    """Utterances to anchors, and among each other with the anchors as well.

    Args:
        temperature: τ.
        supcon_weight: w, weight of the second term; 0: none.
        gamma: γ of the second term, at least 0.
        alpha: α, exponent of its class weights; 0: all 1.
        reduction: ``mean`` over labelled rows, ``sum`` or ``none``.
        debug: raise an error if a vector is not finite.

    Raises:
        ValueError: if γ is negative or the temperature not above 0.

    Example:
        >>> LabelGuidedLoss(temperature=1.0)(torch.eye(2), labels=torch.tensor([0, 1]), anchors=torch.eye(2))
        tensor(0.3133)
    """

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        supcon_weight: float = 0.0,
        gamma: float = 0.0,
        alpha: float = 0.0,
        reduction: Reduction = "mean",
        debug: bool = False,
    ) -> None:
        super().__init__(temperature=temperature, form="focal", reduction=reduction, debug=debug)
        if not gamma >= 0:
            raise ValueError(f"gamma must be at least 0, not {gamma}")
        self.supcon_weight = supcon_weight
        self.gamma = gamma
        self.alpha = alpha

    def forward(
        self,
        z: Tensor,
        *,
        labels: Tensor,
        anchors: Tensor,
        mask: Tensor | None = None,
        class_counts: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            z: [N, D], or [B, T, D].
            labels: long [N] or [B, T], 0 … C - 1; -1 = unlabelled.
            anchors: [C, D].
            mask: bool [N] or [B, T], True = real; None: all are.
            class_counts: [C], utterances per class in the train split; None: all classes have the same weight.

        Returns:
            A scalar; [N], or [B · T], for the reduction ``none``.

        Raises:
            ValueError: if shapes do not fit.
        """
        z_ND, labels_N, counted_N = self.rows(z, mask, labels)
        anchors_CD, _, known_C = self.rows(anchors, None)
        usable_NC, own_NC = with_anchors(labels_N, counted_N, known_C)
        to_anchors_NC = self.logits(z_ND, anchors_CD)
        value = self.reduce(to_anchors_NC, own_NC, usable_NC, gamma=0.0)
        if self.supcon_weight:
            others_NN, same_NN = same_label(labels_N, counted_N)
            logits_NM = torch.cat([self.logits(z_ND, z_ND), to_anchors_NC], dim=1)
            pos_NM, cand_NM = torch.cat([same_NN, own_NC], dim=1), torch.cat([others_NN, usable_NC], dim=1)
            weights_N = (
                None
                if class_counts is None
                else class_weights(class_counts, self.alpha).index_select(0, labels_N.clamp(min=0))
            )
            value = value + self.supcon_weight * self.reduce(
                logits_NM, pos_NM, cand_NM, weights_N=weights_N, gamma=self.gamma
            )
        return value


def anchor_spread(anchors_CD: Tensor) -> Tensor:
    """EACL's angle loss, to be minimised: minus the mean over anchors of the angle (radians) to the nearest other one,
    all relative to their centre.

    Example:
        >>> anchor_spread(torch.eye(2))
        tensor(-3.1371)
    """
    units_CD = normalised(anchors_CD - anchors_CD.mean(dim=0))
    cosine_CC = (units_CD @ units_CD.T).masked_fill(~off_diagonal(len(units_CD), units_CD.device), -math.inf)
    # Kept away from ±1, where the derivative of the arc cosine is infinite.
    return -cosine_CC.amax(dim=1).clamp(-1 + 1e-5, 1 - 1e-5).arccos().mean()


class LabelGuided(OnHidden):
    """:class:`LabelGuidedLoss` over the batch's labelled utterances, on :attr:`MERCOutput.hidden`, with anchors that
    are learned.
    """

    class Config(OnHidden.Config):
        """Settings of ELCL on the fused representation."""

        temperature: float = Field(default=0.1, gt=0)
        """τ of both terms, for cosines with anchors and with utterances."""
        supcon_weight: float = Field(default=1.0, ge=0)
        """w, weight of the contrastive loss with the anchors as further rows; 0: none."""
        gamma: float = Field(default=0.0, ge=0)
        """γ of that contrastive loss, as for ``focal_contrastive``; with α = 0 too, 0: the supervised contrastive
        loss.
        """
        alpha: float = 0.0
        """α, exponent of the class weights in that contrastive loss."""
        spread_weight: float = Field(default=0.0, ge=0)
        """Weight of EACL's angle loss, which spreads the anchors; 0: none."""

    class_counts: Tensor

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        self.spread_weight = config.spread_weight
        self.anchors_CD = nn.Parameter(torch.randn(self.classes, self.dim))
        self.loss = LabelGuidedLoss(
            temperature=config.temperature, supcon_weight=config.supcon_weight, gamma=config.gamma, alpha=config.alpha
        )
        self.register_buffer("class_counts", facts.class_counts, persistent=False)

    def on_rows(self, z_ND: Tensor, labels_N: Tensor, **state: Any) -> Tensor:
        value: Tensor = self.loss(z_ND, labels=labels_N, anchors=self.anchors_CD, class_counts=self.class_counts)
        if self.spread_weight:
            # Without a labelled utterance the whole term is zero.
            with torch.autocast(self.anchors_CD.device.type, enabled=False):
                value = value + self.spread_weight * anchor_spread(at_least_float32(self.anchors_CD)) * bool(
                    len(labels_N)
                )
        return value
