"""Confidence learned as the probability of the true class: each modality's own classifier, and a predictor of its
reliability.

The true class's probability separates right from wrong predictions better than the largest probability does, but is
known only with the label; so a second output learns to predict it (Corbière et al., Addressing Failure Prediction by
Learning Model Confidence, NeurIPS 2019). Han et al., Multimodal Dynamics, CVPR 2022, weight modalities with it, and so
does DF-ERC (Li et al., ACM MM 2023), whose term this is. Unlike in the latter's code, the target passes no gradient:
the classifier must not lose confidence where little was predicted.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from merc.errors import BadSettings
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.losses.engine.adapters import labelled_rows
from merc.training.losses.engine.base import MERCLoss, TrainingFacts
from merc.training.losses.engine.kernel import at_least_float32
from merc.training.models.engine.base import MERCOutput


class TrueClassProbabilityLoss(nn.Module):
    """Σ_m mean_i (κ_i - p_i[y_i])² + w Σ_m mean_i -ln p_i[y_i], p = softmax of the modality's logits; the first sum
    trains κ alone.

    Args:
        classifier_weight: w.

    Example:
        >>> labels = torch.tensor([0])
        >>> TrueClassProbabilityLoss()({"text": torch.tensor([0.75])}, logits={"text": torch.zeros(1, 2)}, labels=labels)
        tensor(0.7556)
    """  # noqa: E501

    def __init__(self, *, classifier_weight: float = 1.0) -> None:
        super().__init__()
        self.classifier_weight = classifier_weight

    def forward(
        self,
        confidence: Mapping[str, Tensor],
        *,
        logits: Mapping[str, Tensor],
        labels: Tensor,
        mask: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            confidence: modality → [N], κ.
            logits: modality → [N, C], at least for the same modalities.
            labels: long [N]; -1 = unlabelled.
            mask: modality → bool [N], whether it is present; None: everywhere.

        Returns:
            A scalar, in float32 or float64; exactly 0 if nothing is labelled.

        Raises:
            ValueError: if shapes do not fit.
        """
        labels_N1 = labels.clamp(min=0)[:, None]
        terms = []
        for name, kappa_N in confidence.items():
            if kappa_N.shape != labels.shape or logits[name].shape[:1] != labels.shape:
                raise ValueError(
                    f"{name}: confidence is {tuple(kappa_N.shape)} and logits {tuple(logits[name].shape)} for labels of"
                    f" {tuple(labels.shape)}"
                )
            counted_N = labels >= 0 if mask is None else (labels >= 0) & mask[name]
            logits_NC = at_least_float32(logits[name]).masked_fill(~counted_N[:, None], 0.0)
            kappa_N = at_least_float32(kappa_N).masked_fill(~counted_N, 0.0)
            log_p_N = logits_NC.log_softmax(dim=1).gather(1, labels_N1).squeeze(1)
            values_N = (kappa_N - log_p_N.detach().exp()).square() - self.classifier_weight * log_p_N
            terms.append(values_N.masked_fill(~counted_N, 0.0).sum() / counted_N.sum().clamp(min=1))
        return torch.stack(terms).sum()


class TrueClassProbability(MERCLoss):
    """:class:`TrueClassProbabilityLoss` over the batch's labelled utterances, where the modalities are present."""

    class Config(Settings):
        """Settings of the loss."""

        classifier_weight: float = Field(default=1.0, ge=0)
        """w, weight of the sum of the cross-entropies of the modalities' own classifiers."""

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        self.loss = TrueClassProbabilityLoss(classifier_weight=config.classifier_weight)

    def forward(self, output: MERCOutput, batch: DialogueBatch, **state: Any) -> Tensor:
        """See :class:`merc.training.losses.engine.base.MERCLoss`. κ is ``confidence`` in :attr:`MERCOutput.extras`.

        Raises:
            BadSettings: if the model returns no confidence, or no logits of each modality.
        """
        given = output.extras.get("confidence", {})
        if not given or given.keys() - output.unimodal_logits.keys():
            raise BadSettings(
                "the loss true_class_probability needs a model that gives confidence and logits of each modality, such"
                " as df_erc"
            )
        confidence = {name: labelled_rows(kappa_BT, batch) for name, kappa_BT in given.items()}
        logits = {name: labelled_rows(output.unimodal_logits[name], batch) for name in confidence}
        present = {name: labelled_rows(batch.modality_mask[name], batch) for name in confidence}
        value: Tensor = self.loss(confidence, logits=logits, labels=labelled_rows(batch.labels, batch), mask=present)
        return value
