"""Applies losses on tensors to a model's output. Legend: N rows, D features, B dialogues, T utterances, X
anything.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from merc.errors import BadSettings
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.losses.engine.base import MERCLoss, TrainingFacts
from merc.training.models.engine.base import MERCOutput


class OnHidden(MERCLoss):
    """A loss on :attr:`MERCOutput.hidden` of the batch's labelled utterances, projected first if the settings say so.

    A subclass builds ``loss``, a module for tensors, and overrides :meth:`on_rows` if it needs more than vectors and
    labels.

    Attributes:
        dim: D, width of the vectors after the projection.
    """

    class Config(Settings):
        """Settings of every loss on the fused representation."""

        projection_units: int = Field(default=128, ge=0)
        """Width of a projection between the fused representation and the loss; 0: none."""

    loss: nn.Module

    def __init__(self, config: Config, facts: TrainingFacts) -> None:
        super().__init__(config, facts)
        self.project = projection(facts.gives.hidden, config.projection_units)
        self.dim = config.projection_units or facts.gives.hidden

    def forward(self, output: MERCOutput, batch: DialogueBatch, **state: Any) -> Tensor:
        z_ND = self.project(labelled_rows(output.hidden, batch))
        return self.on_rows(z_ND, labelled_rows(batch.labels, batch), **state)

    def on_rows(self, z_ND: Tensor, labels_N: Tensor, **state: Any) -> Tensor:
        """The loss of projected vectors [N, D] and their labels [N]; ``state`` as for :meth:`forward`."""
        value: Tensor = self.loss(z_ND, labels=labels_N)
        return value


def labelled_rows(values_BTX: Tensor, batch: DialogueBatch) -> Tensor:
    """The labelled utterances of a padded tensor, in order: [N, ...]; gathered by position, without waiting for a
    GPU.
    """
    return values_BTX.flatten(0, 1).index_select(0, batch.labelled_positions)


def projection(dim: int, units: int) -> nn.Module:
    """The head between a representation and a contrastive loss: one hidden layer of ``dim``; none if ``units`` is 0.

    Chen et al., SimCLR, ICML 2020.
    """
    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, units)) if units else nn.Identity()


def common_space(dims: Mapping[str, int], units: int, loss: str) -> nn.ModuleDict:
    """A :func:`projection` for each modality, into a space of ``units`` features.

    Args:
        dims: modality → width of its vectors.
        units: 0: no projection.
        loss: name of the loss, for the error message.

    Raises:
        BadSettings: if the widths differ and there is no projection.
    """
    if not units and len(set(dims.values())) > 1:
        raise BadSettings(
            f"the modalities' representations differ in width, {dict(dims)}: give losses.{loss}.projection_units"
            " above 0"
        )
    return nn.ModuleDict({name: projection(dim, units) for name, dim in dims.items()})
