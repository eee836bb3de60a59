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

    Filled once by the model as it is before the first step, then overwritten as batches pass, so that no vector is
    older than one epoch.
    A buffer, so that it goes where the loss goes: 15 MB for MELD's train split and vectors of 384.

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
        """Writes what ``model``, in eval mode, hides of every utterance of ``split``; the model's mode stays as it was.

        Without gradient, but not in inference mode: autograd may not keep such tensors, and a loss multiplies its
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
        """The vectors at ``index`` (long, any shape) as a new tensor [..., d]; of row 0 where it is negative, for the
        caller to mask.
        """
        return self.rows[index.clamp(min=0)]
