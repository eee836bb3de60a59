"""From a recipe's name to everything that is trained: its model, losses, framework, phases and pre-training, looked up
and checked.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from merc import plugins
from merc.errors import BadSettings
from merc.params import Laid, Origin, Params, Settings
from merc.training.frameworks.base import Framework
from merc.training.losses.engine.base import MERCLoss
from merc.training.models.engine.base import FUSION, MERCModel
from merc.training.recipes.composition import RecipeName, compose
from merc.training.recipes.recipe import LossTerm, Pretraining, Recipe
from merc.training.recipes.shelves import RECIPES

MODELS = "merc.training.models"
LOSSES = "merc.training.losses"
FRAMEWORKS = "merc.training.frameworks"


@dataclass(frozen=True)
class ResolvedLoss:
    """A loss with its weight and its settings."""

    name: str
    weight: float
    kind: type[MERCLoss]
    config: Settings


@dataclass(frozen=True)
class ResolvedFramework:
    """A framework with its settings."""

    name: str
    kind: type[Framework]
    config: Settings


@dataclass(frozen=True)
class ResolvedPhase:
    """A phase with everything looked up. A recipe without phases has one, which trains the model as a whole.

    Attributes:
        number: number from 0, counting only phases that train anything.
        name: of the phase; empty for the one that trains the model as a whole.
        trains: the branches whose weights it changes.
        scored: the branches that losses and scores use.
        before: the branches trained before it starts.
        recipe: as for a separate training, with the phase's optimiser and epochs.
        losses: losses of the phase.
    """

    number: int
    name: str
    trains: tuple[str, ...]
    scored: tuple[str, ...]
    before: tuple[str, ...]
    recipe: Recipe
    losses: tuple[ResolvedLoss, ...]

    @property
    def columns(self) -> dict[str, str]:
        """What marks a row of a training's history as belonging to the phase."""
        return {"phase": self.name} if self.name else {}


@dataclass(frozen=True)
class ResolvedPretraining:
    """A pre-training with its recipe looked up."""

    settings: Pretraining
    resolved: "ResolvedRecipe"

    def decides(self) -> dict[str, Any]:
        """Its settings as :meth:`ResolvedRecipe.settings`, without its seeds, since those of the following training
        apply.
        """
        found = self.resolved.settings()
        del found["recipes"][self.resolved.name]["seeds"]
        return found


@dataclass(frozen=True)
class ResolvedRecipe:
    """A recipe with everything it names looked up.

    Attributes:
        name: as requested.
        recipe: its settings.
        model: the model's class.
        model_config: the model's settings.
        losses: losses of the recipe.
        framework: what wraps the model, or None.
        pretraining: the training before this one, or None.
        phases: at least one.
        origins: dotted key, as in :meth:`settings` → origin of its value; missing keys have their defaults.
    """

    name: str
    recipe: Recipe
    model: type[MERCModel]
    model_config: Settings
    losses: tuple[ResolvedLoss, ...]
    framework: ResolvedFramework | None = None
    pretraining: ResolvedPretraining | None = None
    phases: tuple[ResolvedPhase, ...] = ()
    origins: Mapping[str, Origin] = field(default_factory=dict, compare=False)

    @property
    def epochs(self) -> int:
        """Maximum number of epochs, over all phases."""
        return sum(phase.recipe.epochs for phase in self.phases)

    @property
    def epoch_columns(self) -> list[str]:
        """What an epoch records: ``loss_<name>``, a term without its weight; ``train_loss``, the weighted sum;
        ``<name>_<what>``, what a loss observes.
        """
        terms = [term for phase in self.phases for term in phase.losses]
        when = ["seed", *self.phases[0].columns, "epoch"]
        seen = [f"{term.name}_{what}" for term in terms for what in term.kind.observes]
        return list(
            dict.fromkeys([*when, "learning_rate", "train_loss", *(f"loss_{term.name}" for term in terms), *seen])
        )

    def versions(self) -> dict[str, int]:
        """Versions of its parts, by name, if they are not the first."""
        terms = [term for phase in self.phases for term in phase.losses]
        parts: dict[str, type[MERCModel] | type[MERCLoss]] = {
            self.recipe.model: self.model,
            **{term.name: term.kind for term in (*self.losses, *terms)},
        }
        if self.framework is not None:
            parts[self.framework.name] = self.framework.kind
        return {name: part.VERSION for name, part in parts.items() if part.VERSION > 1}

    def build(self, dims: Mapping[str, int], classes: int) -> MERCModel:
        """The model with fresh weights, inside its framework if there is one."""
        model = self.model(self.model_config, dims, classes)
        return model if self.framework is None else self.framework.kind(self.framework.config, model)

    def configs(self) -> dict[str, Settings]:
        """Every block of settings by its dotted key; phases and pre-training have their own."""
        found: dict[str, Settings] = {
            f"recipes.{self.name}": self.recipe,
            f"models.{self.recipe.model}": self.model_config,
        }
        if self.framework is not None:
            found[f"frameworks.{self.framework.name}"] = self.framework.config
        found |= {f"losses.{term.name}": term.config for term in self.losses}
        for phase in self.phases if self.recipe.phases is not None else ():
            found |= {f"losses.{term.name} in {phase.name}": term.config for term in phase.losses}
        return found if self.pretraining is None else found | self.pretraining.resolved.configs()

    def settings(self) -> dict[str, Any]:
        """Everything that decides the result, JSON-able, under its keys in params.yaml."""
        without = {"about", "model_settings", "framework_settings"}
        if (
            f"recipes.{self.name}.causal" not in self.origins
        ):  # as in all recipes from before this key existed, whose runs stay valid
            without.add("causal")
        settings = {
            "recipes": {self.name: self.recipe.decisive(exclude=without)},
            "models": {self.recipe.model: self.model_config.model_dump(mode="json")},
            "losses": _configs(self.losses),
        }
        if self.recipe.phases is not None:
            settings["phases"] = {phase.name: {"losses": _configs(phase.losses)} for phase in self.phases}
        if self.framework is not None:
            settings["frameworks"] = {self.framework.name: self.framework.config.model_dump(mode="json")}
        if self.pretraining is not None:
            settings["pretraining"] = self.pretraining.decides()
        return settings


def _configs(losses: tuple[ResolvedLoss, ...]) -> dict[str, Any]:
    return {term.name: term.config.model_dump(mode="json") for term in losses}


def resolve(params: Params, name: str) -> ResolvedRecipe:
    """Looks up a recipe with its model, framework, losses, phases and pre-training.

    Args:
        params: the user's settings, which override recipes, additions, models, frameworks and losses.
        name: such as ``mmgcn``, ``mmgcn+dclf`` or ``mmgcn+dclf@text``.

    Raises:
        BadSettings: if a recipe, addition, model, framework, loss or key is unknown (the nearest valid one is named), a
            value is invalid, the two trainings of a pre-trained model do not match, or no phase trains a branch of a
            model that is trained in phases.
    """
    return _Resolution(params, name).resolved()


def training_entry(params: Params, resolved: ResolvedRecipe, dataset: str) -> dict[str, str]:
    """The keys of an entry of ``train`` in params.yaml, from which DVC runs a training, including those that follow
    from the recipe.

    Args:
        params: the settings that the recipe was looked up in.
        resolved: the recipe.
        dataset: dataset that it is trained on.

    Raises:
        BadSettings: if it does not come from a shipped file.
    """
    shipped = RECIPES.shipped()
    base = next((one for one in RECIPES.lineage(params, RecipeName.parse(resolved.name).base) if one in shipped), None)
    if base is None:
        raise BadSettings(
            f"train: {resolved.name} does not come from a packaged file that DVC can track; give it a base, or put it"
            " into a file"
        )
    reads = dataset if resolved.pretraining is None else resolved.pretraining.settings.dataset
    return {"dataset": dataset, "recipe": resolved.name, "base": base, "also_reads": reads}


class _Resolution:
    """One recipe during its resolution; keeps the origin of each value."""

    def __init__(self, params: Params, name: str) -> None:
        self.params, self.name = params, name
        self.laid = compose(params, name)
        self.where = f"recipes.{name}"
        self.recipe = params.filled(self.laid, Recipe, self.where)
        self.origins = {f"{self.where}.{key}": origin for key, origin in self.laid.origins.items()}

    def resolved(self) -> ResolvedRecipe:
        recipe = self.recipe
        model = plugins.load(MODELS, recipe.model, MERCModel)  # type: ignore[type-abstract]
        found = ResolvedRecipe(
            name=self.name,
            recipe=recipe,
            model=model,
            model_config=self._model_config(model),
            losses=self._losses(recipe.losses, "losses"),
            framework=self._framework(),
            pretraining=self._pretraining(),
            origins=self.origins,
        )
        self._check_speaker_normalisation(found)
        return replace(found, phases=self._phases(found))

    def _check_speaker_normalisation(self, found: ResolvedRecipe) -> None:
        """Raises ``BadSettings`` if a causal model would see later utterances in its speakers' moments."""
        settings = found.model.causal_settings()
        shares = self.recipe.speaker_normalisation
        if settings is None or not any(shares.get(name) for name in self.recipe.modalities):
            return
        if all(getattr(found.model_config, key) == value for key, value in settings.items()):
            raise BadSettings(
                f"{self.where}: the model is causal, and speaker_normalisation would show an utterance what its speaker"
                " says later; remove one of them"
            )

    def _model_config(self, model: type[MERCModel]) -> Settings:
        """The model's settings; the recipe's own override those that make the model causal, or the other way round if
        the recipe requires it to be causal.
        """
        wanted, part, causal = self.recipe.causal, "model_settings", Laid()
        if wanted != "as_set":
            settings = model.causal_settings()
            if settings is None and wanted == "required":
                raise BadSettings(
                    f"{self.where}.causal: {self.recipe.model} sees the whole dialogue, and has no setting to change"
                    " that"
                )
            causal.lay(part, settings or {}, self.laid.origins["causal"])
        below, above = (causal, Laid()) if wanted == "where_possible" else (Laid(), causal)
        found: Settings = self._config(f"models.{self.recipe.model}", model.Config, part, below=below, above=above)
        return found

    def _config(
        self,
        key: str,
        config: type[Settings],
        part: str,
        without: Collection[str] = (),
        *,
        below: Laid | None = None,
        above: Laid | None = None,
    ) -> Any:
        """The settings at ``key`` in params.yaml overridden by those in the recipe below ``part``.

        Further settings may be merged just below the recipe's, or over all.
        """
        laid = self.params.read(key)
        if below is not None:
            laid.lay_part(below, part)
        laid.lay_part(self.laid, part, without)
        if above is not None:
            laid.lay_part(above, part)
        self.origins |= {f"{key}.{one}": origin for one, origin in laid.origins.items()}
        return self.params.filled(laid, config, key)

    def _losses(self, terms: Mapping[str, LossTerm], part: str) -> tuple[ResolvedLoss, ...]:
        losses = []
        for name, term in terms.items():
            kind = plugins.load(LOSSES, name, MERCLoss)  # type: ignore[type-abstract]
            losses.append(
                ResolvedLoss(
                    name, term.weight, kind, self._config(f"losses.{name}", kind.Config, f"{part}.{name}", {"weight"})
                )
            )
        return tuple(losses)

    def _phases(self, found: ResolvedRecipe) -> tuple[ResolvedPhase, ...]:
        recipe, where = self.recipe, f"{self.where}.phases"
        branches = (*recipe.modalities, FUSION)
        if recipe.phases is None:
            return (ResolvedPhase(0, "", branches, (FUSION,), (), recipe, found.losses),)
        phases: list[ResolvedPhase] = []
        before: tuple[str, ...] = ()
        for name, phase in recipe.phases.items():
            trains = tuple(branch for branch in branches if branch in phase.trains)
            if not trains:
                continue
            own = recipe.model_copy(
                update={"optimizer": phase.optimizer or recipe.optimizer, "epochs": phase.epochs or recipe.epochs}
            )
            losses = found.losses if phase.losses is None else self._losses(phase.losses, f"phases.{name}.losses")
            phases.append(ResolvedPhase(len(phases), name, trains, trains, before, own, losses))
            before = tuple(branch for branch in branches if branch in (*before, *trains))
        missing = [branch for branch in branches if branch not in before]
        if missing:
            raise BadSettings(f"{where}: no phase trains {', '.join(missing)}; each of {', '.join(branches)} needs one")
        if FUSION not in phases[-1].trains:
            raise BadSettings(
                f"{where}: the last phase, {phases[-1].name}, trains {', '.join(phases[-1].trains)}; it must train the"
                f" {FUSION}, whose scores are the model's"
            )
        return tuple(phases)

    def _framework(self) -> ResolvedFramework | None:
        name = self.recipe.framework
        if name is None:
            return None
        kind = plugins.load(FRAMEWORKS, name, Framework)  # type: ignore[type-abstract]
        return ResolvedFramework(name, kind, self._config(f"frameworks.{name}", kind.Config, "framework_settings"))

    def _pretraining(self) -> ResolvedPretraining | None:
        settings = self.recipe.pretraining
        if settings is None:
            return None
        where = f"{self.where}.pretraining"
        held_out = [split for split in settings.splits if split != "train"]
        if held_out and "official" not in re.split(r"[+@_-]", self.name):
            raise BadSettings(
                f"{where}.splits: {', '.join(held_out)} is held out; only a recipe named official, such as"
                f" {self.name}_official, may train on it"
            )
        first_name = (
            settings.recipe if "@" in settings.recipe else f"{settings.recipe}@{'-'.join(self.recipe.modalities)}"
        )
        if compose(self.params, first_name).at("pretraining") is not None:
            raise BadSettings(
                f"{where}.recipe: {settings.recipe} has a pre-training itself; only one pre-training is allowed"
            )
        first = resolve(self.params, first_name)
        if first.recipe.phases is not None:
            raise BadSettings(
                f"{where}.recipe: {settings.recipe} is trained in phases, each of which selects an epoch on dev; a"
                " pre-training uses only train"
            )
        if first.recipe.model != self.recipe.model:
            raise BadSettings(
                f"{where}.recipe: {settings.recipe} trains {first.recipe.model}, and this recipe {self.recipe.model};"
                " weights can be transferred only within one model"
            )
        if first.recipe.selection != "last":
            raise BadSettings(
                f"{where}.recipe: {settings.recipe} selects an epoch, but a pre-training uses no held-out dialogue: it"
                " needs selection: last"
            )
        return ResolvedPretraining(settings, first)
