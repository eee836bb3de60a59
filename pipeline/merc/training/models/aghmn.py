"""AGHMN: each utterance queries a memory of the last few before it, which a recurrence gated by the attention
summarises. Causal.

Legend: B dialogues, T utterances, N real utterances of the batch, K window, W utterances of all windows, M modalities,
D units, C classes.

    features_BTD ─ Linear, summed over ─► tanh ─► x ─┬──────────────────────────────────────────┬─► + ─► hidden ─► logits
         absent: learned      modalities             └─ the K before it ─► BiGRU + x ─► memory ─┴─► attention GRU ─┘

    For utterance i, with its memory m_1 … m_K, oldest first:
        a = softmax_k(x_i · m_k)                                h_k = a_k tanh(W m_k + b + r_k ⊙ (U h_k-1 + d)) + (1 - a_k) h_k-1
        r_k = σ(W_r m_k + U_r h_k-1 + b_r)                      hidden_i = x_i + h_K

Source: Jiao, Lyu and King, Real-Time Emotion Recognition via Attention Gated Hierarchical Memory Network, AAAI 2020,
and its code (wxjiao/AGHMN at 32bc2f8, ``BiF_AGRU`` with one hop). There x is computed from words; here it starts from
the vectors of utterances, of any modalities, and in that respect is a reconstruction. At the start of a dialogue, the
memory is shorter instead of padded with leading zeros, over which the recurrence would run.
"""  # noqa: E501

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from merc.compute.masked import masked_mean
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.models.engine.common import Dropout, Projection, padded, real_rows
from merc.training.models.engine.sequences import Sequences, counted


class AGHMN(MERCModel):
    """``unimodal`` are the modalities' terms of x, ``context`` is h_K: zeros for the first utterance."""

    class Config(Settings):
        """Settings of AGHMN."""

        units: int = Field(default=100, ge=1)
        """D, width of everything."""
        window: int = Field(default=10, ge=1)
        """K, number of utterances in the memory; published: 10 for MELD, 40 for IEMOCAP."""
        dropout: float = Field(default=0.3, ge=0, lt=1)
        """Dropout rate of x, of the memory and of the hidden layer."""

    causal = True

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        self.window = config.window
        self.gives = Gives(
            hidden=config.units,
            unimodal=dict.fromkeys(dims, config.units),
            context=config.units,
            hidden_dropout=config.dropout,
        )
        self.projections = nn.ModuleDict({name: Projection(dim, config.units) for name, dim in dims.items()})
        self.dropout = Dropout(config.dropout)
        self.memory = nn.GRU(config.units, config.units, bidirectional=True)
        self.summary = _AttentionGRU(config.units)
        self.classifier = nn.Linear(config.units, classes)

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        projected = [
            project(real_rows(batch.features[name], batch), real_rows(batch.modality_mask[name], batch))
            for name, project in self.projections.items()
        ]
        projected_MND = torch.stack(projected)
        x_ND = self.dropout(projected_MND.sum(dim=0).tanh())
        context_ND = self._context(x_ND, batch.lengths_cpu)
        hidden_ND = self.dropout(x_ND + context_ND)
        unimodal = dict(zip(self.modalities, padded(projected_MND, batch), strict=True))
        return MERCOutput(
            logits=padded(self.classifier(hidden_ND), batch),
            hidden=padded(hidden_ND, batch),
            bare=padded(x_ND + context_ND, batch),
            unimodal=unimodal,
            context=padded(context_ND, batch),
            pooled={
                name: masked_mean(projected_BTD, batch.modality_mask[name]) for name, projected_BTD in unimodal.items()
            },
        )

    def _context(self, x_ND: Tensor, lengths_B: Tensor) -> Tensor:
        """The summary of each utterance's memory, [N, D]; zeros if it is empty. ``lengths_B`` is on the CPU, where the
        windows are laid out.
        """
        counts_N = counted(lengths_B).clamp(max=self.window)
        width = int(counts_N.max())
        if not width:
            return torch.zeros_like(x_ND)
        asking_W, place_W = torch.arange(len(counts_N)).repeat_interleave(counts_N), counted(counts_N)
        source_W = (asking_W - counts_N[asking_W] + place_W).to(x_ND.device, non_blocking=True)
        slot_W = (asking_W * width + place_W).to(x_ND.device, non_blocking=True)
        there_NK = (torch.arange(width) < counts_N[:, None]).to(x_ND.device, non_blocking=True)

        remembered_WD = x_ND.index_select(0, source_W)
        ahead_WD, back_WD = (
            Sequences.of(asking_W, x_ND.device).run(self.memory, remembered_WD[:, None])[:, 0].chunk(2, dim=-1)
        )
        memory_WD = self.dropout(remembered_WD + ahead_WD + back_WD)
        memory_NKD = (
            memory_WD.new_zeros(len(x_ND) * width, memory_WD.shape[1])
            .index_copy(0, slot_W, memory_WD)
            .view(len(x_ND), width, -1)
        )
        scores_NK = (x_ND[:, None] * memory_NKD).sum(dim=-1)
        gates_NK = scores_NK.masked_fill(~there_NK, torch.finfo(scores_NK.dtype).min).softmax(dim=-1) * there_NK
        context_ND: Tensor = self.summary(memory_NKD, gates_NK)
        return context_ND


class _AttentionGRU(nn.Module):
    """A GRU with a given update gate; the weights of reset gate and new state are side by side, initialised as in the
    published code.
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        self.of_memory, self.of_state = nn.Linear(units, 2 * units), nn.Linear(units, 2 * units)
        for linear in (self.of_memory, self.of_state):
            for weight in linear.weight.data.chunk(2):
                nn.init.xavier_normal_(weight)

    def forward(self, memory_NKD: Tensor, gates_NK: Tensor) -> Tensor:
        """The state after the last step, [N, D], in float32, since errors add up over the steps. A step whose gate is 0
        does not change the state.
        """
        with torch.autocast(memory_NKD.device.type, enabled=False):
            state_ND = torch.zeros_like(memory_NKD[:, 0])
            for of_memory, gate in zip(
                self.of_memory(memory_NKD).unbind(1), gates_NK[..., None].unbind(1), strict=True
            ):
                (memory_reset, memory_new), (state_reset, state_new) = (
                    of_memory.chunk(2, dim=-1),
                    self.of_state(state_ND).chunk(2, dim=-1),
                )
                new_ND = (memory_new + (memory_reset + state_reset).sigmoid() * state_new).tanh()
                state_ND = torch.lerp(state_ND, new_ND, gate)
            return state_ND
