"""What a loss must offer. A new loss is one file here, its test, and a block under ``losses`` in params.yaml named after the file."""

from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from pipeline.params import Settings
from pipeline.training.batch import DialogueBatch
from pipeline.training.models.base import MERCOutput


class MERCLoss(nn.Module):
    """A term of the training objective, computed in float32.

    A batch in which the term has nothing to act on (no labelled utterance, no valid pair) gives exactly zero,
    and backward still runs.

    Args:
        config: an instance of the loss's ``Config``.
        class_counts: [C] float32, utterances per class in the train split.
    """

    Config: ClassVar[type[Settings]]

    def __init__(self, config: Settings, class_counts: Tensor) -> None:
        super().__init__()
        self.config = config
        self.classes = len(class_counts)

    @abstractmethod
    def forward(self, output: MERCOutput, batch: DialogueBatch, **state: Any) -> Tensor:
        """A scalar, differentiable."""
