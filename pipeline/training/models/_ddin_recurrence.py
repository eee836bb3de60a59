"""DDIN's recurrence over all dialogues, modalities and directions at once, with its gradient written out.

Legend: B dialogues, T steps, N utterances of all dialogues, R directions, M modalities, K = R · M networks, S state units (global and party), E emotion units.

Utterances lie in rows as in a packed sequence: those of step 0 of all dialogues, longest dialogue first, then those of step 1, and so on; a step has
only the dialogues that are still going on. Buffers of states have a row of zeros per dialogue ahead, the states before the first step. So

    step:          -1        0        1      2          the state before a row is that of its dialogue in the step before, a slice;
    rows:       0 0 0 0 │ a b c d │ a b c │ a b │ a     the party state of its speaker is that of the row where the speaker spoke last, an index.

There is no table of parties, so a dialogue may have any number of speakers, and only the current speaker's state changes.

Autograd alone would copy the growing history in every step, and work out and add up every weight's gradient step by step. Here the history is one buffer,
and the gradients of the weights are one product each over all rows, from what the steps left behind.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# For absent keys: their softmax is exactly 0 beside any other key. Not -inf, of which a row of absent keys alone would make 0 / 0.
ABSENT = -1e30


@dataclass(frozen=True)
class Schedule:
    """Which utterance lies in which row.

    Attributes:
        sizes: T numbers of rows, one per step.
        positions_RN: where a row's utterance lies in a flattened [B · padded steps] tensor, for each direction.
        steps_N: step of each row.
        before_N: row of the step before, counted with the B rows of zeros ahead; one of those rows for the first.
        last_RN: the same of the step where the row's speaker spoke last; one of those rows if never.
    """

    sizes: list[int]
    positions_RN: Tensor
    steps_N: Tensor
    before_N: Tensor
    last_RN: Tensor

    def steps(self) -> list[tuple[int, int]]:
        """First row and number of rows of each step."""
        starts = [0]
        for size in self.sizes[:-1]:
            starts.append(starts[-1] + size)
        return list(zip(starts, self.sizes, strict=True))


def plan(lengths_host_B: Tensor, speakers_BT: Tensor, directions: int) -> Schedule:
    """Lays out a batch.

    Args:
        lengths_host_B: on the CPU, so that the sizes of the steps are known without waiting for a GPU.
        speakers_BT: on the device.
        directions: 1 forward, 2 also backward: a dialogue's last utterance comes first.
    """
    device, padded_steps = speakers_BT.device, speakers_BT.shape[1]
    lengths, order = lengths_host_B.sort(descending=True, stable=True)
    steps, ranks = (torch.arange(int(lengths[0]))[:, None] < lengths).nonzero(as_tuple=True)
    sizes = torch.bincount(steps)
    ahead = order[ranks] * padded_steps + steps
    back = order[ranks] * padded_steps + lengths[ranks] - 1 - steps
    starts = sizes.cumsum(0) - sizes
    before = torch.where(steps > 0, len(lengths) + starts[steps - 1], 0) + ranks
    positions_RN = torch.stack([ahead, back][:directions]).to(device, non_blocking=True)
    steps_N, ranks_N, before_N, starts_T = (tensor.to(device, non_blocking=True) for tensor in (steps, ranks, before, starts))

    in_order_RBT = speakers_BT.new_full((directions, len(lengths), len(sizes)), -1)
    in_order_RBT[:, ranks_N, steps_N] = speakers_BT.flatten()[positions_RN]
    same_RBTT = (in_order_RBT[..., :, None] == in_order_RBT[..., None, :]).tril(-1)
    last_step_RBT = torch.where(same_RBTT, torch.arange(len(sizes), device=device), -1).amax(dim=-1)
    last_step_RN = last_step_RBT[:, ranks_N, steps_N]
    last_RN = torch.where(last_step_RN >= 0, len(lengths) + starts_T[last_step_RN.clamp(min=0)], 0) + ranks_N
    return Schedule(sizes=sizes.tolist(), positions_RN=positions_RN, steps_N=steps_N, before_N=before_N, last_RN=last_RN)


class _GRUCells:
    """Nonlinear part of K GRU cells, with what its gradient needs kept for all rows. Gates in torch's order: reset, update, new."""

    def __init__(self, like: Tensor, networks: int, rows: int, units: int) -> None:
        self.units = units
        self.reset_update = like.new_empty(networks, rows, 2 * units)
        self.new = like.new_empty(networks, rows, units)
        self.old_part = like.new_empty(networks, rows, units)

    def forward(self, rows: slice, of_input: Tensor, of_state: Tensor, state: Tensor) -> Tensor:
        units = self.units
        gates = torch.add(of_input[..., : 2 * units], of_state[..., : 2 * units]).sigmoid_()
        reset, update = gates.chunk(2, dim=-1)
        old_part = of_state[..., 2 * units :]
        new = torch.addcmul(of_input[..., 2 * units :], reset, old_part).tanh_()
        self.reset_update[:, rows], self.new[:, rows], self.old_part[:, rows] = gates, new, old_part
        return torch.lerp(new, state, update)

    def backward(self, rows: slice, gradient: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of ``of_input``, of ``of_state``, and of ``state`` by the direct way."""
        gates, new, old_part = self.reset_update[:, rows], self.new[:, rows], self.old_part[:, rows]
        reset, update = gates.chunk(2, dim=-1)
        direct = gradient * update
        of_new = (gradient - direct) * (1 - new * new)
        slopes = gates * (1 - gates)
        of_gates = torch.cat([of_new * old_part, gradient * (state - new)], dim=-1).mul_(slopes)
        return torch.cat([of_gates, of_new], dim=-1), torch.cat([of_gates, of_new * reset], dim=-1), direct


class Recurrence(torch.autograd.Function):
    """The cells of Zhang et al. (ACM MM 2020), steps 1 to 5; see ``ddin.py``.

    Inputs of :meth:`apply`; all but the first three and the last four are weights, whose networks come first:

        schedule: of the rows; its positions are not used.
        codes: [T, S], of the steps, added to the history that attention looks at.
        gate_over: axis of [K, rows, M] over which the gate of the contexts is a softmax: 2, the contexts; 1 reproduces the published code.
        party_global [K, S, 3S], state_global [K, S, 3S], state_bias_global [K, 1, 3S]: of the global GRU, for the party's and its own state.
        gate [K, S]; join [K, M · S, S], join_bias [K, 1, S]: of the contexts.
        context_party [K, S, 3S], state_party [K, S, 3S], state_bias_party [K, 1, 3S]: of the party GRU.
        party_emotion [K, S, 3E], input_bias_emotion [K, 1, 3E], state_emotion [K, E, 3E], state_bias_emotion [K, 1, 3E]: of the emotion GRU.
        input_global [K, N, 3S], input_party [K, N, 3S]: what the utterances add to the gates, with the bias.
        queries [N, R, M, M, S]: network, direction by direction, of a history's modality (first M) for a modality (second M).
        keys_present [N, R, M]: 1.0 where the row's modality is there, else 0.0: such rows are not attended to.
        dropout: four tensors of factors, of global states [K, N, S], the history's keys [N, R, M, S], party [K, N, S] and emotion states [K, N, E], or None.

    Gives the emotion states [K, N, E] and the gated contexts [K, N, S].
    """

    @staticmethod
    def forward(ctx: Any, schedule: Schedule, codes: Tensor, gate_over: int, *tensors: Any) -> tuple[Tensor, Tensor]:
        (party_global, state_global, state_bias_global, gate, join, join_bias, context_party, state_party, state_bias_party) = tensors[:9]
        (party_emotion, input_bias_emotion, state_emotion, state_bias_emotion) = tensors[9:13]
        input_global, input_party, queries, keys_present, dropout = tensors[13:]
        networks, rows_total, units = len(gate), len(schedule.steps_N), gate.shape[1]
        directions, modalities = queries.shape[1:3]
        first, emotion_units = schedule.sizes[0], state_emotion.shape[1]
        new = gate.new_zeros

        states = [new(networks, first + rows_total, width) for width in (units, units, emotion_units)]
        globals_, parties, emotions = states
        last = _flat(schedule.last_RN, networks, first + rows_total)
        cells = [_GRUCells(gate, networks, rows_total, width) for width in (units, units, emotion_units)]
        keys = new(first, directions, modalities, len(schedule.sizes), units)
        hidden_keys = new(first, directions, modalities, 1, len(schedule.sizes))
        present = new(first, directions, modalities, 1, len(schedule.sizes))
        found = new(networks, rows_total, modalities, units)
        shares = new(networks, rows_total, modalities)
        contexts = new(networks, rows_total, units)
        attention: list[Tensor | None] = []

        before = 0
        for step, (start, size) in enumerate(schedule.steps()):
            rows, here, earlier = slice(start, start + size), slice(first + start, first + start + size), slice(before, before + size)
            before = first + start
            party = parties.view(-1, units).index_select(0, last[:, rows].flatten()).view(networks, size, units)

            of_state = torch.baddbmm(state_bias_global, globals_[:, earlier], state_global)
            of_input = torch.baddbmm(input_global[:, rows], party, party_global)
            state = cells[0].forward(rows, of_input, of_state, globals_[:, earlier])
            globals_[:, here] = state if dropout is None else state.mul_(dropout[0][:, rows])

            weights = None
            if step:
                known = keys[:size, ..., :step, :].flatten(0, 2)
                scores = torch.bmm(queries[rows].flatten(0, 2), known.mT).view(size, directions, modalities, modalities, step)
                weights = scores.add_(hidden_keys[:size, ..., :step]).softmax(dim=-1).mul_(present[:size, ..., :step])
                found[:, rows] = _by_network(torch.bmm(weights.flatten(0, 2), known).view(size, directions, modalities, modalities, units))
            attention.append(weights)
            key = _by_row(globals_[:, here], directions) + codes[step]
            keys[:size, ..., step, :] = key if dropout is None else key.mul_(dropout[1][rows])
            present[:size, ..., 0, step] = keys_present[rows]
            hidden_keys[:size, ..., 0, step] = (1 - keys_present[rows]) * ABSENT

            shares[:, rows] = (found[:, rows] @ gate[:, None, :, None])[..., 0].softmax(dim=gate_over)
            joined = torch.addcmul(found[:, rows], found[:, rows], shares[:, rows, :, None]).flatten(2)
            contexts[:, rows] = torch.baddbmm(join_bias, joined, join)

            of_state = torch.baddbmm(state_bias_party, party, state_party)
            of_input = torch.baddbmm(input_party[:, rows], contexts[:, rows], context_party)
            state = cells[1].forward(rows, of_input, of_state, party)
            parties[:, here] = state if dropout is None else state.mul_(dropout[2][:, rows])

            of_state = torch.baddbmm(state_bias_emotion, emotions[:, earlier], state_emotion)
            of_input = torch.baddbmm(input_bias_emotion, parties[:, here], party_emotion)
            state = cells[2].forward(rows, of_input, of_state, emotions[:, earlier])
            emotions[:, here] = state if dropout is None else state.mul_(dropout[3][:, rows])

        ctx.schedule, ctx.gate_over, ctx.cells, ctx.attention, ctx.last, ctx.dropout = schedule, gate_over, cells, attention, last, dropout
        ctx.kept = (globals_, parties, emotions, keys, found, shares, contexts)
        ctx.save_for_backward(*tensors[:13], queries)
        return emotions[:, first:].clone(), contexts.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (party_global, state_global, _, gate, join, _, context_party, state_party, _, party_emotion, _, state_emotion, _, queries) = ctx.saved_tensors
        globals_, parties, emotions, keys, found, shares, contexts = ctx.kept
        schedule, dropout = ctx.schedule, ctx.dropout
        networks, rows_total, modalities, units = found.shape
        directions, first = queries.shape[1], schedule.sizes[0]

        d_globals, d_parties, d_emotions, d_keys = (torch.zeros_like(value) for value in (globals_, parties, emotions, keys))
        d_emotions[:, first:] = gradients[0]
        d_contexts = gradients[1].clone()
        d_queries = torch.zeros_like(queries)
        d_scores = torch.empty_like(shares)
        inputs = [cell.new.new_empty(networks, rows_total, 3 * cell.units) for cell in ctx.cells]
        olds = [torch.empty_like(value) for value in inputs]

        steps = schedule.steps()
        for step in reversed(range(len(steps))):
            start, size = steps[step]
            before = first + steps[step - 1][0] if step else 0
            rows, here, earlier = slice(start, start + size), slice(first + start, first + start + size), slice(before, before + size)
            last = ctx.last[:, rows].flatten()
            party = parties.view(-1, units).index_select(0, last).view(networks, size, units)

            gradient = d_emotions[:, here] if dropout is None else d_emotions[:, here] * dropout[3][:, rows]
            inputs[2][:, rows], olds[2][:, rows], direct = ctx.cells[2].backward(rows, gradient, emotions[:, earlier])
            d_emotions[:, earlier] += torch.baddbmm(direct, olds[2][:, rows], state_emotion.mT)

            gradient = torch.baddbmm(d_parties[:, here], inputs[2][:, rows], party_emotion.mT)
            gradient = gradient if dropout is None else gradient.mul_(dropout[2][:, rows])
            inputs[1][:, rows], olds[1][:, rows], direct = ctx.cells[1].backward(rows, gradient, party)
            d_party = torch.baddbmm(direct, olds[1][:, rows], state_party.mT)

            d_contexts[:, rows] += torch.bmm(inputs[1][:, rows], context_party.mT)
            d_joined = torch.bmm(d_contexts[:, rows], join.mT).view(networks, size, modalities, units)
            share = shares[:, rows]
            d_share = (d_joined * found[:, rows]).sum(dim=-1)
            d_score = share * (d_share - (share * d_share).sum(dim=ctx.gate_over, keepdim=True))
            d_scores[:, rows] = d_score
            d_found = torch.addcmul(d_joined, d_joined, share[..., None]).addcmul_(d_score[..., None], gate[:, None, None, :])

            weights = ctx.attention[step]
            if weights is not None:
                known = keys[:size, ..., :step, :].flatten(0, 2)
                d_found_rows = _by_row_and_history(d_found, directions).flatten(0, 2)
                weights = weights.flatten(0, 2)
                d_weights = torch.bmm(d_found_rows, known.mT)
                d_attention = weights * (d_weights - (weights * d_weights).sum(dim=-1, keepdim=True))
                d_queries[rows] = torch.bmm(d_attention, known).view(size, directions, modalities, modalities, units)
                asked = queries[rows].flatten(0, 2)
                d_known = torch.bmm(torch.cat([weights, d_attention], dim=1).mT, torch.cat([d_found_rows, asked], dim=1))
                d_keys[:size, ..., :step, :] += d_known.view(size, directions, modalities, step, units)

            d_key = d_keys[:size, ..., step, :] if dropout is None else d_keys[:size, ..., step, :] * dropout[1][rows]
            gradient = d_globals[:, here] + d_key.permute(1, 2, 0, 3).flatten(0, 1)
            gradient = gradient if dropout is None else gradient.mul_(dropout[0][:, rows])
            inputs[0][:, rows], olds[0][:, rows], direct = ctx.cells[0].backward(rows, gradient, globals_[:, earlier])
            d_globals[:, earlier] += torch.baddbmm(direct, olds[0][:, rows], state_global.mT)

            d_party.baddbmm_(inputs[0][:, rows], party_global.mT)
            d_parties.view(-1, units).index_add_(0, last, d_party.flatten(0, 1))

        party_before = parties.view(-1, units).index_select(0, ctx.last.flatten()).view(networks, rows_total, units)
        joined = torch.addcmul(found, found, shares[..., None]).flatten(2)
        return (
            *(None, None, None),
            party_before.mT @ inputs[0],
            globals_[:, schedule.before_N].mT @ olds[0],
            olds[0].sum(dim=1, keepdim=True),
            (d_scores.flatten(1)[:, None] @ found.flatten(1, 2))[:, 0],
            joined.mT @ d_contexts,
            d_contexts.sum(dim=1, keepdim=True),
            contexts.mT @ inputs[1],
            party_before.mT @ olds[1],
            olds[1].sum(dim=1, keepdim=True),
            parties[:, first:].mT @ inputs[2],
            inputs[2].sum(dim=1, keepdim=True),
            emotions[:, schedule.before_N].mT @ olds[2],
            olds[2].sum(dim=1, keepdim=True),
            *(inputs[0], inputs[1], d_queries, None, None),
        )


def _flat(last_RN: Tensor, networks: int, rows: int) -> Tensor:
    """[K, N] for states flattened to [K · rows, S]."""
    per_network = last_RN.repeat_interleave(networks // len(last_RN), dim=0)
    return per_network + torch.arange(networks, device=last_RN.device)[:, None] * rows


def _by_row(values_KNS: Tensor, directions: int) -> Tensor:
    """[N, R, M, S]."""
    return values_KNS.unflatten(0, (directions, -1)).permute(2, 0, 1, 3)


def _by_network(found_NRHMS: Tensor) -> Tensor:
    """From [N, R, M of the history, M, S] to [K, N, M of the history, S]."""
    return found_NRHMS.permute(1, 3, 0, 2, 4).flatten(0, 1)


def _by_row_and_history(found_KNHS: Tensor, directions: int) -> Tensor:
    """The inverse of :func:`_by_network`."""
    return found_KNHS.unflatten(0, (directions, -1)).permute(2, 0, 3, 1, 4)
