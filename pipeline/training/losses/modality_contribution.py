"""DCLF's modality-contribution contrastive loss (MCCL): in each modality, what is recognised from it alone is told from what is not.

Paper: Xie et al., Dual Contrastive Learning Framework for emotion recognition in conversations, COLING 2025, Algorithm 1. Legend:
B dialogues, T utterances, N utterances (anchors), D features of a modality, C classes.

    p_i = [argmax U(u_i) = y_i]            pseudo-label: does the modality's own decoder U recognise utterance i?
    l_i = - log( (1/n) ℓ⁺/ℓ⁻ )             ℓ⁺: Σ e^{cos(u_i, u_j)/τ} over the n others with the same p, ℓ⁻: over those with the other p

Emotions play no part in it: all recognised utterances attract each other, and so do all others. What the paper leaves open:

- Its algorithm adds up anchors and modalities (``reduction: sum``); ``mean`` is the mean over the anchors of a modality, then over modalities, so
  that the weight of the loss does not depend on the batch.
- Lines 16 to 18 cannot be read in the copy at hand; the logarithm is that of eq. 10.
- Where all pseudo-labels of a modality are equal there is no ℓ⁻, and the modality contributes 0. An anchor with n = 0 is left out.
- How U is trained: by a cross-entropy on its logits (``unimodal_weight`` of the loss ``cross_entropy``), without which p is noise.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.errors import BadSettings
from pipeline.params import Settings
from pipeline.training.batch import DialogueBatch
from pipeline.training.losses.base import MERCLoss, TrainingFacts
from pipeline.training.losses.kernel import Candidates, masked_contrastive, off_diagonal, pair_logits
from pipeline.training.models.base import MERCOutput


class ModalityContributionLoss(nn.Module):
    """The loss on features and pseudo-labels; it has no weights.

    Args:
        temperature: τ.
        denominator: ``neg``: ℓ⁻ as printed; ``all``: all other utterances, the positives as well.
        reduction: ``mean`` over anchors, then modalities, or ``sum``, as printed.

    Raises:
        ValueError: if the temperature is not above 0, or the denominator or the reduction none of these.
    """

    def __init__(self, *, temperature: float, denominator: Candidates = "neg", reduction: Literal["mean", "sum"] = "mean") -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"a temperature is above 0, not {temperature}")
        if denominator not in ("all", "neg"):
            raise ValueError(f"no denominator named {denominator!r}; valid: all, neg")
        if reduction not in ("mean", "sum"):
            raise ValueError(f"no reduction named {reduction!r}; valid: mean, sum")
        self.temperature = temperature
        self.denominator = denominator
        self.reduction = reduction

    def forward(
        self,
        features: Mapping[str, Tensor],
        correct: Mapping[str, Tensor],
        *,
        mask: Mapping[str, Tensor] | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """A scalar; exactly zero, with zero gradients, if no modality has an anchor with a positive and a negative.

        Args:
            features: modality → [N, D].
            correct: modality → bool [N], the pseudo-labels.
            mask: modality → bool [N], True where the utterance has that modality; None: everywhere.
            labels: long [N]; if given, a positive has the anchor's label, too.

        Raises:
            ValueError: if there is no modality, or one without pseudo-labels.
        """
        if not features or set(features) != set(correct):
            raise ValueError(f"there must be pseudo-labels for every modality and at least one; features: {sorted(features)}, pseudo-labels: {sorted(correct)}")
        terms = [self._of_modality(u_ND, correct[name], None if mask is None else mask[name], labels) for name, u_ND in features.items()]
        total = torch.stack(terms)
        return total.sum() if self.reduction == "sum" else total.mean()

    def _of_modality(self, u_ND: Tensor, correct_N: Tensor, mask_N: Tensor | None, labels_N: Tensor | None) -> Tensor:
        pairs_NN = off_diagonal(len(u_ND), u_ND.device)
        if mask_N is not None:
            pairs_NN = pairs_NN & mask_N & mask_N[:, None]
        same_NN = correct_N == correct_N[:, None]
        pos_NN = pairs_NN & same_NN
        if labels_N is not None:
            pos_NN = pos_NN & (labels_N == labels_N[:, None])
        cand_NN = pairs_NN if self.denominator == "all" else pairs_NN & ~same_NN
        return masked_contrastive(pair_logits(u_ND, u_ND, temperature=self.temperature), pos_NN, cand_NN, "in_mean", reduction=self.reduction)


class ModalityContributionConfig(Settings):
    """Settings of the modality-contribution loss.

    Attributes:
        temperature: τ.
        denominator: ``neg``: utterances with the other pseudo-label, as the paper prints it; ``all``: all others.
        reduction: ``mean`` over anchors, then modalities; ``sum``, as the paper prints it.
        same_emotion_only: positives have the anchor's emotion, too.
    """

    temperature: float = Field(gt=0)
    denominator: Literal["neg", "all"]
    reduction: Literal["mean", "sum"]
    same_emotion_only: bool


class ModalityContribution(MERCLoss):
    """The loss over the labelled utterances of a batch, with the pseudo-labels of the model's unimodal logits."""

    Config: ClassVar[type[Settings]] = ModalityContributionConfig

    def __init__(self, config: ModalityContributionConfig, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        self.same_emotion_only = config.same_emotion_only
        self.loss = ModalityContributionLoss(temperature=config.temperature, denominator=config.denominator, reduction=config.reduction)

    def forward(self, output: MERCOutput, batch: DialogueBatch, **state: Any) -> Tensor:
        """See :class:`pipeline.training.losses.base.MERCLoss`.

        Raises:
            BadSettings: if the model has no unimodal logits.
        """
        if not output.unimodal_logits:
            raise BadSettings("the loss modality_contribution needs a model with logits of each modality; the framework dclf gives them to any model")
        at_N = batch.labelled_positions
        labels_N = batch.labels.flatten()[at_N]
        names = list(output.unimodal_logits)
        loss: Tensor = self.loss(
            {name: output.unimodal[name].flatten(0, 1)[at_N] for name in names},
            {name: output.unimodal_logits[name].flatten(0, 1)[at_N].argmax(dim=-1) == labels_N for name in names},
            mask={name: batch.modality_mask[name].flatten()[at_N] for name in names},
            labels=labels_N if self.same_emotion_only else None,
        )
        return loss
