"""Settings of a recipe: which model, on which modalities, with which losses, and how it is trained.

One block under ``recipes`` in params.yaml, or such a block with additions (:mod:`merc.training.recipes.composition`). What it names is looked up in
:mod:`merc.training.recipes.resolution`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from merc import plugins
from merc.layout import MODALITIES
from merc.params import Settings
from merc.training.data.curriculum import Curriculum
from merc.training.data.neighbours import Neighbours
from merc.training.loop.precision import PrecisionName
from merc.training.models.engine.base import FUSION


class Optimizer(Settings):
    """``adam`` adds the weight decay to the gradient (L2), ``adamw`` shrinks the weights beside it.

    Attributes:
        name: one of the two.
        learning_rate: before the schedule.
        weight_decay: of all weights.
        betas: shares of the running means of the gradient and of its square that a step keeps.
        epsilon: added to the root of the latter.
    """

    name: Literal["adam", "adamw"]
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    epsilon: float = Field(default=1e-8, gt=0)


class LossTerm(Settings):
    """One term of the objective: ``name`` and ``weight``; every further key overrides one of the block ``losses.<name>``."""

    name: str
    weight: float = Field(default=1.0, gt=0)
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather_overrides(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        own = {key: value for key, value in given.items() if key in ("name", "weight")}
        return {**own, "settings": {key: value for key, value in given.items() if key not in own}}


def _each_once(losses: tuple[LossTerm, ...]) -> tuple[LossTerm, ...]:
    names = [term.name for term in losses]
    if len(set(names)) != len(names):
        raise ValueError(f"a loss is named twice: {names}")
    return losses


Losses = Annotated[tuple[LossTerm, ...], Field(min_length=1), AfterValidator(_each_once)]


class Stage(Settings):
    """A stage of a training in which a model's parts are trained one after another (:mod:`merc.training.loop.phases`).

    Attributes:
        name: of the stage, in history and results.
        trains: parts of the model: modalities, ``fusion``. Of a recipe without one of the modalities that one is left out, and with it a stage that
            trains no other.
        losses: in place of the recipe's. Each part is trained by all of them, on what it makes.
        optimizer: in place of the recipe's.
        epochs: in place of the recipe's.
    """

    name: str = Field(pattern="^[a-z0-9_]+$")
    trains: tuple[str, ...] = Field(min_length=1)
    losses: Losses | None = None
    optimizer: Optimizer | None = None
    epochs: int | None = Field(default=None, ge=1)

    @field_validator("trains")
    @classmethod
    def _known_parts(cls, trains: tuple[str, ...]) -> tuple[str, ...]:
        parts = [*MODALITIES, FUSION]
        for part in trains:
            if part not in parts:
                raise ValueError(f"no part {part!r}; {plugins.nearest(part, parts)}")
        if len(set(trains)) != len(trains):
            raise ValueError(f"a part is named twice: {list(trains)}")
        return trains


class Pretraining(Settings):
    """A first stage of training, on another corpus.

    Attributes:
        dataset: whose shards.
        recipe: its name; the same model, on the modalities of the second stage unless the name says which, for all of its epochs.
        splits: whose dialogues are trained on. Others than train only in a recipe one of whose names is ``official``, as
            ``idcl_official`` is: some papers do so.
        transfer_head: tensors whose shape hangs on the number of classes go over too. The label sets must be the same.
    """

    dataset: str
    recipe: str
    splits: tuple[Literal["train", "dev", "test"], ...] = Field(default=("train",), min_length=1)
    transfer_head: bool = False


class Recipe(Settings):
    """Settings of one training recipe.

    Attributes:
        model: file in ``models/``.
        model_settings: override keys of the block ``models.<model>``.
        framework: file in ``frameworks/`` that wraps the model; null: none.
        framework_settings: override keys of the block ``frameworks.<framework>``.
        modalities: what the model sees.
        losses: terms of the objective, summed with their weights.
        stages: the parts of the model are trained one after another, the last stage training the fusion; null: all at once. What else stands here holds
            in every stage.
        optimizer: and its settings.
        schedule: how the learning rate goes from its value towards 0 over ``epochs``.
        warmup_steps: in the first steps it is multiplied by 1 / ``warmup_steps``, 2 / ``warmup_steps``, and so on up to 1.
        epochs: at most so many.
        patience_epochs: stop after so many epochs without a better dev weighted F1; those before a curriculum has all dialogues do not count.
        batch_dialogues: dialogues a step, at most.
        min_steps_per_epoch: batches are made smaller where the train split would give fewer steps than this (the demonstration
            corpus has 14 train dialogues, MELD 1038).
        gradient_clip: longest norm of the gradient; null: unlimited.
        feature_limit_std: features are cut at so many standard deviations.
        seeds: one training each; decides initial weights, dropout and the order of dialogues.
        selection: whose weights are kept: those of the epoch with the best weighted F1 on dev (the earliest of equal ones), or the ``last``.
        precision: of the model's forward and backward; see :class:`merc.training.loop.precision.Precision`.
        neighbours: of the index of emotion trajectories, for batches and losses; null: none.
        curriculum: dialogues from easy to hard; null: all of them in every epoch.
        pretraining: the training whose weights this one begins with; null: none.
    """

    model: str
    model_settings: dict[str, Any] = Field(default_factory=dict)
    framework: str | None = None
    framework_settings: dict[str, Any] = Field(default_factory=dict)
    modalities: tuple[str, ...] = Field(min_length=1)
    losses: Losses
    stages: tuple[Stage, ...] | None = None
    optimizer: Optimizer
    schedule: Literal["constant", "linear", "cosine"]
    warmup_steps: int = Field(default=0, ge=0)
    epochs: int = Field(ge=1)
    patience_epochs: int = Field(ge=1)
    batch_dialogues: int = Field(ge=1)
    min_steps_per_epoch: int = Field(ge=1)
    gradient_clip: float | None = Field(gt=0)
    feature_limit_std: float = Field(gt=0)
    seeds: tuple[int, ...] = Field(min_length=1)
    selection: Literal["dev_weighted_f1", "last"] = "dev_weighted_f1"
    precision: PrecisionName = "float32"
    neighbours: Neighbours | None = None
    curriculum: Curriculum | None = None
    pretraining: Pretraining | None = None

    @field_validator("modalities")
    @classmethod
    def _known_modalities(cls, modalities: tuple[str, ...]) -> tuple[str, ...]:
        """In the agreed order, whatever the order in the file, so that it changes no result."""
        for name in modalities:
            if name not in MODALITIES:
                raise ValueError(f"no modality {name!r}; {plugins.nearest(name, list(MODALITIES))}")
        return tuple(name for name in MODALITIES if name in modalities)

    @field_validator("stages")
    @classmethod
    def _each_stage_once(cls, stages: tuple[Stage, ...] | None) -> tuple[Stage, ...] | None:
        names = [stage.name for stage in stages or ()]
        if len(set(names)) != len(names):
            raise ValueError(f"a stage is named twice: {names}")
        return stages

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
            raise ValueError(f"curriculum.buckets is {self.curriculum.buckets}, and after {self.epochs} epochs the hardest dialogues would not have come")
        if self.neighbours is not None and self.neighbours.per_dialogue:
            raise ValueError("a curriculum decides which dialogues come, and so does neighbours.per_dialogue: one of them must go, or per_dialogue be 0")
        return self
