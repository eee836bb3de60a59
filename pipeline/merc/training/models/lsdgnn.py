"""LSDGNN: two directed acyclic graphs of utterances, over short and long distances, which attend to each other.

Legend: B dialogues, T utterances, N real utterances of the batch, D features of a modality, H hidden units, L layers, C
classes.

    features_BTD ─ Linear ─┐                 ┌─► short: layer 1 ─► … ─► layer L ─┐
         absent: learned   ├─ sum ─ ReLU ─► h⁰                                   ├─ in each layer, s and f of the two
    other modalities ──────┘                 └─► long:  layer 1 ─► … ─► layer L ─┘  attend to each other: s', f'

    h⁰, s'¹, f'¹, …, s'^L, f'^L, features side by side ─ Linear ─ ReLU ─ Linear ─► bare ─ ReLU ─► hidden ─► logits

An utterance hears those before it back to a certain one of its own speaker, inclusive; all before it, if the speaker
has said less:

    who speaks        A    B    A    C    A    B    A
    short, u6 hears                       ▲────┴────┘      back to the speaker's last one
    long, u6 hears              ▲────┴────┴────┴────┘      back to an earlier one, here the last but one

The branches are stacks of DAG-ERC's layers with separate weights. Layer l proceeds from utterance to utterance, with
N(i) those that i hears; its h^l is s in the short branch and f in the long one. Then the branches attend to each other
(BiAffine), with the same A and A' in all layers:

    1. m_i = Σ_j∈N(i) softmax_j(w h^l_j) W_r h^l_j, r: whether j has the same speaker
    2. h^l_i = GRU(input h^l-1_i, state m_i) + GRU'(input m_i, state h^l-1_i)
    3. s'_i = Σ_j softmax_j(s_i A f_j) f_j,  f'_i = Σ_j softmax_j(f_i A' s_j) s_j, over the dialogue

Source: Li, Xu and Qiao, Long-Short Distance Graph Neural Networks and Improved Curriculum Learning for Emotion
Recognition in Conversation, ECAI 2025, and its code (LiXinran6/LSDGNN_ICL at 4dbfeed). With the same weights,
initialised by that code, logits of the code and of this file differ by at most 1.3e-16 (float64; dialogues of 1 to 40
utterances, one at a time; one, two and four layers; logits up to 0.4), with all weights doubled by 1.2e-14 (logits up
to 3.8). The regulariser differs by at most 6e-17 in batches of equally long dialogues, and the difficulty in the
curriculum by 2.3e-16 in 400 random dialogues. Unlike in that code,

- neither the branches' attention to each other nor the regulariser sees padding. There the logits of a dialogue change
  by up to 0.04 with the longest dialogue in its batch, and by 0.97 with the doubled weights;
- h⁰ enters the classifier once, where the code has it twice, once for each branch;
- each modality has a separate linear map, so that an absent one can be a learned vector; their sum is the code's single
  map of all features;
- ``causal`` ends the branches' attention to each other at the utterance.

The regulariser is the loss ``differential`` (:mod:`merc.training.losses.differential`), the curriculum the recipe's key
``curriculum`` with ``shifts: weighted`` (:mod:`merc.training.data.curriculum`).
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from merc.compute.masked import masked_mean
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.models.engine.common import Dropout, Projection
from merc.training.models.engine.dag import DAGLayer, Graph, build_graph


class LSDGNN(MERCModel):
    """``unimodal`` are the projected features; ``context`` is what the last layers heard, m of both branches.

    ``extras`` are ``short_distance`` and ``long_distance``, by layer instead of by modality: ``layer 1``, …, s and f
    before they attend to each other, for the loss ``differential``.
    """

    class Config(Settings):
        """Settings of LSDGNN."""

        hidden_units: int = Field(default=300, ge=1)
        """H, width of an utterance's state in every layer of both branches."""
        layers: int = Field(default=2, ge=1, le=256)
        """L, layers of each branch."""
        short_distance: int = Field(default=1, ge=1)
        """Number of the speaker's own utterances back to which an utterance hears in the short branch."""
        long_distance: int = Field(default=5, ge=1)
        """The same in the long branch; more than ``short_distance``."""
        hidden_layers: int = Field(default=2, ge=1, le=256)
        """Layers of the classifier before its last."""
        shortcut: bool = True
        """Whether the classifier sees the features as well, zeros where absent, as in the published code."""
        causal: bool = False
        """Whether nothing that comes after an utterance is used: the branches' attention to each other ends there."""
        dropout: float = Field(default=0.4, ge=0, lt=1)
        """Dropout rate of s' and f' of all layers but the last, and before the classifier."""

        @model_validator(mode="after")
        def _long_is_longer(self) -> Self:
            if self.long_distance <= self.short_distance:
                raise ValueError(
                    f"long_distance is {self.long_distance}, no more than short_distance, {self.short_distance}"
                )
            return self

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        units, self.causal, self.shortcut = config.hidden_units, config.causal, config.shortcut
        self.distances = (config.short_distance, config.long_distance)
        self.gives = Gives(
            hidden=units,
            unimodal=dict.fromkeys(dims, units),
            context=2 * units,
            extras=frozenset({"short_distance", "long_distance"}),
            hidden_dropout=config.dropout,
        )
        projections = {name: Projection(dim, units) for name, dim in dims.items()}
        for projection in projections.values():
            # With a single modality, zeros would get no gradient through the ReLU.
            nn.init.uniform_(projection.absent_H, -(units**-0.5), units**-0.5)
        self.projections = nn.ModuleDict(projections)
        self.short = nn.ModuleList([DAGLayer(units) for _ in range(config.layers)])
        self.long = nn.ModuleList([DAGLayer(units) for _ in range(config.layers)])
        bound = 2**0.5 * (3 / units) ** 0.5
        self.short_to_long = nn.Parameter(torch.empty(units, units).uniform_(-bound, bound))
        self.long_to_short = nn.Parameter(torch.empty(units, units).uniform_(-bound, bound))
        of_features = sum(dims.values()) if config.shortcut else 0
        widths = [(2 * config.layers + 1) * units + of_features, *[units] * config.hidden_layers]
        self.hide = nn.Sequential(*(layer for one in pairwise(widths) for layer in (nn.Linear(*one), nn.ReLU())))
        self.dropout = Dropout(config.dropout)
        self.classifier = nn.Linear(units, classes)

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        short_graph, long_graph = (build_graph(batch, distance) for distance in self.distances)
        features = {name: short_graph.rows(batch.features[name]) for name in self.modalities}
        present = {name: short_graph.rows(batch.modality_mask[name]) for name in self.modalities}
        rows = {name: self.projections[name](features[name], present[name]) for name in self.modalities}
        first_NH = torch.stack(list(rows.values())).sum(dim=0).relu()
        short, short_heard_NH = _branch(self.short, first_NH, short_graph)
        long, long_heard_NH = _branch(self.long, first_NH, long_graph)
        given = [first_NH, *self._exchanged(short, long, short_graph, batch)]
        if self.shortcut:
            given += [features[name].where(present[name][:, None], 0.0) for name in self.modalities]
        bare_NH = self.hide[:-1](torch.cat(given, dim=-1))
        hidden_NH = self.dropout(self.hide[-1](bare_NH))
        unimodal = {name: short_graph.places(rows_NH) for name, rows_NH in rows.items()}
        return MERCOutput(
            logits=short_graph.places(self.classifier(hidden_NH)),
            hidden=short_graph.places(hidden_NH),
            bare=short_graph.places(bare_NH),
            unimodal=unimodal,
            context=short_graph.places(torch.cat([short_heard_NH, long_heard_NH], dim=-1)),
            pooled={
                name: masked_mean(unimodal_BTH, batch.modality_mask[name]) for name, unimodal_BTH in unimodal.items()
            },
            extras={"short_distance": _by_layer(short), "long_distance": _by_layer(long)},
        )

    def _exchanged(self, short: list[Tensor], long: list[Tensor], graph: Graph, batch: DialogueBatch) -> list[Tensor]:
        """s' and f' of every layer, [N, H] each, from s and f, [B, T, H]; equation 3."""
        steps = batch.utterance_mask.shape[1]
        seen_BTT = batch.utterance_mask[:, None].expand(-1, steps, -1)
        if self.causal:
            seen_BTT = seen_BTT.tril()
        given = []
        for number, (short_BTH, long_BTH) in enumerate(zip(short, long, strict=True), start=1):
            for asking_BTH, weight_HH, heard_BTH in (
                (short_BTH, self.short_to_long, long_BTH),
                (long_BTH, self.long_to_short, short_BTH),
            ):
                scores_BTT = (asking_BTH @ weight_HH) @ heard_BTH.mT
                shares_BTT = scores_BTT.masked_fill(~seen_BTT, float("-inf")).softmax(dim=-1)
                found_NH = graph.rows(shares_BTT @ heard_BTH)
                given.append(found_NH if number == len(short) else self.dropout(found_NH))
        return given


def _branch(layers: nn.ModuleList, first_NH: Tensor, graph: Graph) -> tuple[list[Tensor], Tensor]:
    """The states of each layer, [B, T, H], and what the last one heard, [N, H]."""
    states, state_NH = [], first_NH
    for layer in layers:
        state_NH, heard_NH = layer(state_NH, graph)
        states.append(graph.places(state_NH))
    return states, heard_NH


def _by_layer(states: list[Tensor]) -> dict[str, Tensor]:
    return {f"layer {number}": state_BTH for number, state_BTH in enumerate(states, start=1)}
