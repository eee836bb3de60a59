"""GraphCFC: a chain of graphs in which two kinds of nodes complement each other: first two modalities, then their
result and the next one.

Legend: B dialogues, T utterances, N real utterances of the batch, D features of a modality, H hidden units, h heads, F
= h · H, K kinds of nodes in a graph, P pairs of utterances that hear each other, E edges, R relations, C classes.

    audio  ─ Linear ─ tanh ──────────┐            ┌─ extractor of the modality ─► unimodal_BTH ─ Linear ─► unimodal_logits_BTC
    visual ─ Linear ─ tanh ──────────┼─ + speaker ┤
    text   ─ Linear ─ LSTM ─ Linear ─┘            └─ extractor that all have in common ─ all side by side ─ Linear ─► shared
        absent: learned                              (extractor: Linear, GELU, Linear, layer norm)

    audio ──┐
            ├─ graph ─ Linear ─┐                                       In a graph an utterance has two nodes, here audio and visual:
    visual ─┘                  ├─ graph ─ Linear ─┐
    text ──────────────────────┘                  ├─ graph ─ Linear       audio    u1 ◄──► u2 ◄──► u3
    shared ───────────────────────────────────────┘            │                   ▲       ▲       ▲
                                                               │                   ▼       ▼       ▼
                           logits_BTC ◄─ Linear ─ hidden_BTH ◄─┘          visual   u1 ◄──► u2 ◄──► u3

A node hears itself, the nodes of its kind at most ``window`` utterances away, and the other node of its utterance;
no other node hears an absent one. The relation of two nodes of one kind is the unordered pair of their speakers; the
two nodes of an utterance have a separate relation.

A layer (GAT-MLP), for the node i and those it hears, j, in h heads of H units each, r the vector of the relation:
    s_ij = w · LeakyReLU(W_heard x_j + W_hearing x_i + W_relation r_ij)        (GATv2: Brody, Alon and Yahav, ICLR 2022)
    m_i = mean over heads of Σ_j softmax_j(s_ij) W_heard x_j
    y_i = LayerNorm(x_i + m_i),  or with ``aggregation: bigru``  y_i = LayerNorm(x_i + GRU(input x_i, state m_i) + GRU'(input m_i, state x_i))
    x_i ← LayerNorm(y_i + W₂ GELU(W₁ y_i))

Source: Li, Wang, Lv and Zeng, GraphCFC, IEEE TMM 2023 (arXiv 2207.12261), and its code (lijfrank-open/GraphCFC at
4f18cbe), from which the equations are adopted. Unlike in that code:
- every layer has its own weights; there all layers of a graph are one module, run several times;
- ``aggregation: bigru`` does what its name says; there a condition that is always true switches it off, so ``none`` is
  what the published code computes;
- an edge of an utterance to itself has the relation of two utterances of its speaker, as the published graph is built;
  the attention there then replaces it by the mean of the vectors of the utterance's other edges;
- the weights of the losses, meant to be learned, are recreated for every batch there and stay equal; here there is
  ``unimodal_weight`` of the cross-entropy, 3 in the recipes;
- the shared vector has no classifier, whose loss would be the fifth; it is trained through the last graph.

The scores s are not a matrix product, because of the LeakyReLU. They are computed for the existing pairs, both
directions of a pair at once, and put into a matrix per dialogue for everything that follows.
"""  # noqa: E501

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from merc.compute.masked import masked_mean
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.models.engine.common import SPEAKER_SLOTS, Dropout, Projection, padded, real_rows
from merc.training.models.engine.sequences import Sequences, counted

CHAIN = ("audio", "visual", "text")
TEXT_LAYERS = 2
NEGATIVE_SLOPE = 0.2
# Number of values computed at a time: on a CPU, as many as fit into its caches.
CPU_NUMBERS, GPU_NUMBERS = 2**18, 2**26
SPEAKER_RELATIONS = SPEAKER_SLOTS * (SPEAKER_SLOTS + 1) // 2


class GraphCFC(MERCModel):
    """``unimodal`` are the vectors of the modalities' own extractors. With two modalities there is one graph less; with
    one modality there is a single graph with one node per utterance, and no shared vector.
    """

    class Config(Settings):
        """Settings of GraphCFC."""

        hidden_units: int = Field(default=200, ge=1)
        """H, width of a node and of each head of the attention."""
        heads: int = Field(default=4, ge=1)
        """h, heads of a graph's attention."""
        layers: int = Field(default=5, ge=1, le=256)
        """Layers of each of the graphs, three for three modalities."""
        window: int = Field(default=18, ge=1)
        """Number of preceding utterances, and of following ones, that an utterance hears."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate within and after the extractors and feed-forward layers, and between the layers of the text's
        LSTM.
        """
        text_context: Literal["lstm", "none"] = "lstm"
        """What text passes before its extractor: ``lstm``, in both directions, as in the published code; ``none``, as
        audio and visual have it.
        """
        aggregation: Literal["none", "bigru"] = "none"
        """What becomes of m in a layer: ``none``, added, as the published code computes; ``bigru``, first into two GRU
        cells, as it advertises.
        """

    causal = False

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        units = config.hidden_units
        self.window = config.window
        self.gives = Gives(hidden=units, unimodal=dict.fromkeys(dims, units))
        self.text_context = (
            _TextContext(units, config.dropout) if "text" in dims and config.text_context == "lstm" else None
        )
        widths = {name: 2 * units if name == "text" and self.text_context is not None else units for name in dims}
        self.projections = nn.ModuleDict({name: Projection(dim, widths[name]) for name, dim in dims.items()})
        self.speaker_vectors = nn.Embedding(SPEAKER_SLOTS, units)
        self.extractors = nn.ModuleDict({name: _Extractor(units, config.dropout) for name in dims})
        self.heads = nn.ModuleDict({name: nn.Linear(units, classes) for name in dims})
        self.chain = tuple(name for name in CHAIN if name in dims)
        several = len(dims) > 1
        self.shared_extractor = _Extractor(units, config.dropout) if several else None
        self.share = nn.Linear(len(dims) * units, units) if several else None
        self.relation_vectors = nn.Embedding(
            SPEAKER_RELATIONS + several, units
        )  # the last one: between the two nodes of an utterance
        self.graphs = nn.ModuleList([_Graph(config) for _ in dims])
        self.fusions = nn.ModuleList([nn.Linear(2 * units, units) for _ in dims] if several else [])
        self.classifier = nn.Linear(units, classes)

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        present = {name: real_rows(batch.modality_mask[name], batch) for name in self.chain}
        inputs = self._inputs(present, batch)
        own = {name: self.extractors[name](input_NH) for name, input_NH in inputs.items()}
        hidden_NH = self._fused(inputs, own, present, build_edges(batch, self.window))
        unimodal = {name: padded(own[name], batch) for name in self.modalities}
        return MERCOutput(
            logits=padded(self.classifier(hidden_NH), batch),
            hidden=padded(hidden_NH, batch),
            unimodal=unimodal,
            unimodal_logits={name: padded(self.heads[name](own[name]), batch) for name in self.modalities},
            pooled={
                name: masked_mean(unimodal_BTH, batch.modality_mask[name]) for name, unimodal_BTH in unimodal.items()
            },
        )

    def _inputs(self, present: dict[str, Tensor], batch: DialogueBatch) -> dict[str, Tensor]:
        """For each modality [N, H], with the vector of the speaker."""
        inputs = {}
        speakers_NH = self.speaker_vectors(real_rows(batch.speakers, batch) % SPEAKER_SLOTS)
        for name in self.chain:
            rows_NX = self.projections[name](real_rows(batch.features[name], batch), present[name])
            rows_NH = (
                self.text_context(rows_NX, batch)
                if name == "text" and self.text_context is not None
                else rows_NX.tanh()
            )
            inputs[name] = rows_NH + speakers_NH
        return inputs

    def _fused(
        self, inputs: dict[str, Tensor], own: dict[str, Tensor], present: dict[str, Tensor], edges: "Edges"
    ) -> Tensor:
        """The chain of graphs, [N, H]."""
        first, *others = self.chain
        relations_RH, fused_NH, fused_present_N = self.relation_vectors.weight, own[first], present[first]
        if self.shared_extractor is None or self.share is None:
            only_NH: Tensor = self.graphs[0](fused_NH[:, None], fused_present_N[:, None], relations_RH, edges)[:, 0]
            return only_NH
        known_N = torch.stack(list(present.values())).any(dim=0)
        shared_NH = self.share(torch.cat([self.shared_extractor(inputs[name]) for name in self.chain], dim=-1))
        joining = [(own[name], present[name]) for name in others] + [(shared_NH, known_N)]
        for graph, fuse, (joining_NH, joining_present_N) in zip(self.graphs, self.fusions, joining, strict=True):
            present_NK = torch.stack([fused_present_N, joining_present_N], dim=1)
            fused_NH = fuse(
                graph(torch.stack([fused_NH, joining_NH], dim=1), present_NK, relations_RH, edges).flatten(1)
            )
            fused_present_N = present_NK.any(dim=1)
        return fused_NH


class _TextContext(nn.Module):
    """Two layers of LSTM in both directions over the dialogue, and a linear map; [N, 2H] to [N, H]."""

    def __init__(self, units: int, dropout: float) -> None:
        super().__init__()
        self.recurrence = nn.LSTM(2 * units, units, num_layers=TEXT_LAYERS, bidirectional=True, dropout=dropout)
        self.leave = nn.Linear(2 * units, units)

    def forward(self, rows_NX: Tensor, batch: DialogueBatch) -> Tensor:
        dialogues = Sequences.of(
            torch.arange(len(batch.lengths_cpu)).repeat_interleave(batch.lengths_cpu), rows_NX.device
        )
        rows_NH: Tensor = self.leave(dialogues.run(self.recurrence, rows_NX[:, None])[:, 0])
        return rows_NH


class _Extractor(nn.Sequential):
    """The published DenseLayer; [N, H] to [N, H]."""

    def __init__(self, units: int, dropout: float) -> None:
        super().__init__(*_feedforward(units, dropout), nn.LayerNorm(units))


def _feedforward(units: int, dropout: float) -> list[nn.Module]:
    return [nn.Linear(units, 2 * units), nn.GELU(), Dropout(dropout), nn.Linear(2 * units, units), Dropout(dropout)]


@dataclass(frozen=True)
class Edges:
    """The edges of a batch, which are the same in each graph and for each kind of nodes.

    Attributes:
        first: long [P], rows of the earlier utterances of the pairs.
        second: long [P], rows of the later ones.
        between: long [P], relation of the pairs' speakers.
        within: long [N], relation of two utterances of the same speaker.
        places: long [E] in a flattened [B, T, T + 1], in which the hearing utterance is the row and the heard one the
            column: second hears first, first hears second, each hears itself, and each hears its other node, which is
            the last column; E = 2 P + 2 N.
        batch: the dialogues.
    """

    first: Tensor
    second: Tensor
    between: Tensor
    within: Tensor
    places: Tensor
    batch: DialogueBatch

    def audible(self, present_NK: Tensor) -> Tensor:
        """bool [E, K]: whether the heard node is present, or is the hearing node itself. If K is 1, there are no edges
        to another node of the utterance.
        """
        of_first_PK, of_second_PK = (present_NK.index_select(0, rows_P) for rows_P in (self.first, self.second))
        parts = [of_first_PK, of_second_PK, torch.ones_like(present_NK)]
        return torch.cat(parts if present_NK.shape[1] == 1 else [*parts, present_NK.flip(1)])


def build_edges(batch: DialogueBatch, window: int) -> Edges:
    """Lays out a batch; the pairs are computed on the host, where the lengths are known, so that nothing waits for a
    GPU.
    """
    lengths_B, steps, device = batch.lengths_cpu, batch.utterance_mask.shape[1], batch.speakers.device
    step_N = counted(lengths_B)
    row_N = torch.arange(len(step_N))
    later_N = (lengths_B.repeat_interleave(lengths_B) - 1 - step_N).clamp(max=window)
    first_P = row_N.repeat_interleave(later_N)
    second_P = first_P + 1 + counted(later_N)
    line_N = torch.arange(len(lengths_B)).repeat_interleave(lengths_B) * steps + step_N  # rows of the stacked matrices

    def place(hearing: Tensor, column: Tensor) -> Tensor:
        return line_N[hearing] * (steps + 1) + column

    places_E = torch.cat(
        [
            place(second_P, step_N[first_P]),
            place(first_P, step_N[second_P]),
            place(row_N, step_N),
            place(row_N, torch.tensor(steps)),
        ],
    )
    first_P, second_P, places_E = (index.to(device, non_blocking=True) for index in (first_P, second_P, places_E))
    slots_N = real_rows(batch.speakers, batch) % SPEAKER_SLOTS
    return Edges(
        first=first_P,
        second=second_P,
        between=_relation(slots_N.index_select(0, first_P), slots_N.index_select(0, second_P)),
        within=_relation(slots_N, slots_N),
        places=places_E,
        batch=batch,
    )


def _relation(one: Tensor, other: Tensor) -> Tensor:
    """The number of an unordered pair of slots: 0 0 is 0, 0 1 is 1, 1 1 is 2, 0 2 is 3, and so on."""
    larger = torch.maximum(one, other)
    return larger * (larger + 1) // 2 + torch.minimum(one, other)


class _Graph(nn.Module):
    """Layers of GAT-MLP over the nodes of a graph, [N, K, H] to [N, K, H]."""

    def __init__(self, config: GraphCFC.Config) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_Layer(config) for _ in range(config.layers)])

    def forward(self, nodes_NKH: Tensor, present_NK: Tensor, relations_RH: Tensor, edges: Edges) -> Tensor:
        audible_EK = edges.audible(present_NK)
        for layer in self.layers:
            nodes_NKH = layer(nodes_NKH, audible_EK, relations_RH, edges)
        return nodes_NKH


class _Layer(nn.Module):
    def __init__(self, config: GraphCFC.Config) -> None:
        super().__init__()
        units = config.hidden_units
        self.attention = _Attention(units, config.heads)
        grus = 2 if config.aggregation == "bigru" else 0
        self.grus = nn.ModuleList([nn.GRUCell(units, units) for _ in range(grus)])
        self.attention_norm = nn.LayerNorm(units)
        self.feedforward = nn.Sequential(*_feedforward(units, config.dropout))
        self.norm = nn.LayerNorm(units)

    def forward(self, nodes_NKH: Tensor, audible_EK: Tensor, relations_RH: Tensor, edges: Edges) -> Tensor:
        heard_NKH = self.attention(nodes_NKH, audible_EK, relations_RH, edges)
        if self.grus:
            by_state, by_input = self.grus
            nodes_XH, heard_XH = nodes_NKH.flatten(0, 1), heard_NKH.flatten(0, 1).to(nodes_NKH.dtype)
            heard_NKH = (by_state(nodes_XH, heard_XH) + by_input(heard_XH, nodes_XH)).view_as(nodes_NKH)
        between_NKH = self.attention_norm(nodes_NKH + heard_NKH)
        output_NKH: Tensor = self.norm(between_NKH + self.feedforward(between_NKH))
        return output_NKH


class _Attention(nn.Module):
    """m of the equations at the head of this file. The published bias of m is that of W_heard, since the weights of an
    attention sum to 1.
    """

    def __init__(self, units: int, heads: int) -> None:
        super().__init__()
        self.head_count = heads
        self.heard_hearing = nn.Linear(units, 2 * heads * units)
        self.relation = nn.Linear(units, heads * units, bias=False)
        self.score_hH = nn.Parameter(nn.init.xavier_uniform_(torch.empty(heads, units)))

    def forward(self, nodes_NKH: Tensor, audible_EK: Tensor, relations_RH: Tensor, edges: Edges) -> Tensor:
        both_NK2F = self.heard_hearing(nodes_NKH).unflatten(-1, (2, -1))
        heard_NKF = both_NK2F[:, :, 0]
        kinds, (dialogues, steps) = nodes_NKH.shape[1], edges.batch.utterance_mask.shape
        scores_EKh = self._scores(both_NK2F, self.relation(relations_RH), edges)
        lowest = torch.finfo(scores_EKh.dtype).min
        scores_EKh = scores_EKh.masked_fill(~audible_EK[..., None], lowest)
        # Not -inf: rows of padding have no edge, and are discarded after the softmax.
        cells = dialogues * steps * (steps + 1)
        matrix = scores_EKh.new_full((cells, kinds, self.head_count), lowest).index_copy(
            0, edges.places[: len(scores_EKh)], scores_EKh
        )
        weights_BTTKh = matrix.view(dialogues, steps, steps + 1, kinds, self.head_count).softmax(dim=2)
        within_BKThT = weights_BTTKh[:, :, :steps].permute(0, 3, 1, 4, 2)
        heard_BTKhH = padded(heard_NKF.flatten(1), edges.batch).view(dialogues, steps, kinds, self.head_count, -1)
        told_BKTH = within_BKThT.flatten(3) @ heard_BTKhH.permute(0, 2, 3, 1, 4).flatten(2, 3)
        told_NKH = real_rows(told_BKTH.transpose(1, 2), edges.batch)
        if kinds == 2:
            across_NKh = real_rows(weights_BTTKh[:, :, steps], edges.batch)
            other_NKhH = heard_NKF.flip(1).view(*across_NKh.shape, -1)
            told_NKH = told_NKH + (across_NKh[..., None, :] @ other_NKhH).squeeze(-2)
        return told_NKH / self.head_count

    def _scores(self, both_NK2F: Tensor, relations_RF: Tensor, edges: Edges) -> Tensor:
        """s of all edges in the order of :attr:`Edges.places`, [E, K, h]."""
        # Not in bfloat16: the gradient of a relation's vector is a sum over thousands of edges.
        both_NK2F, relations_RF = both_NK2F.to(self.score_hH.dtype), relations_RF.to(self.score_hH.dtype)
        heard_NKF, hearing_NKF = both_NK2F.unbind(2)
        pairs_PK2h: Tensor = _PairScores.apply(
            both_NK2F, relations_RF, self.score_hH, edges.first, edges.second, edges.between
        )  # type: ignore[no-untyped-call]
        alone = [heard_NKF + hearing_NKF + relations_RF.index_select(0, edges.within)[:, None]]
        if heard_NKF.shape[1] == 2:
            alone.append(heard_NKF.flip(1) + hearing_NKF + relations_RF[-1])
        alone_EKh = _scored(functional.leaky_relu(torch.cat(alone), NEGATIVE_SLOPE), self.score_hH)
        return torch.cat([*pairs_PK2h.unbind(2), alone_EKh])


def _scored(values: Tensor, score_hH: Tensor) -> Tensor:
    """The heads' w times their part of the values, [..., F] to [..., h]."""
    scores: Tensor = torch.linalg.vecdot(values.view(*values.shape[:-1], *score_hH.shape), score_hH)
    return scores


class _PairScores(torch.autograd.Function):
    """The scores of pairs of utterances of one kind, second hearing first and first hearing second, [P, K, 2, h].

    LeakyReLU has h · H inputs per edge, which are neither computed all at once nor kept: the pairs are processed in
    chunks, and again for the gradients.
    """

    @staticmethod
    def forward(
        ctx: Any,
        both_NK2F: Tensor,
        relations_RF: Tensor,
        score_hH: Tensor,
        first_P: Tensor,
        second_P: Tensor,
        between_P: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(both_NK2F, relations_RF, score_hH, first_P, second_P, between_P)
        parts = _PairScores._parts(both_NK2F, relations_RF, first_P, second_P, between_P)
        return torch.cat([_scored(activated_pK2F, score_hH) for *_, activated_pK2F in parts])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_PK2h: Tensor) -> tuple[Tensor | None, ...]:
        both_NK2F, relations_RF, score_hH, first_P, second_P, between_P = ctx.saved_tensors
        of_first, of_second, of_relations, of_score = (
            torch.zeros_like(values) for values in (both_NK2F, both_NK2F, relations_RF, score_hH)
        )
        done = 0
        for first_p, second_p, between_p, activated_pK2F in _PairScores._parts(
            both_NK2F, relations_RF, first_P, second_P, between_P
        ):
            gradient_pK2h1 = gradient_PK2h[done : done + len(first_p), ..., None]
            done += len(first_p)
            of_sums_pK2F = torch.ops.aten.leaky_relu_backward(
                (gradient_pK2h1 * score_hH).flatten(-2), activated_pK2F, NEGATIVE_SLOPE, True
            )
            of_score += (activated_pK2F.view(*activated_pK2F.shape[:-1], *score_hH.shape) * gradient_pK2h1).sum(
                dim=(0, 1, 2)
            )
            of_first.index_add_(0, first_p, of_sums_pK2F)
            of_second.index_add_(0, second_p, of_sums_pK2F)
            of_relations.index_add_(0, between_p, of_sums_pK2F.sum(dim=(1, 2)))
        return of_first + of_second.flip(2), of_relations, of_score, None, None, None

    @staticmethod
    def _parts(
        both_NK2F: Tensor, relations_RF: Tensor, *indices: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Chunks of pairs with the outputs of LeakyReLU, [p, K, 2, F]."""
        # Heard and hearing part of the first utterance, hearing and heard part of the second: both directions in one
        # sum.
        turned_NK2F = both_NK2F.flip(2)
        numbers = CPU_NUMBERS if both_NK2F.device.type == "cpu" else GPU_NUMBERS
        for first_p, second_p, between_p in zip(
            *(torch.split(index_P, max(1, numbers // both_NK2F[0].numel())) for index_P in indices), strict=True
        ):
            sums_pK2F = both_NK2F.index_select(0, first_p).add_(turned_NK2F.index_select(0, second_p))
            sums_pK2F.add_(relations_RF.index_select(0, between_p)[:, None, None])
            yield first_p, second_p, between_p, functional.leaky_relu_(sums_pK2F, NEGATIVE_SLOPE)
