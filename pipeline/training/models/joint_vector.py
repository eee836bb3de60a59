"""Joint vectors: a stack of blocks in which a few trainable vectors are all that passes from one modality to another.

Legend: B dialogues, T utterances, L entries of a sequence, K joint vectors, H hidden units, M modalities, C classes.

    text_BTH ──┬─► encoder ─┬─► text_BTH ──┬─► encoder ─┬─► …  text_BTH ──┬──► [ text ; joint ]  ─ Linear ─► log-softmax ─┐
               │            │              │            │                 │                                              │
    joint_BKH ─┼──► mean of both, a block ─┼──► mean of both ─► …  joint ─┴─ read by every utterance                    mean ─► logits
               │            │              │            │                 │                                              │
    audio_BTH ─┴─► encoder ─┴─► audio_BTH ─┴─► encoder ─┴─► …  audio_BTH ─┴──► [ audio ; joint ] ─ Linear ─► log-softmax ─┘

Reconstruction. Source: Shi et al., Emotional Cross-Modal Fusion and Inter-class Contrastive Learning, ICIC 2024 (arXiv 2405.17900). Only its abstract and the
captions of its figures were to be had: trainable vectors that exchange information with both modalities in stacked blocks, two emotion classifiers,
a supervised contrastive loss between classes. The form of a block is that of the closest published relative, the bottleneck tokens of Nagrani et al.,
Attention Bottlenecks for Multimodal Fusion, NeurIPS 2021, here from the first block on. All values in params.yaml are ours.

The sequences are the utterances of a dialogue, so that its joint vectors see the future. The contrastive loss is ``supcon`` with ``class_balanced``.
"""

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from pipeline.params import Settings
from pipeline.training.batch import DialogueBatch
from pipeline.training.models.base import MERCModel, MERCOutput
from pipeline.training.models.common import Dropout, Projection, masked_mean, position_codes

# Of the joint vectors' first values, as of the bottleneck tokens.
INITIAL_STD = 0.02


class JointVectorConfig(Settings):
    """Settings of the joint vectors.

    Attributes:
        hidden_units: H, a multiple of ``heads``.
        blocks: how many are stacked; with one, the modalities meet in the classifiers alone.
        joint_vectors: K.
        heads: of every attention.
        feedforward_units: width of the encoders' feed-forward layers.
        dropout: of the projected input, the attention weights, and each sublayer's output.
    """

    hidden_units: int = Field(ge=2)
    blocks: int = Field(ge=1)
    joint_vectors: int = Field(ge=1)
    heads: int = Field(ge=1)
    feedforward_units: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_units % self.heads:
            raise ValueError(f"hidden_units is {self.hidden_units}, no multiple of heads, {self.heads}")
        return self


class JointVector(MERCModel):
    """Fusion through joint vectors, and a classifier per modality.

    ``logits`` are the mean of the log-probabilities that the classifiers of the present modalities give, of all where none is present;
    ``unimodal_logits`` are those classifiers'. ``hidden`` is what an utterance reads from the joint vectors beside its vectors of all modalities.
    ``unimodal`` comes out of the first block, where nothing has passed between the modalities yet, with its position codes taken off, whose
    mean would tell a dialogue's length.
    """

    Config: ClassVar[type[Settings]] = JointVectorConfig
    causal = False

    def __init__(self, config: JointVectorConfig, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        units = config.hidden_units
        self.unimodal_dims = dict.fromkeys(dims, units)
        self.hidden_dim = units * (1 + len(dims))
        self.projections = nn.ModuleDict({name: Projection(dim, units) for name, dim in dims.items()})
        self.dropout = Dropout(config.dropout)
        self.joint_KH = nn.Parameter(torch.empty(config.joint_vectors, units).normal_(std=INITIAL_STD))
        self.blocks = nn.ModuleList([_Block(config, self.modalities) for _ in range(config.blocks)])
        self.norms = nn.ModuleDict({name: nn.LayerNorm(units) for name in dims})
        self.joint_norm = nn.LayerNorm(units)
        self.question = nn.Linear(units * len(dims), units)
        self.reading = nn.MultiheadAttention(units, config.heads, dropout=config.dropout, batch_first=True)
        self.classifiers = nn.ModuleDict({name: nn.Linear(2 * units, classes) for name in dims})

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        present = batch.modality_mask
        codes_TH = position_codes(batch.utterance_mask.shape[1], self.joint_KH.shape[1], self.joint_KH.device)
        streams = {name: self.dropout(self.projections[name](batch.features[name], present[name]) + codes_TH) for name in self.modalities}
        joint_BKH = self.joint_KH.expand(len(batch.lengths), -1, -1)
        unimodal = {}
        for number, block in enumerate(self.blocks):
            streams, joint_BKH = block(streams, {name: ~present[name] for name in streams}, joint_BKH)
            if number == 0:
                unimodal = {name: stream_BTH - codes_TH for name, stream_BTH in streams.items()}
        own = {name: self.norms[name](stream_BTH) for name, stream_BTH in streams.items()}
        joint_BKH = self.joint_norm(joint_BKH)
        read_BTH, _ = self.reading(self.question(torch.cat(list(own.values()), dim=-1)), joint_BKH, joint_BKH, need_weights=False)
        unimodal_logits = {name: self.classifiers[name](torch.cat([own_BTH, read_BTH], dim=-1)) for name, own_BTH in own.items()}
        logs_BTMC = torch.stack([logits_BTC.float().log_softmax(dim=-1) for logits_BTC in unimodal_logits.values()], dim=2)
        return MERCOutput(
            logits=(self._shares(batch)[..., None] * logs_BTMC).sum(dim=2),
            hidden=torch.cat([read_BTH, *own.values()], dim=-1),
            unimodal=unimodal,
            unimodal_logits=unimodal_logits if len(unimodal_logits) > 1 else {},
            pooled={name: masked_mean(unimodal_BTH, present[name]) for name, unimodal_BTH in unimodal.items()},
        )

    def _shares(self, batch: DialogueBatch) -> Tensor:
        """[B, T, M], sums to 1: equal shares for the modalities that are present; for all where none is, since the context still speaks."""
        present_BTM = torch.stack([batch.modality_mask[name] for name in self.modalities], dim=-1)
        counted_BTM = (present_BTM | ~present_BTM.any(dim=-1, keepdim=True)).float()
        return counted_BTM / counted_BTM.sum(dim=-1, keepdim=True)


class _Block(nn.Module):
    """Every modality's sequence and the joint vectors go through the modality's encoder together; the joint vectors that come out are averaged."""

    def __init__(self, config: JointVectorConfig, modalities: tuple[str, ...]) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({name: _encoder(config) for name in modalities})

    def forward(self, streams: Mapping[str, Tensor], absent: Mapping[str, Tensor], joint_BKH: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """From modality → [B, L, H], modality → bool [B, L] and [B, K, H] to the first and the last; what is absent is no key of the attention."""
        keys_BK = torch.zeros(joint_BKH.shape[:2], dtype=torch.bool, device=joint_BKH.device)
        after, joints = {}, []
        for name, stream_BLH in streams.items():
            both = self.encoders[name](torch.cat([stream_BLH, joint_BKH], dim=1), src_key_padding_mask=torch.cat([absent[name], keys_BK], dim=1))
            after[name], joint = both.split([stream_BLH.shape[1], joint_BKH.shape[1]], dim=1)
            joints.append(joint)
        return after, torch.stack(joints).mean(dim=0)


def _encoder(config: JointVectorConfig) -> nn.Module:
    return nn.TransformerEncoderLayer(
        config.hidden_units, config.heads, config.feedforward_units, config.dropout, activation="gelu", batch_first=True, norm_first=True
    )
