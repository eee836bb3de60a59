"""The windows of graphs in which an utterance hears those near it. Legend: N real utterances of the batch, W
utterances of a window.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from merc.training.data.batch import DialogueBatch


@dataclass(frozen=True)
class Windows:
    """Which utterances may hear which in a batch. The utterances of a dialogue are consecutive rows, so a window is a
    range of rows, cut off at the ends of the dialogue.

    Attributes:
        past: number of rows before an utterance's own in its window. future: number of rows after it.
        within: bool [N, W], whether a place of an utterance's window is within its dialogue.
        offsets: long [W], from -past to future.
    """

    past: int
    future: int
    within: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, batch: DialogueBatch, past: int, future: int) -> Self:
        """The windows of a batch in which an utterance hears at most ``past`` utterances before it, itself, and
        ``future`` after it.
        """
        steps, positions_N = batch.utterance_mask.shape[1], batch.real_positions
        step_N1 = (positions_N % steps)[:, None]
        length_N1 = batch.lengths.index_select(0, positions_N // steps)[:, None]
        offset_W = torch.arange(-past, future + 1, device=positions_N.device)
        return cls(past, future, (step_N1 + offset_W >= 0) & (step_N1 + offset_W < length_N1), offset_W)

    def rows(self, rows_NX: Tensor) -> Tensor:
        """The rows of each utterance's window, [N, W, X], without a copy; beyond its dialogue they belong to other
        dialogues or are zeros.
        """
        return (
            functional.pad(rows_NX, (0, 0, self.past, self.future))
            .unfold(0, self.past + 1 + self.future, 1)
            .transpose(1, 2)
        )
