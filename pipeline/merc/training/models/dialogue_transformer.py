"""A transformer encoder per modality, gated and fused: the baseline of inter-dialogue contrastive learning.

Legend: B dialogues, T utterances, N real utterances of the batch, D features of a modality, H hidden units, h heads, C
classes.

    features_ND ─ Linear ─► + positions ─► self-attention ─► feed-forward ─► gate ─► unimodal_NH ─┐
          absent: learned                                                                        ├─ Linear ─► hidden_NH ─ Linear ─► logits_NC
                                                                              other modalities ──┘

Source: Lee, Kim and Choi, Inter-Dialog Contrastive Learning, ICASSP 2026, and its code (Neuro-AI-Lab/IDCL at f0d6d9f),
there with text and audio; a reduced SDT (Ma et al., IEEE TMM 2024). Unlike there, the vectors of whole dialogues
(G_i^m of its equation 4) are means over the utterances of the dialogue without the padding, and absent utterances are
not keys of the attention and not part of those means.
"""  # noqa: E501

from collections.abc import Mapping
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from merc.compute.masked import masked_mean
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.models.engine.common import (
    NORM_EPSILON,
    SPEAKER_SLOTS,
    Dropout,
    Projection,
    check_heads,
    padded,
    position_codes,
    real_rows,
)


class DialogueTransformer(MERCModel):
    """Self-attention over the dialogue within each modality, then one linear fusion."""

    VERSION = 2

    class Config(Settings):
        """Settings of the transformer."""

        hidden_units: int = Field(default=512, ge=2)
        """H, width of the encoders and of the fusion; a multiple of ``heads``."""
        layers: int = Field(default=1, ge=1, le=256)
        """Encoder layers per modality; the first attends to its input as it is, further ones to its layer norm."""
        heads: int = Field(default=8, ge=1)
        """h, heads of the self-attention."""
        feedforward_units: int = Field(default=512, ge=1)
        """Width of the encoders' feed-forward layers."""
        dropout: float = Field(default=0.5, ge=0, lt=1)
        """Dropout rate of the input, the attention weights and each sublayer's output."""
        # The published code computes speaker vectors but never adds them.
        speakers: Literal["none", "slots"] = "none"
        """``none``, as published; ``slots``: a vector per place in the order of first appearance, added to every
        modality's input.
        """
        # The mean of position codes is a function of the dialogue's length, so that with ``gated`` dialogues of equal
        # length become similar whatever their content. ``content`` avoids this at the cost of a second pass.
        pool_from: Literal["content", "gated", "none"] = "content"
        """What is pooled: ``content``, outputs for inputs without position codes; ``gated``, the outputs themselves, as
        published; ``none``.
        """

        @model_validator(mode="after")
        def _heads_divide(self) -> Self:
            check_heads("hidden_units", self.hidden_units, self.heads)
            return self

    causal = False

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        self.pool_from = config.pool_from
        self.gives = Gives(hidden=config.hidden_units, unimodal=dict.fromkeys(dims, config.hidden_units))
        self.projections = nn.ModuleDict(
            {name: Projection(dim, config.hidden_units, bias=False) for name, dim in dims.items()}
        )
        self.encoders = nn.ModuleDict({name: _Encoder(config) for name in dims})
        self.speaker_vectors = nn.Embedding(SPEAKER_SLOTS, config.hidden_units) if config.speakers == "slots" else None
        self.fuse = nn.Linear(config.hidden_units * len(dims), config.hidden_units, bias=False)
        self.classifier = nn.Linear(config.hidden_units, classes)

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        steps = batch.utterance_mask.shape[1]
        codes_NH = position_codes(steps, self.gives.hidden, batch.utterance_mask.device)[batch.real_positions % steps]
        unimodal, pooled = {}, {}
        for name in self.modalities:
            content_NH = self.projections[name](
                real_rows(batch.features[name], batch), real_rows(batch.modality_mask[name], batch)
            )
            if self.speaker_vectors is not None:
                content_NH = content_NH + self.speaker_vectors(real_rows(batch.speakers, batch) % SPEAKER_SLOTS)
            unimodal[name] = self.encoders[name](content_NH + codes_NH, batch, name)
            if self.wants_pooled and self.pool_from != "none":
                pooled_NH = (
                    unimodal[name] if self.pool_from == "gated" else self.encoders[name](content_NH, batch, name)
                )
                pooled[name] = masked_mean(padded(pooled_NH, batch), batch.modality_mask[name])
        hidden_NH = self.fuse(torch.cat(list(unimodal.values()), dim=-1))
        return MERCOutput(
            logits=padded(self.classifier(hidden_NH), batch),
            hidden=padded(hidden_NH, batch),
            unimodal={name: padded(unimodal_NH, batch) for name, unimodal_NH in unimodal.items()},
            pooled=pooled,
        )


class _Encoder(nn.Module):
    """The encoder of one modality with its gate."""

    def __init__(self, config: DialogueTransformer.Config) -> None:
        super().__init__()
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList([_Layer(config, norm_first=number > 0) for number in range(config.layers)])
        self.gate = nn.Linear(config.hidden_units, config.hidden_units, bias=False)

    def forward(self, input_NH: Tensor, batch: DialogueBatch, modality: str) -> Tensor:
        """Returns [N, H]. An utterance attends to all present ones and to itself, so that no row of the attention is
        empty.
        """
        present_BT = batch.modality_mask[modality]
        itself_TT = torch.eye(present_BT.shape[1], dtype=torch.bool, device=present_BT.device)
        keys_B1TT = (present_BT[:, None, :] | itself_TT)[:, None]
        stream_NH = self.dropout(input_NH)
        for layer in self.layers:
            stream_NH = layer(stream_NH, keys_B1TT, batch)
        gated_NH: Tensor = self.gate(stream_NH).sigmoid() * stream_NH
        return gated_NH


class _Layer(nn.Module):
    """Self-attention and feed-forward, each with a residual path."""

    def __init__(self, config: DialogueTransformer.Config, norm_first: bool) -> None:
        super().__init__()
        units = config.hidden_units
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(units, NORM_EPSILON) if norm_first else nn.Identity()
        self.query_key_value = nn.Linear(units, 3 * units)
        self.attended = nn.Linear(units, units)
        self.dropout = Dropout(config.dropout)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(units, NORM_EPSILON),
            nn.Linear(units, config.feedforward_units),
            nn.GELU(approximate="tanh"),
            Dropout(config.dropout),
            nn.Linear(config.feedforward_units, units),
            Dropout(config.dropout),
        )

    def forward(self, stream_NH: Tensor, keys_B1TT: Tensor, batch: DialogueBatch) -> Tensor:
        """Returns [N, H]; ``keys_B1TT`` is True where a row may attend to a column."""
        three_BTH = padded(self.query_key_value(self.attention_norm(stream_NH)), batch)
        query, key, value = three_BTH.view(*three_BTH.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        dropout = self.dropout.p if self.training else 0.0
        attended_BhTd = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=keys_B1TT, dropout_p=dropout
        )
        stream_NH = stream_NH + self.dropout(self.attended(real_rows(attended_BhTd.transpose(1, 2).flatten(2), batch)))
        output_NH: Tensor = stream_NH + self.feedforward(stream_NH)
        return output_NH
