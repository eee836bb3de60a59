"""TelME: a teacher on text, students on audio and video, and a fusion in which the students shift the teacher's vector.

Legend: B dialogues, T utterances, N real utterances of the batch, D features of a modality, H hidden units, S students,
C classes.

    text    features_BTD ─ Linear ─ + speaker ─┬─────────────┬─ Linear ─────► t_NH ─ Linear ─► unimodal_logits_BTC
                                               └ forward GRU ┘
    audio,  features_BTD ─ Linear ─ GELU ─ Linear ─ LN ─────────────────────► x_NH ─ Linear ─► unimodal_logits_BTC
    visual

    t, x ─ shift ─► LN(t + δ v) ─► hidden_BTH ─ Linear ─► logits_BTC

    q = LN(x + A(x))     A: multi-head attention
    g = ReLU(W [q; t])   gate
    v = g ⊙ W' q         displacement
    δ = min(η ‖t‖ / ‖v‖, 1)

Source: Yun, Lim, Lee and Song, TelME: Teacher-leading Multimodal Fusion Network for Emotion Recognition in
Conversation, NAACL 2024 (arXiv 2401.12987), and its code (yuntaeyang/TelME at f22fc9f). The code trains the text
encoder, then the audio and video encoders with the distillation losses from the frozen text encoder, then the fusion
with all three encoders frozen. The phases of the recipe do the same (:mod:`merc.training.loop.phases`).

**As published**: the fusion (gate, displacement, its limit, layer norms, dropout, widths), the distillation losses, the
order of training, and what a branch sees. The teacher sees the dialogue up to the utterance and who speaks; a student
sees only its own utterance. So the model is causal.

**A reconstruction**: everything below the teacher's last linear map and the students' classifiers. In the code that is
RoBERTa-large, data2vec-audio and TimeSformer, trained end to end; here a branch starts from extracted vectors.

- The teacher's forward GRU and its vector per speaker replace the earlier turns and the speaker tokens in the input of
  RoBERTa. Without them (``teacher_context: none``, ``speakers: none``) the teacher is the linear map of the code, for
  vectors of a text encoder that reads earlier turns itself.
- A student's two layers replace the fine-tuning of its encoder. Both encoders end with a layer norm, and so does a
  student.

Differences from the code in the fusion:

- Attention. The code passes a matrix with one row per sample to ``nn.MultiheadAttention``, which treats the rows as the
  steps of one sequence. So a sample attends to the others in its batch (four random utterances in training, four
  consecutive ones at test), and its scores depend on them. Here the audio and the video vector of an utterance attend
  to themselves and each other (``attention: modalities``), as in MERC-KDC, and the layer norm is over each of them, not
  over both side by side. With ``attention: concatenated`` the utterance attends only to itself, which is what the code
  computes for a batch of one.
- An absent modality takes no part in the attention, and nothing is added to t if no student is present. The code
  encodes zeros in place of clips longer than 30 seconds.
- The code adds 10⁻⁶ to ‖v‖ before the division; here ‖v‖ counts as at least 10⁻⁶.
- Without text the first modality is the teacher. With one modality there is no shift.

Maximum differences of the logits (standard deviation 0.4 to 0.5), measured in float64 with the same weights and the
widths of the code on 64 random utterances: ``concatenated`` and the code in batches of one 2e-8, or 1.3e-15 with the
10⁻⁶ removed from the code; in batches of four 0.11. ``modalities`` and the code with its attention and layer norm
replaced by torch's over the two vectors of each utterance: 3e-8, or 6e-16 without the 10⁻⁶. The two losses of
:mod:`merc.training.losses.distillation` differ from the code's by 7e-14 (scores) and 2e-16 (representations), and their
gradients by 2e-12 and 3e-18 (2 to 100 rows, scores with standard deviations of 0.1 to 30).

Not reproduced from the code:

- the first utterance of a dialogue gets its speaker's number from the list of the previous dialogue;
- the learning rate schedule counts samples although steps are batches of four: the warm-up takes four of the ten
  epochs;
- on IEMOCAP ``inference.py`` passes audio and video to the fusion in the opposite order to its training (logits
  differ by up to 0.14 in the above measurement);
- audio is resampled to 22,050 Hz and passed on as 16,000 Hz, and its vector is that of the first frame, which is
  padding in all clips of a batch but the longest;
- each student's epoch is selected separately; here the mean of both students' scores on dev selects one epoch for both.
"""

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
    SPEAKER_SLOTS,
    Dropout,
    Projection,
    check_heads,
    padded,
    real_rows,
)
from merc.training.models.engine.recurrent_context import RecurrentContext
from merc.training.models.engine.shifting import Attention, Shift


class TelME(MERCModel):
    """Branches that can be trained one by one, and a fusion over them. ``unimodal`` are the branches' t and x,
    ``unimodal_logits`` their own predictions.
    """

    VERSION = 2

    class Config(Settings):
        """Settings of TelME."""

        hidden_units: int = Field(default=768, ge=1)
        """H, width of the branches and of the fusion; a multiple of ``heads``."""
        heads: int = Field(default=4, ge=1)
        """Heads of the fusion's attention; published: 3 for MELD, which the recipe ``telme`` has, and 4 for IEMOCAP."""
        attention: Attention = "modalities"
        """What a student's vector attends to: ``modalities``, those of the same utterance; ``concatenated``, audio and
        video concatenated attend only to themselves, as the published code computes it for a batch of one, where
        ``heads`` has no effect.
        """
        shift_limit: float = Field(default=0.1, gt=0)
        """η, greatest length of the shift as a share of the teacher's vector; published: 0.1 for MELD, 0.2 for
        IEMOCAP.
        """
        teacher_context: Literal["gru", "none"] = "gru"
        """How the teacher sees the utterances before: ``gru``, a forward GRU with a residual path; ``none``, not at
        all, for vectors of an encoder that reads earlier turns itself.
        """
        layers: int = Field(default=1, ge=1, le=256)
        """Layers of the teacher's GRU."""
        speakers: Literal["slots", "none"] = "slots"
        """What the teacher knows of the speaker: ``slots``, a vector per place in the order of first appearance;
        ``none``.
        """
        dropout: float = Field(default=0.2, ge=0, lt=1)
        """Dropout rate of q and of what the classifier sees, as published, and within the branches."""

        @model_validator(mode="after")
        def _heads_divide(self) -> Self:
            check_heads("hidden_units", self.hidden_units, self.heads)
            return self

    causal = True

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        units = config.hidden_units
        self.gives = Gives(hidden=units, unimodal=dict.fromkeys(dims, units), hidden_dropout=config.dropout)
        self.teacher = "text" if "text" in dims else self.modalities[0]
        self.students = tuple(name for name in self.modalities if name != self.teacher)
        self.branches = nn.ModuleDict(
            {
                name: _Teacher(config, dim, classes) if name == self.teacher else _Student(config, dim, classes)
                for name, dim in dims.items()
            }
        )
        self.shift = self._built_shift(config) if self.students else None
        self.norm = nn.LayerNorm(units)
        self.dropout = Dropout(config.dropout)
        self.classifier = nn.Linear(units, classes)

    def _built_shift(self, config: Config) -> Shift:
        return Shift(
            config.hidden_units,
            len(self.students),
            config.heads,
            config.shift_limit,
            attention=config.attention,
            bias=True,
            dropout=config.dropout,
        )

    def branch(self, modality: str) -> tuple[nn.Module, ...]:
        return (self.branches[modality],)

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        present = {name: real_rows(batch.modality_mask[name], batch) for name in self.modalities}
        vectors: dict[str, Tensor] = {}
        own_logits: dict[str, Tensor] = {}
        for name in self.modalities:
            branch = self.branches[name]
            vectors[name], own_logits[name] = branch(real_rows(batch.features[name], batch), present[name], batch)
        shifted_NH = vectors[self.teacher]
        if self.shift is not None:
            students_NSH = torch.stack([vectors[name] for name in self.students], dim=1)
            present_NS = torch.stack([present[name] for name in self.students], dim=1)
            shifted_NH = shifted_NH + self.shift(shifted_NH, students_NSH, present_NS)
        bare_NH = self.norm(shifted_NH)
        hidden_NH = self.dropout(bare_NH)
        unimodal = {name: padded(vector_NH, batch) for name, vector_NH in vectors.items()}
        return MERCOutput(
            logits=padded(self.classifier(hidden_NH), batch),
            hidden=padded(hidden_NH, batch),
            bare=padded(bare_NH, batch),
            unimodal=unimodal,
            unimodal_logits={name: padded(logits_NC, batch) for name, logits_NC in own_logits.items()},
            pooled={name: masked_mean(vector_BTH, batch.modality_mask[name]) for name, vector_BTH in unimodal.items()},
        )


class _Teacher(nn.Module):
    """The branch of the leading modality, which sees the dialogue up to the utterance."""

    def __init__(self, config: TelME.Config, dim: int, classes: int) -> None:
        super().__init__()
        units = config.hidden_units
        self.project = Projection(dim, units)
        self.speaker_vectors = nn.Embedding(SPEAKER_SLOTS, units) if config.speakers == "slots" else None
        self.dropout = Dropout(config.dropout)
        self.context = (
            RecurrentContext(nn.GRU, units, units, config.layers, config.dropout, causal=True)
            if config.teacher_context == "gru"
            else None
        )
        self.leave = nn.Linear(units, units) if config.teacher_context == "gru" else nn.Identity()
        self.classifier = nn.Linear(units, classes)

    def forward(self, features_ND: Tensor, present_N: Tensor, batch: DialogueBatch) -> tuple[Tensor, Tensor]:
        """Returns t, [N, H], and its own logits, [N, C]."""
        stream_NH = self.project(features_ND, present_N)
        if self.speaker_vectors is not None:
            stream_NH = stream_NH + self.speaker_vectors(real_rows(batch.speakers, batch) % SPEAKER_SLOTS)
        if self.context is not None:
            stream_NH = self.dropout(stream_NH)
            stream_NH = stream_NH + self.dropout(self.context(stream_NH, batch))
        vectors_NH = self.leave(stream_NH)
        return vectors_NH, self.classifier(vectors_NH)


class _Student(nn.Module):
    """The branch of a helping modality, which sees only the utterance itself."""

    def __init__(self, config: TelME.Config, dim: int, classes: int) -> None:
        super().__init__()
        self.project = Projection(dim, config.hidden_units)
        self.dropout = Dropout(config.dropout)
        self.leave = nn.Linear(config.hidden_units, config.hidden_units)
        self.norm = nn.LayerNorm(config.hidden_units)
        self.classifier = nn.Linear(config.hidden_units, classes)

    def forward(self, features_ND: Tensor, present_N: Tensor, batch: DialogueBatch) -> tuple[Tensor, Tensor]:
        """Returns x, [N, H], and its own logits, [N, C]."""
        inner_NH = self.dropout(functional.gelu(self.project(features_ND, present_N)))
        vectors_NH = self.norm(self.leave(inner_NH))
        return vectors_NH, self.classifier(vectors_NH)
