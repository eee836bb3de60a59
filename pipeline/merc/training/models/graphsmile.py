"""GraphSmile: a graph for each pair of modalities in which each hears the other, so that steps across and within
modalities alternate.

Legend: B dialogues, T utterances, N real utterances of the batch, P pairs of modalities, S sides of a pair, H hidden
units, L layers, W utterances of a window, C classes.

    features ─ Linear ─ LeakyReLU ─ dropout ─► x⁰ of the modality
        absent: learned

    text    u1   u2   u3      A node hears the nodes of the other modality: that of its own utterance, those of ``past``
             │ ╲╱ │ ╲╱ │      utterances before it and of ``future`` utterances after it (here both are 1). One layer
             │ ╱╲ │ ╱╲ │      hears the other modality; two layers hear the node's own modality, by way of the other.
    audio   u1   u2   u3

    1. a_mn(i, j) = w_mn(j - i) / √(d_m(i) d_n(j))       modality m hears n; d_m(i): sum of w_mn over the edges of i
    2. x_m^l(i) = Σ_j a_mn(i, j) x_n^(l-1)(j) W_l + b_l  l = 1 … L; no activation; W_l and b_l belong to the pair
    3. y_m = x_m⁰ + Σ_l dropout(LeakyReLU(V_l x_m^l + c_l))
    4. hidden = mean of LeakyReLU(F y_m + f) over both sides of all pairs;  logits = Linear(hidden)

Source: Li, Wang and Zeng, Tracing Intricate Cues in Dialogue, IEEE TPAMI 2025 (arXiv 2407.21536), and its code
(lijfrank-open/GraphSmile at 96745a2), from which the equations are adopted. The rest of the system, which learns the
sentiment of utterances and whether it shifts, is a loss: :mod:`merc.training.losses.sentiment_dynamics`.

Compared in float64 with the same weights, edges' weights included and the code's batch norm taken out: logits of up to
10 differ by at most 1.4e-14, gradients by at most 2.4e-14 of the largest (eight batches of three or four dialogues of 1
to 88 utterances, including the published settings for MELD and IEMOCAP). Intended differences:

- w is learned for a pair, a side of it and a distance j - i, and kept as a logarithm. In the code it is a table of
  500,000 numbers, read in the order of the batch's edges, so that a dialogue's scores depend on the rest of its batch;
  and a sum below 0 gives NaN. Both start at 1;
- text has no batch norm before its linear map, since features are standardised over the train split. The code's
  statistics include padding. Of its four vectors of text the published runs use one, as here;
- the layers of a graph start with different weights; in the code they start as copies of one layer;
- an absent modality is a learned vector, with the same edges as any other: utterances of one modality hear each other
  by way of the other modality, which must not be interrupted. The code has no absent modalities;
- with two modalities there is one graph. With one modality there is one as well, whose nodes hear those of their own
  modality. The code needs all three;
- ``causal`` leaves out edges from later utterances.

As in the code, speakers are not used.
"""

from collections.abc import Mapping
from itertools import combinations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from merc.compute.masked import masked_mean
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.models.engine.common import Dropout, LinearMaps, Projection, padded, real_rows


class GraphSmile(MERCModel):
    """``unimodal`` are the projected features before their activation."""

    class Config(Settings):
        """Settings of GraphSmile."""

        hidden_units: int = Field(default=384, ge=1)
        """H, width of a node and of the layer before the classifier; published: 384 for MELD, 512 for IEMOCAP."""
        layers: int = Field(default=5, ge=1, le=256)
        """L, layers of each pair's graph; published: 5 for MELD, 7 for IEMOCAP."""
        past: int = Field(default=3, ge=0)
        """Number of preceding utterances that a node hears in a layer; published: 3 for MELD, 17 for IEMOCAP."""
        future: int = Field(default=3, ge=0)
        """Number of following utterances that a node hears in a layer, 0 if ``causal``; published: as ``past``."""
        causal: bool = False
        """Whether nothing that comes after an utterance is heard."""
        dropout: float = Field(default=0.2, ge=0, lt=1)
        """Dropout rate of the nodes, and of what each layer adds to equation 3."""

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        units = config.hidden_units
        self.causal, self.past, self.future = config.causal, config.past, 0 if config.causal else config.future
        self.gives = Gives(hidden=units, unimodal=dict.fromkeys(dims, units))
        self.projections = nn.ModuleDict({name: Projection(dim, units) for name, dim in dims.items()})
        # With one modality the pair has one side, which hears itself.
        self.pairs: list[tuple[str, ...]] = list(combinations(dims, 2)) or [tuple(dims)]
        pairs, sides = len(self.pairs), len(self.pairs[0])
        self.log_edges_PSW = nn.Parameter(torch.zeros(pairs, sides, self.past + 1 + self.future))
        self.convolutions = nn.ModuleList([LinearMaps(pairs, units, units) for _ in range(config.layers)])
        self.readouts = nn.ModuleList([LinearMaps(pairs, units, units) for _ in range(config.layers)])
        self.dropout = Dropout(config.dropout)
        self.fuse = nn.Linear(units, units)
        self.classifier = nn.Linear(units, classes)

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        rows = {
            name: project(real_rows(batch.features[name], batch), real_rows(batch.modality_mask[name], batch))
            for name, project in self.projections.items()
        }
        nodes = {name: self.dropout(functional.leaky_relu(rows_NH)) for name, rows_NH in rows.items()}
        nodes_PSNH = torch.stack([torch.stack([nodes[name] for name in pair]) for pair in self.pairs])
        fused_PSNH = self.fuse(self._convolved(nodes_PSNH, batch))
        hidden_NH = functional.leaky_relu(fused_PSNH).mean(dim=(0, 1))
        unimodal = {name: padded(rows_NH, batch) for name, rows_NH in rows.items()}
        return MERCOutput(
            logits=padded(self.classifier(hidden_NH), batch),
            hidden=padded(hidden_NH, batch),
            bare=padded(fused_PSNH.mean(dim=(0, 1)), batch),
            unimodal=unimodal,
            pooled={
                name: masked_mean(unimodal_BTH, batch.modality_mask[name]) for name, unimodal_BTH in unimodal.items()
            },
        )

    def _convolved(self, nodes_PSNH: Tensor, batch: DialogueBatch) -> Tensor:
        """y of equation 3, [P, S, N, H]."""
        edges_PSBTT = weighed_edges(self.log_edges_PSW.exp(), batch.utterance_mask, self.past)
        total_PSNH = nodes_PSNH
        for convolve, read in zip(self.convolutions, self.readouts, strict=True):
            heard_PSBTH = edges_PSBTT @ padded(nodes_PSNH.flip(1), batch)
            heard_PSNH = heard_PSBTH.flatten(2, 3).index_select(2, batch.real_positions)
            nodes_PSNH = convolve(heard_PSNH.flatten(1, 2)).view_as(nodes_PSNH)
            read_PSNH = read(nodes_PSNH.flatten(1, 2)).view_as(nodes_PSNH)
            total_PSNH = total_PSNH + self.dropout(functional.leaky_relu(read_PSNH))
        return total_PSNH


def weighed_edges(weights_PSW: Tensor, mask_BT: Tensor, past: int) -> Tensor:
    """a of equation 1, from heard utterances (columns) to those that hear (rows), [P, S, B, T, T].

    Rows of padding are meaningless.

    Args:
        weights_PSW: w of the distances from -past on, above 0; side 0 of a pair hears side 1, and vice versa.
        mask_BT: bool, which utterances are real.
        past: preceding utterances of a window.
    """
    steps, future = mask_BT.shape[1], weights_PSW.shape[-1] - 1 - past
    # Distances 1 - T to T - 1, 0 outside the window. Of these the row of utterance i is the T from -i on.
    around_PSX = functional.pad(weights_PSW, (steps - 1 - past, steps - 1 - future))
    edges_PSBTT = around_PSX.unfold(-1, steps, 1).flip(-2)[:, :, None] * mask_BT[:, None, :]
    scale_PSBT = torch.where(mask_BT, edges_PSBTT.sum(dim=-1), 1.0).rsqrt()
    return edges_PSBTT * scale_PSBT[..., :, None] * scale_PSBT.flip(1)[..., None, :]
