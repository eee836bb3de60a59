"""The recurrence of DDIN, DialogueRNN and MultiEMO over all dialogues, modalities and directions at once, with an
explicit gradient.

Legend: B dialogues, T steps, N utterances of all dialogues, R directions, M modalities, K = R · M networks, S state
units (global and party), E emotion units.

Utterances are rows as in a packed sequence: those of step 0 of all dialogues, longest dialogue first, then those of
step 1, and so on; a step has only the dialogues that have not ended. Buffers of states start with a row of zeros per
dialogue, the states before the first step. So

    step:          -1        0        1      2          the state before a row is that of its dialogue in the step before, a slice;
    rows:       0 0 0 0 │ a b c d │ a b c │ a b │ a     the party state of its speaker is that of the row where the speaker spoke last, an index.

There is no table of parties, so a dialogue may have any number of speakers, and only the current speaker's state
changes.

Plain autograd would copy the growing history in every step, and compute and add up every weight's gradient step by
step. Here the history is one buffer, and the gradient of each weight is one product over all rows, from values saved in
the steps.
"""  # noqa: E501

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.first_derivative import first_derivative_only

# For absent keys: their softmax is exactly 0 next to any other key. Not -inf, since a row of only absent keys would
# give 0 / 0.
ABSENT = -1e30


@dataclass(frozen=True)
class Schedule:
    """Which utterance is in which row.

    Attributes:
        sizes: T numbers of rows, one per step.
        positions: [R, N], place of a row's utterance in a flattened [B · padded steps] tensor, for each direction.
        step_of: [N], step of each row.
        rank_of: [N], place of its dialogue among the dialogues, longest first.
        before: [N], row of the previous step, counted with the B leading rows of zeros; one of those rows for the
            first.
        last: [R, N], the same for the step in which the row's speaker spoke last; one of those rows if never.
    """

    sizes: list[int]
    positions: Tensor
    step_of: Tensor
    rank_of: Tensor
    before: Tensor
    last: Tensor

    def spans(self) -> list[tuple[int, int]]:
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
    steps_N, ranks_N, before_N, starts_T = (
        tensor.to(device, non_blocking=True) for tensor in (steps, ranks, before, starts)
    )

    in_order_RBT = speakers_BT.new_full((directions, len(lengths), len(sizes)), -1)
    in_order_RBT[:, ranks_N, steps_N] = speakers_BT.flatten()[positions_RN]
    same_RBTT = (in_order_RBT[..., :, None] == in_order_RBT[..., None, :]).tril(-1)
    last_step_RBT = torch.where(same_RBTT, torch.arange(len(sizes), device=device), -1).amax(dim=-1)
    last_step_RN = last_step_RBT[:, ranks_N, steps_N]
    last_RN = torch.where(last_step_RN >= 0, len(lengths) + starts_T[last_step_RN.clamp(min=0)], 0) + ranks_N
    return Schedule(
        sizes=sizes.tolist(), positions=positions_RN, step_of=steps_N, rank_of=ranks_N, before=before_N, last=last_RN
    )


def rows_at(values_BTX: Tensor, positions_N: Tensor) -> Tensor:
    """Utterances in the order of the recurrence, [N, X]."""
    return values_BTX.flatten(0, 1).index_select(0, positions_N)


def placed(rows_NX: Tensor, positions_N: Tensor, batch: DialogueBatch) -> Tensor:
    """Rows scattered to the places of their utterances, [B, T, X]; zeros elsewhere."""
    dialogues, steps = batch.utterance_mask.shape
    return (
        rows_NX.new_zeros(dialogues * steps, rows_NX.shape[1])
        .index_copy(0, positions_N, rows_NX)
        .view(dialogues, steps, -1)
    )


class _GRUCells:
    """The nonlinear part of K GRU cells of S units, step after step, and its gradient.

    The input's terms of the gates are in the order new, reset, update, the state's in the order reset, update, new; so
    the gradients of both are overlapping parts of one buffer of 4S: new, reset, update, new by the state.
    """

    def __init__(self, units: int) -> None:
        self.units = units
        self.kept: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def forward(self, of_input: Tensor, of_state: Tensor, state: Tensor) -> Tensor:
        """The state after a step, [K, rows, S]; overwrites its first two arguments."""
        gates = of_state[..., : 2 * self.units].add_(of_input[..., self.units :]).sigmoid_()
        reset, update = gates.chunk(2, dim=-1)
        by_state = of_state[..., 2 * self.units :]
        new = of_input[..., : self.units].addcmul_(reset, by_state).tanh_()
        self.kept.append((gates, by_state, new, state))
        return torch.lerp(new, state, update)

    def backward(self, step: int, gradient: Tensor, gates_4S: Tensor) -> Tensor:
        """Returns the part of the gradient of the state before the step that does not go through the gates, whose
        gradients are written to ``gates_4S``.
        """
        units, (gates, by_state, new, state) = self.units, self.kept[step]
        reset, update = gates.chunk(2, dim=-1)
        direct = gradient * update
        of_new = torch.ops.aten.tanh_backward(gradient - direct, new)
        gates_4S[..., :units] = of_new
        torch.mul(of_new, by_state, out=gates_4S[..., units : 2 * units])
        torch.mul(gradient, state - new, out=gates_4S[..., 2 * units : 3 * units])
        of_gates = gates_4S[..., units : 3 * units]
        of_gates.copy_(torch.ops.aten.sigmoid_backward(of_gates, gates))
        torch.mul(of_new, reset, out=gates_4S[..., 3 * units :])
        return direct


class Recurrence(torch.autograd.Function):
    """The cells of Zhang et al. (ACM MM 2020), steps 1 to 5 in ``ddin.py``.

    Inputs of :meth:`apply`. In weights, networks come first; see :class:`_GRUCells` for the order of the gates.

        schedule: of the rows.
        codes: [T, S], of the steps, added to the history that attention looks at.
        gate_over: axis of [K, rows, M] over which the gate of the contexts is a softmax: 2, the contexts; 1 reproduces
        the published code.
        keys_present: [N, R, M]; 1.0 where the row's modality is present, else 0.0: such rows are not attended to. None:
        all are present.
        dropout: four tensors of factors, of global states [K, N, S], the history's keys [N, R, M, S] or None, party [K,
            N, S] and emotion states [K, N, E]; None: no dropout.
        party_global [K, S, 3S], state_global [K, S, 3S], state_bias_global [K, 1, 3S]: of the global GRU, for the
        party's and its own state. gate [K, S]; join [K, M · S, S], join_bias [K, 1, S]: of the contexts. None for one
        modality, whose context is used unchanged. context_party [K, S, 3S], state_party [K, S, 3S], state_bias_party
        [K, 1, 3S]: of the party GRU. party_emotion [K, S, 3E], input_bias_emotion [K, 1, 3E], state_emotion [K, E, 3E],
        state_bias_emotion [K, 1, 3E]: of the emotion GRU. input_global [K, N, 3S], input_party [K, N, 3S]: the
        utterances' terms of the gates, with the bias. queries [N, R, M, M, S]: for a history's modality (first M), of a
        network's modality (second M).

    Returns the emotion states [K, N, E] and the gated contexts [K, N, S].
    """

    @staticmethod
    def forward(
        ctx: Any,
        schedule: Schedule,
        codes: Tensor,
        gate_over: int,
        keys_present: Tensor | None,
        dropout: tuple[Tensor | None, ...] | None,
        *tensors: Any,  # gate, join and join_bias may be None
    ) -> tuple[Tensor, Tensor]:
        (
            party_global,
            state_global,
            state_bias_global,
            gate,
            join,
            join_bias,
            context_party,
            state_party,
            state_bias_party,
        ) = tensors[:9]
        (party_emotion, input_bias_emotion, state_emotion, state_bias_emotion, input_global, input_party, queries) = (
            tensors[9:]
        )
        directions, modalities = queries.shape[1:3]
        networks, units = state_global.shape[:2]
        first, last_step, emotion_units = schedule.sizes[0], len(schedule.sizes), state_emotion.shape[1]
        count = first + len(schedule.step_of)
        globals_, parties, emotions = (
            state_global.new_zeros(networks, count, width) for width in (units, units, emotion_units)
        )
        cells = [_GRUCells(units), _GRUCells(units), _GRUCells(emotion_units)]
        last = _flat(schedule.last, networks, count)
        keys = state_global.new_zeros(first, directions, modalities, last_step, units)
        present = hidden = None
        if keys_present is not None:
            present = keys.new_zeros(first, directions, modalities, 1, last_step)
            present[schedule.rank_of, ..., 0, schedule.step_of] = keys_present
            hidden = (1 - present) * ABSENT
        found = keys.new_zeros(networks, count - first, modalities, units)
        # Zeros, since the first step, which has no history, has neither shares nor a context, not even the bias of the
        # join.
        shares = keys.new_zeros(networks, count - first, modalities)
        contexts = found[:, :, 0] if join is None else keys.new_zeros(networks, count - first, units)
        attention: list[Tensor] = []
        # The party state's terms of the gates of its own cell and of the global one are a single product.
        from_party = torch.cat([state_party, party_global], dim=-1)
        with_party = torch.cat([state_bias_party.expand(-1, count - first, -1), input_global], dim=-1)

        before = 0
        for step, (start, size) in enumerate(schedule.spans()):
            rows, here, earlier = (
                slice(start, start + size),
                slice(first + start, first + start + size),
                slice(before, before + size),
            )
            before = first + start
            party = parties.view(-1, units).index_select(0, last[:, rows].flatten()).view(networks, size, units)

            of_party = torch.baddbmm(with_party[:, rows], party, from_party)
            of_party_state, of_input = of_party.chunk(2, dim=-1)
            of_state = torch.baddbmm(state_bias_global, globals_[:, earlier], state_global)
            globals_[:, here] = _dropped(cells[0].forward(of_input, of_state, globals_[:, earlier]), dropout, 0, rows)

            if step:
                known = keys[:size, ..., :step, :].flatten(0, 2)
                asked = queries[rows].flatten(0, 2)
                if present is None or hidden is None:
                    weights = torch.bmm(asked, known.mT).softmax(dim=-1)
                else:
                    weights = torch.baddbmm(hidden[:size, ..., :step].flatten(0, 2), asked, known.mT).softmax(dim=-1)
                    weights = weights.mul_(present[:size, ..., :step].flatten(0, 2))
                attention.append(weights)
                found[:, rows] = _by_network(
                    torch.bmm(weights, known).view(size, directions, modalities, modalities, units)
                )
            key = torch.add(_by_row(globals_[:, here], directions), codes[step], out=keys[:size, ..., step, :])
            if dropout is not None and dropout[1] is not None:
                key.mul_(dropout[1][rows])

            if join is not None and step:
                shares[:, rows] = (
                    torch.bmm(found[:, rows].flatten(1, 2), gate[..., None])
                    .view(networks, size, modalities)
                    .softmax(dim=gate_over)
                )
                joined = torch.addcmul(found[:, rows], found[:, rows], shares[:, rows, :, None]).flatten(2)
                contexts[:, rows] = torch.baddbmm(join_bias, joined, join)

            of_input = torch.baddbmm(input_party[:, rows], contexts[:, rows], context_party)
            parties[:, here] = _dropped(cells[1].forward(of_input, of_party_state, party), dropout, 2, rows)

        input_emotion, before = torch.baddbmm(input_bias_emotion, parties[:, first:], party_emotion), 0
        for start, size in schedule.spans():
            rows, here, earlier = (
                slice(start, start + size),
                slice(first + start, first + start + size),
                slice(before, before + size),
            )
            before = first + start
            of_state = torch.baddbmm(state_bias_emotion, emotions[:, earlier], state_emotion)
            emotions[:, here] = _dropped(
                cells[2].forward(input_emotion[:, rows], of_state, emotions[:, earlier]), dropout, 3, rows
            )

        ctx.schedule, ctx.gate_over, ctx.dropout = schedule, gate_over, dropout
        ctx.kept = (cells, last, globals_, parties, emotions, keys, found, shares, contexts, attention, from_party)
        ctx.save_for_backward(*tensors)
        return emotions[:, first:].clone(), contexts.clone()

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, of_emotions: Tensor, of_contexts: Tensor) -> tuple[Tensor | None, ...]:
        (_, state_global, _, gate, join, _, context_party, _, _) = ctx.saved_tensors[:9]
        (party_emotion, _, state_emotion, _, _, _, queries) = ctx.saved_tensors[9:]
        (cells, last, globals_, parties, emotions, keys, found, shares, contexts, attention, from_party) = ctx.kept
        schedule, dropout = ctx.schedule, ctx.dropout
        networks, count, modalities, units = found.shape
        directions, first = queries.shape[1], schedule.sizes[0]

        d_globals, d_parties, d_emotions, d_keys = (
            torch.zeros_like(value) for value in (globals_, parties, emotions, keys)
        )
        d_emotions[:, first:] = of_emotions
        d_contexts = of_contexts.clone()
        d_queries, d_scores = torch.zeros_like(queries), torch.zeros_like(shares)
        # The party's gates precede the global ones, so that the terms of the party state in both are contiguous.
        both = found.new_empty(networks, count, 8 * units)
        by_party = both[..., units : 7 * units]
        gates = [both[..., 4 * units :], both[..., : 4 * units], found.new_empty(networks, count, 4 * cells[2].units)]
        by_input = [value[..., : 3 * cell.units] for value, cell in zip(gates, cells, strict=True)]
        by_state = [value[..., cell.units :] for value, cell in zip(gates, cells, strict=True)]

        spans = schedule.spans()
        for step, (start, size) in reversed(list(enumerate(spans))):
            before = first + spans[step - 1][0] if step else 0
            rows, here, earlier = (
                slice(start, start + size),
                slice(first + start, first + start + size),
                slice(before, before + size),
            )
            direct = cells[2].backward(step, _dropped(d_emotions[:, here], dropout, 3, rows), gates[2][:, rows])
            d_emotions[:, earlier].add_(direct).baddbmm_(by_state[2][:, rows], state_emotion.mT)

        d_parties[:, first:] = by_input[2] @ party_emotion.mT
        for step, (start, size) in reversed(list(enumerate(spans))):
            before = first + spans[step - 1][0] if step else 0
            rows, here, earlier = (
                slice(start, start + size),
                slice(first + start, first + start + size),
                slice(before, before + size),
            )

            d_party = cells[1].backward(step, _dropped(d_parties[:, here], dropout, 2, rows), gates[1][:, rows])

            d_context = d_contexts[:, rows].baddbmm_(by_input[1][:, rows], context_party.mT)
            d_found = d_context[:, :, None]
            if join is not None and step:
                d_joined = torch.bmm(d_context, join.mT).view(networks, size, modalities, units)
                share = shares[:, rows]
                d_share = (d_joined * found[:, rows]).sum(dim=-1)
                d_score = torch.ops.aten._softmax_backward_data(d_share, share, ctx.gate_over, share.dtype)
                d_scores[:, rows] = d_score
                d_found = torch.addcmul(d_joined, d_joined, share[..., None]).addcmul_(
                    d_score[..., None], gate[:, None, None, :]
                )

            if step:
                known, weights = keys[:size, ..., :step, :].flatten(0, 2), attention[step - 1]
                d_found_rows = _by_row_and_history(d_found, directions).flatten(0, 2)
                d_attention = torch.ops.aten._softmax_backward_data(
                    torch.bmm(d_found_rows, known.mT), weights, -1, weights.dtype
                )
                d_queries[rows] = torch.bmm(d_attention, known).view(size, directions, modalities, modalities, units)
                by_weight, by_query = (
                    torch.cat([weights, d_attention], dim=1),
                    torch.cat([d_found_rows, queries[rows].flatten(0, 2)], dim=1),
                )
                d_keys[:size, ..., :step, :].flatten(0, 2).baddbmm_(by_weight.mT, by_query)

            d_key = d_keys[:size, ..., step, :]
            if dropout is not None and dropout[1] is not None:
                d_key = d_key * dropout[1][rows]
            d_state = d_globals[:, here] + d_key.permute(1, 2, 0, 3).flatten(0, 1)
            direct = cells[0].backward(step, _dropped(d_state, dropout, 0, rows), gates[0][:, rows])
            d_globals[:, earlier].add_(direct).baddbmm_(by_state[0][:, rows], state_global.mT)
            d_party.baddbmm_(by_party[:, rows], from_party.mT)
            d_parties.view(-1, units).index_add_(0, last[:, rows].flatten(), d_party.flatten(0, 1))

        party_before = parties.view(-1, units).index_select(0, last.flatten()).view(networks, count, units)
        of_state_party, of_party_global = (party_before.mT @ by_party).chunk(2, dim=-1)
        of_join: tuple[Tensor | None, ...] = (None, None, None)
        if join is not None:
            joined, d_joined = torch.addcmul(found, found, shares[..., None]).flatten(2), d_contexts[:, first:]
            of_join = (
                (d_scores.flatten(1)[:, None] @ found.flatten(1, 2))[:, 0],
                joined[:, first:].mT @ d_joined,
                d_joined.sum(dim=1, keepdim=True),
            )
        return (
            *(None, None, None, None, None),
            of_party_global,
            globals_[:, schedule.before].mT @ by_state[0],
            by_state[0].sum(dim=1, keepdim=True),
            *of_join,
            contexts.mT @ by_input[1],
            of_state_party,
            by_state[1].sum(dim=1, keepdim=True),
            parties[:, first:].mT @ by_input[2],
            by_input[2].sum(dim=1, keepdim=True),
            emotions[:, schedule.before].mT @ by_state[2],
            by_state[2].sum(dim=1, keepdim=True),
            by_input[0],
            by_input[1],
            d_queries,
        )


def _dropped(values: Tensor, dropout: tuple[Any, ...] | None, which: int, rows: slice) -> Tensor:
    dropped: Tensor = values if dropout is None else values * dropout[which][:, rows]
    return dropped


def _flat(last_RN: Tensor, networks: int, rows: int) -> Tensor:
    """[K, N] for states flattened to [K · rows, S]."""
    per_network = last_RN.repeat_interleave(networks // len(last_RN), dim=0)
    return per_network + torch.arange(networks, device=last_RN.device)[:, None] * rows


def _by_row(values_KNS: Tensor, directions: int) -> Tensor:
    """[N, R, M, S]."""
    return values_KNS.reshape(directions, -1, *values_KNS.shape[1:]).permute(2, 0, 1, 3)


def _by_network(found_NRHMS: Tensor) -> Tensor:
    """From [N, R, M of the history, M, S] to [K, N, M of the history, S]."""
    return found_NRHMS.permute(1, 3, 0, 2, 4).flatten(0, 1)


def _by_row_and_history(found_KNHS: Tensor, directions: int) -> Tensor:
    """The inverse of :func:`_by_network`."""
    return found_KNHS.reshape(directions, -1, *found_KNHS.shape[1:]).permute(2, 0, 3, 1, 4)
