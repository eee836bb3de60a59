"""SDT: one-layer transformers within and between modalities, gated and fused, with a head per modality.

Legend: B dialogues, T utterances, N real utterances of the batch, D features of a modality, H hidden units, h heads, d
= H / h, M modalities, K = M · M transformers, C classes.

    features_BTD ─ Linear ─► + positions + speaker ─► transformers: every modality's utterances ask every modality's, itself included
         absent: learned                                   │ gate
                                                           ├─ the modality's own ─► unimodal_BTH
                                                           └─ all M side by side ─ Linear ─► stream ──┬─ ReLU ─ Linear ─► unimodal_logits_BTC
                                                                                                      └─ softmax over modalities ─► hidden_BTH ─► logits_BTC

Source: Ma et al., A Transformer-Based Model With Self-Distillation for Multimodal Emotion Recognition in Conversations,
IEEE TMM 2024, and its code (butterfliesss/SDT at bb07b24). Its objective is the cross-entropy with ``unimodal_weight``
and the loss ``distillation`` with ``teacher: fused``. Unlike in that code, absent utterances are not keys of the
attention and are left out of the fusion, and dropout of a modality's input is drawn once, not once per transformer.
With one modality there are no transformers between modalities and nothing to fuse, and its head makes ``logits``.

All transformers are computed at once; only the attention, which relates utterances, sees padding.
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
    LinearMaps,
    Projection,
    check_heads,
    padded,
    position_codes,
    real_rows,
)


class SDT(MERCModel):
    """``unimodal`` are the gated outputs of the transformers within the modalities, independent of the others."""

    VERSION = 2

    class Config(Settings):
        """Settings of SDT."""

        # Weights and time grow with its square.
        hidden_units: int = Field(default=256, ge=2)
        """H, also the width of the feed-forward layers; a multiple of ``heads``; published: 1024, which the recipe
        ``sdt`` has.
        """
        heads: int = Field(default=8, ge=1)
        """h, heads of every transformer's attention."""
        dropout: float = Field(default=0.5, ge=0, lt=1)
        """Dropout rate of the input, attention weights, sublayer outputs, inner feed-forward layer, and before the
        modalities' classifiers.
        """
        gates: Literal["learned", "identity"] = "learned"
        """Gates of the transformers' outputs x: ``learned``, σ(W x) x, as published for IEMOCAP; ``identity``, σ(x) x,
        as published for MELD.
        """

        @model_validator(mode="after")
        def _heads_divide(self) -> Self:
            check_heads("hidden_units", self.hidden_units, self.heads)
            return self

    causal = False

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        units, modalities = config.hidden_units, len(dims)
        self.gives = Gives(hidden=units, unimodal=dict.fromkeys(dims, units))
        self.projections = nn.ModuleDict({name: Projection(dim, units, bias=False) for name, dim in dims.items()})
        self.speaker_vectors = nn.Embedding(SPEAKER_SLOTS, units)
        self.dropout = Dropout(config.dropout)
        self.transformers = _Transformers(config, modalities)
        self.gates = (
            LinearMaps(modalities * modalities, units, units, bias=False) if config.gates == "learned" else None
        )
        self.streams = LinearMaps(modalities, modalities * units, units)
        self.fusion_gate = nn.Linear(units, units, bias=False) if modalities > 1 else None
        self.heads = LinearMaps(modalities, units, classes) if modalities > 1 else None
        self.classifier = nn.Linear(units, classes)

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        gated_KNH = self.transformers(self._inputs(batch), batch, self.modalities)
        gated_KNH = (gated_KNH if self.gates is None else self.gates(gated_KNH)).sigmoid() * gated_KNH
        gated_MSNH = gated_KNH.unflatten(
            0, (len(self.modalities), -1)
        )  # for each modality, the contribution of each source
        streams_MNH = self.streams(gated_MSNH.transpose(1, 2).flatten(2))
        hidden_NH = self._fused(streams_MNH, batch)
        own = (
            []
            if self.heads is None
            else [padded(logits_NC, batch) for logits_NC in self.heads(self.dropout(streams_MNH.relu()))]
        )
        unimodal = {name: padded(gated_MSNH[index, index], batch) for index, name in enumerate(self.modalities)}
        return MERCOutput(
            logits=padded(self.classifier(hidden_NH), batch),
            hidden=padded(hidden_NH, batch),
            unimodal=unimodal,
            unimodal_logits=dict(zip(self.modalities, own, strict=False)),
            pooled={
                name: masked_mean(unimodal_BTH, batch.modality_mask[name]) for name, unimodal_BTH in unimodal.items()
            },
        )

    def _inputs(self, batch: DialogueBatch) -> Tensor:
        """[M, N, H]."""
        steps = batch.utterance_mask.shape[1]
        positions_N = batch.real_positions
        codes_NH = position_codes(steps, self.gives.hidden, positions_N.device).index_select(0, positions_N % steps)
        marks_NH = codes_NH + self.speaker_vectors(real_rows(batch.speakers, batch) % SPEAKER_SLOTS)
        projected = [
            self.projections[name](real_rows(batch.features[name], batch), real_rows(batch.modality_mask[name], batch))
            for name in self.modalities
        ]
        inputs_MNH: Tensor = self.dropout(torch.stack(projected) + marks_NH)
        return inputs_MNH

    def _fused(self, streams_MNH: Tensor, batch: DialogueBatch) -> Tensor:
        """[N, H]; absent modalities have a share only if all are absent."""
        if self.fusion_gate is None:
            only_NH: Tensor = self.dropout(streams_MNH[0].relu())
            return only_NH
        present_MN = torch.stack([real_rows(batch.modality_mask[name], batch) for name in self.modalities])
        counted_MN = present_MN | ~present_MN.any(dim=0)
        shares_MNH = self.fusion_gate(streams_MNH).masked_fill(~counted_MN[..., None], float("-inf")).softmax(dim=0)
        fused_NH: Tensor = (shares_MNH * streams_MNH).sum(dim=0)
        return fused_NH


class _Transformers(nn.Module):
    """K = M · M encoder layers: attention of modality m (the queries) to source s (keys and values), and a feed-forward
    layer; each with a residual path.

    A modality's queries for all its sources, and its keys and values for all modalities that attend to it, are one
    product.
    """

    def __init__(self, config: SDT.Config, modalities: int) -> None:
        super().__init__()
        units, pairs = config.hidden_units, modalities * modalities
        self.head_count = config.heads
        self.dropout = Dropout(config.dropout)
        self.query_key_value = LinearMaps(modalities, units, 3 * modalities * units)
        self.attended = LinearMaps(pairs, units, units)
        self.norm_weight_K1H = nn.Parameter(torch.ones(pairs, 1, units))
        self.norm_bias_K1H = nn.Parameter(torch.zeros(pairs, 1, units))
        self.enter = LinearMaps(pairs, units, units)
        self.leave = LinearMaps(pairs, units, units)

    def forward(self, inputs_MNH: Tensor, batch: DialogueBatch, modalities: tuple[str, ...]) -> Tensor:
        """Returns [K, N, H]; the transformer of modality m and source s has the place m · M + s."""
        asking_KNH = inputs_MNH.repeat_interleave(len(modalities), dim=0)
        stream_KNH = asking_KNH + self.dropout(self.attended(self._attend(inputs_MNH, batch, modalities)))
        normed_KNH = torch.addcmul(
            self.norm_bias_K1H,
            functional.layer_norm(stream_KNH, stream_KNH.shape[-1:], eps=NORM_EPSILON),
            self.norm_weight_K1H,
        )
        inner_KNH = self.dropout(functional.gelu(self.enter(normed_KNH), approximate="tanh"))
        output_KNH: Tensor = stream_KNH + self.dropout(self.leave(inner_KNH))
        return output_KNH

    def _attend(self, inputs_MNH: Tensor, batch: DialogueBatch, modalities: tuple[str, ...]) -> Tensor:
        """[K, N, H]. An utterance attends to those in which the source is present, and to the source at its own place,
        so that no row is empty.
        """
        count, (dialogues, steps) = len(modalities), batch.utterance_mask.shape
        packed_NX = self.query_key_value(inputs_MNH).transpose(0, 1).flatten(1)
        parts_BTM3Mhd = padded(packed_NX, batch).view(dialogues, steps, count, 3, count, self.head_count, -1)
        query_BTMShd, key_BTSMhd, value_BTSMhd = parts_BTM3Mhd.unbind(3)
        query_SBMhTd = query_BTMShd.permute(3, 0, 2, 4, 1, 5)
        key_SBMhTd, value_SBMhTd = (part.permute(2, 0, 3, 4, 1, 5) for part in (key_BTSMhd, value_BTSMhd))
        present_SBT = torch.stack([batch.modality_mask[name] for name in modalities])
        keys_SBTT = present_SBT[:, :, None, :] | torch.eye(steps, dtype=torch.bool, device=present_SBT.device)
        # Four axes, as the fast kernels require: the first has the sources' dialogues, the second the heads of all
        # attending modalities.
        query, key, value = (part.flatten(0, 1).flatten(1, 2) for part in (query_SBMhTd, key_SBMhTd, value_SBMhTd))
        dropout = self.dropout.p if self.training else 0.0
        found = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=keys_SBTT.flatten(0, 1)[:, None], dropout_p=dropout
        )
        found_SBMhTd = found.view(count, dialogues, count, self.head_count, steps, -1)
        found_KXH = found_SBMhTd.permute(2, 0, 1, 4, 3, 5).flatten(4).flatten(2, 3).flatten(0, 1)  # X: B · T
        return found_KXH.index_select(1, batch.real_positions)
