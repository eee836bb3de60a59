"""Emotion-label-guided contrastive learning (ELCL): every emotion has an anchor, to which its utterances are drawn.

Reconstruction from the abstract of MERC-KDC (Kim, Park and Kim, ICUFN 2025) after EACL (Yu et al., Emotion-Anchored Contrastive Learning, NAACL Findings 2024):

    L_i = -ln softmax_c(cos(z_i, e_c) / τ)[y_i] + w · (supervised contrastive loss ``out`` with the anchors as further rows)

so that every utterance has a positive, and, if wanted, EACL's angle loss that spreads the anchors.
"""

import math
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.params import Settings
from pipeline.training.batch import DialogueBatch
from pipeline.training.losses.base import MERCLoss, TrainingFacts
from pipeline.training.losses.contrastive import ContrastiveLoss, labelled_rows, projection, same_label, with_anchors
from pipeline.training.losses.kernel import Reduction, at_least_float32, normalised, off_diagonal
from pipeline.training.models.base import MERCOutput


class LabelGuidedLoss(ContrastiveLoss):
    """Utterances to anchors, and among each other with the anchors beside them.

    Args:
        temperature: τ.
        supcon_weight: w, of the second term; 0: none.
        reduction: ``mean`` over labelled rows, ``sum`` or ``none``.
        debug: raise where a vector is not finite.

    Example:
        >>> LabelGuidedLoss(temperature=1.0)(torch.eye(2), labels=torch.tensor([0, 1]), anchors=torch.eye(2))
        tensor(0.3133)
    """

    def __init__(self, *, temperature: float = 0.1, supcon_weight: float = 0.0, reduction: Reduction = "mean", debug: bool = False) -> None:
        super().__init__(temperature=temperature, form="out", reduction=reduction, debug=debug)
        self.supcon_weight = supcon_weight

    def forward(self, z: Tensor, *, labels: Tensor, anchors: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            z: [N, D], or [B, T, D].
            labels: long [N] or [B, T], 0 … C - 1; -1 = unlabelled.
            anchors: [C, D].
            mask: bool [N] or [B, T], True = real; None: all are.

        Returns:
            A scalar; [N], or [B · T], for the reduction ``none``.

        Raises:
            ValueError: if shapes do not fit.
        """
        z_ND, labels_N, counted_N = self.rows(z, mask, labels)
        anchors_CD, _, known_C = self.rows(anchors, None)
        usable_NC, own_NC = with_anchors(labels_N, counted_N, known_C)
        to_anchors_NC = self.logits(z_ND, anchors_CD)
        value = self.reduce(to_anchors_NC, own_NC, usable_NC)
        if self.supcon_weight:
            others_NN, same_NN = same_label(labels_N, counted_N)
            logits_NM = torch.cat([self.logits(z_ND, z_ND), to_anchors_NC], dim=1)
            supcon = self.reduce(logits_NM, torch.cat([same_NN, own_NC], dim=1), torch.cat([others_NN, usable_NC], dim=1))
            value = value + self.supcon_weight * supcon
        return value


def anchor_spread(anchors_CD: Tensor) -> Tensor:
    """EACL's angle loss, to be minimised: minus the mean over anchors of the angle (radians) to the nearest other, all seen from their centre.

    Example:
        >>> anchor_spread(torch.eye(2))
        tensor(-3.1371)
    """
    units_CD = normalised(anchors_CD - anchors_CD.mean(dim=0))
    cosine_CC = (units_CD @ units_CD.T).masked_fill(~off_diagonal(len(units_CD), units_CD.device), -math.inf)
    # Kept from ±1, where the derivative of the arc cosine is infinite.
    return -cosine_CC.amax(dim=1).clamp(-1 + 1e-5, 1 - 1e-5).arccos().mean()


class LabelGuidedConfig(Settings):
    """Settings of ELCL on the fused representation.

    Attributes:
        temperature: τ.
        supcon_weight: w.
        spread_weight: of the angle loss.
        projection_units: width of a projection between the representation and the loss; 0: none.
    """

    temperature: float = Field(gt=0)
    supcon_weight: float = Field(ge=0)
    spread_weight: float = Field(ge=0)
    projection_units: int = Field(ge=0)


class LabelGuided(MERCLoss):
    """:class:`LabelGuidedLoss` over the batch's labelled utterances, on :attr:`MERCOutput.hidden`, with anchors that are learned."""

    Config: ClassVar[type[Settings]] = LabelGuidedConfig

    def __init__(self, config: LabelGuidedConfig, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        self.spread_weight = config.spread_weight
        self.project = projection(facts.hidden_dim, config.projection_units)
        self.anchors_CD = nn.Parameter(torch.randn(self.classes, config.projection_units or facts.hidden_dim))
        self.loss = LabelGuidedLoss(temperature=config.temperature, supcon_weight=config.supcon_weight)

    def forward(self, output: MERCOutput, batch: DialogueBatch, **state: Any) -> Tensor:
        z_ND, labels_N = labelled_rows(output.hidden, batch)
        value: Tensor = self.loss(self.project(z_ND), labels=labels_N, anchors=self.anchors_CD)
        if self.spread_weight:
            # Without a labelled utterance the whole term is zero.
            with torch.autocast(self.anchors_CD.device.type, enabled=False):
                value = value + self.spread_weight * anchor_spread(at_least_float32(self.anchors_CD)) * bool(len(labels_N))
        return value
