"""The latest representation of every train utterance, for losses that compare with utterances outside the batch."""

import torch
from torch import Tensor, nn

from merc.training.data.batch import DialogueBatch
from merc.training.data.collate import evaluation_batches
from merc.training.data.dataset import DialogueSplit
from merc.training.models.engine.base import MERCModel


class UtteranceBank(nn.Module):
    """One vector per utterance of a split, without gradient. Legend: N utterances of the split, d their width, B
    dialogues, T utterances.

    Filled once by the model before the first step, then overwritten as batches pass, so that no vector is older than
    one epoch. It is a buffer, so that it moves with the loss: 15 MB for MELD's train split and vectors of 384 numbers.

    Args:
        utterances: N.
        dim: d.

    Attributes:
        rows: float32 [N, d].
        filled: whether :meth:`fill` was called.
    """

    rows: Tensor

    def __init__(self, utterances: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(utterances, dim), persistent=False)
        self.filled = False

    def fill(self, model: MERCModel, split: DialogueSplit) -> None:
        """Stores the hidden vector of ``model``, in eval mode, for every utterance of ``split``; the model's mode is
        restored.

        Without gradient, but not in inference mode: autograd cannot save inference tensors, and a loss multiplies its
        weights with them.
        """
        training = model.training
        model.eval()
        with torch.no_grad():
            for batch in evaluation_batches(split):
                self.write(model(batch).compared, batch)
        model.train(training)
        self.filled = True

    def write(self, hidden_BTd: Tensor, batch: DialogueBatch) -> None:
        """Overwrites the vectors of a batch's utterances with ``hidden_BTd``, detached."""
        real_N = batch.real_positions
        self.rows.index_copy_(
            0, batch.utterance_index.flatten()[real_N], hidden_BTd.detach().flatten(0, 1)[real_N].float()
        )

    def read(self, index: Tensor) -> Tensor:
        """The vectors at ``index`` (long, any shape) as a new tensor [..., d]; negative indices give row 0, which the
        caller must mask.
        """
        return self.rows[index.clamp(min=0)]
