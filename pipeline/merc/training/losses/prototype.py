"""One prototype per emotion for all modalities, which attracts their vectors until they are near enough.

The context refusion of DF-ERC (Li et al., ACM MM 2023) compares vectors of all modalities in one space; this term of
it, L_sim, makes the vectors of an emotion similar in all of them. In the authors' code the running means are never
updated: a prototype is the mean of the batch, and a vector that is the only one of its emotion is compared with itself.
Here they are running means over the batches in which the emotion occurs.

Legend: N utterances, M modalities, R = M · N, D features, C classes.
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


class PrototypeLoss(nn.Module):
    """Mean over the pairs of a class and a modality that occur of their mean of v_i > 0; v_i = max(0, mean_d (a_i -
    P_y)² - margin).

    Args:
        margin: the mean square distance from the prototype up to which there is no cost.

    Raises:
        ValueError: if the margin is negative.

    Example:
        >>> features = {"text": torch.tensor([[1.0, 1.0], [0.0, 0.0]])}
        >>> PrototypeLoss(margin=0.25)(features, labels=torch.tensor([0, 0]), prototypes=torch.zeros(1, 2))
        tensor(0.7500)
    """

    def __init__(self, *, margin: float = 0.1) -> None:
        super().__init__()
        if not margin >= 0:
            raise ValueError(f"the margin must be at least 0, not {margin}")
        self.margin = margin

    def forward(
        self,
        features: Mapping[str, Tensor],
        *,
        labels: Tensor,
        prototypes: Tensor,
        mask: Mapping[str, Tensor] | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            features: modality → [N, D], one width for all; equal positions are the same utterance.
            labels: long [N], 0 … C - 1; -1 = unlabelled.
            prototypes: [C, D]; they get no gradient.
            mask: modality → bool [N], whether it is present; None: everywhere.
            known: bool [C], which prototypes exist; None: all.

        Returns:
            A scalar, in float32 or float64; exactly 0 if nothing is labelled.

        Raises:
            ValueError: if shapes do not fit.
        """
        a_MND, counted_MN = stacked(features, labels, mask)
        if prototypes.ndim != 2 or prototypes.shape[1] != a_MND.shape[2]:
            raise ValueError(f"prototypes must be [C, {a_MND.shape[2]}], not {tuple(prototypes.shape)}")
        with torch.autocast(a_MND.device.type, enabled=False):
            class_N = labels.clamp(min=0)
            if known is not None:
                counted_MN = counted_MN & known.index_select(0, class_N)
            target_ND = prototypes.detach().to(a_MND.dtype).index_select(0, class_N)
            excess_MN = ((a_MND - target_ND).square().mean(dim=2) - self.margin).relu().masked_fill(~counted_MN, 0.0)
            is_class_NC = (class_N[:, None] == torch.arange(len(prototypes), device=labels.device)).to(a_MND.dtype)
            beyond_MC, occurs_MC = (
                (excess_MN > 0).to(a_MND.dtype) @ is_class_NC,
                counted_MN.to(a_MND.dtype) @ is_class_NC > 0,
            )
            return (excess_MN @ is_class_NC / beyond_MC.clamp(min=1)).sum() / occurs_MC.sum().clamp(min=1)


class RunningPrototypes(nn.Module):
    """Means of all vectors of each class so far, in which a batch counts less, the more batches with the class followed
    it.

    Args:
        classes: C.
        dim: D.
        memory: weight of a batch after the next one with the same class; 1: as much as that one, 0: none.
    """

    sums: Tensor
    counts: Tensor

    def __init__(self, classes: int, dim: int, *, memory: float) -> None:
        super().__init__()
        self.memory = memory
        self.register_buffer("sums", torch.zeros(classes, dim), persistent=False)
        self.register_buffer("counts", torch.zeros(classes), persistent=False)

    @torch.no_grad()
    def update(self, features: Mapping[str, Tensor], labels: Tensor, mask: Mapping[str, Tensor] | None = None) -> None:
        """Adds a batch; arguments as for :meth:`PrototypeLoss.forward`."""
        a_MND, counted_MN = stacked(features, labels, mask)
        with torch.autocast(a_MND.device.type, enabled=False):
            is_class_NC = labels[:, None] == torch.arange(len(self.counts), device=labels.device)
            member_RC = (counted_MN[..., None] & is_class_NC).flatten(0, 1).to(self.sums.dtype)
            new_C = member_RC.sum(dim=0)
            kept_C = torch.where(new_C > 0, self.memory, 1.0)
            self.counts.mul_(kept_C).add_(new_C)
            self.sums.mul_(kept_C[:, None]).add_(member_RC.T @ a_MND.flatten(0, 1).to(self.sums.dtype))

    def means(self) -> tuple[Tensor, Tensor]:
        """[C, D] prototypes, zero for missing ones; bool [C], which exist."""
        return self.sums / self.counts.clamp(min=1)[:, None], self.counts > 0


def stacked(features: Mapping[str, Tensor], labels: Tensor, mask: Mapping[str, Tensor] | None) -> tuple[Tensor, Tensor]:
    """[M, N, D], zeros for rows that do not count, so that not even their NaNs reach a gradient; bool [M, N], which
    rows count.

    Raises:
        ValueError: if shapes do not fit.
    """
    shapes = {name: tuple(a_ND.shape) for name, a_ND in features.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 2 or shape[0] != len(labels) for shape in shapes.values()):
        raise ValueError(f"the modalities must have one shape, [{len(labels)}, D], not {shapes}")
    counted_MN = (labels >= 0).expand(len(features), -1)
    if mask is not None:
        counted_MN = counted_MN & torch.stack([mask[name] for name in features])
    return at_least_float32(torch.stack(list(features.values()))).masked_fill(~counted_MN[..., None], 0.0), counted_MN


class Prototype(MERCLoss):
    """:class:`PrototypeLoss` on :attr:`MERCOutput.aligned`, over the batch's labelled utterances where the modalities
    are present.

    In training mode the batch enters the running means before it is compared with them, so that every emotion has a
    prototype when it is first met.
    """

    class Config(Settings):
        """Settings of the loss."""

        margin: float = Field(default=0.1, ge=0)
        """Mean square distance from a prototype that costs nothing."""
        memory: float = Field(default=0.9, ge=0, le=1)
        """How much a batch still counts after the next one, from 0, only the batch, to 1, all batches equally; our own,
        since the means in the authors' code do not run.
        """

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        """Raises ``BadSettings`` if the model returns no aligned vectors."""
        super().__init__(config, facts)
        if facts.gives.aligned is None:
            raise BadSettings(
                "the loss prototype needs a model with vectors of all modalities in one space, such as df_erc"
            )
        self.running = RunningPrototypes(self.classes, facts.gives.aligned, memory=config.memory)
        self.loss = PrototypeLoss(margin=config.margin)

    def forward(self, output: MERCOutput, batch: DialogueBatch, **state: Any) -> Tensor:
        labels_N = labelled_rows(batch.labels, batch)
        features = {name: labelled_rows(aligned_BTA, batch) for name, aligned_BTA in output.aligned.items()}
        present = {name: labelled_rows(batch.modality_mask[name], batch) for name in features}
        if self.training:
            self.running.update(features, labels_N, present)
        prototypes_CD, known_C = self.running.means()
        value: Tensor = self.loss(features, labels=labels_N, prototypes=prototypes_CD, mask=present, known=known_C)
        return value
