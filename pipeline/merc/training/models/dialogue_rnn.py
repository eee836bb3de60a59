"""DialogueRNN: what was said so far, the state of each party and the emotion, as three coupled recurrences.

Legend: B dialogues, T utterances, N utterances of all dialogues, R directions, M modalities, U input units, F = M · U,
S state units, E emotion units, H hidden units, C classes.

    features_BTD ─ Linear ─► x, the modalities ──┬──────► global GRU g ──► history ─┐  (q is the state of the utterance's speaker,
         absent: learned     side by side        ├─ asks ─► attention to g ◄────────┘   so that of another one does not change)
                                                 │             │ c
                                                 └─► party GRU q ◄┘ ─► emotion GRU e ─► attention over utterances ─► hidden ─► logits
                                                                                        (both directions only)

    1. g_i = GRU([x_i; q_s(i)], g_i-1)                    3. q_s(i) = GRU([x_i; c_i], q_s(i))
    2. c_i = Σ_t<i softmax_t(x_i A g_t) g_t               4. e_i = GRU(q_s(i), e_i-1)

Source: Majumder et al., DialogueRNN, AAAI 2019, and its code (declare-lab/conv-emotion at 70d902b), whose modalities
are features side by side. Unlike there, each modality has a separate linear map, so that its absence is a learned
vector. A state that listeners would update, off in the published runs, is left out.
"""  # noqa: E501

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from merc.compute.masked import masked_mean
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.models.engine.common import Dropout, Projection
from merc.training.models.engine.party_recurrence import Recurrence, Schedule, placed, plan, rows_at


class DialogueRNN(MERCModel):
    """``unimodal`` are the modalities' parts of x, ``context`` is c of the forward direction."""

    class Config(Settings):
        """Settings of DialogueRNN."""

        direction: Literal["forward", "both"] = "both"
        """``both``: a second set of networks from the dialogue's end, and attention to all utterances; ``forward``:
        causal, without either.
        """
        input_units: int = Field(default=100, ge=1)
        """U, width of each modality's projected features."""
        state_units: int = Field(default=150, ge=1)
        """S, width of the global and party states."""
        emotion_units: int = Field(default=100, ge=1)
        """E, width of the emotion states of one direction."""
        hidden_units: int = Field(default=100, ge=1)
        """H, width of the hidden layer for each direction."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate of the hidden layer."""
        recurrent_dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate of the three states, wherever they are used."""
        emotion_dropout: float = Field(default=0.25, ge=0, lt=1)
        """Dropout rate of the emotion states once more, after the recurrence."""

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        self.causal = config.direction == "forward"
        self.directions = 1 if self.causal else 2
        self.gives = Gives(
            hidden=self.directions * config.hidden_units,
            unimodal=dict.fromkeys(dims, config.input_units),
            context=config.state_units,
            hidden_dropout=config.dropout,
        )
        emotions = self.directions * config.emotion_units
        self.projections = nn.ModuleDict({name: Projection(dim, config.input_units) for name, dim in dims.items()})
        self.networks = Networks(
            self.directions,
            inputs=len(dims) * config.input_units,
            state_units=config.state_units,
            emotion_units=config.emotion_units,
            dropout=config.recurrent_dropout,
        )
        self.emotion_dropout = Dropout(config.emotion_dropout)
        self.query = None if self.causal else nn.Linear(emotions, emotions)
        self.hidden = nn.Sequential(nn.Linear(emotions, self.gives.hidden), nn.ReLU(), Dropout(config.dropout))
        self.classifier = nn.Linear(self.gives.hidden, classes)

    @classmethod
    def causal_settings(cls) -> Mapping[str, Any]:
        return {"direction": "forward"}

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        schedule = plan(batch.lengths_cpu, batch.speakers, self.directions)
        ahead_N = schedule.positions[0]
        unimodal = {
            name: placed(
                project(rows_at(batch.features[name], ahead_N), rows_at(batch.modality_mask[name], ahead_N)),
                ahead_N,
                batch,
            )
            for name, project in self.projections.items()
        }
        inputs_BTF = torch.cat(list(unimodal.values()), dim=-1)
        inputs_RNF = torch.stack([rows_at(inputs_BTF, positions_N) for positions_N in schedule.positions])
        emotions_RNE, contexts_RNS = self.networks(inputs_RNF, schedule)
        by_direction = zip(self.emotion_dropout(emotions_RNE), schedule.positions, strict=True)
        emotions_BTE = torch.cat(
            [placed(emotions_NE, positions_N, batch) for emotions_NE, positions_N in by_direction], dim=-1
        )
        bare_BTH = self.hidden[0](self._attended(emotions_BTE, batch.utterance_mask))
        hidden_BTH = self.hidden[1:](bare_BTH)
        return MERCOutput(
            logits=self.classifier(hidden_BTH),
            hidden=hidden_BTH,
            bare=bare_BTH,
            unimodal=unimodal,
            context=placed(contexts_RNS[0], ahead_N, batch),
            pooled={name: masked_mean(input_BTU, batch.modality_mask[name]) for name, input_BTU in unimodal.items()},
        )

    def _attended(self, emotions_BTE: Tensor, real_BT: Tensor) -> Tensor:
        """With both directions, Σ_j softmax_j((W e_i + b) e_j) e_j over the dialogue, the published ``general2``; with
        one, e itself.
        """
        if self.query is None:
            return emotions_BTE
        scores_BTT = (self.query(emotions_BTE) @ emotions_BTE.mT).masked_fill(~real_BT[:, None], float("-inf"))
        attended_BTE: Tensor = scores_BTT.softmax(dim=-1) @ emotions_BTE
        return attended_BTE


class Networks(nn.Module):
    """The weights of all cells, network after network, initialised like torch's GRU cells and linear maps.

    The recurrence is DDIN's with one modality and without codes of positions.

    Args:
        count: K independent networks, the same number for each direction: first the forward ones, then the backward
            ones.
        inputs: F.
        state_units: S.
        emotion_units: E.
        dropout: dropout rate of the three states.
        asks: attention to g depends on x, softmax_t(x A g_t); False: only on g, softmax_t(a g_t), the ``simple``
            attention of the published code.
    """

    def __init__(
        self, count: int, *, inputs: int, state_units: int, emotion_units: int, dropout: float, asks: bool = True
    ) -> None:
        super().__init__()
        units, emotions = state_units, emotion_units
        self.dropout = Dropout(dropout)
        self.asks = asks

        def weight(*shape: int, fan: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(count, *shape).uniform_(-(fan**-0.5), fan**-0.5))

        self.input_global, self.input_bias_global = (
            weight(inputs, 3 * units, fan=units),
            weight(1, 3 * units, fan=units),
        )
        self.party_global, self.state_global = weight(units, 3 * units, fan=units), weight(units, 3 * units, fan=units)
        self.state_bias_global = weight(1, 3 * units, fan=units)
        self.query = weight(inputs, units, fan=inputs) if asks else weight(units, fan=units)
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

    def forward(self, inputs_KNF: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
        """Returns the emotion states [K, N, E] and the contexts [K, N, S]; in float32, since errors add up over the
        steps.
        """
        with torch.autocast(inputs_KNF.device.type, enabled=False):
            inputs_KNF = inputs_KNF.to(self.query.dtype)
            rows, units = inputs_KNF.shape[1], self.query.shape[-1]
            queries_KNS = torch.bmm(inputs_KNF, self.query) if self.asks else self.query[:, None].expand(-1, rows, -1)
            emotions_KNE, contexts_KNS = Recurrence.apply(  # type: ignore[no-untyped-call]  # untyped in torch
                schedule,
                inputs_KNF.new_zeros(len(schedule.sizes), units),
                2,  # no effect without a gate
                None,  # nothing is absent from the history
                self._dropout(inputs_KNF) if self.training and self.dropout.p else None,
                *(self.party_global, self.state_global, self.state_bias_global),
                *(None, None, None),  # one context, used unchanged
                *(self.context_party, self.state_party, self.state_bias_party),
                *(self.party_emotion, self.input_bias_emotion, self.state_emotion, self.state_bias_emotion),
                torch.baddbmm(self.input_bias_global, inputs_KNF, self.input_global),
                torch.baddbmm(self.input_bias_party, inputs_KNF, self.input_party),
                queries_KNS.transpose(0, 1)[:, :, None, None].contiguous(),
            )
            return emotions_KNE, contexts_KNS

    def _dropout(self, like_KNF: Tensor) -> tuple[Tensor | None, ...]:
        """Dropout factors of the global, the party and the emotion states; none for the history, which contains the
        global states and is not dropped again.
        """
        (networks, rows, _), units, emotions = like_KNF.shape, self.query.shape[-1], self.state_emotion.shape[1]
        of_global, of_party, of_emotion = (
            self.dropout.factors(like_KNF.new_empty(networks, rows, width)) for width in (units, units, emotions)
        )
        return of_global, None, of_party, of_emotion
