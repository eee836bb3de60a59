"""MERC-KDC: a teacher for text, students for audio and face, and a fusion in which they shift the teacher's vector.

Legend: B dialogues, T utterances, N real utterances of the batch, D features of a modality, H hidden units, S helping
modalities, h heads, C classes.

    features_BTD ─ encoder over the dialogue ─► z_BTH ─ Linear ─► unimodal_logits_BTC      one such branch per modality

    z of text ───────────────────────────────────┬──────────────────────────┬─ LN(t + δ h) ─► hidden_BTH ─ Linear ─► logits_BTC
    z of audio, visual ─ attention over the ─ q ─┴► g = ReLU(W [q; t]) ─► h = g ⊙ W' q
                         modalities, LN            δ = min(η ‖t‖ / ‖h‖, 1)

A reconstruction: of Kim, Park and Kim (ICUFN 2025) only the abstract is available, which names the parts without
equations. The branch is that of :mod:`merc.training.models.dialogue_transformer`; the fusion is TelME's (Yun, Lim and
Lee, NAACL 2024, section 3.4) with one correction: there the attention runs over the utterances of a batch, so that a
score depends on the rest of the batch; here it runs over the modalities of one utterance, with absent ones masked.
Without text, the first modality is shifted. The shift is shared with TelME
(:mod:`merc.training.models.engine.shifting`). Distillation and contrast are in the losses, the order of training in the
recipe's phases: :mod:`merc.training.loop.phases`.
"""  # noqa: E501

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from merc.training.data.batch import DialogueBatch
from merc.training.models.dialogue_transformer import DialogueTransformer
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.models.engine.common import Dropout, padded, real_rows
from merc.training.models.engine.shifting import Shift


class MercKDC(MERCModel):
    """Branches that can be trained one by one, and a fusion over them. ``unimodal`` are the branches' z,
    ``unimodal_logits`` their own predictions.
    """

    VERSION = 2

    class Config(DialogueTransformer.Config):
        """Settings of the model: those of each branch, and of the fusion."""

        hidden_units: int = Field(default=256, ge=2)
        """H, width of the branches and of the fusion; a multiple of ``heads``."""
        heads: int = Field(default=4, ge=1)
        """h, heads of the branches' attention over utterances and of the fusion's over modalities."""
        dropout: float = Field(default=0.4, ge=0, lt=1)
        """Dropout rate within the branches, and of what the classifier sees."""
        speakers: Literal["none", "slots"] = "slots"
        """``slots``: a vector per place in the order of first appearance, added to every branch's input; ``none``."""
        shift_limit: float = Field(default=0.1, gt=0)
        """η, longest shift of the text's vector, as a share of its length; TelME's value for MELD, which has 0.2 for
        IEMOCAP.
        """

    causal = False

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        self.gives = Gives(
            hidden=config.hidden_units, unimodal=dict.fromkeys(dims, config.hidden_units), hidden_dropout=config.dropout
        )
        self.branches = nn.ModuleDict(
            {name: DialogueTransformer(config, {name: dim}, classes) for name, dim in dims.items()}
        )
        self.shifted = "text" if "text" in dims else self.modalities[0]
        self.helping = tuple(name for name in self.modalities if name != self.shifted)
        self.shift = (
            Shift(config.hidden_units, len(self.helping), config.heads, config.shift_limit) if self.helping else None
        )
        self.norm = nn.LayerNorm(config.hidden_units)
        self.dropout = Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden_units, classes)

    def branch(self, modality: str) -> tuple[nn.Module, ...]:
        return (self.branches[modality],)

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        own: dict[str, MERCOutput] = {name: self.branches[name](batch) for name in self.modalities}
        hidden_NH = real_rows(own[self.shifted].hidden, batch)
        if self.shift is not None:
            helping_NSH = torch.stack([real_rows(own[name].hidden, batch) for name in self.helping], dim=1)
            present_NS = torch.stack([real_rows(batch.modality_mask[name], batch) for name in self.helping], dim=1)
            hidden_NH = hidden_NH + self.shift(hidden_NH, helping_NSH, present_NS)
        bare_NH = self.norm(hidden_NH)
        hidden_NH = self.dropout(bare_NH)
        return MERCOutput(
            logits=padded(self.classifier(hidden_NH), batch),
            hidden=padded(hidden_NH, batch),
            bare=padded(bare_NH, batch),
            unimodal={name: output.hidden for name, output in own.items()},
            unimodal_logits={name: output.logits for name, output in own.items()},
            pooled={name: vector_BH for output in own.values() for name, vector_BH in output.pooled.items()},
        )
