"""DAG-ERC's directed acyclic graph, in which an utterance hears those before it back to its speaker's own.

Legend: B dialogues, T utterances, N real utterances of the batch, H units. A layer l proceeds from utterance to
utterance, with N(i) those that utterance i hears:

    1. m_i = Σ_j∈N(i) softmax_j(w h^l_j) W_r h^l_j, r: whether j has the same speaker
    2. h^l_i = GRU(input h^l-1_i, state m_i) + GRU'(input m_i, state h^l-1_i)

Source: Shen et al., Directed Acyclic Graph Network for Conversational Emotion Recognition (DAG-ERC), ACL 2021. There
the score of an edge is linear in both ends; the term of the hearing utterance is the same for all j and cancels, and so
does the bias.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.first_derivative import first_derivative_only


@dataclass(frozen=True)
class Graph:
    """The edges of a batch, with its utterances in the order of the recurrence: those of step 0 of all dialogues,
    longest dialogue first, then those of step 1, and so on. A step has only the dialogues that have not ended.

    Attributes:
        sizes: numbers of rows, one per step.
        positions: [N], place of a row's utterance in a flattened [B · T] tensor.
        unheard: bool [B, steps, steps], longest dialogue first: whether the utterance of a step (row) does not hear
            that of another (column).
        relations: bool [B, steps, 2, steps]: if it does, whether they have the same speaker, or different ones.
        shape: B and T.
    """

    sizes: list[int]
    positions: Tensor
    unheard: Tensor
    relations: Tensor
    shape: tuple[int, int]

    def rows(self, values_BTX: Tensor) -> Tensor:
        """[N, …], in the order of the recurrence."""
        return values_BTX.flatten(0, 1).index_select(0, self.positions)

    def places(self, rows_NX: Tensor) -> Tensor:
        """Rows scattered to the places of their utterances, [B, T, X]; zeros elsewhere."""
        dialogues, steps = self.shape
        return (
            rows_NX.new_zeros(dialogues * steps, rows_NX.shape[1])
            .index_copy(0, self.positions, rows_NX)
            .view(dialogues, steps, -1)
        )


def build_graph(batch: DialogueBatch, own: int = 1) -> Graph:
    """Lays out a batch; the order is computed on the host, where the lengths are known, so that nothing waits for a
    GPU.

    Args:
        batch: the dialogues.
        own: an utterance hears those before it back to this many earlier ones of its own speaker, inclusive; all before
            it, if the speaker has fewer.
    """
    device, (dialogues, steps) = batch.speakers.device, batch.speakers.shape
    lengths, order = batch.lengths_cpu.sort(descending=True, stable=True)
    going_on_TB = torch.arange(int(lengths[0]))[:, None] < lengths
    steps_N, ranks_N = going_on_TB.nonzero(as_tuple=True)
    speakers_BT = batch.speakers.index_select(0, order.to(device, non_blocking=True))[:, : len(going_on_TB)]
    step_T = torch.arange(len(going_on_TB), device=device)
    same_BTT = (speakers_BT[:, :, None] == speakers_BT[:, None, :]).tril(-1)
    # Number of utterances of the same speaker between an utterance (row) and an earlier one (column).
    between_BTT = same_BTT.flip(-1).cumsum(-1).flip(-1) - same_BTT.long()
    return Graph(
        sizes=going_on_TB.sum(dim=1).tolist(),
        positions=(order[ranks_N] * steps + steps_N).to(device, non_blocking=True),
        unheard=(between_BTT >= own) | (step_T >= step_T[:, None]),
        relations=torch.stack([same_BTT, ~same_BTT], dim=2),
        shape=(dialogues, steps),
    )


class DAGLayer(nn.Module):
    """Equations 1 and 2 at the head of this file, step by step. Terms that depend only on the layer below are computed
    for all utterances in advance.

    Args:
        units: H.
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        bound = units**-0.5
        self.score = nn.Parameter(torch.empty(units, 1).uniform_(-bound, bound))
        # For utterances of the same speaker, and of others.
        self.relations = nn.Linear(2 * units, units, bias=False)
        # Terms of the gates of both GRUs: as input of the first and state of the second; then for m, the other way
        # round.
        self.below = nn.Linear(units, 6 * units)
        self.heard = nn.Linear(units, 6 * units)

    def forward(self, below_NH: Tensor, graph: Graph) -> tuple[Tensor, Tensor]:
        """Returns h^l and m, [N, H] each."""
        relations, gates = _StepwiseLinear(self.relations, graph.sizes), _StepwiseLinear(self.heard, graph.sizes)
        states, heard = [], []
        known_RSH, scores_RS = (
            below_NH.new_zeros(graph.sizes[0], 0, below_NH.shape[1]),
            below_NH.new_zeros(graph.sizes[0], 0),
        )
        by_step = zip(
            graph.sizes, torch.split(below_NH, graph.sizes), torch.split(self.below(below_NH), graph.sizes), strict=True
        )
        for step, (size, below_RH, of_below_R6H) in enumerate(by_step):
            known_RSH, scores_RS = known_RSH[:size], scores_RS[:size]
            weights_RS = scores_RS.masked_fill(graph.unheard[:size, step, :step], float("-inf")).softmax(dim=-1)
            by_relation_R2S = weights_RS[:, None] * graph.relations[:size, step, :, :step]
            heard_RH = relations(torch.bmm(by_relation_R2S, known_RSH).flatten(1))
            first_input, second_state = of_below_R6H.chunk(2, dim=-1)
            first_state, second_input = gates(heard_RH).chunk(2, dim=-1)
            state_RH = _gru(first_input, first_state, heard_RH) + _gru(second_input, second_state, below_RH)
            known_RSH = torch.cat([known_RSH, state_RH[:, None]], dim=1)
            scores_RS = torch.cat([scores_RS, state_RH @ self.score], dim=1)
            states.append(state_RH)
            heard.append(heard_RH)
        return torch.cat(states), torch.cat(heard)


def _gru(of_input: Tensor, of_state: Tensor, state: Tensor) -> Tensor:
    """A GRU cell (Cho et al., EMNLP 2014, as in torch) from the terms of input and state in the reset, update and new
    gate, [rows, 3H] each; [rows, H].
    """
    parts = [2 * state.shape[-1], state.shape[-1]]
    (gates_by_input, new_by_input), (gates_by_state, new_by_state) = (
        torch.split(of_input, parts, dim=-1),
        torch.split(of_state, parts, dim=-1),
    )
    reset, update = (gates_by_input + gates_by_state).sigmoid().chunk(2, dim=-1)
    new = torch.addcmul(new_by_input, reset, new_by_state).tanh()
    return new + update * (state - new)


class _StepwiseLinear:
    """A linear map for the steps of a recurrence, in turn, whose weight's gradient is one product over all steps
    instead of a sum of one per step.

    The weight is used without gradient. Its gradient, and that of the bias, come from zeros that are added to the
    results.

    Args:
        linear: the map.
        sizes: numbers of rows, one per step.
    """

    def __init__(self, linear: nn.Linear, sizes: list[int]) -> None:
        self._weight = linear.weight.detach().T
        self._inputs: list[Tensor] = []
        zeros: Tensor = _WeightGradient.apply(linear.weight, self._inputs, sum(sizes))  # type: ignore[no-untyped-call]
        self._added = torch.split(zeros if linear.bias is None else zeros + linear.bias, sizes)

    def __call__(self, input_RX: Tensor) -> Tensor:
        """The results of the next step."""
        added_RY = self._added[len(self._inputs)]
        self._inputs.append(input_RX.detach())
        return torch.addmm(added_RY, input_RX, self._weight)


class _WeightGradient(torch.autograd.Function):
    """Zeros, [rows, Y], whose gradient yields that of a weight [Y, X] with the inputs [rows, X] known by then."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, inputs: list[Tensor], rows: int) -> Tensor:
        ctx.inputs = inputs
        return weight.new_zeros(rows, len(weight))

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient.T @ torch.cat(ctx.inputs).to(gradient.dtype), None, None
