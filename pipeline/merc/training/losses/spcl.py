"""Supervised prototypical contrastive learning (SPCL): the supervised contrastive loss with a prototype of every
emotion among the candidates.

Song et al., Supervised Prototypical Contrastive Learning for Emotion Recognition in Conversation, EMNLP 2022. A
prototype is the mean of some vectors, drawn anew for each batch, from a queue of the emotion's latest ones, so that a
rare emotion has a positive in every batch. Similarities are (1 + cosine) / 2. The authors' code leaves out rows whose
loss is 0.3 or less, which the paper does not mention: ``drop_below``, off by default.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from merc.training.losses.engine.adapters import OnHidden
from merc.training.losses.engine.base import TrainingFacts
from merc.training.losses.engine.contrastive import ContrastiveLoss, same_label, with_anchors
from merc.training.losses.engine.kernel import Reduction, masked_contrastive, reduced, valid_anchors


class SPCLLoss(ContrastiveLoss):
    """LSE over the other rows and all prototypes - LSE over the rows of the same label and the own prototype + ln of
    their number.

    Args:
        temperature: τ.
        drop_below: rows whose own loss is at most this are treated as if they had no positive; 0: none, 0.3: as in the
            authors' code.
        reduction: ``mean`` over rows with a positive, ``sum`` or ``none``.
        debug: raise an error if a vector is not finite.

    Example:
        >>> labels = torch.tensor([0, 1])
        >>> SPCLLoss(temperature=1.0)(torch.eye(2), labels=labels, anchors=torch.eye(2))
        tensor(0.7944)
    """

    def __init__(
        self, *, temperature: float = 0.1, drop_below: float = 0.0, reduction: Reduction = "mean", debug: bool = False
    ) -> None:
        super().__init__(
            temperature=temperature, form="in_mean", similarity="shifted_cosine", reduction=reduction, debug=debug
        )
        self.drop_below = drop_below

    def forward(
        self, z: Tensor, *, labels: Tensor, anchors: Tensor, mask: Tensor | None = None, known: Tensor | None = None
    ) -> Tensor:
        """The loss of a batch.

        Args:
            z: [N, D], or [B, T, D].
            labels: long [N] or [B, T], 0 … C - 1; -1 = unlabelled.
            anchors: [C, D], the prototypes; see :class:`PrototypeQueue`.
            mask: bool [N] or [B, T], True = real; None: all are.
            known: bool [C], which prototypes exist; None: all.

        Returns:
            A scalar; [N], or [B · T], for the reduction ``none``.

        Raises:
            ValueError: if shapes do not fit.
        """
        z_ND, labels_N, counted_N = self.rows(z, mask, labels)
        anchors_CD, _, known_C = self.rows(anchors, known)
        logits_NM, pos_NM, cand_NM = self.pairs(z_ND, labels_N, counted_N, anchors_CD, known_C)
        values_N = masked_contrastive(logits_NM, pos_NM, cand_NM, self.form, reduction="none")
        small_N = values_N <= self.drop_below if self.drop_below else torch.zeros_like(counted_N)
        self.valid = valid_anchors(pos_NM, cand_NM) & ~small_N
        return reduced(values_N.masked_fill(small_N, 0.0), self.valid, self.reduction)

    def pairs(
        self, z_ND: Tensor, labels_N: Tensor, counted_N: Tensor, anchors_CD: Tensor, known_C: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, positives and candidates, [N, N + C] each."""
        others_NN, same_NN = same_label(labels_N, counted_N)
        usable_NC, own_NC = with_anchors(labels_N, counted_N, known_C)
        logits_NM = self.logits(z_ND, torch.cat([z_ND, anchors_CD.to(z_ND.dtype)]))
        return logits_NM, torch.cat([same_NN, own_NC], dim=1), torch.cat([others_NN, usable_NC], dim=1)


class PrototypeQueue(nn.Module):
    """The latest vectors of each class, without gradient, on the device; nothing here waits for a GPU.

    Args:
        classes: C.
        dim: D.
        length: Q, number of vectors kept of each class. sampled: maximum number of them that are averaged to a
            prototype.
    """

    vectors: Tensor
    pushed: Tensor

    def __init__(self, classes: int, dim: int, *, length: int, sampled: int) -> None:
        super().__init__()
        self.classes, self.length, self.sampled = classes, length, min(sampled, length)
        # Row C takes discarded vectors: writing them there instead of selecting keeps the shapes fixed.
        self.register_buffer("vectors", torch.zeros(classes + 1, length, dim), persistent=False)
        self.register_buffer("pushed", torch.zeros(classes + 1, dtype=torch.long), persistent=False)

    @torch.no_grad()
    def push(self, z_ND: Tensor, labels_N: Tensor) -> None:
        """Appends vectors [N, D] to their classes, long [N]; -1 is left out. In a full class, the oldest are
        replaced.
        """
        class_N = torch.where(labels_N < 0, self.classes, labels_N)
        is_class_NC = class_N[:, None] == torch.arange(self.classes + 1, device=labels_N.device)
        count_C = is_class_NC.sum(dim=0)
        rank_N = is_class_NC.cumsum(dim=0).gather(1, class_N[:, None]).squeeze(1) - 1
        place_N = (self.pushed.index_select(0, class_N) + rank_N) % self.length
        is_kept_N = rank_N >= count_C.index_select(0, class_N) - self.length  # of more than Q at once, only the last Q
        self.vectors[torch.where(is_kept_N, class_N, self.classes), place_N] = z_ND.to(self.vectors.dtype)
        self.pushed += count_C

    @torch.no_grad()
    def prototypes(self, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Means of vectors drawn without replacement.

        Args:
            generator: on the CPU; None: torch's own.

        Returns:
            [C, D] prototypes, zero for missing ones; bool [C], which exist.
        """
        device = self.vectors.device
        filled_CQ = torch.arange(self.length, device=device) < self.pushed[:-1, None]
        keys_CQ = (
            torch.rand(self.classes, self.length, generator=generator)
            .to(device, non_blocking=True)
            .masked_fill(~filled_CQ, -1.0)
        )
        drawn_CS = keys_CQ.topk(self.sampled, dim=1).indices
        is_drawn_CQ = torch.zeros_like(filled_CQ).scatter(1, drawn_CS, True) & filled_CQ
        weights_CQ = is_drawn_CQ.to(self.vectors.dtype) / is_drawn_CQ.sum(dim=1, keepdim=True).clamp(min=1)
        return torch.einsum("cq,cqd->cd", weights_CQ, self.vectors[:-1]), filled_CQ[:, 0]


class SPCL(OnHidden):
    """:class:`SPCLLoss` over the batch's labelled utterances, on :attr:`MERCOutput.hidden`; prototypes come from
    earlier batches.

    In a training's first batch there are none. A batch is pushed to the queue after its loss, only in training mode.
    """

    class Config(OnHidden.Config):
        """Settings of SPCL on the fused representation."""

        temperature: float = Field(default=0.1, gt=0)
        """τ, by which (1 + cosine) / 2 is divided."""
        drop_below: float = Field(default=0.0, ge=0)
        """Rows whose own loss is at most this are left out; 0: none; the authors' code has 0.3."""
        queue_length: int = Field(default=256, ge=1)
        """Q, vectors kept of each class."""
        sampled: int = Field(default=64, ge=1)
        """Maximum number of vectors of a class whose mean is its prototype, drawn from its queue."""

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        self.queue = PrototypeQueue(self.classes, self.dim, length=config.queue_length, sampled=config.sampled)
        self.loss = SPCLLoss(temperature=config.temperature, drop_below=config.drop_below)

    def on_rows(self, z_ND: Tensor, labels_N: Tensor, **state: Any) -> Tensor:
        anchors_CD, known_C = self.queue.prototypes(state.get("generator"))
        value: Tensor = self.loss(z_ND, labels=labels_N, anchors=anchors_CD, known=known_C)
        if self.training:
            self.queue.push(z_ND, labels_N)
        return value
