"""Rows that belong to sequences of different lengths, in the order of a packed sequence: a recurrence over them sees no
padding.

    rows       a0 b0 a1 a2 c0 b1        sequences a, b and c, whose rows are in order of time
    packed     a0 b0 c0 │ a1 b1 │ a2    sizes 3, 2, 1; longest sequence first

Legend: N rows, M modalities, D features in, H features out. Everything is laid out on the host, so that nothing waits
for a GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from merc.training.data.batch import DialogueBatch
from merc.training.models.engine import recurrent_rows


@dataclass(frozen=True)
class Sequences:
    """The layout of the rows.

    Attributes:
        order: long [N], on the device of the rows; the row at each place of the packed sequence.
        places: long [N], its inverse.
        sizes: long [steps], on the CPU; number of unfinished sequences in each step.
    """

    order: Tensor
    places: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, owner_N: Tensor, device: torch.device) -> "Sequences":
        """Lays them out.

        Args:
            owner_N: long, on the CPU; the sequence of each row.
            device: device of the rows.

        Example:
            >>> Sequences.of(torch.tensor([7, 4, 7, 7, 9, 4]), torch.device("cpu"))
            Sequences(order=tensor([0, 1, 4, 2, 5, 3]), places=tensor([0, 1, 3, 5, 2, 4]), sizes=tensor([3, 2, 1]))
        """
        _, owner_N, counts_Q = owner_N.unique(return_inverse=True, return_counts=True)  # type: ignore[no-untyped-call]  # torch leaves it without types
        rank_Q = counts_Q.argsort(descending=True, stable=True).argsort()
        step_N = torch.empty_like(owner_N)
        step_N[owner_N.argsort(stable=True)] = counted(counts_Q)
        order_N = (step_N * len(counts_Q) + rank_Q[owner_N]).argsort()
        places_N = order_N.argsort()
        return cls(
            order_N.to(device, non_blocking=True), places_N.to(device, non_blocking=True), torch.bincount(step_N)
        )

    @classmethod
    def of_dialogues(cls, batch: DialogueBatch) -> "Sequences":
        """Those of the real utterances of a batch: a sequence is a dialogue."""
        owner_N = torch.arange(len(batch.lengths_cpu)).repeat_interleave(batch.lengths_cpu)
        return cls.of(owner_N, batch.lengths.device)

    def run(self, recurrence: nn.GRU | nn.LSTM, rows_NMD: Tensor) -> Tensor:
        """The recurrence's output for each row, [N, M, H]; every modality is run separately, with the same weights."""
        rows, modalities, _ = rows_NMD.shape
        packed_RD = rows_NMD.index_select(0, self.order).flatten(0, 1)
        (packed_RH,) = _states([recurrence], [packed_RD], self.sizes * modalities)
        return packed_RH.view(rows, modalities, -1).index_select(0, self.places)

    def run_each(self, recurrences: Sequence[nn.GRU | nn.LSTM], rows: Sequence[Tensor]) -> list[Tensor]:
        """The output of several recurrences of the same kind and size, each for rows [N, D] of its own: [N, H]."""
        packed = [rows_ND.index_select(0, self.order) for rows_ND in rows]
        return [states_NH.index_select(0, self.places) for states_NH in _states(recurrences, packed, self.sizes)]


def _states(recurrences: Sequence[nn.GRU | nn.LSTM], packed: Sequence[Tensor], sizes: Tensor) -> list[Tensor]:
    if packed[0].device.type == "cpu":
        return recurrent_rows.run(recurrences, packed, sizes.tolist())
    return [run(PackedSequence(rows_ND, sizes))[0].data for run, rows_ND in zip(recurrences, packed, strict=True)]


def counted(counts_Q: Tensor) -> Tensor:
    """The numbers from 0 to below each count, concatenated.

    Example:
        >>> counted(torch.tensor([3, 0, 2]))
        tensor([0, 1, 2, 0, 1])
    """
    starts_Q = counts_Q.cumsum(0) - counts_Q
    return torch.arange(int(counts_Q.sum())) - starts_Q.repeat_interleave(counts_Q)
