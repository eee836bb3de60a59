"""M3Net: a hypergraph for what the utterances of a dialogue have in common, and in parallel a graph that may also pass
on differences.

Legend: B dialogues, T utterances, N real utterances of the batch, M modalities, H hidden units, C classes, E = M + 1
kinds of hyperedges.

A node per utterance and modality, x⁰ a linear map of it. An absent utterance has no edges in either branch.

                 u1   u2   u3          hyperedges: every row (all utterances of a modality) and every column (all modalities of an utterance)
        text     o────o────o           low:  e = Σ_v∈e γ(v) x(v) / Σ_v∈e γ(v),  x'(v) = LeakyReLU(Σ_e∋v ω(e) e / Σ_e∋v ω(e) + b)
                 │    │    │
        audio    o────o────o           edges: between all pairs of a row and all pairs of a column
                 │    │    │           high: x'(i) = x(i) + Σ_j tanh(w [x(i); x(j)] + c) (d(i) d(j))^-½ x(j),  d: number of edges
        visual   o────o────o
                                       x⁰ ─┬─ low ─ low ─ low ──────────┬─ modalities side by side ─ dropout ─ ReLU ─► hidden ─► logits
                                           └─ high ─ high ─ high ─ high ┘

Source: Chen, Shao, Zhu and Shen, Multivariate, Multi-Frequency and Multimodal, CVPR 2023, and its code
(feiyuchen7/M3NET at 10280c9). There the weights ω and γ belong to places in the batch (tables of 1000 and 5200, which a
batch may overflow), so that a dialogue's scores depend on the rest of its batch; and they enter only the denominators.
Here they belong to kinds, ω to a modality's rows and to the columns, γ to a modality within the columns (within a row
it cancels), and enter both sums. Text is one vector here; the batch norm over four of RoBERTa's layers, whose
statistics saw padding, is left out.
"""  # noqa: E501

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from merc.compute.masked import masked_mean
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.models.engine.common import SPEAKER_SLOTS, Dropout, Projection, padded, real_rows
from merc.training.models.engine.recurrent_context import RecurrentContext

TEXT_LAYERS = 2


class M3Net(MERCModel):
    """``unimodal`` are the projected features, for text with context, before a speaker's vector is added."""

    VERSION = 2

    class Config(Settings):
        """Settings of M3Net."""

        hidden_units: int = Field(default=512, ge=2, multiple_of=2)
        """H, width of a node in both branches; even."""
        low_layers: int = Field(default=3, ge=1, le=256)
        """Layers of the hypergraph."""
        high_layers: int = Field(default=4, ge=1, le=256)
        """Layers of the graph; published: 3 for MELD."""
        dropout: float = Field(default=0.5, ge=0, lt=1)
        """Dropout rate between the layers of the text's GRU and before the classifier."""
        # With ``text``, a model without text does not see speakers.
        text_map: Literal["always", "where_needed"] = "always"
        """Whether text passes a linear map before its recurrence: ``always``; ``where_needed``, if its vectors are not
        as wide as a node. Published for MELD: 1,024 wide as RoBERTa's, and no map.
        """
        speakers: Literal["none", "text", "all"] = "text"
        """Nodes to which a vector per speaker is added: ``text`` only, as published, ``all`` or ``none``."""

    causal = False

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        units = config.hidden_units
        self.gives = Gives(
            hidden=2 * units * len(dims), unimodal=dict.fromkeys(dims, units), hidden_dropout=config.dropout
        )
        self.projections = nn.ModuleDict({name: self._projection(name, config) for name in dims})
        self.text_context = (
            RecurrentContext(nn.GRU, units, units, TEXT_LAYERS, config.dropout) if "text" in dims else None
        )
        self.with_speaker = tuple(name for name in dims if config.speakers in {name, "all"})
        self.speaker_vectors = nn.Embedding(SPEAKER_SLOTS, units) if self.with_speaker else None
        self.enter = nn.Linear(units, units)
        self.low = _Hypergraph(units, config.low_layers, len(dims))
        self.high = nn.ModuleList([_Differences(units) for _ in range(config.high_layers)])
        self.dropout = Dropout(config.dropout)
        self.classifier = nn.Linear(self.gives.hidden, classes)

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        unimodal_MNH = torch.stack([self._rows(name, batch) for name in self.modalities])
        nodes_MNH = self.enter(self._with_speakers(unimodal_MNH, batch))
        graph = build_graph(
            torch.stack([real_rows(batch.modality_mask[name], batch) for name in self.modalities]),
            batch,
            self.enter.weight.dtype,
        )
        high_MNH = nodes_MNH
        for layer in self.high:
            high_MNH = high_MNH + layer(high_MNH, graph)
        both_MNF = torch.cat([self.low(nodes_MNH, graph), high_MNH], dim=-1)
        hidden_NF = self.dropout(both_MNF.transpose(0, 1).flatten(1)).relu()
        unimodal = dict(zip(self.modalities, padded(unimodal_MNH, batch), strict=True))
        return MERCOutput(
            logits=padded(self.classifier(hidden_NF), batch),
            hidden=padded(hidden_NF, batch),
            bare=padded(both_MNF.transpose(0, 1).flatten(1), batch),
            unimodal=unimodal,
            pooled={
                name: masked_mean(unimodal_BTH, batch.modality_mask[name]) for name, unimodal_BTH in unimodal.items()
            },
        )

    def _projection(self, name: str, config: Config) -> Projection:
        dim, units = self.dims[name], config.hidden_units
        return Projection(dim, units, identity=name == "text" and config.text_map == "where_needed" and dim == units)

    def _rows(self, name: str, batch: DialogueBatch) -> Tensor:
        """One modality's projected vectors, for text with context, [N, H]."""
        rows_NH: Tensor = self.projections[name](
            real_rows(batch.features[name], batch), real_rows(batch.modality_mask[name], batch)
        )
        if name == "text" and self.text_context is not None:
            rows_NH = self.text_context(rows_NH, batch)
        return rows_NH

    def _with_speakers(self, rows_MNH: Tensor, batch: DialogueBatch) -> Tensor:
        if self.speaker_vectors is None:
            return rows_MNH
        speakers_NH = self.speaker_vectors(real_rows(batch.speakers, batch) % SPEAKER_SLOTS)
        return torch.stack(
            [
                rows_NH + speakers_NH if name in self.with_speaker else rows_NH
                for name, rows_NH in zip(self.modalities, rows_MNH, strict=True)
            ]
        )


@dataclass(frozen=True)
class Graph:
    """The edges of a batch's graphs.

    Attributes:
        present: bool [M, N].
        within: float [M, B, T, T], (d(i) d(j))^-½ of the edges within a modality, 0 if there is none.
        across: S = M - 1 tensors [M, N], the same for the edges between modality m and m + s (modulo M), s from 1.
        batch: the dialogues.
    """

    present: Tensor
    within: Tensor
    across: list[Tensor]
    batch: DialogueBatch

    def at_places(self, values_BTX: Tensor) -> Tensor:
        """The real utterances' values, [M, N, X] of [M, B, T, X]."""
        return values_BTX.flatten(1, 2).index_select(1, self.batch.real_positions)


def build_graph(present_MN: Tensor, batch: DialogueBatch, dtype: torch.dtype) -> Graph:
    """Builds and normalises the edges.

    Args:
        present_MN: bool; True where the modality is present.
        batch: the dialogues.
        dtype: dtype of the edges' norms.
    """
    present_MBT = padded(present_MN[..., None], batch)[..., 0]
    itself_TT = torch.eye(present_MBT.shape[-1], dtype=torch.bool, device=present_MN.device)
    joined_MBTT = present_MBT[..., :, None] & present_MBT[..., None, :] & ~itself_TT
    shifts = range(1, len(present_MN))
    joined = [present_MN & present_MN.roll(-shift, dims=0) for shift in shifts]
    degree_MN = joined_MBTT.sum(dim=-1).flatten(1).index_select(1, batch.real_positions) + sum(joined)
    scale_MN = degree_MN.clamp(min=1).to(dtype).rsqrt()  # unused for a node without edges
    scale_MBT = padded(scale_MN[..., None], batch)[..., 0]
    return Graph(
        present=present_MN,
        within=joined_MBTT * scale_MBT[..., :, None] * scale_MBT[..., None, :],
        across=[
            edges_MN * scale_MN * scale_MN.roll(-shift, dims=0) for shift, edges_MN in zip(shifts, joined, strict=True)
        ],
        batch=batch,
    )


class _Hypergraph(nn.Module):
    """The low branch. Weights are stored as logarithms, so that no denominator can be 0; initially all are 1."""

    def __init__(self, units: int, layers: int, modalities: int) -> None:
        super().__init__()
        self.log_rows_M = nn.Parameter(torch.zeros(modalities))
        self.log_columns = nn.Parameter(torch.zeros(()))
        self.log_nodes_M = nn.Parameter(torch.zeros(modalities))
        self.bias_LH = nn.Parameter(torch.zeros(layers, units))

    def forward(self, nodes_MNH: Tensor, graph: Graph) -> Tensor:
        """Returns [M, N, H]; absent nodes, and those without edges, become just the bias."""
        present_MN1 = graph.present[..., None]
        counts_MB11 = padded(present_MN1, graph.batch).sum(dim=2, keepdim=True).clamp(min=1)
        node_MN1 = self.log_nodes_M.exp()[:, None, None] * present_MN1
        node_MN1 = node_MN1 / node_MN1.sum(dim=0).clamp(min=torch.finfo(node_MN1.dtype).tiny)
        row_share_M11 = (self.log_rows_M - self.log_columns).sigmoid()[:, None, None]
        for bias_H in self.bias_LH:
            rows_MB1H = padded(nodes_MNH * present_MN1, graph.batch).sum(dim=2, keepdim=True) / counts_MB11
            rows_MNH = graph.at_places(rows_MB1H.expand(-1, -1, graph.within.shape[-1], -1))
            columns_NH = (node_MN1 * nodes_MNH).sum(dim=0)
            told_MNH = columns_NH + row_share_M11 * (rows_MNH - columns_NH)
            nodes_MNH = functional.leaky_relu(told_MNH * present_MN1 + bias_H)
        return nodes_MNH


class _Differences(nn.Module):
    """One layer of the high branch: weights between -1 and 1, so that a neighbour may also be subtracted."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.gate = nn.Linear(
            units, 2
        )  # what a node adds to the gate of edges to it, and from it; the published gate has one bias, here in two halves  # noqa: E501

    def forward(self, nodes_MNH: Tensor, graph: Graph) -> Tensor:
        """What every node receives from its neighbours, [M, N, H]."""
        to_MN, from_MN = self.gate(nodes_MNH).unbind(-1)
        to_MBT, from_MBT = padded(torch.stack([to_MN, from_MN], dim=-1), graph.batch).unbind(-1)
        within_MBTT = (to_MBT[..., :, None] + from_MBT[..., None, :]).tanh() * graph.within
        given_MNH = graph.at_places(within_MBTT @ padded(nodes_MNH, graph.batch))
        for shift, norm_MN in enumerate(graph.across, start=1):
            weights_MN = (to_MN + from_MN.roll(-shift, dims=0)).tanh() * norm_MN
            given_MNH = given_MNH + weights_MN[..., None] * nodes_MNH.roll(-shift, dims=0)
        return given_MNH
