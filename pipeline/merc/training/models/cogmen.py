"""COGMEN: a transformer over the dialogue, then two convolutions over a graph in which an utterance hears those near
it.

Legend: B dialogues, T utterances, N real utterances of the batch, D features of a modality, U units of a projected
modality, F = M · U of all M side by side, H hidden units, h heads of the graph's attention, W utterances of a window, G
relations that lead to an utterance, K distinguished speakers, C classes.

    features_BTD ─ Linear ─► unimodal_BTU ─┐
         absent: learned                   ├─ side by side ─► transformer ─ Linear ─► x ─ relations ─► y ─ attention ─► z ─┐
    other modalities ──────────────────────┘                                                                              │
                                                 logits_BTC ◄─ Linear ─ hidden_BTH ◄─ ReLU ─ Linear ◄─ LeakyReLU ─ norm ──┘

    who speaks       u1 A    u2 B    u3 A    u4 A    u5 B    u6 C
    u3 hears         A→A     B→A     A→A     A→A     B→A             N(i): ``past`` utterances before i, here 2, itself, and ``future`` after it, 2
                     └─ before ──┘   └─── not before ───┘            N_r(i): those of one relation r: before or not, of whom, to whom; here four

    y_i = W x_i + b + Σ_r 1/|N_r(i)| Σ_j∈N_r(i) W_r x_j                                     relational graph convolution
    z_i = [ V_s y_i + Σ_j∈N(i) softmax_j((V_q y_i + c) · V_k y_j / √H) V_v y_j ]_h heads    graph transformer

Source: Joshi, Bhat, Jain, Singh and Modi, COGMEN, NAACL 2022 (arXiv 2205.02455), and its code (Exploration-Lab/COGMEN
at a0f7b39); the convolutions are those of Schlichtkrull et al., ESWC 2018, and of Shi et al., IJCAI 2021. Unlike in
that code,

- the attention of the transformer does not see padding, and the norm's statistics are those of real utterances, so that
  scores do not depend on the batch;
- modalities are projected before they are concatenated, so that an absent one can be a learned vector and the
  transformer's width is a setting;
- any number of speakers may take part, where the code has two;
- ``past`` is the number of earlier utterances that an utterance hears. There a window contains the utterances that hear
  it, which swaps ``past`` and ``future`` if they differ;
- three biases are left out that softmax and norm cancel, of V_s, V_k and V_v.

As there, the transformer has no position codes: only the relations depend on the order.
"""  # noqa: E501

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from merc.compute.masked import masked_mean
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.models.engine.common import (
    SPEAKER_SLOTS,
    BatchNorm,
    Dropout,
    Projection,
    check_heads,
    padded,
    real_rows,
)
from merc.training.models.engine.transformer import EncoderLayer
from merc.training.models.engine.windows import Windows


class COGMEN(MERCModel):
    """Early fusion over a graph per dialogue. ``unimodal`` are the projected features.

    In training, the norm makes the representation of an utterance depend on the batch, as any batch norm does; scores
    do not.
    """

    class Config(Settings):
        """Settings of COGMEN."""

        input_units: int = Field(default=256, ge=1)
        """U, width of each projected modality, a multiple of ``heads``; the published transformer is as wide as all
        features, 1380.
        """
        layers: int = Field(default=2, ge=1, le=256)
        """Layers of the transformer."""
        heads: int = Field(default=8, ge=1)
        """Heads of the transformer's attention."""
        feedforward_units: int = Field(default=2048, ge=1)
        """Width of the transformer's feed-forward layers."""
        hidden_units: int = Field(default=100, ge=1)
        """H, width of a node of the graph."""
        graph_heads: int = Field(default=1, ge=1)
        """h, heads of the graph's attention, each as wide as H."""
        past: int = Field(default=5, ge=0)
        """Number of preceding utterances that an utterance hears."""
        future: int = Field(default=5, ge=0)
        """Number of following utterances that an utterance hears."""
        # ``same`` makes 4 relations, ``pairs`` 2 K², K = 9, of which a dialogue of two speakers uses 8.
        speakers: Literal["pairs", "same"] = "same"
        """What relations tell: ``same``, whether the speaker or another is heard; ``pairs``, who is heard by whom, as
        published for two speakers.
        """
        dropout: float = Field(default=0.5, ge=0, lt=1)
        """Dropout rate of the transformer's attention weights, sublayer outputs and feed-forward layers, and before the
        classifier.
        """

        @model_validator(mode="after")
        def _heads_divide(self) -> Self:
            check_heads("input_units", self.input_units, self.heads)
            return self

    causal = False

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        units, width = config.hidden_units, config.graph_heads * config.hidden_units
        self.past, self.future, self.speakers = config.past, config.future, config.speakers
        self.gives = Gives(
            hidden=units, unimodal=dict.fromkeys(dims, config.input_units), hidden_dropout=config.dropout
        )
        self.projections = nn.ModuleDict({name: Projection(dim, config.input_units) for name, dim in dims.items()})
        width_in = len(dims) * config.input_units
        self.transformer = nn.ModuleList(
            [
                EncoderLayer(width_in, config.heads, config.feedforward_units, config.dropout)
                for _ in range(config.layers)
            ]
        )
        self.enter = nn.Linear(width_in, units)
        self.relations = _RelationalConvolution(units, SPEAKER_SLOTS if config.speakers == "pairs" else None)
        self.attention = _GraphAttention(units, config.graph_heads)
        self.norm = BatchNorm(width)
        self.hide = nn.Linear(width, units)
        self.dropout = Dropout(config.dropout)
        self.classifier = nn.Linear(units, classes)

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        rows = {
            name: self.projections[name](
                real_rows(batch.features[name], batch), real_rows(batch.modality_mask[name], batch)
            )
            for name in self.modalities
        }
        stream_NF = torch.cat(list(rows.values()), dim=-1)
        for layer in self.transformer:
            stream_NF = layer(stream_NF, batch.utterance_mask[:, None], batch)
        nodes_NH = self.enter(stream_NF)
        graph = build_graph(batch, self.past, self.future, self.speakers, nodes_NH.dtype)
        heard_NF = self.attention(self.relations(nodes_NH, graph), graph)
        bare_NH = self.hide(functional.leaky_relu(self.norm(heard_NF)))
        hidden_NH = self.dropout(bare_NH.relu())
        unimodal = {name: padded(rows_NU, batch) for name, rows_NU in rows.items()}
        return MERCOutput(
            logits=padded(self.classifier(hidden_NH), batch),
            hidden=padded(hidden_NH, batch),
            bare=padded(bare_NH, batch),
            unimodal=unimodal,
            pooled={
                name: masked_mean(unimodal_BTU, batch.modality_mask[name]) for name, unimodal_BTU in unimodal.items()
            },
        )


@dataclass(frozen=True)
class Graph:
    """Which utterances hear which in a batch, and how.

    Attributes:
        windows: those of the utterances.
        shares: [N, G, W], 1/|N_r(i)| where a place of i's window has relation r to it, 0 elsewhere; G = 2 K, with
            relations to earlier utterances first.
        hearer: long [N], the speaker whose relations an utterance has; 0 if relations only distinguish the same speaker
            from others.
    """

    windows: Windows
    shares: Tensor
    hearer: Tensor


def build_graph(
    batch: DialogueBatch, past: int, future: int, speakers: Literal["pairs", "same"], dtype: torch.dtype
) -> Graph:
    """Lays out the windows of a batch.

    Args:
        batch: the dialogues.
        past: utterances before it that an utterance hears.
        future: utterances after it that it hears.
        speakers: as in the settings. For pairs, only speakers in the batch are laid out, which are known on the host.
        dtype: dtype of the shares.
    """
    windows = Windows.of(batch, past, future)
    speaker_N1 = real_rows(batch.speakers, batch)[:, None]
    heard_NW = windows.rows(speaker_N1).squeeze(-1)
    if speakers == "pairs":
        kinds = min(int(batch.speakers_cpu.max()) + 1, SPEAKER_SLOTS)
        kind_NW, hearer_N = heard_NW % SPEAKER_SLOTS, speaker_N1[:, 0] % SPEAKER_SLOTS
    else:
        kinds = 2
        kind_NW, hearer_N = (heard_NW != speaker_N1).long(), torch.zeros_like(speaker_N1[:, 0])
    relation_NW = kind_NW + kinds * (windows.offsets >= 0)
    among_NGW = windows.within[:, None] & (
        relation_NW[:, None] == torch.arange(2 * kinds, device=heard_NW.device)[:, None]
    )
    shares_NGW = among_NGW.to(dtype) / among_NGW.sum(dim=-1, keepdim=True).clamp(min=1)
    return Graph(windows, shares_NGW, hearer_N)


class _RelationalConvolution(nn.Module):
    """The first equation at the head of this file.

    Args:
        units: H.
        speakers: K, number of distinguished speakers; None: only the same speaker and others.
    """

    def __init__(self, units: int, speakers: int | None) -> None:
        super().__init__()
        self.own = nn.Linear(units, units)
        bound = (3 / units) ** 0.5
        heard, hearing = (2, 1) if speakers is None else (speakers, speakers)
        self.weights_2KHKH = nn.Parameter(torch.empty(2, heard, units, hearing, units).uniform_(-bound, bound))

    def forward(self, nodes_NH: Tensor, graph: Graph) -> Tensor:
        """Returns [N, H]. The results for all speakers are one product, from which that of the hearing speaker is
        selected.
        """
        means_NGH = graph.shares @ graph.windows.rows(nodes_NH)
        kinds = graph.shares.shape[1] // 2
        weights_2KHKH = self.weights_2KHKH[:, :kinds, :, :kinds]
        given_NKH = (means_NGH.flatten(1) @ weights_2KHKH.flatten(0, 2).flatten(1)).view(
            len(nodes_NH), -1, nodes_NH.shape[1]
        )
        picked_N1H = graph.hearer[:, None, None].expand(-1, 1, nodes_NH.shape[1])
        output_NH: Tensor = self.own(nodes_NH) + given_NKH.gather(1, picked_N1H).squeeze(1)
        return output_NH


class _GraphAttention(nn.Module):
    """The second equation at the head of this file."""

    def __init__(self, units: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(units, heads * units)
        self.key_value_own = nn.Linear(units, 3 * heads * units, bias=False)

    def forward(self, nodes_NH: Tensor, graph: Graph) -> Tensor:
        """Returns [N, h · H]."""
        key_NF, value_NF, own_NF = self.key_value_own(nodes_NH).chunk(3, dim=-1)
        query_Nh1H = self.query(nodes_NH).view(len(nodes_NH), self.heads, 1, -1)
        key_NhWH, value_NhWH = (
            graph.windows.rows(rows_NF).view(*graph.windows.within.shape, self.heads, -1).transpose(1, 2)
            for rows_NF in (key_NF, value_NF)
        )
        found_Nh1H = functional.scaled_dot_product_attention(
            query_Nh1H, key_NhWH, value_NhWH, attn_mask=graph.windows.within[:, None, None]
        )
        output_NF: Tensor = own_NF + found_Nh1H.flatten(1)
        return output_NF
