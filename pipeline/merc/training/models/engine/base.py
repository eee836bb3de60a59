"""What a model must offer. A new model is one file in ``models/``, with its settings as a nested ``Config``, and its test."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from merc.params import Settings
from merc.training.data.batch import DialogueBatch

FUSION = "fusion"
"""The part of a model that makes ``logits``: every weight that belongs to no modality's branch. The other parts bear their modality's name."""


@dataclass(kw_only=True)
class MERCOutput:
    """What a model gives for a batch. Legend: B dialogues, T utterances, C classes.

    Attributes:
        logits: [B, T, C]; values at padding mean nothing.
        hidden: [B, T, d], what the classifier sees.
        unimodal: modality → [B, T, d_m], output of the modality's extractor.
        unimodal_logits: modality → [B, T, C]; empty if the model has no unimodal heads, or the one it has makes ``logits`` themselves.
        context: [B, T, d_c], what an utterance is given of those before it, or None. Of itself no more enters than what it looks for: weights of an
            attention, whose values are states of earlier utterances.
        pooled: modality → [B, D], one vector per dialogue, of the utterances where the modality is present; zeros if there are none.
        of_modality: modality → [B, T, d_z], what the modality's utterances have in common; as the next three, empty in most models.
        of_utterance: modality → [B, T, d_z], what the utterance has in common with its other modalities.
        aligned: modality → [B, T, d_a], vectors of all modalities in one space, to be compared with each other.
        confidence: modality → [B, T], between 0 and 1: how probable the modality's own logits are expected to find the true class.
        aux: name → scalar, terms a loss may add.
    """

    logits: Tensor
    hidden: Tensor
    unimodal: dict[str, Tensor] = field(default_factory=dict)
    unimodal_logits: dict[str, Tensor] = field(default_factory=dict)
    context: Tensor | None = None
    pooled: dict[str, Tensor] = field(default_factory=dict)
    of_modality: dict[str, Tensor] = field(default_factory=dict)
    of_utterance: dict[str, Tensor] = field(default_factory=dict)
    aligned: dict[str, Tensor] = field(default_factory=dict)
    confidence: dict[str, Tensor] = field(default_factory=dict)
    aux: dict[str, Tensor] = field(default_factory=dict)


class MERCModel(nn.Module, ABC):
    """A fusion model over dialogues.

    The prediction for a dialogue does not depend on its batch mates, their order or the padding; eval needs no labels.

    Args:
        config: an instance of the model's ``Config``.
        dims: modality → length of its vectors; the modalities the model is to use, a subset of text, audio, visual.
        classes: number of emotion classes C.
    """

    Config: ClassVar[type[Settings]]
    """The settings, a class nested in the model. Every field has a default, so that ``Config()`` builds the model, and a docstring of its own."""
    causal: bool
    """True if the logits of an utterance depend on nothing that comes after it. Set by the class, or in its constructor where a setting decides."""
    hidden_dim: int
    """Width d of :attr:`MERCOutput.hidden`; set in the constructor, so that losses with weights of their own and wrapping models can be built."""
    unimodal_dims: dict[str, int]
    """modality → width d_m of :attr:`MERCOutput.unimodal`; set in the constructor."""
    context_dim: int | None = None
    """Width of :attr:`MERCOutput.context`; set in the constructor by a model that gives one."""
    wants_pooled: bool = True
    """Whether anybody looks at :attr:`MERCOutput.pooled`; if not, a model that has to work for it may leave it empty. Set by :meth:`pool`."""

    aligned_dim: int | None = None
    """Width of :attr:`MERCOutput.aligned`; set in the constructor by a model that gives it."""
    disentangles: bool = False
    """True if the model gives :attr:`MERCOutput.of_modality` and :attr:`MERCOutput.of_utterance`. Set by the class."""

    def __init__(self, config: Settings, dims: Mapping[str, int], classes: int) -> None:
        super().__init__()
        if not dims or classes < 2:
            raise ValueError(f"a model needs at least one modality and two classes, not {dict(dims)} and {classes}")
        self.config = config
        self.dims = dict(dims)
        self.modalities = tuple(dims)
        self.classes = classes

    def branch(self, modality: str) -> tuple[nn.Module, ...]:
        """The modules that make a modality's ``unimodal`` and ``unimodal_logits`` and serve nothing before these, for training in stages
        (:mod:`merc.training.loop.phases`); none, as here, if the model cannot be trained so.
        """
        return ()

    def pool(self, wanted: bool) -> None:
        """Says of this model, and of the one it wraps, whether :attr:`MERCOutput.pooled` is wanted."""
        for module in self.modules():
            if isinstance(module, MERCModel):
                module.wants_pooled = wanted

    @classmethod
    def longest_sequence(cls, config: Any) -> int | None:
        """Entries that a model with these settings reads below each utterance, at most (:attr:`DialogueBatch.sequences`); None: it reads no sequences."""
        return None

    @abstractmethod
    def forward(self, batch: DialogueBatch) -> MERCOutput:
        """Scores every utterance of every dialogue."""
