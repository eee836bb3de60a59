"""GraphCFC: a chain of graphs in which two kinds of nodes complement each other: first two modalities, then their
result and the next one.

Legend: B dialogues, T utterances, N real utterances of the batch, D features of a modality, H hidden units, h heads, F
= h · H, K kinds of nodes in a graph, R relations that occur in the batch, C classes; S = T + 1, what a node may hear: the
utterances, and the other node of its own.

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

The scores s are not a matrix product, because of the LeakyReLU. They are computed block by block of the matrix of a
dialogue: of so few utterances that their h · H numbers per edge stay in the caches of a CPU.
"""  # noqa: E501

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from merc.compute.masked import masked_mean
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.models.engine.common import SPEAKER_SLOTS, Dropout, Projection, padded, real_rows
from merc.training.models.engine.first_derivative import first_derivative_only
from merc.training.models.engine.sequences import Sequences

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
        self.kinds, self.attention_units = 1 + several, config.heads * units
        self.graphs = nn.ModuleList([_Graph(config) for _ in dims])
        self.fusions = nn.ModuleList([nn.Linear(2 * units, units) for _ in dims] if several else [])
        self.classifier = nn.Linear(units, classes)

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        present = {name: real_rows(batch.modality_mask[name], batch) for name in self.chain}
        inputs = self._inputs(present, batch)
        own = {name: self.extractors[name](input_NH) for name, input_NH in inputs.items()}
        edges = build_edges(batch, self.window, self.kinds, self.attention_units)
        hidden_NH = self._fused(inputs, own, present, edges)
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
        fused_NH, fused_present_N = own[first], present[first]
        relations_RH = self.relation_vectors(edges.relations)
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
        states_NX = Sequences.of_dialogues(batch).run(self.recurrence, rows_NX[:, None])[:, 0]
        rows_NH: Tensor = self.leave(states_NX)
        return rows_NH


class _Extractor(nn.Sequential):
    """The published DenseLayer; [N, H] to [N, H]."""

    def __init__(self, units: int, dropout: float) -> None:
        super().__init__(*_feedforward(units, dropout), nn.LayerNorm(units))


def _feedforward(units: int, dropout: float) -> list[nn.Module]:
    return [nn.Linear(units, 2 * units), nn.GELU(), Dropout(dropout), nn.Linear(2 * units, units), Dropout(dropout)]


@dataclass(frozen=True)
class Block:
    """Some rows and columns of the matrices of a batch.

    Attributes:
        hearing: the rows, as places in the second axis of nodes [b, t, …], see :meth:`Edges.axes`.
        heard: the columns, in the same way.
        place: where the block is in [B, T, T].
        between: long [cells], place in :attr:`Edges.relations` of each cell's relation.
    """

    hearing: slice
    heard: slice
    place: tuple[slice, slice, slice]
    between: Tensor


@dataclass(frozen=True)
class Edges:
    """The edges of a batch, which are the same in each graph and for each kind of nodes.

    Attributes:
        near: bool [B, T, T], whether an utterance (a row) hears another one or itself (a column).
        relations: long [R], those of pairs of speakers in the batch and, if there are two kinds of nodes, last that of
            the nodes of an utterance.
        blocks: contain all edges; no two overlap.
        batch: the dialogues.
    """

    near: Tensor
    relations: Tensor
    blocks: tuple[Block, ...]
    batch: DialogueBatch

    def audible(self, present_NK: Tensor) -> Tensor:
        """bool [B, T, S, K]: whether a node hears another one, which is present, or itself."""
        present_BTK = padded(present_NK, self.batch)
        itself_TT1 = torch.eye(present_BTK.shape[1], dtype=torch.bool, device=present_BTK.device)[..., None]
        of_its_kind_BTTK = self.near[..., None] & (present_BTK[:, None] | itself_TT1)
        others_BTK = present_BTK.flip(2) if present_BTK.shape[2] == 2 else torch.zeros_like(present_BTK)
        return torch.cat([of_its_kind_BTTK, others_BTK[:, :, None]], dim=2)

    def axes(self, values_NX: Tensor) -> Tensor:
        """Rows as the blocks need them, [b, t, X]: on a CPU [1, N, X], without padding, on a GPU [B, T, X]."""
        if values_NX.device.type == "cpu":
            return values_NX[None]
        padded_btX = padded(values_NX.flatten(1), self.batch)
        return padded_btX.view(*padded_btX.shape[:2], *values_NX.shape[1:])

    def rows(self, values_btX: Tensor) -> Tensor:
        """The inverse of :meth:`axes`, [N, X]."""
        return values_btX[0] if values_btX.device.type == "cpu" else real_rows(values_btX, self.batch)


def build_edges(batch: DialogueBatch, window: int, kinds: int, units: int) -> Edges:
    """Lays out a batch on the host, where the lengths and speakers are known, so that nothing waits for a GPU.

    Args:
        batch: the dialogues.
        window: maximum distance of two utterances that hear each other.
        kinds: K.
        units: F.
    """
    lengths_B, device = batch.lengths_cpu, batch.speakers.device
    slots_BT, step_T = batch.speakers_cpu % SPEAKER_SLOTS, torch.arange(batch.utterance_mask.shape[1])
    real_BT = step_T < lengths_B[:, None]
    near_BTT = real_BT[:, :, None] & real_BT[:, None] & ((step_T[:, None] - step_T).abs() <= window)
    relations_R, between_BTT = torch.unique(_relation(slots_BT[:, :, None], slots_BT[:, None]), return_inverse=True)
    if kinds == 2:
        relations_R = torch.cat([relations_R, torch.tensor([SPEAKER_RELATIONS])])
    blocks = tuple(
        Block(hearing, heard, place, between_BTT[place].flatten().to(device, non_blocking=True))
        for hearing, heard, place in _blocks(lengths_B, window, kinds * units, device)
    )
    return Edges(near_BTT.to(device, non_blocking=True), relations_R.to(device, non_blocking=True), blocks, batch)


def _blocks(
    lengths_B: Tensor, window: int, cell_numbers: int, device: torch.device
) -> Iterator[tuple[slice, slice, tuple[slice, slice, slice]]]:
    """``hearing``, ``heard`` and ``place`` of blocks: on a CPU each is of one dialogue, on a GPU, which prefers few
    large operations, of all.
    """
    lengths = lengths_B.tolist()
    if device.type == "cpu":
        starts = (lengths_B.cumsum(0) - lengths_B).tolist()
        parts = [(slice(index, index + 1), *one) for index, one in enumerate(zip(starts, lengths, strict=True))]
        cells = CPU_NUMBERS // cell_numbers
    else:
        parts = [(slice(None), 0, max(lengths))]
        cells = GPU_NUMBERS // (len(lengths) * cell_numbers)
    for dialogues, start, length in parts:
        rows = max(1, cells // min(length, 3 * window))
        for first in range(0, length, rows):
            last = min(first + rows, length)
            lowest, highest = max(0, first - window), min(length, last + window)
            yield (
                slice(start + first, start + last),
                slice(start + lowest, start + highest),
                (dialogues, slice(first, last), slice(lowest, highest)),
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
        audible_BTSK = edges.audible(present_NK)
        for layer in self.layers:
            nodes_NKH = layer(nodes_NKH, audible_BTSK, relations_RH, edges)
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

    def forward(self, nodes_NKH: Tensor, audible_BTSK: Tensor, relations_RH: Tensor, edges: Edges) -> Tensor:
        heard_NKH = self.attention(nodes_NKH, audible_BTSK, relations_RH, edges)
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

    def forward(self, nodes_NKH: Tensor, audible_BTSK: Tensor, relations_RH: Tensor, edges: Edges) -> Tensor:
        kinds, heads, (dialogues, steps) = nodes_NKH.shape[1], self.head_count, edges.batch.utterance_mask.shape
        heard_NKF, hearing_NKF = self.heard_hearing(nodes_NKH).chunk(2, dim=-1)
        # Not in bfloat16: the gradient of a relation's vector is a sum over thousands of edges.
        parts = (values.to(self.score_hH.dtype) for values in (heard_NKF, hearing_NKF, self.relation(relations_RH)))
        within_BTTKh, across_NKh = _Scores.apply(*parts, self.score_hH, edges)  # type: ignore[no-untyped-call]
        across_BT1Kh = padded(across_NKh.flatten(1), edges.batch).view(dialogues, steps, 1, kinds, heads)
        scores_BTSKh = torch.cat([within_BTTKh, across_BT1Kh], dim=2)
        # Not -inf: rows of padding have no edge, and are discarded after the softmax.
        lowest = torch.finfo(scores_BTSKh.dtype).min
        weights_BTSKh = scores_BTSKh.masked_fill(~audible_BTSK[..., None], lowest).softmax(dim=2) / heads
        weights_BKThT = weights_BTSKh[:, :, :steps].permute(0, 3, 1, 4, 2)
        heard_BTKhH = padded(heard_NKF.flatten(1), edges.batch).view(dialogues, steps, kinds, heads, -1)
        told_BKTH = weights_BKThT.flatten(3) @ heard_BTKhH.permute(0, 2, 3, 1, 4).flatten(2, 3)
        told_NKH = real_rows(told_BKTH.transpose(1, 2), edges.batch)
        if kinds == 2:
            weights_NKh1 = real_rows(weights_BTSKh[:, :, steps], edges.batch)[..., None]
            told_NKH = told_NKH + (weights_NKh1 * _exchanged(heard_NKF).view(*nodes_NKH.shape[:2], heads, -1)).sum(
                dim=2
            )
        return told_NKH


def _exchanged(nodes_XKF: Tensor) -> Tensor:
    """The other node of each utterance; several times as fast as torch's flip."""
    return torch.stack(nodes_XKF.unbind(-2)[::-1], dim=-2)


class _Scores(torch.autograd.Function):
    """s of the nodes of one kind, [B, T, T, K, h], zeros outside of the blocks, and of the two of an utterance,
    [N, K, h], zeros if there is one kind.

    LeakyReLU has h · H inputs per edge, which are neither computed all at once nor kept: they are computed block by
    block, and again for the gradients.
    """

    @staticmethod
    def forward(
        ctx: Any, heard_NKF: Tensor, hearing_NKF: Tensor, relations_RF: Tensor, score_hH: Tensor, edges: Edges
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(heard_NKF, hearing_NKF, relations_RF, score_hH)
        ctx.edges = edges
        rows, kinds, _ = heard_NKF.shape
        within_BTTKh = heard_NKF.new_zeros(*edges.near.shape, kinds, len(score_hH))
        for block, activated_btsKF in _Scores._within(heard_NKF, hearing_NKF, relations_RF, edges):
            within_BTTKh[block.place] = _scored(activated_btsKF, score_hH)
        if kinds == 1:
            return within_BTTKh, heard_NKF.new_zeros(rows, kinds, len(score_hH))
        return within_BTTKh, _scored(_Scores._across(heard_NKF, hearing_NKF, relations_RF), score_hH)

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, gradient_BTTKh: Tensor, gradient_NKh: Tensor) -> tuple[Tensor | None, ...]:
        heard_NKF, hearing_NKF, relations_RF, score_hH = ctx.saved_tensors
        inputs, edges = (heard_NKF, hearing_NKF, relations_RF), ctx.edges
        # The gradients of the three summands, at first without the factor w.
        of_heard, of_hearing = (torch.zeros_like(edges.axes(values_NKF)) for values_NKF in inputs[:2])
        of_relations_RKF = relations_RF.new_zeros(len(relations_RF), *heard_NKF.shape[1:])
        for block, activated_btsKF in _Scores._within(*inputs, edges):
            of_sums_btsKF = _of_sums(gradient_BTTKh[block.place], activated_btsKF)
            of_hearing[:, block.hearing].add_(of_sums_btsKF.sum(dim=2))
            of_heard[:, block.heard].add_(of_sums_btsKF.sum(dim=1))
            of_relations_RKF.index_add_(0, block.between, of_sums_btsKF.flatten(0, 2))
        of_heard_NKF, of_hearing_NKF = edges.rows(of_heard), edges.rows(of_hearing)
        if heard_NKF.shape[1] == 2:
            of_sums_NKF = _of_sums(gradient_NKh, _Scores._across(*inputs))
            of_hearing_NKF += of_sums_NKF
            of_heard_NKF += _exchanged(of_sums_NKF)
            of_relations_RKF[-1].add_(of_sums_NKF.sum(dim=0))
        of_relations_RF = of_relations_RKF.sum(dim=1)
        # LeakyReLU(x) is its derivative times x, which is the sum of the three.
        of_score_F = (heard_NKF * of_heard_NKF).addcmul_(hearing_NKF, of_hearing_NKF).sum(dim=(0, 1))
        of_score_hH = (of_score_F + (relations_RF * of_relations_RF).sum(dim=0)).view_as(score_hH)
        of_inputs = (values.mul_(score_hH.flatten()) for values in (of_heard_NKF, of_hearing_NKF, of_relations_RF))
        return *of_inputs, of_score_hH, None

    @staticmethod
    def _within(
        heard_NKF: Tensor, hearing_NKF: Tensor, relations_RF: Tensor, edges: Edges
    ) -> Iterator[tuple[Block, Tensor]]:
        """The blocks with the outputs of LeakyReLU, [b, t, s, K, F]."""
        heard_btKF, hearing_btKF = edges.axes(heard_NKF), edges.axes(hearing_NKF)
        for block in edges.blocks:
            sums_btsKF = hearing_btKF[:, block.hearing, None] + heard_btKF[:, None, block.heard]
            sums_btsKF += relations_RF.index_select(0, block.between).view(*sums_btsKF.shape[:3], 1, -1)
            yield block, functional.leaky_relu_(sums_btsKF, NEGATIVE_SLOPE)

    @staticmethod
    def _across(heard_NKF: Tensor, hearing_NKF: Tensor, relations_RF: Tensor) -> Tensor:
        """The outputs of LeakyReLU for the two nodes of an utterance, [N, K, F]."""
        sums_NKF = _exchanged(heard_NKF).add_(hearing_NKF).add_(relations_RF[-1])
        return functional.leaky_relu_(sums_NKF, NEGATIVE_SLOPE)


def _scored(activated_XKF: Tensor, score_hH: Tensor) -> Tensor:
    """The heads' w times their part of the outputs of LeakyReLU, [..., K, F] to [..., K, h]."""
    scores: Tensor = torch.linalg.vecdot(activated_XKF.view(*activated_XKF.shape[:-1], *score_hH.shape), score_hH)
    return scores


def _of_sums(gradient_XKh: Tensor, activated_XKF: Tensor) -> Tensor:
    """The gradients of the inputs of LeakyReLU, without w, from those of the scores."""
    activated_XKhH = activated_XKF.view(*gradient_XKh.shape, -1)
    of_sums_XKhH: Tensor = torch.ops.aten.leaky_relu_backward(
        gradient_XKh[..., None].expand_as(activated_XKhH), activated_XKhH, NEGATIVE_SLOPE, True
    )
    return of_sums_XKhH.flatten(-2)
