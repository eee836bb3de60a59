"""Recurrence over the utterances of each dialogue, which does not see padding. Legend: B dialogues, T utterances, N
real utterances of the batch, D features in, H features out of both directions together, U of one.
"""

import torch
from torch import Tensor, nn

from merc.training.data.batch import DialogueBatch
from merc.training.models.engine import recurrent_rows
from merc.training.models.engine.common import Dropout, padded, real_rows
from merc.training.models.engine.sequences import Sequences


class RecurrentContext(nn.Module):
    """Layers of LSTM or GRU over each dialogue, bidirectional or only forward.

    Args:
        cell: ``nn.LSTM`` or ``nn.GRU``.
        inputs: D.
        units: H; the two directions have half of them each.
        layers: number of layers.
        dropout: dropout rate between the layers.
        weight_dropout: in training, share of the recurrent weights of an LSTM that are 0, drawn in every call.
        causal: forward direction only.
    """

    def __init__(
        self,
        cell: type[nn.LSTM] | type[nn.GRU],
        inputs: int,
        units: int,
        layers: int,
        dropout: float = 0.0,
        weight_dropout: float = 0.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        width = units if causal else units // 2
        widths = [inputs, *[units] * (layers - 1)]
        self.ahead = nn.ModuleList([cell(one, width, batch_first=True) for one in widths])
        self.back = nn.ModuleList([] if causal else [cell(one, width, batch_first=True) for one in widths])
        self.dropout, self.weight_dropout = Dropout(dropout), Dropout(weight_dropout)

    def forward(self, rows_ND: Tensor, batch: DialogueBatch) -> Tensor:
        """From the real utterances of a batch, [N, D], to [N, H]."""
        return (self.over_rows if rows_ND.device.type == "cpu" else self.over_padded)(rows_ND, batch)

    def over_rows(self, rows_ND: Tensor, batch: DialogueBatch) -> Tensor:
        """For a CPU: real utterances only."""
        dialogues = Sequences.of_dialogues(batch)
        sizes, rows_ND = dialogues.sizes.tolist(), rows_ND.index_select(0, dialogues.order)
        for number, ahead in enumerate(self.ahead):
            given_ND, weights = self.dropout(rows_ND) if number else rows_ND, [self._weights(ahead)]
            back = [self._weights(self.back[number])] if len(self.back) else None
            (rows_ND,) = recurrent_rows.layer_over([given_ND], sizes, weights, back)
        return rows_ND.index_select(0, dialogues.places)

    def over_padded(self, rows_ND: Tensor, batch: DialogueBatch) -> Tensor:
        """For a GPU, whose operation takes a whole dialogue at once."""
        values_BTD = padded(rows_ND, batch)
        for number, ahead in enumerate(self.ahead):
            input_BTD = self.dropout(values_BTD) if number else values_BTD
            values_BTD = self._states(ahead, input_BTD)
            if len(self.back):
                back_BTU = self._states(self.back[number], backwards(input_BTD, batch.lengths))
                values_BTD = torch.cat([values_BTD, backwards(back_BTU, batch.lengths)], dim=-1)
        return real_rows(values_BTD, batch)

    def _weights(self, recurrence: nn.Module) -> list[Tensor]:
        """Those of one direction of one layer, in training with a part of the recurrent ones dropped."""
        from_input, from_state, *biases = (
            getattr(recurrence, name) for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        )
        if self.training and self.weight_dropout.p:
            from_state = from_state * self.weight_dropout.factors(from_state)
        return [from_input, from_state, *biases]

    def _states(self, recurrence: nn.Module, input_BTD: Tensor) -> Tensor:
        """One direction of one layer. The module can only be called with its own weights, unlike the operation below
        it.
        """
        if not (self.training and self.weight_dropout.p):
            states_BTU: Tensor = recurrence(input_BTD)[0]
            return states_BTU
        weights = self._weights(recurrence)
        start = input_BTD.new_zeros(1, len(input_BTD), weights[1].shape[1])
        return torch.lstm(input_BTD, (start, start), weights, True, 1, 0.0, True, False, True)[0]


def backwards(values_BTD: Tensor, lengths_B: Tensor) -> Tensor:
    """Each dialogue with its utterances in reverse order and its padding still at the end; its own inverse.

    A recurrence over the result is the backward half of a bidirectional one that does not see padding; unlike packing,
    it moves nothing between a GPU and the host.

    Example:
        >>> backwards(torch.tensor([[[1.0], [2.0], [0.0]]]), torch.tensor([2])).squeeze()
        tensor([2., 1., 0.])
    """
    steps_T = torch.arange(values_BTD.shape[1], device=values_BTD.device)
    mirrored_BT = lengths_B[:, None] - 1 - steps_T
    index_BT = torch.where(mirrored_BT >= 0, mirrored_BT, steps_T)
    return values_BTD.gather(1, index_BT[..., None].expand_as(values_BTD))
