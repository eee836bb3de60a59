"""MultiDAG: DAG-ERC's directed acyclic graph of utterances, on the features of all modalities side by side.

Legend: B dialogues, T utterances, N real utterances of the batch, D features of a modality, H hidden units, L layers, C
classes.

    features_BTD ─ Linear ─┐                    ┌─► layer 1 ─► … ─► layer L ─┐
         absent: learned   ├─ sum ─ ReLU ─► h⁰ ─┴────────────────────────────┴─ h⁰ … h^L side by side ─ 2 × (Linear ─ ReLU) ─► hidden ─► logits
    other modalities ──────┘

An utterance hears those before it back to its speaker's last one, inclusive; all before it, if the speaker is new:

    who speaks    A    B    C    A    B         A layer l, from utterance to utterance, with N(i) the utterances that i hears:
    u4 hears           ▲────┴────┘              1. m_i = Σ_j∈N(i) softmax_j(w h^l_j) W_r h^l_j, r: whether j has the same speaker
    u3 hears      ▲────┴────┘                   2. h^l_i = GRU(input h^l-1_i, state m_i) + GRU'(input m_i, state h^l-1_i)

Source: Nguyen et al., Curriculum Learning Meets Directed Acyclic Graph for Multimodal Emotion Recognition, LREC-COLING
2024, and its code (vanntc711/MultiDAG-CL at 59a7587); the graph is that of Shen et al., Directed Acyclic Graph Network
for Conversational Emotion Recognition (DAG-ERC), ACL 2021. There the score of an edge is linear in both ends; the term
of the hearing utterance is the same for all j and cancels, and so does the bias. Unlike in the code, and as in
DAG-ERC's paper, the classifier does not see the raw features as well. The curriculum is the recipe's key ``curriculum``
(:mod:`merc.training.data.curriculum`).
"""  # noqa: E501

from collections.abc import Mapping
from itertools import pairwise

import torch
from pydantic import Field
from torch import nn

from merc.compute.masked import masked_mean
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.models.engine.common import Dropout, Projection
from merc.training.models.engine.dag import DAGLayer, build_graph


class MultiDAG(MERCModel):
    """``unimodal`` are the projected features, ``context`` is what the last layer heard, m."""

    VERSION = 2

    class Config(Settings):
        """Settings of MultiDAG."""

        hidden_units: int = Field(default=300, ge=1)
        """H, width of an utterance's state in every layer."""
        layers: int = Field(default=4, ge=1, le=256)
        """L, layers of the graph."""
        hidden_layers: int = Field(default=2, ge=1, le=256)
        """Layers of the classifier before its last."""
        dropout: float = Field(default=0.4, ge=0, lt=1)
        """Dropout rate before the classifier."""

    causal = True

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        units = config.hidden_units
        self.gives = Gives(
            hidden=units, unimodal=dict.fromkeys(dims, units), context=units, hidden_dropout=config.dropout
        )
        self.projections = nn.ModuleDict({name: Projection(dim, units) for name, dim in dims.items()})
        self.layers = nn.ModuleList([DAGLayer(units) for _ in range(config.layers)])
        widths = [(config.layers + 1) * units, *[units] * config.hidden_layers]
        self.hide = nn.Sequential(*(layer for one in pairwise(widths) for layer in (nn.Linear(*one), nn.ReLU())))
        self.dropout = Dropout(config.dropout)
        self.classifier = nn.Linear(units, classes)

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        graph = build_graph(batch)
        rows = {
            name: self.projections[name](graph.rows(batch.features[name]), graph.rows(batch.modality_mask[name]))
            for name in self.modalities
        }
        states = [torch.stack(list(rows.values())).sum(dim=0).relu()]
        for layer in self.layers:
            state_NH, heard_NH = layer(states[-1], graph)
            states.append(state_NH)
        bare_NH = self.hide[:-1](torch.cat(states, dim=-1))
        hidden_NH = self.dropout(self.hide[-1](bare_NH))
        unimodal = {name: graph.places(rows_NH) for name, rows_NH in rows.items()}
        return MERCOutput(
            logits=graph.places(self.classifier(hidden_NH)),
            hidden=graph.places(hidden_NH),
            bare=graph.places(bare_NH),
            unimodal=unimodal,
            context=graph.places(heard_NH),
            pooled={
                name: masked_mean(unimodal_BTH, batch.modality_mask[name]) for name, unimodal_BTH in unimodal.items()
            },
        )
