"""Cross-entropy over labelled utterances, with class weights and label smoothing on request.

``effective``: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, eq. 4: a class of n
utterances has the weight (1 - β) / (1 - β^n).
"""

from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from merc.errors import BadSettings, nearest
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.losses.engine.adapters import labelled_rows
from merc.training.losses.engine.base import MERCLoss, TrainingFacts
from merc.training.models.engine.base import MERCOutput

ClassWeights = Literal["none", "inverse", "inverse_sqrt", "effective"]
"""Schemes of :func:`weights_of`."""


class CrossEntropy(MERCLoss):
    """Σ w(y) · CE over the batch's labelled utterances, divided by their number.

    The weights have mean 1 over the train utterances, so that weighting does not change the learning rate. Dividing by
    the number instead of the weights in the batch preserves a rare class's weight if the batch has no other class.

    With a loss on only the joint logits, the modality that is learned fastest prevents the others from learning (Wang,
    Tran and Feiszli, CVPR 2020), hence ``unimodal_weight``.

    Raises:
        BadSettings: if ``weight_by_class`` names an emotion that is not in the label set.
    """

    class Config(Settings):
        """Weights of the classes and of the two terms, one of which must be above 0."""

        class_weights: ClassWeights = "none"
        """Weight of a class: ``none``, all 1; ``inverse`` of its share of the train split; ``inverse_sqrt``, the root
        of that; ``effective`` number of samples.
        """
        effective_beta: float = Field(default=0.999, gt=0, lt=1)
        """β of ``effective``."""
        weight_by_class: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
        """Emotion → factor on its weight, such as ``{neutral: 1.0}``."""
        other_weight: float = Field(default=1.0, ge=0)
        """Factor on the weights of the emotions that ``weight_by_class`` does not name, if it names any."""
        label_smoothing: float = Field(default=0.0, ge=0, lt=1)
        """Label smoothing: share of the target that is spread evenly over all classes."""
        fused_weight: float = Field(default=1.0, ge=0)
        """Weight of the loss on the logits that predict; 0 trains a model by its modalities' own logits, from which the
        others are made; for a model without unimodal logits the weight is always 1.
        """
        unimodal_weight: float = Field(default=0.0, ge=0)
        """Weight of the same loss on each modality's own logits, where the modality is present; a model without
        unimodal logits has no such term.
        """

        @model_validator(mode="after")
        def _something_is_trained(self) -> Self:
            if not self.fused_weight and not self.unimodal_weight:
                raise ValueError("fused_weight and unimodal_weight are both 0, so there is no loss")
            return self

    class_weights: Tensor

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        self.label_smoothing = config.label_smoothing
        self.fused_weight = config.fused_weight
        self.unimodal_weight = config.unimodal_weight
        factors_C = _factors(config, facts)
        self.register_buffer(
            "class_weights", weights_of(facts.class_counts, config.class_weights, config.effective_beta, factors_C)
        )

    def forward(self, output: MERCOutput, batch: DialogueBatch, **state: Any) -> Tensor:
        labels_N = labelled_rows(batch.labels, batch)
        total = self._mean(output.logits, labels_N, torch.ones_like(labels_N, dtype=torch.bool), batch)
        if not output.unimodal_logits:
            return total
        total = self.fused_weight * total
        if self.unimodal_weight:
            present = {name: labelled_rows(batch.modality_mask[name], batch) for name in output.unimodal_logits}
            terms = [
                self._mean(logits_BTC, labels_N, present[name], batch)
                for name, logits_BTC in output.unimodal_logits.items()
            ]
            total = total + self.unimodal_weight * torch.stack(terms).mean()
        return total

    def _mean(self, logits_BTC: Tensor, labels_N: Tensor, counted_N: Tensor, batch: DialogueBatch) -> Tensor:
        """The weighted loss over the labelled utterances that count, divided by their number; exactly zero without
        any.
        """
        logits_NC = labelled_rows(logits_BTC, batch).float().masked_fill(~counted_N[:, None], 0.0)
        values_N = functional.cross_entropy(
            logits_NC, labels_N, weight=self.class_weights, label_smoothing=self.label_smoothing, reduction="none"
        )
        return values_N.masked_fill(~counted_N, 0.0).sum() / counted_N.sum().clamp(min=1)


def _factors(config: CrossEntropy.Config, facts: TrainingFacts) -> Tensor | None:
    """[C] float64, or None if no emotion is named."""
    for name in config.weight_by_class:
        if name not in facts.classes:
            raise BadSettings(
                f"losses.cross_entropy.weight_by_class: no emotion {name!r} in the label set;"
                f" {nearest(name, list(facts.classes))}"
            )
    if not config.weight_by_class:
        return None
    return torch.tensor(
        [config.weight_by_class.get(name, config.other_weight) for name in facts.classes], dtype=torch.float64
    )


def weights_of(counts_C: Tensor, scheme: str, beta: float, factors_C: Tensor | None = None) -> Tensor:
    """Weight of each class, [C] float32, with mean 1 over the utterances; 0 for a class that does not occur.

    Args:
        counts_C: [C], utterances of each class.
        scheme: as ``class_weights`` of the settings.
        beta: β of ``effective``.
        factors_C: [C], on the scheme's weights; None: 1.

    Example:
        >>> weights_of(torch.tensor([3.0, 1.0]), "inverse", 0.999)
        tensor([0.6667, 2.0000])
    """
    n_C = counts_C.double()
    raw_C = {
        "none": torch.ones_like(n_C),
        "inverse": 1 / n_C,
        "inverse_sqrt": n_C.rsqrt(),
        "effective": (1 - beta) / (1 - beta**n_C),
    }[scheme]
    raw_C = (raw_C if factors_C is None else raw_C * factors_C).masked_fill(n_C == 0, 0.0)
    return (raw_C * n_C.sum() / (raw_C * n_C).sum()).float()
