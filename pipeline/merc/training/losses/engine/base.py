"""The contract of a loss. A new loss is one file here, named after it, with its settings inside, and its test."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.data.dataset import DialogueSplit
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """What a loss knows before the first batch.

    Attributes:
        class_counts: [C] float32, labelled utterances per class in the train split.
        gives: the outputs of the model, or of the trained branch.
        classes: names of the classes, for settings that name them; in the order of the labels.
        train: the train split, standardised and on the training's device, for terms that look beyond the batch.
    """

    class_counts: Tensor
    gives: Gives
    classes: Sequence[str] = ()
    train: DialogueSplit | None = None


class MERCLoss(nn.Module, ABC):
    """A term of the training objective, computed in float32.

    A batch in which the term has nothing to act on (no labelled utterance, no valid pair) gives exactly zero,
    and backward still runs. Its parameters, if any, are trained with the model's and are not saved.

    Args:
        config: an instance of the loss's ``Config``.
        facts: about the train split and the model.
    """

    Config: ClassVar[type[Settings]]
    """The settings, a class nested in the loss's; every field has a default and a docstring."""
    VERSION: ClassVar[int] = 1
    """Incremented when the same settings give a different loss, so that earlier runs count as stale."""
    needs_pooled: ClassVar[bool] = False
    """Whether the loss uses :attr:`MERCOutput.pooled`."""
    observes: ClassVar[tuple[str, ...]] = ()
    """Names of what :meth:`observed` returns, columns ``<loss>_<name>`` of a training's history."""

    def __init__(self, config: Settings, facts: TrainingFacts) -> None:
        super().__init__()
        self.config = config
        self.classes = len(facts.class_counts)

    def begin_epoch(self, epoch: int, model: MERCModel, generator: torch.Generator) -> None:
        """Called before each epoch's first batch; does nothing unless a loss keeps state, such as a bank of
        representations.

        Args:
            epoch: from 0.
            model: the model in training.
            generator: seeded, on the CPU, for terms that sample.
        """

    def observed(self) -> dict[str, float | None]:
        """Further values of the epoch in addition to the loss, by the names of :attr:`observes`; None if unknown.
        Called after its last batch.
        """
        return {}

    @abstractmethod
    def forward(self, output: MERCOutput, batch: DialogueBatch, **state: Any) -> Tensor:
        """The term's value for a batch: a scalar, differentiable.

        Args:
            output: the model's output for ``batch``.
            batch: the dialogues with their labels.
            state: what the trainer knows: ``epoch`` (from 0) and ``generator``, a seeded ``torch.Generator`` on the CPU
                for terms that sample.
        """
