"""CORECT: a graph with a node per utterance and modality, and transformers between every two modalities.

Legend: B dialogues, T utterances, N real utterances of the batch, D features of a modality, U units of the text's
transformer, M modalities, H hidden units, P = M · (M - 1) ordered pairs of modalities, S sides of an utterance (before
it, after it), h heads of the graph's attention, F = h · H, C classes.

    text_BTD ─ Linear ─► transformer ─ Linear ─┐                ┌─ relations ─► y ─ attention ─► z ─ norm ─ LeakyReLU ─┐
         absent: learned                       ├─ + speaker ─► x┤                                                      │
    others_BTD ─ 2 × (Linear ─ ReLU) ──────────┘                └─ pairs of modalities ─ self-attention ───────────────┤
         absent: learned, after both                                                                                   │
                                                                            logits_BTC ◄─ ReLU ◄─ bare_BTH ◄─ Linear ◄─┘

The graph (RT-GCN). The node of utterance i and modality m receives from N(i, m): the nodes of its own modality from
``past`` before it to ``future`` after it, itself included, and the nodes of the same utterance in the other modalities.
A relation r is one of "before", "itself" and "after" in modality m, or an ordered pair of different modalities.

    1. y_im = W x_im + b + Σ_r W_r mean(x_jn: (j, n) in N(i, m) with relation r)
    2. z_im = [ V_s y_im + Σ_N(i,m) softmax((V_q y_im + c) · V_k y_jn / √H) V_v y_jn ]_h heads

Pairs of modalities (P-CM). For each ordered pair (m, n) a transformer whose queries come from m, and whose keys and
values are x of n in every layer; for each m, a transformer over the results of its M - 1 pairs side by side. Their
layers normalise first, have neither positions nor dropout, and end in a norm; their input is multiplied by √width.

Source: Nguyen, Mai, The, Kieu and Le, CORECT, EMNLP 2023 (arXiv 2311.04507), and its code (leson502/CORECT_EMNLP2023 at
96ad012); the convolutions are those of Schlichtkrull et al., ESWC 2018, and of Shi et al., IJCAI 2021, the layers of
P-CM those of Tsai et al., ACL 2019. With the same weights, log probabilities of the code and of this file differ by at
most 1.1e-15 (float64; dialogues of 1 to 40 utterances, one at a time; all three modalities, every two of them, and
text; the norm with running statistics other than the initial ones), if P-CM's softmax is computed in float64 there as
well; unchanged, in float32, by 1.1e-9. Unlike in that code,

- no attention sees padding, so that scores do not depend on the batch. There all transformers do, and log probabilities
  of a dialogue change by up to 0.005 with the longest one in its batch (same weights as above);
- ``past`` and ``future`` are the utterances that a node receives from. There edges go from an utterance to its window,
  and the window ends before its last place: ``wp`` and ``wf`` of the code are a ``future`` of ``wp`` and a ``past`` of
  ``wf`` - 1. The defaults here are those of its settings, 11 and 9; its script for IEMOCAP has 11 and 5;
- the text is projected before its transformer, so that an absent one can be a learned vector and the width is a
  setting; for the comparison the projection was the identity. An absent audio or visual vector is one of its encoder's
  outputs. Absent nodes take part in graph and pairs like all others;
- any number of speakers may take part, and ``causal`` leaves out everything after an utterance;
- three biases are left out that softmax and norm cancel, of V_s, V_k and V_v;
- weights of P-CM are initialised like those of any linear map in torch, not by Xavier's rule.

As there, with one modality there are no pairs, and the graph has its three relations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
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
    LinearMaps,
    Projection,
    check_heads,
    padded,
    real_rows,
)
from merc.training.models.engine.transformer import EncoderLayer


class CORECT(MERCModel):
    """``unimodal`` are the outputs of the modalities' encoders, before the speaker is added.

    In training, the norm makes the representation of an utterance depend on the batch, as any batch norm does; scores
    do not.
    """

    class Config(Settings):
        """Settings of CORECT."""

        text_units: int = Field(default=768, ge=1)
        """U, width of the text's transformer, a multiple of ``text_heads``; published: that of its text."""
        text_layers: int = Field(default=2, ge=1, le=256)
        """Layers of the text's transformer."""
        text_heads: int = Field(default=8, ge=1)
        """Heads of the text's transformer."""
        feedforward_units: int = Field(default=2048, ge=1)
        """Width of the feed-forward layers of the text's transformer."""
        hidden_units: int = Field(default=100, ge=1)
        """H, width of encoded utterances, nodes and the hidden layer; ``pair_heads`` and ``self_heads`` divide it."""
        speakers: Literal["slots", "none"] = "slots"
        """``slots``: a learned vector of the speaker is added to every encoded utterance, as published."""
        past: int = Field(default=11, ge=0)
        """Number of preceding utterances of its modality that a node receives from."""
        future: int = Field(default=9, ge=0)
        """Number of following utterances that it receives from; 0 if ``causal``, whatever it is."""
        graph_heads: int = Field(default=7, ge=1)
        """h, heads of the graph's attention, each as wide as H."""
        pair_layers: int = Field(default=2, ge=1, le=256)
        """Layers in which one modality attends to another."""
        pair_heads: int = Field(default=2, ge=1)
        """Heads of these layers."""
        self_layers: int = Field(default=3, ge=1, le=256)
        """Layers of self-attention over what a modality has found in the others."""
        self_heads: int = Field(default=2, ge=1)
        """Heads of these layers."""
        causal: bool = False
        """Whether nothing after an utterance is used: windows of the graph and all attentions end at the utterance."""
        dropout: float = Field(default=0.5, ge=0, lt=1)
        """Dropout rate of the text's transformer and before the classifier."""

        @model_validator(mode="after")
        def _heads_divide(self) -> Self:
            check_heads("text_units", self.text_units, self.text_heads)
            check_heads("hidden_units", self.hidden_units, self.pair_heads)
            check_heads("hidden_units", self.hidden_units, self.self_heads)
            return self

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        units, modalities = config.hidden_units, len(dims)
        self.causal = config.causal
        self.past, self.future = config.past, 0 if config.causal else config.future
        self.gives = Gives(hidden=units, unimodal=dict.fromkeys(dims, units), hidden_dropout=config.dropout)
        self.encoders = nn.ModuleDict(
            {name: _TextEncoder(config, dim) if name == "text" else _Encoder(dim, units) for name, dim in dims.items()}
        )
        self.speaker_vectors = nn.Embedding(SPEAKER_SLOTS, units) if config.speakers == "slots" else None
        self.relations = _RelationalConvolution(modalities, units, (self.past > 0) + (self.future > 0))
        self.attention = _GraphAttention(units, config.graph_heads)
        self.norm = BatchNorm(config.graph_heads * units)
        self.pairs = _Pairs(config, modalities) if modalities > 1 else None
        self.hide = nn.Linear(modalities * (config.graph_heads + modalities - 1) * units, units)
        self.dropout = Dropout(config.dropout)
        self.classifier = nn.Linear(units, classes)

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        seen_BTT = batch.utterance_mask[:, None].expand(-1, batch.utterance_mask.shape[1], -1)
        if self.causal:
            seen_BTT = seen_BTT.tril()
        rows = {name: encode(batch, name, seen_BTT) for name, encode in self.encoders.items()}
        nodes_MNH = torch.stack(list(rows.values()))
        if self.speaker_vectors is not None:
            nodes_MNH = nodes_MNH + self.speaker_vectors(real_rows(batch.speakers, batch) % SPEAKER_SLOTS)
        graph = build_graph(batch, self.past, self.future, nodes_MNH.dtype)
        attended_MNF = self.attention(self.relations(nodes_MNH, graph, batch), graph, batch)
        normed_MNF = functional.leaky_relu(self.norm(attended_MNF.flatten(0, 1))).view(attended_MNF.shape)
        found = [normed_MNF.transpose(0, 1).flatten(1)]
        if self.pairs is not None:
            found.append(self.pairs(nodes_MNH, seen_BTT, batch).transpose(0, 1).flatten(1))
        bare_NH = self.hide(torch.cat(found, dim=-1))
        hidden_NH = self.dropout(bare_NH.relu())
        unimodal = {name: padded(rows_NH, batch) for name, rows_NH in rows.items()}
        return MERCOutput(
            logits=padded(self.classifier(hidden_NH), batch),
            hidden=padded(hidden_NH, batch),
            bare=padded(bare_NH, batch),
            unimodal=unimodal,
            pooled={
                name: masked_mean(unimodal_BTH, batch.modality_mask[name]) for name, unimodal_BTH in unimodal.items()
            },
        )


class _TextEncoder(nn.Module):
    """A transformer over the dialogue's text between two linear maps; a learned vector replaces absent text."""

    def __init__(self, config: CORECT.Config, dim: int) -> None:
        super().__init__()
        self.projection = Projection(dim, config.text_units)
        self.layers = nn.ModuleList(
            [
                EncoderLayer(config.text_units, config.text_heads, config.feedforward_units, config.dropout)
                for _ in range(config.text_layers)
            ]
        )
        self.leave = nn.Linear(config.text_units, config.hidden_units)

    def forward(self, batch: DialogueBatch, name: str, seen_BTT: Tensor) -> Tensor:
        """Returns [N, H]."""
        stream_NU = self.projection(real_rows(batch.features[name], batch), real_rows(batch.modality_mask[name], batch))
        for layer in self.layers:
            stream_NU = layer(stream_NU, seen_BTT, batch)
        output_NH: Tensor = self.leave(stream_NU)
        return output_NH


class _Encoder(nn.Module):
    """Two layers for each utterance separately.

    The vector for absence replaces their output, since it starts as zeros, for which a ReLU has no gradient.
    """

    def __init__(self, dim: int, units: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU())
        self.present = Projection(units, units, identity=True)

    def forward(self, batch: DialogueBatch, name: str, seen_BTT: Tensor) -> Tensor:
        """Returns [N, H]."""
        output_NH: Tensor = self.present(
            self.layers(real_rows(batch.features[name], batch)), real_rows(batch.modality_mask[name], batch)
        )
        return output_NH


@dataclass(frozen=True)
class Graph:
    """Which utterances of a dialogue a node receives from within its modality.

    All pairs of utterances are laid out and masked. Gathering each window instead would copy every key and value once
    per place of the window, which took 2.5 times as long on one core with dialogues as long as IEMOCAP's.

    Attributes:
        near: bool [B, T, T], whether an utterance (row) receives from another (column): from those of its window and
            from itself, even at padding, so that no row is empty.
        shares: [B, S, T, T], 1 over their number on that side where it does; sides on which no window has utterances
            are left out.
    """

    near: Tensor
    shares: Tensor


def build_graph(batch: DialogueBatch, past: int, future: int, dtype: torch.dtype) -> Graph:
    """Lays out the windows of a batch.

    Args:
        batch: the dialogues.
        past: preceding utterances that an utterance receives from.
        future: following utterances that it receives from.
        dtype: dtype of the shares.
    """
    step_T = torch.arange(batch.utterance_mask.shape[1], device=batch.utterance_mask.device)
    offset_TT = step_T - step_T[:, None]
    before_TT, after_TT = (offset_TT < 0) & (offset_TT >= -past), (offset_TT > 0) & (offset_TT <= future)
    sides_B2TT = torch.stack([before_TT, after_TT]) & batch.utterance_mask[:, None, None]
    shares_B2TT = sides_B2TT.to(dtype) / sides_B2TT.sum(dim=-1, keepdim=True).clamp(min=1)
    return Graph(
        sides_B2TT.any(dim=1) | (offset_TT == 0),
        shares_B2TT[:, (0 if past else 1) : (2 if future else 1)],
    )


class _RelationalConvolution(nn.Module):
    """Equation 1 at the head of this file.

    A node has one node, or one mean, per relation, so all relations that lead to a modality are one product.

    Args:
        modalities: M.
        units: H.
        sides: S.
    """

    def __init__(self, modalities: int, units: int, sides: int) -> None:
        super().__init__()
        self.own = nn.Linear(units, units)
        # Of the same utterance in every modality, then of those before, then of those after.
        self.relations = LinearMaps(modalities, (modalities + sides) * units, units, bias=False)
        bound = (3 / units) ** 0.5
        nn.init.uniform_(self.relations.weight, -bound, bound)

    def forward(self, nodes_MNH: Tensor, graph: Graph, batch: DialogueBatch) -> Tensor:
        """Returns [M, N, H]."""
        modalities, count, units = nodes_MNH.shape
        rows_NX = nodes_MNH.transpose(0, 1).flatten(1)
        means_BSTX = graph.shares @ padded(rows_NX, batch)[:, None]
        means_NSMH = real_rows(means_BSTX.transpose(1, 2), batch).view(count, graph.shares.shape[1], modalities, units)
        received_MNX = torch.cat(
            [rows_NX.expand(modalities, -1, -1), means_NSMH.permute(2, 0, 1, 3).flatten(2)], dim=-1
        )
        output_MNH: Tensor = self.own(nodes_MNH) + self.relations(received_MNX)
        return output_MNH


class _GraphAttention(nn.Module):
    """Equation 2 at the head of this file."""

    def __init__(self, units: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(units, heads * units)
        self.key_value_own = nn.Linear(units, 3 * heads * units, bias=False)

    def forward(self, nodes_MNH: Tensor, graph: Graph, batch: DialogueBatch) -> Tensor:
        """Returns [M, N, F]; the nodes of a dialogue are the utterances of its first modality, then those of the
        next.
        """
        modalities, (dialogues, steps) = len(nodes_MNH), batch.utterance_mask.shape
        key_MNF, value_MNF, own_MNF = self.key_value_own(nodes_MNH).chunk(3, dim=-1)

        def by_dialogue(rows_MNF: Tensor) -> Tensor:
            rows_MBThH = padded(rows_MNF, batch).view(modalities, dialogues, steps, self.heads, -1)
            return rows_MBThH.permute(1, 3, 0, 2, 4).flatten(2, 3)

        device = graph.near.device
        same_modality_M1M1 = torch.eye(modalities, dtype=torch.bool, device=device)[:, None, :, None]
        same_step_T1T = torch.eye(steps, dtype=torch.bool, device=device)[:, None]
        seen_BMTMT = (graph.near[:, None, :, None] & same_modality_M1M1) | same_step_T1T
        seen_BXX = seen_BMTMT.flatten(3).flatten(1, 2)
        query, key, value = (by_dialogue(rows_MNF) for rows_MNF in (self.query(nodes_MNH), key_MNF, value_MNF))
        found_BhXH = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen_BXX[:, None])
        found_MBTF = found_BhXH.view(dialogues, self.heads, modalities, steps, -1).permute(2, 0, 3, 1, 4).flatten(3)
        output_MNF: Tensor = own_MNF + found_MBTF.flatten(1, 2).index_select(1, batch.real_positions)
        return output_MNF


class _Pairs(nn.Module):
    """P-CM, all pairs at once, in the order (0, 1), (0, 2), …, (1, 0), (1, 2), …

    Args:
        config: the settings.
        modalities: M, at least 2.
    """

    def __init__(self, config: CORECT.Config, modalities: int) -> None:
        super().__init__()
        units, others = config.hidden_units, (modalities - 1) * config.hidden_units
        pairs = list(permutations(range(modalities), 2))
        self.queries_P: Tensor
        self.sources_P: Tensor
        self.register_buffer("queries_P", torch.tensor([query for query, _ in pairs]), persistent=False)
        self.register_buffer("sources_P", torch.tensor([source for _, source in pairs]), persistent=False)
        self.pair_layers = nn.ModuleList(
            [_Layer(len(pairs), units, config.pair_heads) for _ in range(config.pair_layers)]
        )
        self.pair_norm = _Norms(len(pairs), units)
        self.self_layers = nn.ModuleList(
            [_Layer(modalities, others, config.self_heads) for _ in range(config.self_layers)]
        )
        self.self_norm = _Norms(modalities, others)

    def forward(self, nodes_MNH: Tensor, seen_BTT: Tensor, batch: DialogueBatch) -> Tensor:
        """Returns [M, N, (M - 1) · H]."""
        scaled_MNH = nodes_MNH * nodes_MNH.shape[-1] ** 0.5
        stream_PNH, source_PNH = scaled_MNH[self.queries_P], scaled_MNH[self.sources_P]
        for layer in self.pair_layers:
            stream_PNH = layer(stream_PNH, source_PNH, seen_BTT, batch)
        found_PNH = self.pair_norm(stream_PNH)
        side_by_side_MNX = found_PNH.unflatten(0, (len(nodes_MNH), -1)).transpose(1, 2).flatten(2)
        stream_MNX = side_by_side_MNX * side_by_side_MNX.shape[-1] ** 0.5
        for layer in self.self_layers:
            stream_MNX = layer(stream_MNX, None, seen_BTT, batch)
        output_MNX: Tensor = self.self_norm(stream_MNX)
        return output_MNX


class _Layer(nn.Module):
    """A layer of K transformers with a norm before the attention and one before the feed-forward layer, 4 U wide.

    Args:
        maps: K.
        units: U, width of each stream.
        heads: heads of the attention.
    """

    def __init__(self, maps: int, units: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = _Norms(maps, units)
        self.query = LinearMaps(maps, units, units)
        self.key_value = LinearMaps(maps, units, 2 * units)
        self.attended = LinearMaps(maps, units, units)
        self.feedforward_norm = _Norms(maps, units)
        self.enter = LinearMaps(maps, units, 4 * units)
        self.leave = LinearMaps(maps, 4 * units, units)

    def forward(self, stream_KNU: Tensor, source_KNU: Tensor | None, seen_BTT: Tensor, batch: DialogueBatch) -> Tensor:
        """Returns [K, N, U]; the stream attends to ``source_KNU``, or to itself if that is None. One norm serves
        both.
        """
        normed_KNU = self.attention_norm(stream_KNU)
        given_KNU = normed_KNU if source_KNU is None else self.attention_norm(source_KNU)
        maps, (dialogues, steps) = len(stream_KNU), seen_BTT.shape[:2]

        def by_dialogue(rows_KNX: Tensor) -> Tensor:
            return padded(rows_KNX, batch).view(maps * dialogues, steps, self.heads, -1).transpose(1, 2)

        key_KNU, value_KNU = self.key_value(given_KNU).chunk(2, dim=-1)
        query, key, value = (by_dialogue(rows_KNU) for rows_KNU in (self.query(normed_KNU), key_KNU, value_KNU))
        seen = seen_BTT.repeat(maps, 1, 1)[:, None]
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        found_KXU = found.transpose(1, 2).reshape(maps, dialogues * steps, -1)
        stream_KNU = stream_KNU + self.attended(found_KXU.index_select(1, batch.real_positions))
        output_KNU: Tensor = stream_KNU + self.leave(self.enter(self.feedforward_norm(stream_KNU)).relu())
        return output_KNU


class _Norms(nn.Module):
    """K layer norms of U units with separate weights."""

    def __init__(self, maps: int, units: int) -> None:
        super().__init__()
        self.weight_K1U = nn.Parameter(torch.ones(maps, 1, units))
        self.bias_K1U = nn.Parameter(torch.zeros(maps, 1, units))

    def forward(self, values_KNU: Tensor) -> Tensor:
        """From [K, N, U] to [K, N, U]."""
        return torch.addcmul(self.bias_K1U, functional.layer_norm(values_KNU, values_KNU.shape[-1:]), self.weight_K1U)
