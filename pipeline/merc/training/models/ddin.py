"""DDIN, and BiDDIN: a DialogueRNN per modality, coupled by attention to the history of all modalities.

Legend: B dialogues, T utterances, N utterances of all dialogues, R directions, M modalities, K = R · M networks, U
input units, S state units, E emotion units, F = M · E, C classes.

    features_BTD ─ Linear ─► x ──┬──────────► global GRU g ──► history ─┐   (a GRU cell each, per modality and direction; q is the state of the
         absent: learned         ├─ asks ─► attention to g of each modality  utterance's speaker, so that of another one does not change)
                                 │                │ gate
                                 └──────────► party GRU q ◄┘ ─► emotion GRU e ─► share per modality ─► attention over utterances ─► hidden ─► logits

    1. g_i = GRU([x_i; q_s(i)], g_i-1)                            4. q_s(i) = GRU([x_i; ĉ_i], q_s(i))
    2. c_i^(m←n) = Σ_t<i softmax_t(x_i^m A^(mn) g_t^n) g_t^n      5. e_i = GRU(q_s(i), e_i-1)
    3. ĉ_i^m = W [(1 + α_n) c_i^(m←n)]_n + b, α = softmax_n(w c_i^(m←n));  ĉ_1^m = 0

Source: Zhang, Zhu, Guo and Liu, DDIN / BiDDIN (ACM MM 2020), and its code (MANLP-suda/BiDDIN). Unlike in that code, α
is a softmax over the contexts and not over the dialogues of the batch, modalities really get shares in e (there the
softmax is over one value), DDIN's attention over utterances does not look ahead, BiDDIN's does not mix dialogues or see
padding, and its layer norm is trained. The biases of both softmaxes' scores are left out; they cancel.
"""  # noqa: E501

from collections.abc import Mapping
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from merc.compute.masked import masked_mean
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.models.engine.common import Dropout, Projection, check_heads, position_codes
from merc.training.models.engine.party_recurrence import Recurrence, Schedule, placed, plan, rows_at


class DDIN(MERCModel):
    """``unimodal`` are the projected features (of the forward direction).

    ``context`` of the forward model is a linear map of all modalities' ĉ, that is, of earlier utterances' states,
    weighted by the queries of the utterance itself.
    """

    VERSION = 2

    class Config(Settings):
        """Settings of DDIN."""

        direction: Literal["forward", "both"] = "forward"
        """``forward``: DDIN, causal; ``both``: BiDDIN, with more networks from the dialogue's end and multi-head
        attention over all utterances.
        """
        input_units: int = Field(default=100, ge=1)
        """U, width of the projected features."""
        state_units: int = Field(default=150, ge=1)
        """S, width of the global and party states."""
        emotion_units: int = Field(default=100, ge=1)
        """E, width of the emotion states of one modality."""
        heads: int = Field(default=4, ge=1)
        """Heads of BiDDIN's attention over utterances; a divisor of 2 E."""
        input_dropout: float = Field(default=0.0, ge=0, lt=1)
        """Dropout rate of the projected features, where they enter the recurrence."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate of the emotion states where they leave the recurrence, of the hidden layer, and of BiDDIN's
        attention over utterances.
        """
        recurrent_dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate of the three states, and of the history that is attended to."""
        # In the published model these features reach it only through two recurrences and an attention. Intended for
        # strong frozen vectors.
        shortcut: bool = False
        """Whether the layer before the classifier also sees the utterance's own projected features, of all modalities;
        not published.
        """
        # α is then a softmax over the unfinished dialogues of the batch, and all modalities have share 1.
        legacy_gate: bool = False
        """Whether to gate as the published code does, by a softmax over the batch; scores then depend on the other
        dialogues of the batch.
        """

        @model_validator(mode="after")
        def _heads_divide(self) -> Self:
            if self.direction == "both":
                check_heads("twice the emotion_units", 2 * self.emotion_units, self.heads)
            return self

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        self.causal = config.direction == "forward"
        self.legacy_gate = config.legacy_gate
        width = len(dims) * config.emotion_units
        context = width if self.causal else None
        self.gives = Gives(
            hidden=width,
            unimodal=dict.fromkeys(dims, config.input_units),
            context=context,
            hidden_dropout=config.dropout,
        )
        directions = 1 if self.causal else 2
        self.projections = nn.ModuleList([_Projections(dims, config.input_units) for _ in range(directions)])
        self.input_dropout = Dropout(config.input_dropout)
        self.networks = _Networks(config, directions, len(dims))
        self.share_RE = nn.Parameter(_uniform(directions, config.emotion_units, fan=config.emotion_units))
        self.dropout = Dropout(config.dropout)
        self.attention = _CausalAttention(width) if self.causal else _WholeAttention(2 * width, config)
        self.shortcut = config.shortcut
        seen = directions * width + self.shortcut * len(dims) * config.input_units
        self.hidden = nn.Sequential(nn.Linear(seen, width), nn.ReLU(), nn.Dropout(config.dropout))
        self.classifier = nn.Linear(width, classes)
        if self.causal:
            self.context = nn.Linear(len(dims) * config.state_units, width)

    @classmethod
    def causal_settings(cls) -> Mapping[str, Any]:
        return {"direction": "forward"}

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        schedule = plan(batch.lengths_cpu, batch.speakers, len(self.projections))
        inputs_NRMU = torch.stack(
            [project(batch, rows_N) for project, rows_N in zip(self.projections, schedule.positions, strict=True)],
            dim=1,
        )
        present_BTM = torch.stack([batch.modality_mask[name] for name in self.modalities], dim=-1)
        present_NRM = torch.stack([rows_at(present_BTM, positions_N) for positions_N in schedule.positions], dim=1)
        dropped_NRMU = self.input_dropout(inputs_NRMU)
        emotions_KNE, contexts_KNS = self.networks(
            dropped_NRMU, present_NRM, schedule, gate_over=1 if self.legacy_gate else 2
        )
        fused_NRF = self._share(emotions_KNE, present_NRM)
        fused_BTF = torch.cat(
            [placed(fused_NRF[:, one], positions_N, batch) for one, positions_N in enumerate(schedule.positions)],
            dim=-1,
        )
        ahead_N = schedule.positions[0]
        seen_NF = rows_at(self.attention(self.dropout(fused_BTF), batch.utterance_mask), ahead_N)
        bare_NF = self.hidden[0](
            torch.cat([seen_NF, dropped_NRMU[:, 0].flatten(1)], dim=1) if self.shortcut else seen_NF
        )
        hidden_NF = self.hidden[1:](bare_NF)
        unimodal = {
            name: placed(inputs_NRMU[:, 0, index], ahead_N, batch) for index, name in enumerate(self.modalities)
        }
        return MERCOutput(
            logits=placed(self.classifier(hidden_NF), ahead_N, batch),
            hidden=placed(hidden_NF, ahead_N, batch),
            bare=placed(bare_NF, ahead_N, batch),
            unimodal=unimodal,
            context=placed(self.context(contexts_KNS.transpose(0, 1).flatten(1)), ahead_N, batch)
            if self.causal
            else None,
            pooled={name: masked_mean(input_BTU, batch.modality_mask[name]) for name, input_BTU in unimodal.items()},
        )

    def _share(self, emotions_KNE: Tensor, present_NRM: Tensor) -> Tensor:
        """[N, R, F]: the emotion states side by side, each times its modality's share; absent ones have a share only if
        all are absent.
        """
        emotions_NRME = emotions_KNE.view(len(self.projections), -1, *emotions_KNE.shape[1:]).permute(2, 0, 1, 3)
        if self.legacy_gate:
            return emotions_NRME.flatten(2)
        counted_NRM = present_NRM | ~present_NRM.any(dim=-1, keepdim=True)
        scores_NRM = (emotions_NRME * self.share_RE[:, None]).sum(dim=-1)
        shares_NRM = scores_NRM.masked_fill(~counted_NRM, float("-inf")).softmax(dim=-1)
        shared_NRF: Tensor = (shares_NRM[..., None] * emotions_NRME).flatten(2)
        return shared_NRF


def _uniform(*shape: int, fan: int) -> Tensor:
    return torch.empty(shape).uniform_(-(fan**-0.5), fan**-0.5)


class _Projections(nn.ModuleDict):
    """Features of all modalities, for one direction."""

    def __init__(self, dims: Mapping[str, int], units: int) -> None:
        super().__init__({name: Projection(dim, units) for name, dim in dims.items()})

    def forward(self, batch: DialogueBatch, positions_N: Tensor) -> Tensor:
        """Returns [N, M, U]."""
        return torch.stack(
            [
                project(rows_at(batch.features[name], positions_N), rows_at(batch.modality_mask[name], positions_N))
                for name, project in self.items()
            ],
            dim=1,
        )


class _Networks(nn.Module):
    """The weights of all cells, network after network, as the recurrence needs them; initialised like torch's GRU cells
    and linear maps.
    """

    def __init__(self, config: DDIN.Config, directions: int, modalities: int) -> None:
        super().__init__()
        networks, inputs, units, emotions = (
            directions * modalities,
            config.input_units,
            config.state_units,
            config.emotion_units,
        )
        self.directions, self.dropout = directions, Dropout(config.recurrent_dropout)

        def weight(*shape: int, fan: int) -> nn.Parameter:
            return nn.Parameter(_uniform(networks, *shape, fan=fan))

        self.input_global, self.input_bias_global = (
            weight(inputs, 3 * units, fan=units),
            weight(1, 3 * units, fan=units),
        )
        self.party_global, self.state_global = weight(units, 3 * units, fan=units), weight(units, 3 * units, fan=units)
        self.state_bias_global = weight(1, 3 * units, fan=units)
        self.query = weight(inputs, modalities * units, fan=inputs)
        self.gate = weight(units, fan=units)
        self.join, self.join_bias = (
            weight(modalities * units, units, fan=modalities * units),
            weight(1, units, fan=modalities * units),
        )
        self.input_party, self.input_bias_party = weight(inputs, 3 * units, fan=units), weight(1, 3 * units, fan=units)
        self.context_party, self.state_party = weight(units, 3 * units, fan=units), weight(units, 3 * units, fan=units)
        self.state_bias_party = weight(1, 3 * units, fan=units)
        self.party_emotion, self.input_bias_emotion = (
            weight(units, 3 * emotions, fan=emotions),
            weight(1, 3 * emotions, fan=emotions),
        )
        self.state_emotion, self.state_bias_emotion = (
            weight(emotions, 3 * emotions, fan=emotions),
            weight(1, 3 * emotions, fan=emotions),
        )

    def forward(
        self, inputs_NRMU: Tensor, present_NRM: Tensor, schedule: Schedule, gate_over: int
    ) -> tuple[Tensor, Tensor]:
        """Returns the emotion states [K, N, E] and the gated contexts [K, N, S]; in float32, since errors add up over
        the steps.
        """
        with torch.autocast(inputs_NRMU.device.type, enabled=False):
            inputs_KNU = inputs_NRMU.to(self.gate.dtype).permute(1, 2, 0, 3).flatten(0, 1)
            units, rows = self.gate.shape[1], inputs_KNU.shape[1]
            modalities = len(self.gate) // self.directions
            queries_RMNHS = torch.bmm(inputs_KNU, self.query).view(self.directions, modalities, rows, modalities, units)
            queries_NRHMS = queries_RMNHS.permute(2, 0, 3, 1, 4).contiguous()
            codes_TS = position_codes(len(schedule.sizes), units, inputs_KNU.device).to(inputs_KNU.dtype)
            emotions_KNE, contexts_KNS = Recurrence.apply(  # type: ignore[no-untyped-call]  # untyped in torch
                schedule,
                codes_TS,
                gate_over,
                present_NRM.to(inputs_KNU.dtype),
                self._dropout(inputs_KNU, rows) if self.training and self.dropout.p else None,
                *(self.party_global, self.state_global, self.state_bias_global),
                *(self.gate, self.join, self.join_bias),
                *(self.context_party, self.state_party, self.state_bias_party),
                *(self.party_emotion, self.input_bias_emotion, self.state_emotion, self.state_bias_emotion),
                torch.baddbmm(self.input_bias_global, inputs_KNU, self.input_global),
                torch.baddbmm(self.input_bias_party, inputs_KNU, self.input_party),
                queries_NRHMS,
            )
            return emotions_KNE, contexts_KNS

    def _dropout(self, like: Tensor, rows: int) -> tuple[Tensor, ...]:
        """Dropout factors of the global states, the history's keys, the party states and the emotion states."""
        networks, units, emotions = len(self.gate), self.gate.shape[1], self.state_emotion.shape[1]
        shapes = [
            (networks, rows, units),
            (rows, self.directions, networks // self.directions, units),
            (networks, rows, units),
            (networks, rows, emotions),
        ]
        return tuple(self.dropout.factors(like.new_empty(shape)) for shape in shapes)


class _CausalAttention(nn.Module):
    """DDIN's: Σ_j≤i softmax_j(e_i W e_j) e_j."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.query = nn.Linear(units, units, bias=False)

    def forward(self, fused_BTF: Tensor, real_BT: Tensor) -> Tensor:
        """[B, T, F]; padding comes after every real utterance, and needs no mask."""
        earlier_TT = torch.ones(real_BT.shape[1], real_BT.shape[1], dtype=torch.bool, device=real_BT.device).tril()
        scores_BTT = (self.query(fused_BTF) @ fused_BTF.mT).masked_fill(~earlier_TT, float("-inf"))
        attended_BTF: Tensor = scores_BTT.softmax(dim=-1) @ fused_BTF
        return attended_BTF


class _WholeAttention(nn.Module):
    """BiDDIN's: multi-head attention to the whole dialogue, with a residual path and a layer norm."""

    def __init__(self, units: int, config: DDIN.Config) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(
            units, config.heads, dropout=config.dropout, bias=False, batch_first=True
        )
        self.norm = nn.LayerNorm(units)

    def forward(self, fused_BTF: Tensor, real_BT: Tensor) -> Tensor:
        attended_BTF, _ = self.attention(fused_BTF, fused_BTF, fused_BTF, key_padding_mask=~real_BT, need_weights=False)
        output_BTF: Tensor = self.norm(fused_BTF + attended_BTF)
        return output_BTF
