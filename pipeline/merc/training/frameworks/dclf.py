"""DCLF: any model with a wider decoder and one head per modality, for the losses ``context_aware`` and
``modality_contribution``.

Paper: Xie et al., Dual Contrastive Learning Framework for emotion recognition in conversations, COLING 2025. Legend: B
dialogues, T utterances, d width of the model's ``hidden`` h, d_m width of its extractors' outputs u, C classes.

    model ─┬─ h_BTd ──────────────────────────► [ h ; u_text ; u_audio ; u_visual ] ─ Linear ─► logits_BTC
           ├─ u_text, u_audio, u_visual ──┴──┐
           └─ context                        └─ one Linear each (U) ─► unimodal_logits

The model's own classifier is not used and not trained. The rest of the paper is in the losses, combined by the
additions ``dclf`` (MELD's settings) and ``dclf_iemocap``. The paper's ablations (its table 4) are further additions, to
be named after one of these:

    without_context       no context-aware loss
    without_extraction    that loss without the contextual extract ("w/o CE")
    without_modality      neither the modality-contribution loss nor the concatenation (the figures for "w/o MCCL" fit
                          both being off)
    without_independent   the decoder sees only h ("w/o ICA"); the modality-contribution loss stays

In the paper's setting no utterance sees later ones: both additions make models causal if they support it (``causal``).
The losses as printed, with only the negatives in the denominator, are the addition ``printed``.

Tried on IEMOCAP's real text and audio over MMGCN (``benchmarks/results_real.md``): on one session and seed, vectors
from before dropout and ReLU recover a third of what both losses cost; projections before both cost more on two
sessions; no gain was reached.

The paper does not say how the heads are trained. Here they are trained by their cross-entropy, the mean over
modalities, also in the ablations.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from merc.params import Settings
from merc.training.data.batch import DialogueBatch
from merc.training.frameworks.base import Framework
from merc.training.models.engine.base import MERCModel, MERCOutput
from merc.training.models.engine.common import Dropout


class DCLF(Framework):
    """A model with DCLF's decoder and unimodal heads. ``hidden``, ``unimodal`` and ``context`` are the model's.

    In the decoder's input, an absent modality is a learned vector, and the modalities' vectors have the same dropout
    rate as h.
    """

    VERSION = 2

    class Config(Settings):
        """Settings of the framework."""

        independent_concatenation: bool = True
        """Whether the decoder sees the outputs of the modalities' extractors in addition to h (the paper's ICA), not
        only h.
        """
        detach_unimodal: bool = False
        """Whether the heads' cross-entropy trains only the heads and not the extractors below them."""

    def __init__(self, config: Config, model: MERCModel) -> None:
        super().__init__(config, model)
        self.detach_unimodal = config.detach_unimodal
        self.heads = nn.ModuleDict({name: nn.Linear(dim, self.classes) for name, dim in self.gives.unimodal.items()})
        self.beside = (
            tuple(self.gives.unimodal) if config.independent_concatenation else ()
        )  # a ParameterDict does not keep this order
        self.absent = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(self.gives.unimodal[name])) for name in self.beside}
        )
        self.dropout = Dropout(self.gives.hidden_dropout)
        self.decoder = nn.Linear(
            self.gives.hidden + sum(self.gives.unimodal[name] for name in self.beside), self.classes
        )

    def branch(self, modality: str) -> tuple[nn.Module, ...]:
        """The model's branch, with its head here."""
        of_model = self.model.branch(modality)
        return (*of_model, self.heads[modality]) if of_model else ()

    def forward(self, batch: DialogueBatch) -> MERCOutput:
        output: MERCOutput = self.model(batch)
        beside = [
            self.dropout(torch.where(batch.modality_mask[name][..., None], output.unimodal[name], self.absent[name]))
            for name in self.beside
        ]
        return replace(
            output,
            logits=self.decoder(torch.cat([output.hidden, *beside], dim=-1)),
            unimodal_logits={name: self._head(name, output.unimodal[name]) for name in self.heads},
        )

    def _head(self, name: str, unimodal_BTD: Tensor) -> Tensor:
        logits_BTC: Tensor = self.heads[name](unimodal_BTD.detach() if self.detach_unimodal else unimodal_BTD)
        return logits_BTC
