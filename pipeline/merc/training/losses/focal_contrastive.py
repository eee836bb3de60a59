"""Focal contrastive loss (FCL): the supervised contrastive loss with a focus on distant positives and rare classes.

    L_i = w(y_i) · mean over positives of (1 - p)^γ (-ln p),   p = softmax over all other rows,   w_c ∝ (N / n_c)^α

Reconstruction from the abstract of MERC-KDC (Kim, Park and Kim, ICUFN 2025) and the sample-weighted focal contrastive
loss of MultiEMO (Shi and Huang, ACL 2023). MultiEMO's weights have mean 1 / C over the classes; here their mean is 1,
so that the loss does not depend on the number of classes. γ = 0 and α = 0 give the supervised contrastive loss ``out``.
"""

from typing import Any

from pydantic import Field
from torch import Tensor

from merc.training.losses.engine.adapters import OnHidden
from merc.training.losses.engine.base import TrainingFacts
from merc.training.losses.engine.contrastive import ContrastiveLoss, same_label
from merc.training.losses.engine.kernel import Reduction, Similarity


class FocalContrastiveLoss(ContrastiveLoss):
    """The focal form of the kernel, with class weights.

    Args:
        gamma: γ, at least 0.
        alpha: α, exponent of the class weights; 0: all 1.
        temperature: τ.
        similarity: ``cosine`` or ``dot``.
        reduction: ``mean`` over rows with a positive, ``sum`` or ``none``.
        debug: raise an error if a vector is not finite.

    Raises:
        ValueError: if γ is negative or the temperature not above 0.

    Example:
        >>> import torch
        >>> z, labels = torch.ones(3, 2), torch.zeros(3, dtype=torch.long)
        >>> FocalContrastiveLoss(gamma=1.0)(z, labels=labels)
        tensor(0.3466)
    """

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        alpha: float = 1.0,
        temperature: float = 0.1,
        similarity: Similarity = "cosine",
        reduction: Reduction = "mean",
        debug: bool = False,
    ) -> None:
        super().__init__(temperature=temperature, form="focal", similarity=similarity, reduction=reduction, debug=debug)
        if not gamma >= 0:
            raise ValueError(f"gamma must be at least 0, not {gamma}")
        self.gamma = gamma
        self.alpha = alpha

    def forward(
        self, z: Tensor, *, labels: Tensor, mask: Tensor | None = None, class_counts: Tensor | None = None
    ) -> Tensor:
        """The loss of a batch.

        Args:
            z: [N, D], or [B, T, D].
            labels: long [N] or [B, T], 0 … C - 1; -1 = unlabelled.
            mask: bool [N] or [B, T], True = real; None: all are.
            class_counts: [C], utterances per class in the train split; None: all classes have the same weight.

        Returns:
            A scalar; [N], or [B · T], for the reduction ``none``.

        Raises:
            ValueError: if shapes do not fit.
        """
        z_ND, labels_N, counted_N = self.rows(z, mask, labels)
        weights_N = (
            None
            if class_counts is None
            else class_weights(class_counts, self.alpha).index_select(0, labels_N.clamp(min=0))
        )
        return self.reduce(*self.pairs(z_ND, labels_N, counted_N), weights_N=weights_N, gamma=self.gamma)

    def pairs(self, z_ND: Tensor, labels_N: Tensor, counted_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, positives and candidates, [N, N] each."""
        others_NN, pos_NN = same_label(labels_N, counted_N)
        return self.logits(z_ND, z_ND), pos_NN, others_NN


def class_weights(counts_C: Tensor, alpha: float) -> Tensor:
    """[C] float64: (N / n_c)^α with mean 1 over the classes that occur, 0 for those that do not.

    Example:
        >>> import torch
        >>> class_weights(torch.tensor([2, 3, 1, 0]), 1.0)
        tensor([0.8182, 0.5455, 1.6364, 0.0000], dtype=torch.float64)
    """
    n_C = counts_C.double()
    raw_C = ((n_C.sum() / n_C.clamp(min=1)) ** alpha).masked_fill(n_C == 0, 0.0)
    return raw_C * (n_C > 0).sum() / raw_C.sum()


class FocalContrastive(OnHidden):
    """:class:`FocalContrastiveLoss` over the batch's labelled utterances, on :attr:`MERCOutput.hidden`."""

    class Config(OnHidden.Config):
        """Settings of FCL on the fused representation."""

        gamma: float = Field(default=2.0, ge=0)
        """γ, focus on distant positives; 0: none."""
        alpha: float = 1.0
        """α, exponent of the class weights; 0: all classes have the same weight."""
        temperature: float = Field(default=0.1, gt=0)
        """τ of p, the softmax over all other utterances."""

    class_counts: Tensor

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        self.loss = FocalContrastiveLoss(gamma=config.gamma, alpha=config.alpha, temperature=config.temperature)
        self.register_buffer("class_counts", facts.class_counts, persistent=False)

    def on_rows(self, z_ND: Tensor, labels_N: Tensor, **state: Any) -> Tensor:
        value: Tensor = self.loss(z_ND, labels=labels_N, class_counts=self.class_counts)
        return value
