"""Dual-level disentanglement (DDM): separates what is common to a modality from what is common to an utterance.

Li et al., Revisiting Disentanglement and Fusion on Modality and Context in Conversational Multimodal Emotion
Recognition (DF-ERC), ACM MM 2023. Both levels are the supervised contrastive loss ``out`` times τ over one row per
utterance and modality: on the first level rows of one modality belong together, on the second rows of one utterance.
The authors' code returns NaN if no row has a positive; here the loss is 0. It also gives text and audio the same label
on the first level, so that only the face is separated from them; here each modality has its own label, as in the paper.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from merc.errors import BadSettings
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.losses.engine.base import MERCLoss, TrainingFacts
from merc.training.losses.engine.kernel import Reduction
from merc.training.losses.supcon import SupConLoss
from merc.training.models.engine.base import MERCOutput
from merc.training.models.engine.common import real_rows

Level = Literal["modality", "utterance"]


class DisentanglementLoss(nn.Module):
    """One level of DDM.

    Args:
        level: what the rows are distinguished by.
        temperature: τ; the loss is multiplied by it.
        reduction: ``mean`` over rows with a positive, ``sum`` or ``none``.

    Raises:
        ValueError: if there is no such level or the temperature is not above 0.

    Example:
        >>> views = {"text": torch.eye(2), "audio": torch.eye(2)}
        >>> DisentanglementLoss("utterance")(views=views)
        tensor(0.5514)
    """

    def __init__(self, level: Level, *, temperature: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        if level not in ("modality", "utterance"):
            raise ValueError(f"no level named {level!r}; valid: modality, utterance")
        self.level = level
        self.supcon = SupConLoss(temperature=temperature, base_temperature=1.0, reduction=reduction)

    def forward(self, *, views: Mapping[str, Tensor], mask: Mapping[str, Tensor] | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            views: modality → [N, D], one width for all; equal positions are the same utterance.
            mask: modality → bool [N], whether it is present; None: everywhere.

        Returns:
            A scalar, or for the reduction ``none`` [M · N], modality after modality.

        Raises:
            ValueError: if shapes differ.
        """
        shapes = {name: tuple(z_ND.shape) for name, z_ND in views.items()}
        if len(set(shapes.values())) != 1:
            raise ValueError(f"the modalities must have one shape, not {shapes}")
        rows = len(next(iter(views.values())))
        z_ND = torch.cat(list(views.values()))
        number_N = torch.arange(len(views) * rows, device=z_ND.device)
        labels_N = number_N // max(rows, 1) if self.level == "modality" else number_N % max(rows, 1)
        value: Tensor = self.supcon(
            z_ND, labels=labels_N, mask=None if mask is None else torch.cat([mask[name] for name in views])
        )
        return value


class Disentanglement(MERCLoss):
    """Sum of both levels over the batch's utterances, labelled or not, where the modalities are present.

    A model that disentangles returns the rows of both levels, ``of_modality`` and ``of_utterance`` in
    :attr:`MERCOutput.extras`. For others the first level's rows are a projection of each modality's own representation,
    the second's a projection of the first's; the projections belong to the loss.

    Raises:
        BadSettings: if there is only one modality. A model that disentangles may have one, since its recipe always
            requests this loss: the second level, which has no pairs then, is 0, and so is the first, in which all rows
            would belong together.
    """

    class Config(Settings):
        """Settings of DDM."""

        temperature: float = Field(default=1.0, gt=0)
        """τ of both levels, by which the loss is also multiplied."""
        units: int = Field(default=300, ge=1)
        """Width of both levels' representations if the model does not disentangle them itself."""

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        disentangled = "of_modality" in facts.gives.extras
        dims = {} if disentangled else dict(facts.gives.unimodal)
        if len(dims) < 2 and not disentangled:
            raise BadSettings(
                f"disentanglement compares modalities, but the model has only {', '.join(dims) or 'none'}; leave it"
                " out of the recipe"
            )
        self.of_modality = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(dim, config.units), nn.GELU()) for name, dim in dims.items()}
        )
        self.of_utterance = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(config.units, config.units), nn.GELU()) for name in dims}
        )
        self.modality = DisentanglementLoss("modality", temperature=config.temperature)
        self.utterance = DisentanglementLoss("utterance", temperature=config.temperature)

    def forward(self, output: MERCOutput, batch: DialogueBatch, **state: Any) -> Tensor:
        if self.of_modality:
            first = {
                name: project(real_rows(output.unimodal[name], batch)) for name, project in self.of_modality.items()
            }
            second = {name: project(first[name]) for name, project in self.of_utterance.items()}
        else:
            first = {name: real_rows(z_BTD, batch) for name, z_BTD in output.extras["of_modality"].items()}
            second = {name: real_rows(w_BTD, batch) for name, w_BTD in output.extras["of_utterance"].items()}
        if len(first) < 2:
            return torch.cat([*first.values(), *second.values()]).float().sum() * 0.0
        present = {name: real_rows(batch.modality_mask[name], batch) for name in first}
        value: Tensor = self.modality(views=first, mask=present) + self.utterance(views=second, mask=present)
        return value
