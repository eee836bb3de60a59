"""A recipe: which model, on which modalities, with which losses, and how it is trained.

One block under ``recipes`` in params.yaml, or such a block with additions (:mod:`pipeline.training.composition`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from pipeline import plugins
from pipeline.errors import BadSettings
from pipeline.layout import MODALITIES
from pipeline.params import Params, Settings, fill
from pipeline.training.composition import RECIPES, compose
from pipeline.training.curriculum import Curriculum
from pipeline.training.frameworks.base import Framework
from pipeline.training.losses.base import MERCLoss
from pipeline.training.models.base import FUSION, MERCModel
from pipeline.training.neighbours import Neighbours
from pipeline.training.precision import PrecisionName

MODELS = "pipeline.training.models"
LOSSES = "pipeline.training.losses"
FRAMEWORKS = "pipeline.training.frameworks"


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
    """A stage of a training in which a model's parts are trained one after another (:mod:`pipeline.training.stages`).

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
        precision: of the model's forward and backward; see :class:`pipeline.training.precision.Precision`.
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


@dataclass(frozen=True)
class LossPlan:
    """A loss with its weight and its settings, overrides applied."""

    name: str
    weight: float
    kind: type[MERCLoss]
    config: Settings


@dataclass(frozen=True)
class FrameworkPlan:
    """A framework with its settings, overrides applied."""

    name: str
    kind: type[Framework]
    config: Settings


@dataclass(frozen=True)
class StagePlan:
    """A stage with everything looked up.

    Attributes:
        number: from 0, of those that train anything.
        name: of the stage.
        trains: the parts it trains.
        before: the parts that were trained when it begins.
        plan: as for a training of its own, with the stage's losses, optimiser and epochs.
    """

    number: int
    name: str
    trains: tuple[str, ...]
    before: tuple[str, ...]
    plan: "Plan"


@dataclass(frozen=True)
class PretrainingPlan:
    """A first stage with its recipe looked up."""

    settings: Pretraining
    plan: "Plan"

    def decides(self) -> dict[str, Any]:
        """Its settings as :meth:`Plan.settings`, without its seeds, since those of the second stage count."""
        found = self.plan.settings()
        del found[RECIPES][self.plan.name]["seeds"]
        return found


@dataclass(frozen=True)
class Plan:
    """A recipe with everything it names looked up."""

    name: str
    recipe: Recipe
    model: type[MERCModel]
    model_config: Settings
    losses: tuple[LossPlan, ...]
    framework: FrameworkPlan | None = None
    pretraining: PretrainingPlan | None = None
    stages: tuple[StagePlan, ...] = ()

    @property
    def epochs(self) -> int:
        """At most so many, of all stages."""
        return sum(stage.plan.recipe.epochs for stage in self.stages) or self.recipe.epochs

    @property
    def epoch_columns(self) -> list[str]:
        """What an epoch leaves: ``loss_<name>``, a term without its weight; ``train_loss``, the weighted sum; ``<name>_<what>``, what a loss observes."""
        terms = [term for plan in [stage.plan for stage in self.stages] or [self] for term in plan.losses]
        when = ["seed", "stage", "epoch"] if self.stages else ["seed", "epoch"]
        seen = [f"{term.name}_{what}" for term in terms for what in term.kind.observes]
        return list(dict.fromkeys([*when, "learning_rate", "train_loss", *(f"loss_{term.name}" for term in terms), *seen]))

    def build(self, dims: Mapping[str, int], classes: int) -> MERCModel:
        """The model with fresh weights, inside its framework if there is one."""
        model = self.model(self.model_config, dims, classes)
        return model if self.framework is None else self.framework.kind(self.framework.config, model)

    def settings(self) -> dict[str, Any]:
        """All that decides the result, JSON-able, under the keys it has in params.yaml."""
        settings = {
            RECIPES: {self.name: self.recipe.model_dump(mode="json", exclude={"model_settings", "framework_settings"})},
            "models": {self.recipe.model: self.model_config.model_dump(mode="json")},
            "losses": _configs(self.losses),
        }
        if self.stages:
            settings["stages"] = {stage.name: {"losses": _configs(stage.plan.losses)} for stage in self.stages}
        if self.framework is not None:
            settings["frameworks"] = {self.framework.name: self.framework.config.model_dump(mode="json")}
        if self.pretraining is not None:
            settings["pretraining"] = self.pretraining.decides()
        return settings


def _configs(losses: tuple[LossPlan, ...]) -> dict[str, Any]:
    return {term.name: term.config.model_dump(mode="json") for term in losses}


def resolve(params: Params, name: str) -> Plan:
    """Looks up a recipe with its model, framework and losses.

    Args:
        params: the blocks ``recipes``, ``additions``, ``models``, ``frameworks``, ``losses``.
        name: such as ``mmgcn``, ``mmgcn+dclf`` or ``mmgcn+dclf@text``.

    Raises:
        BadSettings: if a recipe, addition, model, framework, loss or key is unknown (the nearest valid one is named), a value impossible,
            the two stages of a training do not fit together, or a part of a model that is trained in stages is trained by none.
    """
    recipe = fill(compose(params, name, list(Recipe.model_fields)), Recipe, where=f"{RECIPES}.{name}")
    model = plugins.load(MODELS, recipe.model, MERCModel)  # type: ignore[type-abstract]
    model_config = params.fill(f"models.{recipe.model}", model.Config, **recipe.model_settings)
    plan = Plan(name, recipe, model, model_config, _losses(params, recipe.losses), _framework(params, recipe), _pretraining(params, name, recipe))
    return replace(plan, stages=_stages(params, plan))


def _losses(params: Params, terms: tuple[LossTerm, ...]) -> tuple[LossPlan, ...]:
    losses = []
    for term in terms:
        kind = plugins.load(LOSSES, term.name, MERCLoss)  # type: ignore[type-abstract]
        losses.append(LossPlan(term.name, term.weight, kind, params.fill(f"losses.{term.name}", kind.Config, **term.settings)))
    return tuple(losses)


def _stages(params: Params, plan: Plan) -> tuple[StagePlan, ...]:
    recipe, where = plan.recipe, f"{RECIPES}.{plan.name}.stages"
    if recipe.stages is None:
        return ()
    parts = (*recipe.modalities, FUSION)
    found: list[StagePlan] = []
    before: tuple[str, ...] = ()
    for stage in recipe.stages:
        trains = tuple(part for part in parts if part in stage.trains)
        if not trains:
            continue
        losses = stage.losses or recipe.losses
        update = {"losses": losses, "optimizer": stage.optimizer or recipe.optimizer, "epochs": stage.epochs or recipe.epochs}
        own = replace(plan, recipe=recipe.model_copy(update=update), losses=_losses(params, losses))
        found.append(StagePlan(len(found), stage.name, trains, before, own))
        before = tuple(part for part in parts if part in (*before, *trains))
    missing = [part for part in parts if part not in before]
    if missing:
        raise BadSettings(f"{where}: no stage trains {', '.join(missing)}; each of {', '.join(parts)} needs one")
    if FUSION not in found[-1].trains:
        raise BadSettings(
            f"{where}: the last stage, {found[-1].name}, trains {', '.join(found[-1].trains)}; it has to train the {FUSION}, whose scores are the model's"
        )
    return tuple(found)


def _framework(params: Params, recipe: Recipe) -> FrameworkPlan | None:
    if recipe.framework is None:
        return None
    kind = plugins.load(FRAMEWORKS, recipe.framework, Framework)  # type: ignore[type-abstract]
    return FrameworkPlan(recipe.framework, kind, params.fill(f"frameworks.{recipe.framework}", kind.Config, **recipe.framework_settings))


def _pretraining(params: Params, name: str, recipe: Recipe) -> PretrainingPlan | None:
    settings = recipe.pretraining
    if settings is None:
        return None
    where = f"{RECIPES}.{name}.pretraining"
    held_out = [split for split in settings.splits if split != "train"]
    if held_out and "official" not in re.split(r"[+@_-]", name):
        raise BadSettings(f"{where}.splits: {', '.join(held_out)} is held out; only a recipe that is called official, such as {name}_official, may train on it")
    first_name = settings.recipe if "@" in settings.recipe else f"{settings.recipe}@{'-'.join(recipe.modalities)}"
    if compose(params, first_name, list(Recipe.model_fields)).get("pretraining") is not None:
        raise BadSettings(f"{where}.recipe: {settings.recipe} has a pre-training itself; there are two stages, not three")
    first = resolve(params, first_name)
    if first.stages:
        raise BadSettings(f"{where}.recipe: {settings.recipe} is trained in stages, each of which selects an epoch on dev; a pre-training looks at train alone")
    if first.recipe.model != recipe.model:
        raise BadSettings(f"{where}.recipe: {settings.recipe} trains {first.recipe.model}, and this recipe {recipe.model}; weights go over within one model")
    if first.recipe.selection != "last":
        raise BadSettings(f"{where}.recipe: {settings.recipe} selects an epoch, and a pre-training looks at no held-out dialogue: it needs selection: last")
    return PretrainingPlan(settings, first)
