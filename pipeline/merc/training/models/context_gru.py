"""A bidirectional recurrent context model per modality, fused late.

Legend: B dialogues, T utterances, D features of a modality, H its hidden width (both directions together), M
modalities, C classes.

    features_BTD ─ Linear ─ GELU ─┐
                  absent: learned ┴► + speaker ─► BiGRU ─► unimodal_BTH ─► classifier ─► sum over the modalities present
                                        └── residual ──┘

An ordinary baseline in the tradition of bc-LSTM (Poria et al., ACL 2017), with GRUs, a residual path and learned
vectors for absent utterances; it follows no paper's code. The classifiers' logits are added, as independent evidence
from the modalities. The mean of their probabilities, one vote each, was the previous rule: it lets a weak modality
dilute a strong one. On IEMOCAP's text and audio, leaving one of sessions 1 to 4 out, text alone has 56.9 weighted F1,
the mean of both 56.3, the sum 58.5 (``benchmarks/results_real.md``). A learned gate per utterance was tried and
overfits small corpora; a learned factor per modality (60.2 against 60.0, one seed) is not worth its weights.
"""

from collections.abc import Mapping
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from merc.compute.masked import masked_mean
from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.models.engine.base import Gives, MERCModel, MERCOutput
from merc.training.models.engine.common import SPEAKER_SLOTS, padded, present_shares, real_rows
from merc.training.models.engine.sequences import Sequences


class ContextGRU(MERCModel):
    """Late fusion of one bidirectional GRU per modality. ``hidden`` is the output of all GRUs side by side."""

    VERSION = 3

    class Config(Settings):
        """Settings of the context model."""

        hidden_units: int = Field(default=128, ge=2, multiple_of=2)
        """H, width of a modality's GRU, both directions together; even."""
        layers: int = Field(default=1, ge=1, le=256)
        """Layers of each GRU."""
        dropout: float = Field(default=0.4, ge=0, lt=1)
        """Share of values dropped from the features, and again from the GRU's input and output."""
        speakers: Literal["none", "same", "slots"] = "none"
        """What the model knows of the speaker: ``none``; ``same``, as the utterance before or not; ``slots``, a vector
        per place in the order of first appearance."""
        fusion: Literal["logits", "probabilities"] = "logits"
        """How the classifiers of the modalities that an utterance has are joined: ``logits``, their sum;
        ``probabilities``, the mean of their softmax, one vote each (``logits`` of the output are then
        log-probabilities).
        """

    causal = False

    def __init__(self, config: Config, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(config, dims, classes)
        self.fusion = config.fusion
        self.gives = Gives(hidden=config.hidden_units * len(dims), unimodal=dict.fromkeys(dims, config.hidden_units))
        self.branches = nn.ModuleDict({name: _Branch(config, dim) for name, dim in dims.items()})
        self.classifiers = nn.ModuleDict({name: nn.Linear(config.hidden_units, classes) for name in dims})

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        unimodal = self._unimodal(batch)
        unimodal_logits = {name: self.classifiers[name](unimodal_BTH) for name, unimodal_BTH in unimodal.items()}
        return MERCOutput(
            logits=self._fused(
                torch.stack(list(unimodal_logits.values()), dim=2).float(),
                present_shares(batch, self.modalities)[..., None],
            ),
            hidden=torch.cat(list(unimodal.values()), dim=-1),
            unimodal=unimodal,
            unimodal_logits=unimodal_logits if len(unimodal_logits) > 1 else {},
            pooled={
                name: masked_mean(unimodal_BTH, batch.modality_mask[name]) for name, unimodal_BTH in unimodal.items()
            },
        )

    def _unimodal(self, batch: DialogueBatch) -> dict[str, Tensor]:
        """[B, T, H] of each modality. All GRUs take their steps together."""
        branches = {name: cast(_Branch, self.branches[name]) for name in self.modalities}
        inputs = {name: branch(batch, name) for name, branch in branches.items()}
        states = Sequences.of_dialogues(batch).run_each(
            [branch.gru for branch in branches.values()],
            [real_rows(input_BTH, batch) for input_BTH in inputs.values()],
        )
        return {
            name: branch.joined(inputs[name], padded(states_NH, batch))
            for (name, branch), states_NH in zip(branches.items(), states, strict=True)
        }

    def _fused(self, logits_BTMC: Tensor, shares_BTM1: Tensor) -> Tensor:
        if self.fusion == "probabilities":
            return (logits_BTMC.log_softmax(dim=-1) + shares_BTM1.log()).logsumexp(dim=2)
        return (logits_BTMC * (shares_BTM1 > 0)).sum(dim=2)


class _Branch(nn.Module):
    """One modality: projection, speakers, GRU over the dialogue, residual."""

    def __init__(self, config: ContextGRU.Config, dim: int) -> None:
        super().__init__()
        self.speakers = config.speakers
        self.project = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(dim, config.hidden_units), nn.GELU())
        self.absent_H = nn.Parameter(torch.zeros(config.hidden_units))
        if config.speakers != "none":
            self.speaker_vectors = nn.Embedding(2 if config.speakers == "same" else SPEAKER_SLOTS, config.hidden_units)
            nn.init.normal_(self.speaker_vectors.weight, std=0.1)
        self.dropout = nn.Dropout(config.dropout)
        self.gru = nn.GRU(
            config.hidden_units,
            config.hidden_units // 2,
            num_layers=config.layers,
            dropout=config.dropout if config.layers > 1 else 0.0,
            batch_first=True,
            bidirectional=True,
        )
        self.norm = nn.LayerNorm(config.hidden_units)

    def forward(self, batch: DialogueBatch, modality: str) -> Tensor:
        """The GRU's input, [B, T, H]."""
        input_BTH = torch.where(
            batch.modality_mask[modality][..., None], self.project(batch.features[modality]), self.absent_H
        )
        if self.speakers != "none":
            input_BTH = input_BTH + self.speaker_vectors(self._speaker_index(batch.speakers))
        given_BTH: Tensor = self.dropout(input_BTH)
        return given_BTH

    def joined(self, input_BTH: Tensor, context_BTH: Tensor) -> Tensor:
        """From the GRU's input and output to the branch's output, [B, T, H]."""
        output_BTH: Tensor = self.norm(input_BTH + self.dropout(context_BTH))
        return output_BTH

    def _speaker_index(self, speakers_BT: Tensor) -> Tensor:
        if self.speakers == "slots":
            return speakers_BT % SPEAKER_SLOTS
        same_BT = torch.zeros_like(speakers_BT)
        same_BT[:, 1:] = (speakers_BT[:, 1:] == speakers_BT[:, :-1]).long()
        return same_BT
