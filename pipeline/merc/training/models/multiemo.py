"""MultiEMO: a recurrence over the dialogue in each modality, then layers in which every modality attends to each of the
others.

Legend: B dialogues, T utterances, N real utterances of the batch, M modalities, Q of them with a recurrence, R
directions, H hidden units, h heads, d = H / h, C classes.

    features_BTD ─ Linear ─► DialogueRNN ─► u_MNH, keys and values of all layers
         absent: learned     one per modality │
                                              ├─► text   asks audio, then visual, then feed-forward ─► … ─┐
                                              ├─► audio  asks text,  then visual, then feed-forward ─► … ─┼─ side by side ─ Linear ─► hidden ─► logits
                                              └─► visual asks text,  then audio,  then feed-forward ─► … ─┘                           two-layer classifier

    DialogueRNN (steps 1 to 4 in ``dialogue_rnn.py``), but c_i = Σ_t<i softmax_t(a g_t) g_t;  u_i = ReLU(e_i), of both directions ReLU(W [e_i; e'_i] + b)
    f⁰ = u;  of each layer  x = LN(f + MultiHead(f, u_A, u_A));  y = LN(x + MultiHead(x, u_B, u_B));  f' = LN(y + W₂ ReLU(W₁ y + b₁) + b₂)

Source: Shi and Huang, MultiEMO, ACL 2023 (2023.acl-long.824), and its code (TaoShi1998/MultiEMO at c983fe2). Its
objective is the cross-entropy with the losses ``focal_contrastive`` on ``hidden`` and ``soft_hgr`` on the last f, here
``aligned``. Its runs for MELD use only the forward direction, none at all for text (``text_context``), and two layers;
those for IEMOCAP both directions and six layers.

Unlike in that code, padding and absent utterances are not keys of the attention; if a dialogue has no utterance of the
attended modality, nothing is added. Dropout, 0 in the published runs, is applied once in the feed-forward layer instead
of twice, and not to the scores. With two modalities each attends only to the other. With one there are no layers: the
model is its recurrence and the classifier, causal if the recurrence is; text without other modalities always has the
recurrence, since nothing else would connect its utterances.

All modalities, and all directions, are computed at once; only the attention, which relates utterances, sees padding.
"""  # noqa: E501

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from merc.compute.masked import masked_mean
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.models.dialogue_rnn import Networks
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.models.engine.common import Dropout, LinearMaps, Projection, check_heads, padded, real_rows
from merc.training.models.engine.party_recurrence import plan


class MultiEMO(MERCModel):
    """``unimodal`` is u, which does not depend on the other modalities; ``aligned`` is the last f."""

    class Config(Settings):
        """Settings of MultiEMO."""

        direction: Literal["forward", "both"] = "both"
        """Direction of the recurrence: ``both``, as published for IEMOCAP; ``forward``, as published for MELD."""
        text_context: bool = True
        """Whether text has a recurrence like the others, as published for IEMOCAP but not for MELD; no effect with text
        as the only modality.
        """
        hidden_units: int = Field(default=256, ge=1)
        """H, width of the recurrence's states and of the layers; a multiple of ``heads``."""
        layers: int = Field(default=6, ge=1, le=256)
        """Layers of attention to the other modalities; published: 6 for IEMOCAP, 2 for MELD."""
        heads: int = Field(default=4, ge=1)
        """h, heads of the attention to another modality."""
        feedforward_units: int = Field(default=1024, ge=1)
        """Width of the layers' feed-forward part."""
        classifier_units: int = Field(default=256, ge=1)
        """Width of the classifier's hidden layer; published: 512 for MELD."""
        dropout: float = Field(default=0.0, ge=0, lt=1)
        """Dropout rate after the recurrence and of each sublayer's output."""
        recurrent_dropout: float = Field(default=0.0, ge=0, lt=1)
        """Dropout rate of the three states, wherever they are used."""

        @model_validator(mode="after")
        def _heads_divide(self) -> Self:
            check_heads("hidden_units", self.hidden_units, self.heads)
            return self

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        units = config.hidden_units
        self.causal = len(dims) == 1 and config.direction == "forward"
        self.gives = Gives(hidden=units, unimodal=dict.fromkeys(dims, units), aligned=units)
        self.with_context = tuple(name for name in dims if name != "text" or config.text_context or len(dims) == 1)
        self.projections = nn.ModuleDict({name: Projection(dim, units) for name, dim in dims.items()})
        self.context = _Context(config, len(self.with_context))
        self.layers = nn.ModuleList([_Layer(config, len(dims)) for _ in range(config.layers)] if len(dims) > 1 else [])
        self.fuse = nn.Linear(len(dims) * units, units)
        self.classifier = nn.Sequential(
            nn.Linear(units, config.classifier_units), nn.ReLU(), nn.Linear(config.classifier_units, classes)
        )

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        present = [batch.modality_mask[name] for name in self.modalities]
        own = {
            name: self.projections[name](
                real_rows(batch.features[name], batch), real_rows(batch.modality_mask[name], batch)
            )
            for name in self.modalities
        }
        own.update(
            zip(
                self.with_context,
                self.context(torch.stack([own[name] for name in self.with_context]), batch),
                strict=True,
            )
        )
        asked = _asked(list(own.values()), present, batch)
        fused_MNH = torch.stack(list(own.values()))
        for layer in self.layers:
            fused_MNH = layer(fused_MNH, asked, batch)
        hidden_NH = self.fuse(fused_MNH.transpose(0, 1).flatten(1))
        unimodal = {name: padded(own_NH, batch) for name, own_NH in own.items()}
        return MERCOutput(
            logits=padded(self.classifier(hidden_NH), batch),
            hidden=padded(hidden_NH, batch),
            unimodal=unimodal,
            pooled={name: masked_mean(own_BTH, batch.modality_mask[name]) for name, own_BTH in unimodal.items()},
            aligned=dict(zip(self.modalities, padded(fused_MNH, batch), strict=True)),
        )


class _Context(nn.Module):
    """DialogueRNN over several independent modalities, as one recurrence; [Q, N, H] to [Q, N, H]."""

    def __init__(self, config: MultiEMO.Config, modalities: int) -> None:
        super().__init__()
        units = config.hidden_units
        self.directions = 1 if config.direction == "forward" else 2
        self.networks = Networks(
            self.directions * modalities,
            inputs=units,
            state_units=units,
            emotion_units=units,
            dropout=config.recurrent_dropout,
            asks=False,
        )
        self.join = LinearMaps(modalities, 2 * units, units) if self.directions == 2 else None
        self.dropout = Dropout(config.dropout)

    def forward(self, rows_QNH: Tensor, batch: DialogueBatch) -> Tensor:
        schedule = plan(batch.lengths_cpu, batch.speakers, self.directions)
        # The rows of real utterances in the recurrence, and the content of each.
        row_of_RN = schedule.positions.argsort(dim=1)
        lies_in_RN = row_of_RN.argsort(dim=1)
        states_KNH, _ = self.networks(
            torch.cat([rows_QNH.index_select(1, lies_in_N) for lies_in_N in lies_in_RN]), schedule
        )
        by_direction = zip(states_KNH.chunk(self.directions), row_of_RN, strict=True)
        states_QNE = torch.cat([states_QNH.index_select(1, row_of_N) for states_QNH, row_of_N in by_direction], dim=-1)
        context_QNH: Tensor = self.dropout(states_QNE if self.join is None else self.join(states_QNE)).relu()
        return context_QNH


@dataclass(frozen=True)
class _Asked:
    """What the modalities attend to in one of the sublayers of attention, for each attending modality.

    Attributes:
        rows: [M, N, H], u of the attended modality.
        keys: bool [M · B, 1, 1, T], the utterances in which it is present; all if a dialogue has none, so that no
            softmax is empty.
        there: bool [M, N, 1], whether the dialogue has one.
    """

    rows: Tensor
    keys: Tensor
    there: Tensor


def _asked(own: list[Tensor], present: list[Tensor], batch: DialogueBatch) -> list[_Asked]:
    """M - 1 sublayers: modality m attends to the others in their order.

    Args:
        own: for each modality, [N, H]. present: for each modality, bool [B, T].
        batch: the dialogues.
    """
    asked = []
    for place in range(len(own) - 1):
        sources = [place if place < asking else place + 1 for asking in range(len(own))]
        present_MBT = torch.stack([present[source] for source in sources])
        any_MB1 = present_MBT.any(dim=-1, keepdim=True)
        any_MN = any_MB1.expand_as(present_MBT).flatten(1).index_select(1, batch.real_positions)
        rows_MNH = torch.stack([own[source] for source in sources])
        asked.append(_Asked(rows_MNH, (present_MBT | ~any_MB1).flatten(0, 1)[:, None, None], any_MN[..., None]))
    return asked


class _Layer(nn.Module):
    """A layer of every modality: attention to each of the others in turn, and a feed-forward part."""

    def __init__(self, config: MultiEMO.Config, modalities: int) -> None:
        super().__init__()
        units, others = config.hidden_units, modalities - 1
        self.attention = nn.ModuleList([_Attention(config, modalities) for _ in range(others)])
        self.norms = nn.ModuleList([_Norms(modalities, units) for _ in range(others + 1)])
        self.enter = LinearMaps(modalities, units, config.feedforward_units)
        self.leave = LinearMaps(modalities, config.feedforward_units, units)
        self.dropout = Dropout(config.dropout)

    def forward(self, stream_MNH: Tensor, asked: list[_Asked], batch: DialogueBatch) -> Tensor:
        *between, last = self.norms
        for attention, norm, source in zip(self.attention, between, asked, strict=True):
            stream_MNH = norm(stream_MNH + self.dropout(attention(stream_MNH, source, batch)))
        output_MNH: Tensor = last(stream_MNH + self.dropout(self.leave(self.enter(stream_MNH).relu())))
        return output_MNH


class _Attention(nn.Module):
    """Multi-head attention of every modality's utterances to those of the modality it attends to, [M, N, H]."""

    def __init__(self, config: MultiEMO.Config, modalities: int) -> None:
        super().__init__()
        units = config.hidden_units
        self.heads = config.heads
        self.query = LinearMaps(modalities, units, units)
        self.key_value = LinearMaps(modalities, units, 2 * units)
        self.attended = LinearMaps(modalities, units, units)

    def forward(self, stream_MNH: Tensor, asked: _Asked, batch: DialogueBatch) -> Tensor:
        modalities, (dialogues, steps) = len(stream_MNH), batch.utterance_mask.shape
        query_XThd = padded(self.query(stream_MNH), batch).view(
            modalities * dialogues, steps, self.heads, -1
        )  # X: M · B
        both_XT2hd = padded(self.key_value(asked.rows), batch).view(modalities * dialogues, steps, 2, self.heads, -1)
        query, key, value = (part_XThd.transpose(1, 2) for part_XThd in (query_XThd, *both_XT2hd.unbind(2)))
        found_XhTd = functional.scaled_dot_product_attention(query, key, value, attn_mask=asked.keys)
        found_MYH = found_XhTd.transpose(1, 2).reshape(modalities, dialogues * steps, -1)  # Y: B · T
        attended_MNH: Tensor = self.attended(found_MYH.index_select(1, batch.real_positions)).masked_fill(
            ~asked.there, 0.0
        )
        return attended_MNH


class _Norms(nn.Module):
    """Layer normalisation with a separate scale per modality, [M, N, H]."""

    def __init__(self, modalities: int, units: int) -> None:
        super().__init__()
        self.weight_M1H = nn.Parameter(torch.ones(modalities, 1, units))
        self.bias_M1H = nn.Parameter(torch.zeros(modalities, 1, units))

    def forward(self, values_MNH: Tensor) -> Tensor:
        return torch.addcmul(self.bias_M1H, functional.layer_norm(values_MNH, values_MNH.shape[-1:]), self.weight_M1H)
