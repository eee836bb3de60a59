"""DCLF's modality-contribution contrastive loss: in each modality, utterances that are recognised from it alone are
separated from those that are not.

Paper: Xie et al., Dual Contrastive Learning Framework for emotion recognition in conversations, COLING 2025, Algorithm
1. Legend: B dialogues, T utterances, N utterances (anchors), D features of a modality, C classes.

    p_i = [argmax U(u_i) = y_i]            pseudo-label: does the modality's own decoder U recognise utterance i?
    l_i = - log( (1/n) ℓ⁺/ℓ⁻ )             ℓ⁺: Σ e^{cos(u_i, u_j)/τ} over the n others with the same p, ℓ⁻: over those with the other p

Emotions are not used: all recognised utterances attract each other, and so do all others. What the paper leaves open:

- As printed, the denominator has only the negatives (``denominator: neg``, the addition ``printed``), so that the loss
  has no lower bound; ``all``, the default, adds the positives, as in the supervised contrastive loss that the paper
  cites.
- Its algorithm sums over anchors and modalities (``reduction: sum``). ``mean`` takes the mean over each modality's
  anchors and, as in its line 18, the sum over modalities: so the weight of the loss depends neither on the batch nor,
  for one modality, on the number of others.
- Lines 16 and 17 are illegible in the available copy; the logarithm is that of eq. 10.
- If all pseudo-labels of a modality are equal, there is no ℓ⁻, and the modality contributes 0. An anchor with n = 0
  is left out.
- How U is trained: by a cross-entropy on its logits (``unimodal_weight`` of the loss ``cross_entropy``), without which
  p is noise.
"""  # noqa: E501

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from pydantic import Field
from torch import Tensor, nn

from merc.errors import BadSettings
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.losses.engine.adapters import labelled_rows, projection
from merc.training.losses.engine.base import MERCLoss, TrainingFacts
from merc.training.losses.engine.contrastive import ContrastiveLoss, same_label
from merc.training.losses.engine.kernel import Candidates
from merc.training.models.engine.base import MERCOutput


class ModalityContributionLoss(ContrastiveLoss):
    """The loss on features and pseudo-labels; it has no weights.

    Args:
        temperature: τ.
        denominator: ``all``: all other utterances, the positives as well; ``neg``: ℓ⁻ as printed.
        reduction: over the anchors of a modality, ``mean`` or, as printed, ``sum``; modalities are summed.
        debug: see :class:`merc.training.losses.engine.contrastive.ContrastiveLoss`.

    Attributes:
        valid: bool [M, N], for each modality, whether each utterance of the latest call was an anchor with a positive
            and a candidate.

    Raises:
        ValueError: if the temperature is not above 0, or the denominator or the reduction is not one of these.
    """

    def __init__(
        self,
        *,
        temperature: float,
        denominator: Candidates = "all",
        reduction: Literal["mean", "sum"] = "mean",
        debug: bool = False,
    ) -> None:
        super().__init__(temperature=temperature, form="in_mean", reduction=reduction, debug=debug)
        if denominator not in get_args(Candidates):
            raise ValueError(f"no denominator named {denominator!r}; valid: all, neg")
        if reduction not in ("mean", "sum"):
            raise ValueError(f"no reduction named {reduction!r}; valid: mean, sum")
        self.denominator = denominator

    def forward(
        self,
        features: Mapping[str, Tensor],
        correct: Mapping[str, Tensor],
        *,
        mask: Mapping[str, Tensor] | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            features: modality → [N, D].
            correct: modality → bool [N], the pseudo-labels.
            mask: modality → bool [N], True where the utterance has that modality; None: everywhere.
            labels: long [N]; if given, a positive has the anchor's label, too.

        Raises:
            ValueError: if there is no modality, one without pseudo-labels, or shapes do not fit.
        """
        if not features or set(features) != set(correct):
            raise ValueError(
                "every modality needs pseudo-labels, and there must be at least one modality; features:"
                f" {sorted(features)}, pseudo-labels: {sorted(correct)}"
            )
        terms, valid = [], []
        for name, u in features.items():
            terms.append(self.reduce(*self.pairs(u, correct[name], None if mask is None else mask[name], labels)))
            valid.append(self.valid)
        self.valid = torch.stack(valid)
        return torch.stack(terms).sum()

    def pairs(
        self, u: Tensor, correct: Tensor, mask: Tensor | None, labels: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, positives and candidates of one modality, [N, N] each."""
        u_ND, _, counted_N = self.rows(u, mask)
        others_NN, same_NN = same_label(correct, counted_N)
        pos_NN = same_NN if labels is None else same_NN & (labels[:, None] == labels)
        return self.logits(u_ND, u_ND), pos_NN, others_NN if self.denominator == "all" else others_NN & ~same_NN


class ModalityContribution(MERCLoss):
    """The loss over the labelled utterances of a batch, with the pseudo-labels of the model's unimodal logits."""

    VERSION = 2

    class Config(Settings):
        """Settings of the modality-contribution loss."""

        temperature: float = Field(default=0.07, gt=0)
        """τ, by which the cosines within a modality are divided."""
        denominator: Candidates = "all"
        """Denominator: ``all``, all other utterances; ``neg``, those with the other pseudo-label, as the paper prints
        it.
        """
        reduction: Literal["mean", "sum"] = "mean"
        """Reduction over the anchors of a modality: ``mean``; ``sum``, as the paper prints it. Modalities are summed.
        """
        projection_units: int = Field(default=0, ge=0)
        """Width of a projection between a modality's vectors and the loss; 0: none, as in the paper."""
        same_emotion_only: bool = False
        """Positives must also have the anchor's emotion."""

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        self.project = nn.ModuleDict(
            {name: projection(dim, config.projection_units) for name, dim in facts.gives.unimodal.items()}
        )
        self.same_emotion_only = config.same_emotion_only
        self.loss = ModalityContributionLoss(
            temperature=config.temperature, denominator=config.denominator, reduction=config.reduction
        )

    def forward(self, output: MERCOutput, batch: DialogueBatch, **state: Any) -> Tensor:
        """See :class:`merc.training.losses.engine.base.MERCLoss`.

        Raises:
            BadSettings: if the model has no unimodal logits.
        """
        if not output.unimodal_logits:
            raise BadSettings(
                "the loss modality_contribution needs a model with logits of each modality; the framework dclf gives"
                " them to any model"
            )
        labels_N = labelled_rows(batch.labels, batch)
        features = {
            name: self.project[name](labelled_rows(output.unimodal[name], batch)) for name in output.unimodal_logits
        }
        correct = {
            name: labelled_rows(logits_BTC, batch).argmax(dim=-1) == labels_N
            for name, logits_BTC in output.unimodal_logits.items()
        }
        mask = {name: labelled_rows(batch.modality_mask[name], batch) for name in features}
        value: Tensor = self.loss(features, correct, mask=mask, labels=labels_N if self.same_emotion_only else None)
        return value
