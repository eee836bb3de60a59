"""Joint vectors: a stack of blocks in which only a few trainable vectors pass information between modalities.

Legend: B dialogues, T utterances, N real utterances of the batch, S sequences (B or N), L entries of a sequence (T, or
tokens, or pieces of audio), D numbers of an entry, K joint vectors, H hidden units, M modalities, C classes.

    text_SLH ──┬─► encoder ─┬─► text_SLH ──┬─► encoder ─┬─► …  text ─────► [ text ; joint ]  ─ Linear ─► log-softmax ─┐
               │            │              │            │                                                           │
    joint_SKH ─┴────────── mean ───────────┴────────── mean ─► …  joint                                            mean ─► logits
               │            │              │            │                                                           │
    audio_SLH ─┴─► encoder ─┴─► audio_SLH ─┴─► encoder ─┴─► …  audio ────► [ audio ; joint ] ─ Linear ─► log-softmax ─┘
                   └────── a block ──────┘

Reconstruction. Source: Shi et al., Emotional Cross-Modal Fusion and Inter-class Contrastive Learning, ICIC 2024 (arXiv
2405.17900). Only its abstract and the captions of its figures were available: trainable vectors that exchange
information with both modalities in stacked blocks, two emotion classifiers, a supervised contrastive loss between
classes. The form of a block is that of the closest published method, the bottleneck tokens of Nagrani et al.,
Attention Bottlenecks for Multimodal Fusion, NeurIPS 2021, here from the first block on. All values of the settings are
ours.

``mode`` determines the sequences. ``utterance``: the vectors of a dialogue's utterances, with position codes; every
utterance reads from the dialogue's joint vectors by attention, and these have seen the future. ``token``: the tokens of
one utterance, its 20 ms pieces of audio, its face crops, as in the paper; both they and the joint vectors are averaged,
and no utterance sees another. The contrastive loss is ``supcon`` with ``class_balanced``.
"""  # noqa: E501

from collections.abc import Mapping
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from merc.compute.masked import masked_mean
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.models.engine.common import Dropout, Projection, check_heads, padded, position_codes, present_shares

# Standard deviation of the joint vectors' initial values, as for the bottleneck tokens.
INITIAL_STD = 0.02


class JointVector(MERCModel):
    """Fusion through joint vectors, and a classifier per modality.

    ``logits`` are the mean of the log-probabilities from the classifiers of the present modalities, or of all if none
    is present; ``unimodal_logits`` are those of the classifiers. ``hidden`` is the joint vector of an utterance next to
    its vectors of all modalities. ``unimodal`` is the output of the first block, where nothing has passed between the
    modalities yet, minus its position codes, whose mean only reveals a dialogue's length.
    """

    class Config(Settings):
        """Settings of the joint vectors."""

        mode: Literal["utterance", "token"] = "utterance"
        """What a sequence is: ``utterance``, a dialogue's utterances; ``token``, what lies below one utterance, kept by
        ``--level sequences``.
        """
        longest_sequence: int = Field(default=64, ge=1)
        """Entries of a sequence, at most, in the mode ``token``; a longer one becomes the means of this many parts of
        it.
        """
        hidden_units: int = Field(default=256, ge=2)
        """H, width of all vectors after the projections; a multiple of ``heads``."""
        blocks: int = Field(default=4, ge=1, le=256)
        """Number of stacked blocks; with one, the modalities meet only in the classifiers."""
        joint_vectors: int = Field(default=8, ge=1)
        """K, number of joint vectors."""
        heads: int = Field(default=4, ge=1)
        """Heads of every attention."""
        feedforward_units: int = Field(default=512, ge=1)
        """Width of the feed-forward layers in the blocks' encoders."""
        dropout: float = Field(default=0.2, ge=0, lt=1)
        """Dropout rate of the projected input, the attention weights and each sublayer's output."""

        @model_validator(mode="after")
        def _heads_divide(self) -> Self:
            check_heads("hidden_units", self.hidden_units, self.heads)
            return self

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        units = config.hidden_units
        self.causal = config.mode == "token"
        self.gives = Gives(hidden=units * (1 + len(dims)), unimodal=dict.fromkeys(dims, units))
        self.source: _Tokens | _Utterances = (
            _Tokens(config, dims) if config.mode == "token" else _Utterances(config, dims)
        )
        self.joint_KH = nn.Parameter(torch.empty(config.joint_vectors, units).normal_(std=INITIAL_STD))
        self.blocks = nn.ModuleList([_Block(config, self.modalities) for _ in range(config.blocks)])
        self.norms = nn.ModuleDict({name: nn.LayerNorm(units) for name in dims})
        self.joint_norm = nn.LayerNorm(units)
        self.classifiers = nn.ModuleDict({name: nn.Linear(2 * units, classes) for name in dims})

    @classmethod
    def longest_sequence(cls, config: Config) -> int | None:
        return config.longest_sequence if config.mode == "token" else None

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        streams, keys = self.source(batch)
        joint_SKH = self.joint_KH.expand(len(next(iter(keys.values()))), -1, -1)
        unimodal = {}
        for number, block in enumerate(self.blocks):
            streams, joint_SKH = block(streams, keys, joint_SKH)
            if number == 0:
                unimodal = self.source.unimodal(streams, batch)
        own, joint_BTH = self.source.per_utterance(
            {name: self.norms[name](stream) for name, stream in streams.items()}, self.joint_norm(joint_SKH), batch
        )
        unimodal_logits = {
            name: self.classifiers[name](torch.cat([own_BTH, joint_BTH], dim=-1)) for name, own_BTH in own.items()
        }
        logs_BTMC = torch.stack(
            [logits_BTC.float().log_softmax(dim=-1) for logits_BTC in unimodal_logits.values()], dim=2
        )
        return MERCOutput(
            logits=(present_shares(batch, self.modalities)[..., None] * logs_BTMC).sum(dim=2),
            hidden=torch.cat([joint_BTH, *own.values()], dim=-1),
            unimodal=unimodal,
            unimodal_logits=unimodal_logits if len(unimodal_logits) > 1 else {},
            pooled={
                name: masked_mean(unimodal_BTH, batch.modality_mask[name]) for name, unimodal_BTH in unimodal.items()
            },
        )


class _Utterances(nn.Module):
    """The sequences are the utterances of a dialogue: S is B, L is T."""

    def __init__(self, config: JointVector.Config, dims: Mapping[str, int]) -> None:
        super().__init__()
        self.units = config.hidden_units
        self.projections = nn.ModuleDict({name: Projection(dim, self.units) for name, dim in dims.items()})
        self.dropout = Dropout(config.dropout)
        self.question = nn.Linear(self.units * len(dims), self.units)
        self.reading = nn.MultiheadAttention(self.units, config.heads, dropout=config.dropout, batch_first=True)

    def forward(self, batch: DialogueBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """modality → [B, T, H], and bool [B, T], which of them are keys: the present ones."""
        present = {name: batch.modality_mask[name] for name in self.projections}
        codes_TH = self._codes(batch)
        return {
            name: self.dropout(project(batch.features[name], present[name]) + codes_TH)
            for name, project in self.projections.items()
        }, present

    def unimodal(self, streams: Mapping[str, Tensor], batch: DialogueBatch) -> dict[str, Tensor]:
        """modality → [B, T, H], without their position codes."""
        codes_TH = self._codes(batch)
        return {name: stream_BTH - codes_TH for name, stream_BTH in streams.items()}

    def per_utterance(
        self, streams: Mapping[str, Tensor], joint_BKH: Tensor, batch: DialogueBatch
    ) -> tuple[Mapping[str, Tensor], Tensor]:
        """modality → [B, T, H]; and [B, T, H], what each utterance reads from the joint vectors, with its vectors of
        all modalities as query.
        """
        question_BTH = self.question(torch.cat(list(streams.values()), dim=-1))
        return streams, self.reading(question_BTH, joint_BKH, joint_BKH, need_weights=False)[0]

    def _codes(self, batch: DialogueBatch) -> Tensor:
        return position_codes(batch.utterance_mask.shape[1], self.units, batch.utterance_mask.device)


class _Tokens(nn.Module):
    """The sequences are those below the utterances: S is N. A learned entry, which is not a key, replaces an absent
    one.
    """

    def __init__(self, config: JointVector.Config, dims: Mapping[str, int]) -> None:
        super().__init__()
        self.norms = nn.ModuleDict(
            {name: nn.LayerNorm(dim) for name, dim in dims.items()}
        )  # entries are not standardised
        self.projections = nn.ModuleDict({name: Projection(dim, config.hidden_units) for name, dim in dims.items()})
        self.dropout = Dropout(config.dropout)

    def forward(self, batch: DialogueBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """modality → [N, L, H], and bool [N, L], which of them are keys: the real ones. Raises ``ValueError`` if the
        batch has no sequences.
        """
        if not batch.sequences:
            raise ValueError("the batch has no sequences, which joint vectors in the mode token read")
        keys = {name: batch.sequence_mask[name] for name in self.projections}
        normed = {name: norm(batch.sequences[name]) for name, norm in self.norms.items()}
        return {
            name: self.dropout(project(normed[name], keys[name])) for name, project in self.projections.items()
        }, keys

    def unimodal(self, streams: Mapping[str, Tensor], batch: DialogueBatch) -> dict[str, Tensor]:
        """modality → [B, T, H], means over the entries."""
        return {
            name: padded(masked_mean(stream_NLH, self._counted(name, batch)), batch)
            for name, stream_NLH in streams.items()
        }

    def per_utterance(
        self, streams: Mapping[str, Tensor], joint_NKH: Tensor, batch: DialogueBatch
    ) -> tuple[Mapping[str, Tensor], Tensor]:
        """modality → [B, T, H], means over the entries; and [B, T, H], the means of the joint vectors."""
        return self.unimodal(streams, batch), padded(joint_NKH.mean(dim=1), batch)

    def _counted(self, name: str, batch: DialogueBatch) -> Tensor:
        """bool [N, L]: the real entries, or the learned one, which is the first."""
        mask_NL = batch.sequence_mask[name]
        return mask_NL | (torch.arange(mask_NL.shape[1], device=mask_NL.device) == 0)


class _Block(nn.Module):
    """Every modality's sequence and the joint vectors pass the modality's encoder together; the resulting joint vectors
    are averaged.
    """

    def __init__(self, config: JointVector.Config, modalities: tuple[str, ...]) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({name: _encoder(config) for name in modalities})

    def forward(
        self, streams: Mapping[str, Tensor], keys: Mapping[str, Tensor], joint_SKH: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Maps modality → [S, L, H] and [S, K, H] to new values; bool [S, L] per modality marks the keys."""
        never_SK = torch.zeros(joint_SKH.shape[:2], dtype=torch.bool, device=joint_SKH.device)
        after, joints = {}, []
        for name, stream_SLH in streams.items():
            excluded = torch.cat([~keys[name], never_SK], dim=1)
            both = self.encoders[name](torch.cat([stream_SLH, joint_SKH], dim=1), src_key_padding_mask=excluded)
            after[name], joint = both.split([stream_SLH.shape[1], joint_SKH.shape[1]], dim=1)
            joints.append(joint)
        return after, torch.stack(joints).mean(dim=0)


def _encoder(config: JointVector.Config) -> nn.Module:
    return nn.TransformerEncoderLayer(
        config.hidden_units,
        config.heads,
        config.feedforward_units,
        config.dropout,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
