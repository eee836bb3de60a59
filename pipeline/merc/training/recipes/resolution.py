"""A plan: a recipe with everything that it names looked up, its model, losses, framework, stages and pre-training."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from merc import plugins
from merc.errors import BadSettings
from merc.params import Params, Settings, fill
from merc.training.frameworks.base import Framework
from merc.training.losses.engine.base import MERCLoss
from merc.training.models.engine.base import FUSION, MERCModel
from merc.training.recipes.composition import RECIPES, compose
from merc.training.recipes.recipe import LossTerm, Pretraining, Recipe

MODELS = "merc.training.models"
LOSSES = "merc.training.losses"
FRAMEWORKS = "merc.training.frameworks"


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
