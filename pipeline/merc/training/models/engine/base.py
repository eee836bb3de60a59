"""What a model must offer. A new model is one file in ``models/``, with its settings as a nested ``Config``, and its
test.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from merc.params import Settings
from merc.training.data.batch import DialogueBatch

FUSION = "fusion"
"""The branch of a model that makes ``logits``: every weight outside the modalities' branches. The other branches have
their modality's name.
"""


@dataclass(kw_only=True)
class MERCOutput:
    """A model's output for a batch. Legend: B dialogues, T utterances, C classes.

    Attributes:
        logits: [B, T, C]; values at padding are meaningless.
        hidden: [B, T, d], input of the classifier.
        bare: [B, T, d], the same before its last dropout and ReLU, for losses that compare vectors: after a ReLU no
            cosine is negative, and dropout changes each at random. None: there are none, see :attr:`compared`.
        unimodal: modality → [B, T, d_m], output of the modality's extractor.
        unimodal_logits: modality → [B, T, C]; empty if the model has no unimodal heads, or its only one makes
            ``logits``.
        context: [B, T, d_c], what an utterance receives from those before it, or None. The utterance itself enters only
            as a query: through the weights of an attention whose values are states of earlier utterances.
        pooled: modality → [B, D], one vector per dialogue, from the utterances with the modality; zeros if there are
            none.
        aligned: modality → [B, T, d_a], vectors of all modalities in one space, for comparisons; empty in most models.
        extras: name → modality → [B, T, …], further outputs, described in the model's docstring, for the losses made
            for it; in LSDGNN by layer instead of by modality; empty in most models.
    """

    logits: Tensor
    hidden: Tensor
    bare: Tensor | None = None
    unimodal: dict[str, Tensor] = field(default_factory=dict)
    unimodal_logits: dict[str, Tensor] = field(default_factory=dict)
    context: Tensor | None = None
    pooled: dict[str, Tensor] = field(default_factory=dict)
    aligned: dict[str, Tensor] = field(default_factory=dict)
    extras: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def compared(self) -> Tensor:
        """[B, T, d], ``bare`` if the model returns it, else ``hidden``."""
        return self.hidden if self.bare is None else self.bare


@dataclass(frozen=True, kw_only=True)
class Gives:
    """The widths of a model's outputs: known before the first batch, so that losses with weights and wrapping models
    can be built.

    Attributes:
        hidden: d, width of :attr:`MERCOutput.hidden` [B, T, d]; read by every loss on that, by the bank of utterances
            and by frameworks.
        unimodal: modality → d_m, width of :attr:`MERCOutput.unimodal` [B, T, d_m]; read by losses that compare
            modalities, and by frameworks. In a branch of a model, only the modalities that it may use.
        context: d_c, width of :attr:`MERCOutput.context` [B, T, d_c], None if there is none; read by the loss
            ``context_aware``.
        aligned: d_a, width of each modality's :attr:`MERCOutput.aligned` [B, T, d_a], None if there is none; read by
            ``prototype`` and ``soft_hgr``.
        extras: the keys of :attr:`MERCOutput.extras`; read by the losses ``disentanglement``,
            ``true_class_probability`` and ``differential``.
        hidden_dropout: rate of the last dropout of ``hidden``, which frameworks apply to what they concatenate with it.
    """

    hidden: int
    unimodal: Mapping[str, int]
    context: int | None = None
    aligned: int | None = None
    extras: frozenset[str] = frozenset()
    hidden_dropout: float = 0.0


class MERCModel(nn.Module, ABC):
    """A fusion model over dialogues.

    The prediction for a dialogue does not depend on the rest of the batch, its order or the padding; eval needs no
    labels.

    Args:
        config: an instance of the model's ``Config``.
        dims: modality → length of its vectors; the modalities that the model uses, a subset of text, audio, visual.
        classes: number of emotion classes C.
    """

    Config: ClassVar[type[Settings]]
    """The settings, a class nested in the model. Every field has a default, so that ``Config()`` builds the model, and
    a docstring.
    """
    VERSION: ClassVar[int] = 1
    """Incremented when the same settings give other scores or weights, so that earlier runs and checkpoints count as
    stale.
    """
    causal: bool
    """True if the logits of an utterance do not depend on anything after it. Set by the class, or in its constructor if
    a setting decides.
    """
    gives: Gives
    """The widths of the model's outputs; set once, in the constructor."""
    wants_pooled: bool = True
    """Whether :attr:`MERCOutput.pooled` is used; if not, a model that needs extra computation for it may leave it
    empty. Set by :meth:`pool`.
    """

    def __init__(self, config: Settings, dims: Mapping[str, int], classes: int) -> None:
        super().__init__()
        if not dims or classes < 2:
            raise ValueError(f"a model needs at least one modality and two classes, not {dict(dims)} and {classes}")
        self.config = config
        self.dims = dict(dims)
        self.modalities = tuple(dims)
        self.classes = classes

    @classmethod
    def causal_settings(cls) -> Mapping[str, Any] | None:
        """Overrides that make the model causal: empty if it always is; None if it cannot be. A setting ``causal`` is
        found automatically.
        """
        if "causal" in getattr(cls, "Config", Settings).model_fields:
            return {"causal": True}
        return {} if getattr(cls, "causal", False) else None

    def branch(self, modality: str) -> tuple[nn.Module, ...]:
        """The modules that make a modality's ``unimodal`` and ``unimodal_logits`` and nothing else, for training in
        phases (:mod:`merc.training.loop.phases`); none, as here, if the model cannot be trained in phases.
        """
        return ()

    def pool(self, wanted: bool) -> None:
        """Sets for this model, and the one it wraps, whether :attr:`MERCOutput.pooled` is needed."""
        for module in self.modules():
            if isinstance(module, MERCModel):
                module.wants_pooled = wanted

    @classmethod
    def longest_sequence(cls, config: Any) -> int | None:
        """Maximum number of entries that a model with these settings reads below each utterance
        (:attr:`DialogueBatch.sequences`); None if it reads no sequences.
        """
        return None

    @abstractmethod
    def forward(self, batch: DialogueBatch) -> MERCOutput:
        """Scores every utterance of every dialogue."""
