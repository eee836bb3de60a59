"""Supervised contrastive loss: utterances of the same emotion attract each other, all others repel.

Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, eq. 2 (``out``) and eq. 3 (``in_mean``). The authors' code
averages over all rows, with zeros for those without a positive, so its value is ours times the share of rows with one;
it also multiplies by τ / τ_base.

``class_balanced`` averages the candidates' exponentials within each class before they are summed, so that a class has
the same weight regardless of the number of its utterances in the batch: Zhu et al., Balanced Contrastive Learning, CVPR
2022, without its class centres.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor

from merc.training.losses.engine.adapters import OnHidden
from merc.training.losses.engine.base import TrainingFacts
from merc.training.losses.engine.contrastive import ContrastiveLoss, same_label
from merc.training.losses.engine.kernel import Candidates, Form, Reduction, Similarity


class SupConLoss(ContrastiveLoss):
    """Supervised contrastive loss over rows with labels; unlabelled rows are ignored.

    Args:
        temperature: τ.
        form: ``out``, ``in_mean`` or ``in_sum``.
        candidates: ``all`` other rows; ``neg``: those with another label, which may make the loss negative.
        similarity: ``cosine`` or ``dot``.
        base_temperature: multiply by τ / this; None: do not.
        class_balanced: average the candidates within each class; the anchor's own row is left out of the sum but
            counted in the number.
        reduction: ``mean`` over rows with a positive, ``sum`` or ``none``.
        debug: raise an error if a vector is not finite.

    Example:
        >>> import torch
        >>> SupConLoss()(torch.ones(3, 2), labels=torch.zeros(3, dtype=torch.long))
        tensor(0.6931)
    """

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        form: Form = "out",
        candidates: Candidates = "all",
        similarity: Similarity = "cosine",
        base_temperature: float | None = None,
        class_balanced: bool = False,
        reduction: Reduction = "mean",
        debug: bool = False,
    ) -> None:
        super().__init__(temperature=temperature, form=form, similarity=similarity, reduction=reduction, debug=debug)
        if candidates not in ("all", "neg"):
            raise ValueError(f"no candidates named {candidates!r}; valid: all, neg")
        self.candidates = candidates
        self.class_balanced = class_balanced
        self.factor = 1.0 if base_temperature is None else temperature / base_temperature

    def forward(self, z: Tensor, *, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            z: [N, D], or [B, T, D].
            labels: long [N] or [B, T]; -1 = unlabelled.
            mask: bool [N] or [B, T], True = real; None: all are.

        Returns:
            A scalar; [N], or [B · T], for the reduction ``none``.

        Raises:
            ValueError: if shapes do not fit.
        """
        z_ND, labels_N, counted_N = self.rows(z, mask, labels)
        logits_NN, pos_NN, cand_NN = self.pairs(z_ND, labels_N, counted_N)
        log_shares_N = None
        if self.class_balanced:
            log_shares_N = (
                -(pos_NN.sum(dim=1) + 1).double().log()
            )  # number of rows of each row's class, including itself
        return self.factor * self.reduce(logits_NN, pos_NN, cand_NN, log_shares_M=log_shares_N)

    def pairs(self, z_ND: Tensor, labels_N: Tensor, counted_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, positives and candidates, [N, N] each."""
        others_NN, pos_NN = same_label(labels_N, counted_N)
        return self.logits(z_ND, z_ND), pos_NN, others_NN if self.candidates == "all" else others_NN & ~pos_NN


class SupCon(OnHidden):
    """:class:`SupConLoss` over the batch's labelled utterances, on :attr:`MERCOutput.hidden`."""

    class Config(OnHidden.Config):
        """Settings of the supervised contrastive loss on the fused representation."""

        temperature: float = Field(default=0.1, gt=0)
        """τ, by which the cosines of two utterances are divided."""
        form: Literal["out", "in_mean", "in_sum"] = "out"
        """``out``: the paper's eq. 2; ``in_mean``: eq. 3; ``in_sum``: eq. 3 without the constant ln |P|."""
        candidates: Candidates = "all"
        """``all``: all other utterances; ``neg``: those with another label, which may make the loss negative."""
        class_balanced: bool = False
        """Average the candidates within each class, so that its number of utterances in the batch does not matter."""

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        self.loss = SupConLoss(
            temperature=config.temperature,
            form=config.form,
            candidates=config.candidates,
            class_balanced=config.class_balanced,
        )
