"""MMGCN: a graph of all utterances of a dialogue in all modalities, and a deep graph convolution over it.

Legend: B dialogues, T utterances, N real utterances of the batch, M modalities, D node units, H hidden units, L layers,
C classes, S = M - 1.

A node per utterance and modality. All nodes of one modality are connected, including with themselves; nodes of two
modalities if they belong to the same utterance; always with the weight 1 - arccos(0.99999 cos(x, y)) / π, normalised by
the degrees of both ends. An absent utterance has no edges.

                    T columns    T           T
                  ┌───────────┬───────────┬───────────┐
        text      │ complete  │ diagonal  │ diagonal  │    Of the 3T · 3T weights of a dialogue only 3 T² + 6 T are not zero. The complete
                  ├───────────┼───────────┼───────────┤    blocks are multiplied as one batch of B · M products of T · T, the diagonals
        audio     │ diagonal  │ complete  │ diagonal  │    elementwise; all that is done node by node leaves out the padding.
                  ├───────────┼───────────┼───────────┤
        visual    │ diagonal  │ diagonal  │ complete  │
                  └───────────┴───────────┴───────────┘

Source: Hu, Liu, Zhao and Jin, MMGCN, ACL 2021 (arXiv 2107.06779), and its code (hujingwen6666/MMGCN at 85732d9); the
convolution is GCNII* (Chen et al., ICML 2020). Unlike in that code, padding does not enter the backward recurrence, a
zero vector is orthogonal to all others instead of giving 0/0, and the requested number of layers is built.
"""  # noqa: E501

import math
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

# Keeps arccos away from ±1, where its slope is unbounded; the weight of a node's edge to itself is 0.99858.
COSINE_LIMIT = 0.99999
TEXT_LAYERS = 2


class MMGCN(MERCModel):
    """Early fusion over a graph per dialogue. ``unimodal`` are the nodes before a speaker's vector is added."""

    VERSION = 2

    class Config(Settings):
        """Settings of MMGCN."""

        node_units: int = Field(default=200, ge=2, multiple_of=2)
        """D, width of a node; even."""
        hidden_units: int = Field(default=100, ge=1)
        """H, width of the graph convolution."""
        layers: int = Field(default=4, ge=1, le=256)
        """L, layers of the graph convolution; the paper has 4, the published code builds 64 whatever the setting
        says.
        """
        initial_share: float = Field(default=0.1, ge=0, le=1)
        """α, share of the first layer's input in the input of every layer."""
        identity_decay: float = Field(default=0.5, gt=0)
        """λ; layer l multiplies with θ W + (1 - θ) I, θ = ln(λ / l + 1)."""
        dropout: float = Field(default=0.4, ge=0, lt=1)
        """Dropout rate of the nodes, before each layer, between the layers of the text's LSTM and before the
        classifier.
        """
        # Vectors of a sentence encoder suffer from the recurrence, which has no residual path
        # (``benchmarks/results_meld_text.md``).
        text_context: Literal["lstm", "none"] = "lstm"
        """What the text's nodes pass before the graph: ``lstm``, as published; ``none``, as audio and visual have
        it.
        """
        # With ``text``, a model without text does not see speakers.
        speakers: Literal["none", "text", "all"] = "text"
        """Nodes to which a vector per speaker is added: ``text`` only, as published, ``all`` or ``none``."""
        detach_graph: bool = False
        """Whether the edges' weights pass no gradient to the nodes."""
        causal: bool = False
        """Whether the LSTM runs only forward and edges come only from earlier utterances."""

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        units = config.node_units
        self.causal = config.causal
        self.detach_graph = config.detach_graph
        width = len(dims) * (units + config.hidden_units)
        self.gives = Gives(hidden=width, unimodal=dict.fromkeys(dims, units), hidden_dropout=config.dropout)
        self.projections = nn.ModuleDict({name: Projection(dim, units) for name, dim in dims.items()})
        self.text_context = (
            RecurrentContext(nn.LSTM, units, units, TEXT_LAYERS, config.dropout, causal=config.causal)
            if "text" in dims and config.text_context == "lstm"
            else None
        )
        self.with_speaker = tuple(name for name in dims if config.speakers in {name, "all"})
        self.speaker_vectors = nn.Embedding(SPEAKER_SLOTS, units) if self.with_speaker else None
        self.dropout = Dropout(config.dropout)
        self.convolution = _GraphConvolution(config)
        self.classifier = nn.Linear(self.gives.hidden, classes)

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        rows = {name: self._rows(name, batch) for name in self.modalities}
        nodes_MND = self._nodes(rows, batch)
        present_MN = torch.stack([real_rows(batch.modality_mask[name], batch) for name in self.modalities])
        graph = build_graph(nodes_MND.detach() if self.detach_graph else nodes_MND, present_MN, batch, self.causal)
        dropped_MND = self.dropout(nodes_MND)
        convolved_MNH = self.convolution(dropped_MND, graph)
        both_MNE = torch.cat([dropped_MND, self.dropout(convolved_MNH)], dim=-1)
        hidden_NF = self.dropout(both_MNE.transpose(0, 1).flatten(1)).relu()
        unimodal = {name: padded(rows_ND, batch) for name, rows_ND in rows.items()}
        return MERCOutput(
            logits=padded(self.classifier(hidden_NF), batch),
            hidden=padded(hidden_NF, batch),
            bare=padded(torch.cat([nodes_MND, convolved_MNH], dim=-1).transpose(0, 1).flatten(1), batch),
            unimodal=unimodal,
            pooled={
                name: masked_mean(unimodal_BTD, batch.modality_mask[name]) for name, unimodal_BTD in unimodal.items()
            },
        )

    def _rows(self, name: str, batch: DialogueBatch) -> Tensor:
        """One modality's projected vectors, for text with context, [N, D]."""
        rows_ND: Tensor = self.projections[name](
            real_rows(batch.features[name], batch), real_rows(batch.modality_mask[name], batch)
        )
        if name == "text" and self.text_context is not None:
            rows_ND = self.text_context(rows_ND, batch)
        return rows_ND

    def _nodes(self, rows: dict[str, Tensor], batch: DialogueBatch) -> Tensor:
        """[M, N, D]."""
        rows = dict(rows)
        if self.speaker_vectors is not None:
            speakers_ND = self.speaker_vectors(batch.speakers.flatten()[batch.real_positions] % SPEAKER_SLOTS)
            rows.update({name: rows[name] + speakers_ND for name in self.with_speaker})
        return torch.stack([rows[name] for name in self.modalities])


@dataclass(frozen=True)
class Graph:
    """The normalised weights of a batch's graphs.

    Attributes:
        within: [M, B, T, T], of the edges within a modality, from columns to rows.
        across: S tensors [M, N, 1]; the s-th has the edges from modality m + s (modulo M) to modality m, from 1.
        batch: the dialogues.
    """

    within: Tensor
    across: list[Tensor]
    batch: DialogueBatch

    def gather(self, nodes_MNH: Tensor) -> Tensor:
        """What every node receives from its neighbours, [M, N, H]."""
        sums_MBTH = self.within @ padded(nodes_MNH, self.batch)
        sums_MNH = sums_MBTH.flatten(1, 2).index_select(1, self.batch.real_positions)
        for shift, weights_MN1 in enumerate(self.across, start=1):
            sums_MNH = torch.addcmul(sums_MNH, weights_MN1, nodes_MNH.roll(-shift, dims=0))
        return sums_MNH


def build_graph(nodes_MND: Tensor, present_MN: Tensor, batch: DialogueBatch, causal: bool) -> Graph:
    """Weights and normalises the edges, in at least float32; absent nodes, and padding, have none.

    Args:
        nodes_MND: the nodes of real utterances.
        present_MN: bool; True where the modality is present.
        batch: their dialogues.
        causal: no edges from later utterances. The matrix is then not symmetric; the degree counts the edges that lead
            to a node.
    """
    with torch.autocast(nodes_MND.device.type, enabled=False):
        unit_MND = functional.normalize(nodes_MND.to(torch.promote_types(nodes_MND.dtype, torch.float32)), dim=-1)
        unit_MBTD = padded(unit_MND, batch)
        present_MBT = padded(present_MN[..., None], batch)[..., 0]
        joined_MBTT = present_MBT[..., :, None] & present_MBT[..., None, :]
        if causal:
            joined_MBTT = joined_MBTT.tril()
        within_MBTT = _likeness(unit_MBTD @ unit_MBTD.mT) * joined_MBTT
        shifts = range(1, len(nodes_MND))
        across = [
            _likeness((unit_MND * unit_MND.roll(-shift, dims=0)).sum(dim=-1))
            * (present_MN & present_MN.roll(-shift, dims=0))
            for shift in shifts
        ]
        degree_MN = within_MBTT.sum(dim=-1).flatten(1)[:, batch.real_positions] + sum(across)
        scale_MN = torch.where(present_MN, degree_MN, 1.0).rsqrt()
        scale_MBT = padded(scale_MN[..., None], batch)[..., 0]
        return Graph(
            within=within_MBTT * scale_MBT[..., :, None] * scale_MBT[..., None, :],
            across=[
                (weights_MN * scale_MN * scale_MN.roll(-shift, dims=0))[..., None]
                for shift, weights_MN in zip(shifts, across, strict=True)
            ],
            batch=batch,
        )


def _likeness(cosines: Tensor) -> Tensor:
    """1 for the same direction, 0 for the opposite one; rounding may have put a cosine beyond ±1."""
    return 1 - (COSINE_LIMIT * cosines).clamp(-COSINE_LIMIT, COSINE_LIMIT).arccos() / math.pi


class _GraphConvolution(nn.Module):
    """GCNII*: H⁰ = ReLU(X W₀ + b), P = Ã drop(Hˡ⁻¹), Hˡ = ReLU(θ [P; H⁰] Wˡ + (1 - θ) ((1 - α) P + α H⁰)).

    The second term is a product with a multiple of the identity matrix, so both are one product with ``θ Wˡ +
    residual``.
    """

    theta: Tensor
    residual: Tensor

    def __init__(self, config: MMGCN.Config) -> None:
        super().__init__()
        units, layers, alpha = config.hidden_units, config.layers, config.initial_share
        self.enter = nn.Linear(config.node_units, units)
        self.dropout = Dropout(config.dropout)
        self.weights_L2HH = nn.Parameter(torch.empty(layers, 2 * units, units).uniform_(-(units**-0.5), units**-0.5))
        theta_L11 = torch.log(config.identity_decay / torch.arange(1, layers + 1) + 1)[:, None, None]
        mix_2HH = torch.cat([(1 - alpha) * torch.eye(units), alpha * torch.eye(units)])
        self.register_buffer("theta", theta_L11, persistent=False)
        self.register_buffer("residual", (1 - theta_L11) * mix_2HH, persistent=False)

    def forward(self, nodes_MND: Tensor, graph: Graph) -> Tensor:
        """Returns [M, N, H]."""
        first_MNH = self.enter(nodes_MND).relu()
        hidden_MNH: Tensor = first_MNH
        for weights_2HH in (self.theta * self.weights_L2HH + self.residual).unbind(0):
            gathered_MNH = graph.gather(self.dropout(hidden_MNH))
            of_gathered_HH, of_first_HH = weights_2HH.chunk(2)
            hidden_MNH = (gathered_MNH @ of_gathered_HH + first_MNH @ of_first_HH).relu()
        return hidden_MNH
