"""DialogueGCN: an LSTM over the dialogue, then two graph convolutions in which an utterance hears its window by
relation: who speaks, and whether before or after.

Legend: B dialogues, T utterances, N real utterances of the batch, D features of a modality, S sequential units, H units
of the graph, F = S + H, W utterances of a window, R relations, K distinguished speakers, P bases, C classes.

    features_BTD ─ Linear ─┐
         absent: learned   ├─ sum ─ LSTM ─► g_NS ─┬─► relations ─► h ─► sums ─► h'_NH ─┐
    other modalities ──────┘                      └────────────────────────────────────┴─ e_NF = [g; h'] ─ attention ─ Linear ─ ReLU ─► hidden ─► logits

    1. α_ij = softmax_j∈N(i) (g_i · W_e g_j)               N(i): ``past`` utterances before i, itself, and ``future`` after it
    2. h_i = Σ_j∈N(i) α_ij W_r(i,j) g_j + W_0 g_i + b      r: who is heard by whom, and whether j comes after i; W_r = Σ_p c_rp V_p
    3. h'_i = Σ_j∈N(i) U h_j + U_0 h_i + b'
    4. ê_i = Σ_j softmax_j(tanh((A e_i + a) · e_j)) e_j    over the dialogue

Source: Ghosal, Majumder, Poria, Chhaya and Gelbukh, DialogueGCN, EMNLP 2019 (arXiv 1908.11540), and its code
(declare-lab/conv-emotion at 6128ca2), of which there are two versions; the convolutions are those of Schlichtkrull et
al., ESWC 2018, and of Morris et al., AAAI 2019. Details and differences:

- the weight of an edge is that of the paper's equation and of the code's version for text (``DialogueGCN-mianzhang``).
  In the other one a learned vector for each of 110 positions replaces W_e g_i, and a longer dialogue is an error;
- an utterance gathers over those that it weights, as in the paper. In the code the edge goes the other way: i sends
  α_ij of its message to j. With that edge reversed and the same weights, logits of the code and of this file differ by
  1.3e-15 (float64, one dialogue of 23 utterances, the version for text with the nodal attention of the other; the
  convolutions rebuilt as in torch_geometric 1.3, which the code requires: they sum over edges, and the relational one
  uses the edges' weights); without reversing it, by 0.16;
- as in the code, edges are summed and not divided by the number of a relation's edges, and no activation follows a
  convolution. The paper has both;
- W_0 is not weighted by α_ii, in the code as here;
- the LSTM does not see padding, as in the code's version for text; in the other one its backward half reads it first;
- each modality has a separate linear map before the LSTM, so that its absence is a learned vector. The published runs
  use only text;
- any number of speakers may take part, and ``causal`` leaves out everything after an utterance.
"""  # noqa: E501

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from merc.compute.masked import masked_mean
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.models.engine.common import SPEAKER_SLOTS, Dropout, Projection, padded, real_rows
from merc.training.models.engine.recurrent_context import RecurrentContext
from merc.training.models.engine.windows import Windows


class DialogueGCN(MERCModel):
    """``unimodal`` are the projected features; the LSTM reads their sum."""

    VERSION = 2

    class Config(Settings):
        """Settings of DialogueGCN."""

        sequential_units: int = Field(default=200, ge=2)
        """S, width of the projected features and of the LSTM's output; both directions have half of it each, so it is
        even.
        """
        layers: int = Field(default=2, ge=1, le=256)
        """Layers of the LSTM."""
        hidden_units: int = Field(default=100, ge=1)
        """H, width of a node of the graph and of the layer before the classifier."""
        bases: int = Field(default=30, ge=1)
        """P, matrices that the relations' weights are put together from."""
        past: int = Field(default=10, ge=0)
        """Number of preceding utterances that an utterance hears in a convolution."""
        future: int = Field(default=10, ge=0)
        """Number of following utterances that an utterance hears in a convolution; 0 if ``causal``, whatever it is."""
        speakers: Literal["pairs", "same"] = "pairs"
        """What relations tell: ``pairs``, who is heard by whom, as published; ``same``, whether the speaker or another
        is heard.
        """
        nodal_attention: bool = True
        """Whether an utterance attends to the whole dialogue before it is classified, equation 4."""
        causal: bool = False
        """Whether an utterance hears nothing after it: the LSTM runs only forward, and window and attention end at the
        utterance.
        """
        dropout: float = Field(default=0.4, ge=0, lt=1)
        """Dropout rate between the layers of the LSTM and before the classifier."""

        @model_validator(mode="after")
        def _directions_share(self) -> Self:
            if self.sequential_units % 2:
                raise ValueError(
                    f"sequential_units is {self.sequential_units}, which two directions can't share; an even number"
                )
            return self

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        self.causal, self.speakers = config.causal, config.speakers
        self.past, self.future = config.past, 0 if config.causal else config.future
        units, width = config.hidden_units, config.sequential_units + config.hidden_units
        self.gives = Gives(
            hidden=units, unimodal=dict.fromkeys(dims, config.sequential_units), hidden_dropout=config.dropout
        )
        self.projections = nn.ModuleDict({name: Projection(dim, config.sequential_units) for name, dim in dims.items()})
        self.sequence = RecurrentContext(
            nn.LSTM,
            config.sequential_units,
            config.sequential_units,
            config.layers,
            config.dropout,
            causal=config.causal,
        )
        self.edge = nn.Linear(config.sequential_units, config.sequential_units, bias=False)
        relations = 2 * (SPEAKER_SLOTS**2 if config.speakers == "pairs" else 2)
        self.relations = _RelationalConvolution(config.sequential_units, units, relations, config.bases)
        self.neighbour = nn.Linear(units, units, bias=False)
        self.own = nn.Linear(units, units)
        self.query = nn.Linear(width, width) if config.nodal_attention else None
        self.hide = nn.Linear(width, units)
        self.dropout = Dropout(config.dropout)
        self.classifier = nn.Linear(units, classes)

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        unimodal = {
            name: project(batch.features[name], batch.modality_mask[name]) for name, project in self.projections.items()
        }
        inputs_BTS = torch.stack(list(unimodal.values())).sum(dim=0)
        sequential_NS = self.sequence(real_rows(inputs_BTS, batch), batch)
        nodes_NF = torch.cat([sequential_NS, self._convolved(sequential_NS, batch)], dim=-1)
        if self.query is not None:
            nodes_NF = real_rows(self._attended(nodes_NF, self.query(nodes_NF), batch), batch)
        bare_NH = self.hide(nodes_NF)
        hidden_NH = self.dropout(bare_NH.relu())
        return MERCOutput(
            logits=padded(self.classifier(hidden_NH), batch),
            hidden=padded(hidden_NH, batch),
            bare=padded(bare_NH, batch),
            unimodal=unimodal,
            pooled={
                name: masked_mean(unimodal_BTS, batch.modality_mask[name]) for name, unimodal_BTS in unimodal.items()
            },
        )

    def _convolved(self, sequential_NS: Tensor, batch: DialogueBatch) -> Tensor:
        """h', [N, H]."""
        graph = build_graph(batch, self.past, self.future, self.speakers)
        keys_NWS = graph.windows.rows(self.edge(sequential_NS))
        scores_NW = (keys_NWS @ sequential_NS[..., None]).squeeze(-1).masked_fill(~graph.windows.within, float("-inf"))
        related_NH = self.relations(sequential_NS, scores_NW.softmax(dim=-1), graph)
        heard_NH = (graph.windows.within[:, None].to(related_NH.dtype) @ graph.windows.rows(related_NH)).squeeze(1)
        convolved_NH: Tensor = self.neighbour(heard_NH) + self.own(related_NH)
        return convolved_NH

    def _attended(self, nodes_NF: Tensor, queries_NF: Tensor, batch: DialogueBatch) -> Tensor:
        """ê, [B, T, F]; meaningless at padding."""
        nodes_BTF, queries_BTF = padded(nodes_NF, batch), padded(queries_NF, batch)
        seen_BTT = batch.utterance_mask[:, None].expand(-1, nodes_BTF.shape[1], -1)
        if self.causal:
            seen_BTT = seen_BTT.tril()
        shares_BTT = (queries_BTF @ nodes_BTF.mT).tanh().masked_fill(~seen_BTT, float("-inf")).softmax(dim=-1)
        return shares_BTT @ nodes_BTF


@dataclass(frozen=True)
class Graph:
    """Which utterances hear which in a batch, and how.

    Attributes:
        windows: those of the utterances.
        relations: long [N, W], the relation of a place to the utterance, below R; meaningless outside the dialogue.
    """

    windows: Windows
    relations: Tensor


def build_graph(batch: DialogueBatch, past: int, future: int, speakers: Literal["pairs", "same"]) -> Graph:
    """Lays out the windows of a batch.

    Args:
        batch: the dialogues.
        past: utterances before it that an utterance hears.
        future: utterances after it that it hears.
        speakers: as in the settings.
    """
    windows = Windows.of(batch, past, future)
    speaker_N1 = real_rows(batch.speakers, batch)[:, None]
    heard_NW = windows.rows(speaker_N1).squeeze(-1)
    pairs_NW = (heard_NW % SPEAKER_SLOTS) * SPEAKER_SLOTS + speaker_N1 % SPEAKER_SLOTS
    pair_NW = pairs_NW if speakers == "pairs" else (heard_NW != speaker_N1).long()
    return Graph(windows, 2 * pair_NW + (windows.offsets > 0))


class _RelationalConvolution(nn.Module):
    """Equation 2 at the head of this file. Heard vectors are weighted for every basis before the multiplication with
    the bases: one product for all relations.

    Args:
        inputs: S.
        units: H.
        relations: R.
        bases: P.
    """

    def __init__(self, inputs: int, units: int, relations: int, bases: int) -> None:
        super().__init__()
        self.own = nn.Linear(inputs, units)
        bound = (6 / (inputs + units)) ** 0.5
        self.bases_PSH = nn.Parameter(torch.empty(bases, inputs, units).uniform_(-bound, bound))
        bound = (6 / (relations + bases)) ** 0.5
        self.mixture_RP = nn.Parameter(torch.empty(relations, bases).uniform_(-bound, bound))

    def forward(self, nodes_NS: Tensor, shares_NW: Tensor, graph: Graph) -> Tensor:
        """Returns [N, H]; ``shares_NW`` is α, 0 beyond the dialogue."""
        weights_NWP = self.mixture_RP[graph.relations] * shares_NW[..., None]
        heard_NPS = weights_NWP.to(nodes_NS.dtype).mT @ graph.windows.rows(nodes_NS)
        given_NH: Tensor = self.own(nodes_NS) + heard_NPS.flatten(1) @ self.bases_PSH.flatten(0, 1)
        return given_NH
