"""What an encoder must offer to be fine-tuned: batches and vectors as in
:meth:`~merc.encoders.engine.base.Encoder.encode`, but with gradients.

So training sees exactly what extraction will see: the same text before the utterance, the same windows, the same layer,
the same pooling.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from merc.encoders.engine.base import UtteranceInput
from merc.encoders.engine.neural import NeuralEncoder

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class TrainingItems:
    """The training data of a model.

    Attributes:
        utterances: (items,) int64, the utterance each belongs to; an absent one has none, a long clip may have several.
        lengths: (items,) int64, units (tokens, samples) of each.
        batch: indices of items → inputs by name, numpy arrays or None.
        vectors: the inputs, as tensors on the device → [B, dim] float32, with gradients.
    """

    utterances: NDArray[np.int64]
    lengths: NDArray[np.int64]
    batch: Callable[[NDArray[np.int64]], Mapping[str, Any]]
    vectors: Callable[[Mapping[str, Any]], "torch.Tensor"]


class TrainableEncoder(NeuralEncoder):
    """A neural encoder that can be fine-tuned."""

    _model: Any

    @property
    def model(self) -> Any:
        """The loaded model, a ``torch.nn.Module``; trained in place. Known after :meth:`load`."""
        return self._model

    def frozen_part(self) -> Any:
        """The part of the model that is never trained, a ``torch.nn.Module``; None if there is none."""
        return None

    def trained_weights(self) -> dict[str, Any]:
        """Name → weight on the CPU, as the checkpoint's whole model has them, which may have more weights than the
        loaded one, or larger ones.
        """
        return {name: weight.detach().cpu() for name, weight in self._model.state_dict().items()}

    def check_trainable(self) -> None:
        """Raises ``BadSettings`` if gradients would not be correct with the settings."""

    @abstractmethod
    def training_items(self, utterances: Sequence[UtteranceInput]) -> TrainingItems:
        """Prepares any number of utterances. Needs :meth:`load`."""
