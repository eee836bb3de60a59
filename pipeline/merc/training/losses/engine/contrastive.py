"""The base of the contrastive losses on tensors. Legend: N rows, D features, B dialogues, T utterances, C classes."""

import torch
from torch import Tensor, nn

from merc.training.losses.engine.kernel import (
    Form,
    Reduction,
    Similarity,
    masked_contrastive,
    off_diagonal,
    pair_logits,
    valid_anchors,
)


class ContrastiveLoss(nn.Module):
    """From rows of vectors to a scalar. A subclass has ``forward`` and ``pairs``, which determines positives and
    candidates.

    All of them are computed in float32 (float64 stays), even under autocast; return exactly 0, with zero gradients, if
    no anchor is valid; propagate non-finite values; and never wait for a GPU, unless ``debug`` is set.

    Args:
        temperature: τ, by which similarities are divided.
        form: see :mod:`merc.training.losses.engine.kernel`.
        similarity: ``cosine``, ``dot``, or ``shifted_cosine``, (1 + cosine) / 2.
        reduction: ``mean`` over the valid anchors, ``sum``, or ``none``: one value per row, 0 if not valid.
        debug: raise ``ValueError`` if a vector that counts is not finite.

    Attributes:
        valid: bool [N], whether each row of the latest call was an anchor with a positive and a candidate.

    Raises:
        ValueError: if the temperature is not above 0.
    """

    valid: Tensor

    def __init__(
        self,
        *,
        temperature: float,
        form: Form,
        similarity: Similarity = "cosine",
        reduction: Reduction = "mean",
        debug: bool = False,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"the temperature must be above 0, not {temperature}")
        self.temperature = temperature
        self.form = form
        self.similarity = similarity
        self.reduction = reduction
        self.debug = debug

    def extra_repr(self) -> str:
        return (
            f"temperature={self.temperature}, form={self.form}, similarity={self.similarity},"
            f" reduction={self.reduction}"
        )

    def rows(self, z: Tensor, mask: Tensor | None, labels: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """:func:`counted_rows`; in debug mode raises ``ValueError`` if a row that counts is not finite."""
        z_ND, labels_N, counted_N = counted_rows(z, mask, labels)
        if self.debug and not torch.isfinite(z_ND).all():
            raise ValueError("a vector that counts is not finite")
        return z_ND, labels_N, counted_N

    def logits(self, a_ND: Tensor, b_MD: Tensor) -> Tensor:
        """[N, M], similarity over temperature."""
        return pair_logits(a_ND, b_MD, temperature=self.temperature, similarity=self.similarity)

    def reduce(
        self,
        logits_NM: Tensor,
        pos_NM: Tensor,
        cand_NM: Tensor,
        *,
        weights_N: Tensor | None = None,
        gamma: float = 2.0,
        log_shares_M: Tensor | None = None,
    ) -> Tensor:
        """The kernel with this loss's form and reduction; remembers which anchors were valid."""
        self.valid = valid_anchors(pos_NM, cand_NM)
        return masked_contrastive(
            logits_NM, pos_NM, cand_NM, self.form, weights_N, self.reduction, gamma=gamma, log_shares_M=log_shares_M
        )


def counted_rows(z: Tensor, mask: Tensor | None, labels: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Flattens a loss's arguments; rows that do not count become zero vectors, so that not even their NaNs reach a
    gradient.

    Args:
        z: [N, D], or [B, T, D].
        mask: bool [N] or [B, T], or None: all count.
        labels: long [N] or [B, T], -1 = unlabelled, or None.

    Returns:
        [N, D]; long [N], zeros without labels; bool [N], which rows count: they are in the mask, and labelled if there
        are labels.

    Raises:
        ValueError: if shapes do not fit.
    """
    if z.ndim not in (2, 3):
        raise ValueError(f"vectors must be [N, D] or [B, T, D], not {tuple(z.shape)}")
    for name, tensor in (("mask", mask), ("labels", labels)):
        if tensor is not None and tensor.shape != z.shape[:-1]:
            raise ValueError(
                f"the {name} must be {tuple(z.shape[:-1])} for vectors of {tuple(z.shape)}, not {tuple(tensor.shape)}"
            )
    counted_N = torch.ones(z.shape[:-1], dtype=torch.bool, device=z.device) if mask is None else mask.bool()
    if labels is None:
        labels = torch.zeros_like(counted_N, dtype=torch.long)
    counted_N = (counted_N & (labels >= 0)).flatten()
    return z.flatten(0, -2).masked_fill(~counted_N[:, None], 0.0), labels.flatten(), counted_N


def same_label(labels_N: Tensor, counted_N: Tensor) -> tuple[Tensor, Tensor]:
    """Two bool [N, N]: pairs of different rows that count; those among them with the same label."""
    others_NN = counted_N[:, None] & counted_N & off_diagonal(len(counted_N), counted_N.device)
    return others_NN, others_NN & (labels_N[:, None] == labels_N)


def with_anchors(labels_N: Tensor, counted_N: Tensor, known_C: Tensor) -> tuple[Tensor, Tensor]:
    """Two bool [N, C]: pairs of a row that counts and an existing class anchor; those with the row's own class."""
    usable_NC = counted_N[:, None] & known_C
    return usable_NC, usable_NC & (labels_N[:, None] == torch.arange(len(known_C), device=labels_N.device))
