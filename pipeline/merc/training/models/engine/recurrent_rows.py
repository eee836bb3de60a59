"""LSTM and GRU over the rows of packed sequences, for a CPU, with an explicit gradient.

Legend: K recurrences over the same sequences (modalities, directions), N rows, B those of one step, F features in, U
units, G gates in torch's order: 4 U of an LSTM (enter, forget, new, leave), 3 U of a GRU (reset, keep, new).

    step:    0        1      2         rows of :class:`merc.training.models.engine.sequences.Sequences`: the first of
    rows:  a b c d │ a b c │ a b       all sequences, longest sequence first, then the second ones, and so on

torch's operations for a CPU either run over padded dialogues, of which MELD's fill two fifths, and reorder all weights
in every call, or add up the gradient of each weight matrix step by step. Here, there is no padding, the weights are
read as they are, and the gradient of each is one product over all rows. The recurrences of several modalities and
directions take their steps together if they are small: then a step costs hardly more than its calls.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from merc.training.models.engine.first_derivative import first_derivative_only

# Recurrent weights up to this size stay in a core's cache while several recurrences take a step together. Larger ones
# do not: two of 600 units, side by side, take 1.3 times as long as one after the other.
TOGETHER_BYTES = 2**20

Weights = Sequence[Tensor]
"""Of one direction of one layer, as in torch: [G, F] of the input, [G, U] of the state, and two biases [G]."""


def run(modules: Sequence[nn.GRU | nn.LSTM], rows: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
    """The states of all layers and directions of each module, as of the module for a packed sequence, [N, U] or [N, 2
    U]; dropout between the layers of a single module draws the same numbers as there.

    Args:
        modules: of one kind and size, with biases and without projections.
        rows: [N, F] of each module, on a CPU.
        sizes: numbers of rows, one per step.

    Raises:
        ValueError: if modules or rows are others.
    """
    first, states = modules[0], list(rows)
    kinds = {
        (type(one), one.num_layers, one.bidirectional, one.hidden_size, one.bias, one.proj_size) for one in modules
    }
    if len(kinds) > 1 or not first.bias or first.proj_size or any(len(one) != sum(sizes) for one in rows):
        raise ValueError(
            f"{len(modules)} recurrences over {[len(one) for one in rows]} rows, {sum(sizes)} in the steps;"
            " expected one kind and size, with biases and without projections, and all rows"
        )
    directions = 2 if first.bidirectional else 1
    for layer in range(first.num_layers):
        if layer and first.training:
            states = [functional.dropout(states_NF, first.dropout) for states_NF in states]
        at = layer * directions
        ahead, back = [module.all_weights[at] for module in modules], None
        if first.bidirectional:
            back = [module.all_weights[at + 1] for module in modules]
        states = layer_over(states, sizes, ahead, back)
    return states


def layer_over(
    rows: Sequence[Tensor], sizes: Sequence[int], ahead: Sequence[Weights], back: Sequence[Weights] | None = None
) -> list[Tensor]:
    """The states of one layer in one direction or both, [N, U] or [N, 2 U], for each of several inputs.

    Args:
        rows: inputs [N, F], on a CPU. sizes: numbers of rows, one per step.
        ahead: weights of one direction for each input. back: those of the other.
    """
    if back is None:
        return list(states_over(rows, sizes, ahead).unbind())
    mirrored_N = mirrored(sizes)
    both = states_over([*rows, *(rows_NF[mirrored_N] for rows_NF in rows)], sizes, [*ahead, *back])
    return list(torch.cat([both[: len(rows)], both[len(rows) :, mirrored_N]], dim=-1).unbind())


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


def states_over(inputs: Sequence[Tensor], sizes: Sequence[int], weights: Sequence[Weights]) -> Tensor:
    """The states of several recurrences of one layer and direction that start with zeros, [K, N, U].

    Args:
        inputs: [N, F] of each recurrence, on a CPU. sizes: numbers of rows, one per step.
        weights: those of each recurrence; of one kind and size.
    """
    if len(weights) > 1 and sum(one[1].nbytes for one in weights) > TOGETHER_BYTES:
        separate = zip(inputs, weights, strict=True)
        return torch.cat([states_over([rows_NF], sizes, [one]) for rows_NF, one in separate])
    from_state, of_state = [one[1] for one in weights], [one[3] for one in weights]
    gates, units = from_state[0].shape
    is_lstm = gates == 4 * units
    # Mixed precision ends here: errors add up over the steps, and not every processor supports products in 16 bits.
    with torch.autocast("cpu", enabled=False):
        entering_KNG = torch.stack(
            [
                torch.addmm(of_input_G + of_state_G if is_lstm else of_input_G, rows_NF.to(one_GF.dtype), one_GF.T)
                for rows_NF, (one_GF, _, of_input_G, of_state_G) in zip(inputs, weights, strict=True)
            ]
        )
        states_KNU: Tensor
        if is_lstm:
            states_KNU = _LSTMSteps.apply(sizes, entering_KNG, *from_state)  # type: ignore[no-untyped-call]
        else:
            states_KNU = _GRUSteps.apply(sizes, entering_KNG, *from_state, *of_state)  # type: ignore[no-untyped-call]
    return states_KNU


class _LSTMSteps(torch.autograd.Function):
    """From what the input and the biases add to the gates, [K, N, G], and the recurrent weights [G, U] to the states,
    [K, N, U].
    """

    @staticmethod
    def forward(ctx: Any, sizes: Sequence[int], entering_KNG: Tensor, *weights: Tensor) -> Tensor:
        units = weights[0].shape[1]
        gates_KNG = torch.empty_like(entering_KNG)
        cells_KNU, bounded_KNU, states_KNU = (entering_KNG.new_empty(*entering_KNG.shape[:2], units) for _ in range(3))
        before_KBU = cells_before_KBU = None
        for entering_KBG, gates_KBG, cells_KBU, bounded_KBU, states_KBU in _by_step(
            sizes, entering_KNG, gates_KNG, cells_KNU, bounded_KNU, states_KNU
        ):
            rows = gates_KBG.shape[1]
            if before_KBU is None:
                gates_KBG.copy_(entering_KBG)
            else:
                for one, weights_GU in enumerate(weights):
                    torch.addmm(entering_KBG[one], before_KBU[one, :rows], weights_GU.T, out=gates_KBG[one])
            gates_KBG[..., : 2 * units].sigmoid_()
            gates_KBG[..., 2 * units : 3 * units].tanh_()
            gates_KBG[..., 3 * units :].sigmoid_()
            enter_KBU, forget_KBU, new_KBU, leave_KBU = gates_KBG.chunk(4, dim=2)
            torch.mul(enter_KBU, new_KBU, out=cells_KBU)
            if cells_before_KBU is not None:
                cells_KBU.addcmul_(forget_KBU, cells_before_KBU[:, :rows])
            torch.tanh(cells_KBU, out=bounded_KBU)
            torch.mul(leave_KBU, bounded_KBU, out=states_KBU)
            before_KBU, cells_before_KBU = states_KBU, cells_KBU
        ctx.sizes = sizes
        ctx.save_for_backward(gates_KNG, cells_KNU, bounded_KNU, states_KNU, *weights)
        return states_KNU

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, gradient_KNU: Tensor) -> tuple[Tensor | None, ...]:
        gates_KNG, cells_KNU, bounded_KNU, states_KNU, *weights = ctx.saved_tensors
        enter_KNU, forget_KNU, new_KNU, leave_KNU = gates_KNG.chunk(4, dim=2)
        later, earlier_N = slice(ctx.sizes[0], None), _earlier(ctx.sizes)
        before_KNU = torch.zeros_like(cells_KNU)
        before_KNU[:, later] = cells_KNU[:, earlier_N]
        # Slopes of the cell by the inputs of its three gates, of the state by its gate and by the cell.
        of_cell_KN3U = torch.stack(
            [
                new_KNU * enter_KNU * (1 - enter_KNU),
                before_KNU * forget_KNU * (1 - forget_KNU),
                enter_KNU * (1 - new_KNU.square()),
            ],
            dim=2,
        )
        by_leave_KNU = bounded_KNU * leave_KNU * (1 - leave_KNU)
        by_cell_KNU = leave_KNU * (1 - bounded_KNU.square())
        turned_KNG = torch.empty_like(gates_KNG)
        turned_KN4U = turned_KNG.view(*turned_KNG.shape[:2], 4, -1)
        steps = _by_step(
            ctx.sizes, gradient_KNU, turned_KNG, turned_KN4U, of_cell_KN3U, by_leave_KNU, by_cell_KNU, forget_KNU
        )
        after: tuple[Tensor, Tensor, Tensor] | None = None  # of the next step, which has at most as many rows
        for gradient_KBU, turned_KBG, turned_KB4U, of_cell_KB3U, by_leave_KBU, by_cell_KBU, forget_KBU in steps[::-1]:
            if after is None:
                state_KBU, cell_KBU = gradient_KBU, by_cell_KBU * gradient_KBU
            else:
                later_KBG, later_cell_KBU, later_forget_KBU = after
                state_KBU = _added(gradient_KBU, later_KBG, weights)
                cell_KBU = by_cell_KBU * state_KBU
                cell_KBU[:, : later_KBG.shape[1]].addcmul_(later_cell_KBU, later_forget_KBU)
            torch.mul(cell_KBU[:, :, None], of_cell_KB3U, out=turned_KB4U[:, :, :3])
            torch.mul(state_KBU, by_leave_KBU, out=turned_KB4U[:, :, 3])
            after = turned_KBG, cell_KBU, forget_KBU
        before = states_KNU[:, earlier_N]
        of_weights = [turned_KNG[one, later].T @ before[one] for one in range(len(weights))]
        return None, turned_KNG, *of_weights


class _GRUSteps(torch.autograd.Function):
    """From what the input adds to the gates, [K, N, G], the recurrent weights [G, U] and their biases [G] to the
    states, [K, N, U].
    """

    @staticmethod
    def forward(ctx: Any, sizes: Sequence[int], entering_KNG: Tensor, *weights_and_biases: Tensor) -> Tensor:
        runs, units = len(entering_KNG), weights_and_biases[0].shape[1]
        weights, biases = weights_and_biases[:runs], weights_and_biases[runs:]
        from_state_KNG, gates_KNG = torch.empty_like(entering_KNG), torch.empty_like(entering_KNG)
        states_KNU = entering_KNG.new_empty(*entering_KNG.shape[:2], units)
        before_KBU = None
        for entering_KBG, from_state_KBG, gates_KBG, states_KBU in _by_step(
            sizes, entering_KNG, from_state_KNG, gates_KNG, states_KNU
        ):
            rows = gates_KBG.shape[1]
            for one, (weights_GU, bias_G) in enumerate(zip(weights, biases, strict=True)):
                if before_KBU is None:
                    from_state_KBG[one] = bias_G
                else:
                    torch.addmm(bias_G, before_KBU[one, :rows], weights_GU.T, out=from_state_KBG[one])
            reset_KBU, keep_KBU, new_KBU = gates_KBG.chunk(3, dim=2)
            torch.add(
                entering_KBG[..., : 2 * units], from_state_KBG[..., : 2 * units], out=gates_KBG[..., : 2 * units]
            ).sigmoid_()
            torch.addcmul(
                entering_KBG[..., 2 * units :], reset_KBU, from_state_KBG[..., 2 * units :], out=new_KBU
            ).tanh_()
            if before_KBU is None:
                torch.addcmul(new_KBU, keep_KBU, new_KBU, value=-1, out=states_KBU)
            else:
                torch.lerp(new_KBU, before_KBU[:, :rows], keep_KBU, out=states_KBU)
            before_KBU = states_KBU
        ctx.sizes = sizes
        ctx.save_for_backward(from_state_KNG, gates_KNG, states_KNU, *weights)
        return states_KNU

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, gradient_KNU: Tensor) -> tuple[Tensor | None, ...]:
        from_state_KNG, gates_KNG, states_KNU, *weights = ctx.saved_tensors
        units = states_KNU.shape[2]
        reset_KNU, keep_KNU, new_KNU = gates_KNG.chunk(3, dim=2)
        later, earlier_N = slice(ctx.sizes[0], None), _earlier(ctx.sizes)
        before_KNU = torch.zeros_like(states_KNU)
        before_KNU[:, later] = states_KNU[:, earlier_N]
        # Slopes of the state by what its last step adds to the three gates and by the input of the new state.
        slopes_KN4U = torch.empty(*states_KNU.shape[:2], 4, units, dtype=states_KNU.dtype)
        by_reset_KNU, by_keep_KNU, by_product_KNU, by_new_KNU = slopes_KN4U.unbind(2)
        torch.mul(1 - keep_KNU, 1 - new_KNU.square(), out=by_new_KNU)
        torch.mul(by_new_KNU, reset_KNU, out=by_product_KNU)
        torch.mul(by_product_KNU * (1 - reset_KNU), from_state_KNG[..., 2 * units :], out=by_reset_KNU)
        torch.mul((before_KNU - new_KNU) * keep_KNU, 1 - keep_KNU, out=by_keep_KNU)
        turned_KN4U = torch.empty_like(slopes_KN4U)
        turned_KNX = turned_KN4U.flatten(2)
        to_state_KNG = turned_KNX[..., : 3 * units]
        steps = _by_step(ctx.sizes, gradient_KNU, turned_KN4U, to_state_KNG, slopes_KN4U, keep_KNU)
        after: tuple[Tensor, Tensor] | None = None  # of the next step, which has at most as many rows
        for gradient_KBU, turned_KB4U, turned_KBG, slopes_KB4U, keep_KBU in steps[::-1]:
            state_KBU = gradient_KBU
            if after is not None:
                later_KBG, kept_KBU = after
                state_KBU = _added(gradient_KBU, later_KBG, weights)
                state_KBU[:, : kept_KBU.shape[1]].add_(kept_KBU)
            torch.mul(state_KBU[:, :, None], slopes_KB4U, out=turned_KB4U)
            after = turned_KBG, state_KBU * keep_KBU
        to_input_KNG = torch.cat([turned_KNX[..., : 2 * units], turned_KNX[..., 3 * units :]], dim=2)
        before = states_KNU[:, earlier_N]
        of_weights = [to_state_KNG[one, later].T @ before[one] for one in range(len(weights))]
        return None, to_input_KNG, *of_weights, *to_state_KNG.sum(dim=1)


def _added(gradient_KBU: Tensor, later_KBG: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """The gradient of the states of a step with what comes from the gates of the step after."""
    state_KBU = gradient_KBU.clone()
    rows = later_KBG.shape[1]
    for one, weights_GU in enumerate(weights):
        state_KBU[one, :rows].addmm_(later_KBG[one], weights_GU)
    return state_KBU


def _earlier(sizes: Sequence[int]) -> Tensor:
    """Long; for each row from the second step on that of the same sequence one step before."""
    starts = list(accumulate(sizes, initial=0))
    return torch.cat(
        [torch.arange(start, start + size) for start, size in zip(starts, sizes[1:], strict=False)] or [torch.arange(0)]
    )


def _by_step(sizes: Sequence[int], *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """Views of each step of tensors [K, N, ...]."""
    return list(zip(*(torch.split(tensor, list(sizes), dim=1) for tensor in tensors), strict=True))
