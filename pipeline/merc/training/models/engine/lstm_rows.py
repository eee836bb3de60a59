"""LSTM over the rows of packed sequences, for a CPU, with an explicit gradient.

Legend: N rows, F features in, U units, G = 4 U gates in torch's order: enter, forget, new, leave.

    step:    0        1      2         rows of :class:`merc.training.models.engine.sequences.Sequences`: the first of
    rows:  a b c d │ a b c │ a b       all sequences, longest sequence first, then the second ones, and so on

torch's operations for a CPU either run over padded dialogues, of which MELD's fill two fifths, and reorder all weights
in every call, or add up the gradient of each weight matrix step by step. Here, there is no padding, the weights are
read as they are, and the gradient of each is one product over all rows.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


def run(lstm: nn.LSTM, rows_NF: Tensor, sizes: Sequence[int]) -> Tensor:
    """The states of all layers and directions, as of the module for a packed sequence, [N, U] or [N, 2 U]; dropout
    between the layers draws the same numbers as there.

    Args:
        lstm: without projections.
        rows_NF: rows, on a CPU.
        sizes: numbers of rows, one per step.
    """
    weights = lstm.all_weights
    directions = 2 if lstm.bidirectional else 1
    for layer in range(lstm.num_layers):
        if layer and lstm.training:
            rows_NF = functional.dropout(rows_NF, lstm.dropout)
        rows_NF = layer_over(rows_NF, sizes, *weights[layer * directions : (layer + 1) * directions])
    return rows_NF


def layer_over(
    rows_NF: Tensor, sizes: Sequence[int], ahead: Sequence[Tensor], back: Sequence[Tensor] | None = None
) -> Tensor:
    """The states of one layer in one direction or both, [N, U] or [N, 2 U].

    Args:
        rows_NF: rows, on a CPU. sizes: numbers of rows, one per step.
        ahead: weights of one direction, as of :func:`lstm_over`. back: those of the other.
    """
    ahead_NU = lstm_over(rows_NF, sizes, ahead)
    if back is None:
        return ahead_NU
    mirrored_N = mirrored(sizes)
    return torch.cat([ahead_NU, lstm_over(rows_NF[mirrored_N], sizes, back)[mirrored_N]], dim=1)


def mirrored(sizes: Sequence[int]) -> Tensor:
    """Long [N], for each row that of the same sequence as far from its end; its own inverse.

    Example:
        >>> mirrored([2, 1, 1])
        tensor([3, 1, 2, 0])
    """
    starts_T = torch.tensor(list(accumulate(sizes, initial=0))[:-1])
    sizes_T = torch.tensor(sizes)
    there_TQ = torch.arange(sizes[0]) < sizes_T[:, None]
    step_TQ = there_TQ.sum(dim=0) - 1 - torch.arange(len(sizes))[:, None]
    return (starts_T[step_TQ.clamp(min=0)] + torch.arange(sizes[0]))[there_TQ]


def lstm_over(input_NF: Tensor, sizes: Sequence[int], weights: Sequence[Tensor]) -> Tensor:
    """The states of one layer in one direction that starts with zeros, [N, U].

    Args:
        input_NF: rows, on a CPU. sizes: numbers of rows, one per step.
        weights: as of ``nn.LSTM``: [G, F] of the input, [G, U] of the state, and two biases [G].
    """
    from_input_GF, from_state_GU, *biases_G = weights
    entering_NG = torch.addmm(biases_G[0] + biases_G[1], input_NF, from_input_GF.T)
    states_NU: Tensor = _Steps.apply(entering_NG, from_state_GU, sizes)  # type: ignore[no-untyped-call]
    return states_NU


class _Steps(torch.autograd.Function):
    """From what the input adds to the gates, [N, G], and the recurrent weights to the states, [N, U]."""

    @staticmethod
    def forward(ctx: Any, entering_NG: Tensor, weights_GU: Tensor, sizes: Sequence[int]) -> Tensor:
        units = weights_GU.shape[1]
        gates_NG = torch.empty_like(entering_NG)
        cells_NU, bounded_NU, states_NU = (entering_NG.new_empty(len(entering_NG), units) for _ in range(3))
        before: slice | None = None
        for rows in _slices(sizes):
            gates_BG, cells_BU = gates_NG[rows], cells_NU[rows]
            if before is None:
                gates_BG.copy_(entering_NG[rows])
            else:
                before = slice(before.start, before.start + len(gates_BG))  # dialogues that have not ended
                torch.addmm(entering_NG[rows], states_NU[before], weights_GU.T, out=gates_BG)
            gates_BG[:, : 2 * units].sigmoid_()
            gates_BG[:, 2 * units : 3 * units].tanh_()
            gates_BG[:, 3 * units :].sigmoid_()
            enter_BU, forget_BU, new_BU, leave_BU = gates_BG.chunk(4, dim=1)
            torch.mul(enter_BU, new_BU, out=cells_BU)
            if before is not None:
                cells_BU.addcmul_(forget_BU, cells_NU[before])
            torch.tanh(cells_BU, out=bounded_NU[rows])
            torch.mul(leave_BU, bounded_NU[rows], out=states_NU[rows])
            before = rows
        ctx.sizes = sizes
        ctx.save_for_backward(weights_GU, gates_NG, cells_NU, bounded_NU, states_NU)
        return states_NU

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_NU: Tensor) -> tuple[Tensor, Tensor, None]:
        weights_GU, gates_NG, cells_NU, bounded_NU, states_NU = ctx.saved_tensors
        enter_NU, forget_NU, new_NU, leave_NU = gates_NG.chunk(4, dim=1)
        # Rows from the second step on, and the rows of the same dialogues one step before.
        later = slice(ctx.sizes[0], None)
        steps = _slices(ctx.sizes)
        earlier_N = torch.cat(
            [torch.arange(one.start, one.start + size) for one, size in zip(steps, ctx.sizes[1:], strict=False)]
            or [torch.arange(0)]
        )
        before_NU = torch.zeros_like(cells_NU)
        before_NU[later] = cells_NU[earlier_N]
        # Slopes of the cell by the inputs of its three gates, of the state by its gate and by the cell.
        of_cell_N3U = torch.stack(
            [
                new_NU * enter_NU * (1 - enter_NU),
                before_NU * forget_NU * (1 - forget_NU),
                enter_NU * (1 - new_NU.square()),
            ],
            dim=1,
        )
        by_leave_NU = bounded_NU * leave_NU * (1 - leave_NU)
        by_cell_NU = leave_NU * (1 - bounded_NU.square())
        turned_NG = torch.empty_like(gates_NG)
        turned_N4U = turned_NG.view(len(turned_NG), 4, -1)
        state_BU, cell_BU = gradient_NU[steps[-1]], torch.zeros_like(gradient_NU[steps[-1]])
        for rows, previous in zip(reversed(steps), [*reversed(steps[:-1]), None], strict=True):
            cell_BU = torch.addcmul(cell_BU, state_BU, by_cell_NU[rows])
            torch.mul(cell_BU[:, None], of_cell_N3U[rows], out=turned_N4U[rows, :3])
            torch.mul(state_BU, by_leave_NU[rows], out=turned_N4U[rows, 3])
            if previous is None:
                break
            state_CU = gradient_NU[previous].clone()  # C: dialogues of the previous step
            state_CU[: len(cell_BU)].addmm_(turned_NG[rows], weights_GU)
            cell_CU = torch.zeros_like(state_CU)
            torch.mul(cell_BU, forget_NU[rows], out=cell_CU[: len(cell_BU)])
            state_BU, cell_BU = state_CU, cell_CU
        return turned_NG, turned_NG[later].T @ states_NU[earlier_N], None


def _slices(sizes: Sequence[int]) -> list[slice]:
    """The rows of each step."""
    return [slice(start, end) for start, end in pairwise(accumulate(sizes, initial=0))]
