"""Settings of a recipe: which model, on which modalities, with which losses, and how it is trained.

One file here per recipe, with the numbers of its paper; values that the paper does not give have their defaults below.
A name with additions and modalities is composed in :mod:`merc.training.recipes.composition`; the things it names are
looked up in :mod:`merc.training.recipes.resolution`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from merc.errors import nearest
from merc.layout import MODALITIES
from merc.params import Settings
from merc.training.data.curriculum import Curriculum
from merc.training.data.neighbours import Neighbours
from merc.training.loop.precision import PrecisionName
from merc.training.models.engine.base import FUSION


class Optimizer(Settings):
    """The optimiser of a training."""

    name: Literal["adam", "adamw"]
    """``adam`` adds the weight decay to the gradient (L2), ``adamw`` shrinks the weights separately."""
    learning_rate: float = Field(gt=0)
    """Learning rate of a step, before the schedule."""
    weight_decay: float = Field(ge=0)
    """Weight decay, on all weights."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Shares of the running means of the gradient and of its square that a step keeps."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the root of the mean square."""


class LossTerm(Settings):
    """One term of the objective. In a recipe ``weight`` is next to the settings; those override the block
    ``losses.<name>``.
    """

    weight: float = Field(default=1.0, gt=0)
    """Factor of the term in the objective."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Keys of the loss's ``Config``."""

    @model_validator(mode="before")
    @classmethod
    def _gather_settings(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {
            **{key: given[key] for key in ("weight",) if key in given},
            "settings": {key: value for key, value in given.items() if key != "weight"},
        }


def _without_those_taken_out(given: Any) -> Any:
    """A loss that is null, or has weight 0, is removed."""
    if not isinstance(given, Mapping):
        return given
    return {
        name: term
        for name, term in given.items()
        if term is not None and not (isinstance(term, Mapping) and term.get("weight") == 0)
    }


def _at_least_one(losses: dict[str, LossTerm]) -> dict[str, LossTerm]:
    if not losses:
        raise ValueError("at least one loss is needed")
    return losses


Share = Annotated[float, Field(ge=0, le=1)]
Losses = Annotated[dict[str, LossTerm], BeforeValidator(_without_those_taken_out), AfterValidator(_at_least_one)]


class Phase(Settings):
    """A phase of a training in which a model's branches are trained one after another
    (:mod:`merc.training.loop.phases`).
    """

    trains: tuple[str, ...] = Field(min_length=1)
    """Modalities whose branches are trained, and ``fusion``. In a recipe without one of the modalities, that one is
    left out, and so is a phase that trains no other.
    """
    losses: Losses | None = None
    """Losses that replace the recipe's. Each branch is trained by all of them, on its own output."""
    optimizer: Optimizer | None = None
    """Replaces the recipe's optimiser."""
    epochs: int | None = Field(default=None, ge=1)
    """Replaces the recipe's number of epochs."""

    @field_validator("trains")
    @classmethod
    def _known_branches(cls, trains: tuple[str, ...]) -> tuple[str, ...]:
        branches = [*MODALITIES, FUSION]
        for branch in trains:
            if branch not in branches:
                raise ValueError(f"no branch {branch!r}; {nearest(branch, branches)}")
        if len(set(trains)) != len(trains):
            raise ValueError(f"a branch is named twice: {list(trains)}")
        return trains


class Pretraining(Settings):
    """A training that comes first, on another corpus."""

    dataset: str
    """Dataset whose shards are used."""
    recipe: str
    """The name of its recipe: the same model, on the modalities of this recipe unless its name gives others, for all of
    its epochs.
    """
    splits: tuple[Literal["train", "dev", "test"], ...] = Field(default=("train",), min_length=1)
    """Splits that are trained on. Splits other than train are allowed only in a recipe with ``official`` in its name:
    some papers use them.
    """
    transfer_head: bool = False
    """Whether tensors whose shape depends on the number of classes are kept; the label sets must then be the same."""


class Recipe(Settings):
    """Settings of one training."""

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("speaker_normalisation",)

    about: str = ""
    """What it is, in one line; part of no fingerprint."""
    model: str
    """The model's file in ``models/``."""
    model_settings: dict[str, Any] = Field(default_factory=dict)
    """Keys of the model's ``Config``, over the block ``models.<model>``."""
    causal: Literal["as_set", "where_possible", "required"] = "as_set"
    """Whether later utterances are hidden from an utterance: ``as_set``, according to ``model_settings``;
    ``where_possible``, if the model supports it and the recipe does not say otherwise; ``required``, regardless of the
    recipe.
    """
    framework: str | None = None
    """The file in ``frameworks/`` of the framework around the model; null: none."""
    framework_settings: dict[str, Any] = Field(default_factory=dict)
    """Keys of the framework's ``Config``, over the block ``frameworks.<framework>``."""
    modalities: tuple[str, ...] = Field(default=MODALITIES, min_length=1)
    """Modalities that the model sees."""
    losses: Losses
    """Terms of the objective by name, summed with their weights. Null removes a base's loss."""
    phases: dict[str, Phase] | None = Field(default=None, min_length=1)
    """The branches of the model are trained one after another, the last phase training the fusion; null: all at once.
    All other keys hold in every phase.
    """
    optimizer: Optimizer
    """How weights are changed."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate decays from its value towards 0 over ``epochs``."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps in which the learning rate is multiplied by 1 / ``warmup_steps``, 2 / ``warmup_steps``, and so on up to
    1.
    """
    epochs: int = Field(ge=1)
    """Maximum number of epochs; per phase, if there are several."""
    patience_epochs: int = Field(ge=1)
    """Epochs without a better dev weighted F1 after which the training stops; epochs before a curriculum includes all
    dialogues do not count.
    """
    batch_dialogues: int = Field(ge=1)
    """Maximum number of dialogues per step."""
    min_steps_per_epoch: int = Field(default=1, ge=1)
    """Minimum number of steps per epoch: batches are smaller if the train split is small (the demonstration corpus
    has 14 train dialogues, MELD 1038).
    """
    gradient_clip: float | None = Field(default=None, gt=0)
    """Maximum norm of the gradient; null: unlimited."""
    feature_limit_std: float = Field(default=10.0, gt=0)
    """Standard deviations at which features are clipped."""
    feature_dropout: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(default_factory=dict)
    """Modality → share of the values of its vectors that are set to 0 in training, the others scaled up; for long,
    noisy vectors and few dialogues. Modalities that are not in the recipe are ignored, so that the same recipe also
    works without them.
    """
    speaker_normalisation: dict[str, Share] = Field(default_factory=dict)
    """Modality → share, 0 to 1, of its vectors that is normalised to mean 0 and standard deviation 1 over the
    utterances of the same speaker in the split, without labels; the rest stays as it is. For voices and faces of
    speakers that are not in train. A speaker is a name, in all dialogues of the split; shards imported from
    pickles of MELD have only numbers, anew in each dialogue. It uses later utterances, so that a causal model refuses
    it. Modalities that are not in the recipe are ignored.
    """
    seeds: tuple[int, ...] = Field(default=(0, 1, 2, 3, 4), min_length=1)
    """One training per seed; a seed determines initial weights, dropout and the order of dialogues. Five by default, as
    averaged in DCLF.
    """
    selection: Literal["dev_weighted_f1", "last"] = "dev_weighted_f1"
    """Which weights are kept: those of the epoch with the best weighted F1 on dev (the earliest of equal ones), or of
    the last.
    """
    precision: PrecisionName = "float32"
    """Precision of the model's forward and backward pass; see :class:`merc.training.loop.precision.Precision`."""
    neighbours: Neighbours | None = None
    """Neighbours from the index of emotion trajectories, for batches and losses; null: none."""
    curriculum: Curriculum | None = None
    """Dialogues from easy to hard; null: all of them in every epoch."""
    pretraining: Pretraining | None = None
    """The training whose weights this one starts from; null: none."""

    @field_validator("modalities")
    @classmethod
    def _known_modalities(cls, modalities: tuple[str, ...]) -> tuple[str, ...]:
        """In the standard order, regardless of the order in the file, so that it does not affect results."""
        for name in modalities:
            if name not in MODALITIES:
                raise ValueError(f"no modality {name!r}; {nearest(name, list(MODALITIES))}")
        return tuple(name for name in MODALITIES if name in modalities)

    @field_validator("feature_dropout", "speaker_normalisation")
    @classmethod
    def _of_known_modalities(cls, shares: dict[str, float]) -> dict[str, float]:
        for name in shares:
            if name not in MODALITIES:
                raise ValueError(f"no modality {name!r}; {nearest(name, list(MODALITIES))}")
        return shares

    @field_validator("phases")
    @classmethod
    def _plain_names(cls, phases: dict[str, Phase] | None) -> dict[str, Phase] | None:
        for name in phases or ():
            if not name.isidentifier() or name != name.lower():
                raise ValueError(f"a phase is named {name!r}; expected lower-case letters, digits and _")
        return phases

    @field_validator("seeds")
    @classmethod
    def _each_seed_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds) or min(seeds, default=0) < 0:
            raise ValueError("seeds must be different whole numbers from 0")
        return seeds

    @model_validator(mode="after")
    def _curriculum_fits(self) -> Self:
        if self.curriculum is None:
            return self
        if self.curriculum.buckets > self.epochs:
            raise ValueError(
                f"curriculum.buckets is {self.curriculum.buckets}, and after {self.epochs} epochs the hardest"
                " dialogues would not have been used"
            )
        if self.neighbours is not None and self.neighbours.per_dialogue:
            raise ValueError(
                "a curriculum decides which dialogues are used, and so does neighbours.per_dialogue: remove one of"
                " them, or set per_dialogue to 0"
            )
        return self
