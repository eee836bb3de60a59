"""MM-DFN: MMGCN's graph over nodes that include the context of their speaker's other utterances, and a memory over the
layers of the convolution.

Legend: B dialogues, T utterances, N real utterances of the batch, M modalities, D node units, H hidden units, L layers,
C classes.

    features_BTD ─ Linear ─► u ─┬─ text: recurrence over the dialogue ─┐
         absent: learned        │  else as it is                       ├─ + ─► nodes ─► graph ─► L layers ─► [nodes; Hᴸ] of all modalities ─► logits
                                └─ recurrence over the utterances ─ w_m ┘
                                   of the same speaker

    A layer, with MMGCN's normalised edges Ã, H⁰ = ReLU(X W₀ + b) and θ = ln(λ / l + 1):
        Gˡ, Cˡ = LSTM(Hˡ⁻¹, (Gˡ⁻¹, Cˡ⁻¹)),  one cell for all layers and nodes          P = Ã Gˡ
        Hˡ = ReLU(θ [P; H⁰] Wˡ + (1 - θ) ((1 - α) P + α H⁰)) + Hˡ⁻¹

Source: Hu, Hou, Wei, Jiang and Mo, MM-DFN, ICASSP 2022 (arXiv 2203.02385), and its code (zerohd4869/MM-DFN at cf33eef,
with its ``--reason_flag``). Unlike in that code, padding does not enter the backward recurrences.
"""  # noqa: E501

import math
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from merc.compute.masked import masked_mean
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.models.engine.common import Dropout, Projection, padded, real_rows
from merc.training.models.engine.sequences import Sequences
from merc.training.models.mmgcn import Graph, build_graph

RECURRENT_LAYERS = 2


class PartyWeights(Settings):
    """w_m, with which the context of the speaker is added to the nodes of a modality; 0: none. Defaults as for MELD."""

    text: float = 1.5
    """Weight of the speaker's other utterances in the nodes of text."""
    audio: float = 0.5
    """Weight of the speaker's other utterances in the nodes of audio."""
    visual: float = 0.5
    """Weight of the speaker's other utterances in the nodes of the face."""


class MMDFN(MERCModel):
    """Early fusion over a graph per dialogue. ``unimodal`` are the nodes."""

    class Config(Settings):
        """Settings of MM-DFN."""

        node_units: int = Field(default=200, ge=2, multiple_of=2)
        """D, width of a node; even."""
        hidden_units: int = Field(default=100, ge=1)
        """H, width of the graph convolution."""
        layers: int = Field(default=16, ge=1, le=256)
        """L, layers of the graph convolution."""
        initial_share: float = Field(default=0.2, ge=0, le=1)
        """α, share of H⁰ in the input of every layer."""
        identity_decay: float = Field(default=0.5, gt=0)
        """λ of θ = ln(λ / l + 1), the share of the weights Wˡ in layer l."""
        dropout: float = Field(default=0.4, ge=0, lt=1)
        """Dropout rate of the nodes, of H⁰ in the first layer, of what each layer adds, between recurrent layers and
        before the classifier.
        """
        recurrence: Literal["gru", "lstm"] = "gru"
        """Cells of both recurrences: ``gru``, as the published code has them; ``lstm``."""
        party_weights: PartyWeights = PartyWeights()
        """w_m, weights of the context of the speaker in the nodes of each modality."""

    causal = False

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        units = config.node_units
        self.gives = Gives(
            hidden=len(dims) * (units + config.hidden_units),
            unimodal=dict.fromkeys(dims, units),
            hidden_dropout=config.dropout,
        )
        self.party_weights = {
            name: weight for name, weight in config.party_weights.model_dump().items() if name in dims and weight
        }
        self.projections = nn.ModuleDict({name: Projection(dim, units) for name, dim in dims.items()})
        self.text_context = _recurrence(config) if "text" in dims else None
        self.party_context = _recurrence(config) if self.party_weights else None
        self.dropout = Dropout(config.dropout)
        self.fusion = _DynamicFusion(config)
        self.classifier = nn.Linear(self.gives.hidden, classes)

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        present_MN = torch.stack([real_rows(batch.modality_mask[name], batch) for name in self.modalities])
        nodes_MND = self._nodes(batch)
        graph = build_graph(nodes_MND, present_MN, batch, causal=False)
        dropped_MND = self.dropout(nodes_MND)
        both_MNE = torch.cat([dropped_MND, self.fusion(dropped_MND, graph)], dim=-1)
        hidden_NF = self.dropout(both_MNE.transpose(0, 1).flatten(1)).relu()
        unimodal = dict(zip(self.modalities, padded(nodes_MND, batch), strict=True))
        return MERCOutput(
            logits=padded(self.classifier(hidden_NF), batch),
            hidden=padded(hidden_NF, batch),
            bare=padded(both_MNE.transpose(0, 1).flatten(1), batch),
            unimodal=unimodal,
            pooled={name: masked_mean(nodes_BTD, batch.modality_mask[name]) for name, nodes_BTD in unimodal.items()},
        )

    def _nodes(self, batch: DialogueBatch) -> Tensor:
        """[M, N, D]."""
        positions_N, lengths_B = batch.real_positions, batch.lengths_cpu
        projected = {
            name: project(real_rows(batch.features[name], batch), real_rows(batch.modality_mask[name], batch))
            for name, project in self.projections.items()
        }
        nodes, dialogue_N = dict(projected), torch.arange(len(lengths_B)).repeat_interleave(lengths_B)
        if self.text_context is not None:
            nodes["text"] = Sequences.of(dialogue_N, positions_N.device).run(
                self.text_context, projected["text"][:, None]
            )[:, 0]
        if self.party_context is not None:
            speaker_N = batch.speakers_cpu[batch.utterance_index_cpu >= 0]
            parties = Sequences.of(dialogue_N * (int(speaker_N.max()) + 1) + speaker_N, positions_N.device)
            contexts_NMD = parties.run(
                self.party_context, torch.stack([projected[name] for name in self.party_weights], dim=1)
            )
            for (name, weight), context_ND in zip(self.party_weights.items(), contexts_NMD.unbind(1), strict=True):
                nodes[name] = nodes[name] + weight * context_ND
        return torch.stack([nodes[name] for name in self.modalities])


def _recurrence(config: MMDFN.Config) -> nn.GRU | nn.LSTM:
    """In both directions, as wide as a node."""
    kind = nn.GRU if config.recurrence == "gru" else nn.LSTM
    return kind(
        config.node_units,
        config.node_units // 2,
        num_layers=RECURRENT_LAYERS,
        bidirectional=True,
        dropout=config.dropout,
    )


class _DynamicFusion(nn.Module):
    """The layers at the head of this file. θ Wˡ and the weights of P and H⁰ are one matrix, as in MMGCN."""

    theta: Tensor
    residual: Tensor

    def __init__(self, config: MMDFN.Config) -> None:
        super().__init__()
        units, layers, alpha = config.hidden_units, config.layers, config.initial_share
        self.enter = nn.Linear(config.node_units, units)
        self.memory = nn.LSTMCell(units, units)
        self.dropout = Dropout(config.dropout)
        self.weights_L2HH = nn.Parameter(torch.empty(layers, 2 * units, units).uniform_(-(units**-0.5), units**-0.5))
        theta_L11 = torch.tensor([math.log(config.identity_decay / layer + 1) for layer in range(1, layers + 1)])[
            :, None, None
        ]
        self.register_buffer("theta", theta_L11, persistent=False)
        self.register_buffer(
            "residual",
            (1 - theta_L11) * torch.cat([(1 - alpha) * torch.eye(units), alpha * torch.eye(units)]),
            persistent=False,
        )

    def forward(self, nodes_MND: Tensor, graph: Graph) -> Tensor:
        """Returns Hᴸ, [M, N, H]."""
        first_MNH = self.enter(nodes_MND).relu()
        hidden_MNH: Tensor = self.dropout(first_MNH)
        given = kept = torch.zeros_like(hidden_MNH).flatten(0, 1)
        for weights_2HH in (self.theta * self.weights_L2HH + self.residual).unbind(0):
            given, kept = self.memory(hidden_MNH.flatten(0, 1), (given, kept))
            of_gathered_HH, of_first_HH = weights_2HH.chunk(2)
            gathered_MNH = graph.gather(given.view_as(hidden_MNH))
            hidden_MNH = hidden_MNH + self.dropout((gathered_MNH @ of_gathered_HH + first_MNH @ of_first_HH).relu())
        return hidden_MNH
