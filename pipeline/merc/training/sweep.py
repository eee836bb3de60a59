"""A sweep: one recipe at every point of a grid of settings; each point is a separate recipe with a separate run.

    mmgcn+dclf  ×  context_aware.window = 2, 4      ──►  runs/<dataset>/mmgcn+dclf+context_aware-window-2
                                                         runs/<dataset>/mmgcn+dclf+context_aware-window-4

A point is a generated addition (:mod:`merc.training.recipes.composition`), so it is trained, resumed, evaluated and
reported like any other recipe.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from merc import files
from merc.errors import BadSettings, nearest
from merc.job import RunOptions, flat
from merc.layout import Layout
from merc.params import Params, Settings
from merc.training.recipes.composition import RecipeName
from merc.training.recipes.recipe import Recipe
from merc.training.recipes.resolution import ResolvedRecipe, resolve, training_entry
from merc.training.stage import train

Value = bool | int | float | str
ENTRY = "sweep"
"""Name of a point under ``train``, in a DVC experiment."""
Grid = Mapping[str, Sequence[Value]]


class Sweep(Settings):
    """A grid with a name: a file in ``recipes/sweeps``, or a block under ``sweeps``."""

    about: str = ""
    """What it is, in one line."""
    grid: dict[str, tuple[Value, ...]] = Field(min_length=1)
    """Setting → its values. A setting is a key of the recipe (``optimizer.learning_rate``), or of a loss, the model or
    the framework, after its name (``context_aware.window``).
    """

    @field_validator("grid", mode="before")
    @classmethod
    def _dotted(cls, grid: Any) -> Any:
        """Nested blocks become dotted keys."""
        return flat(grid) if isinstance(grid, Mapping) else grid

    @field_validator("grid")
    @classmethod
    def _some_values(cls, grid: dict[str, tuple[Value, ...]]) -> dict[str, tuple[Value, ...]]:
        empty = next((key for key, values in grid.items() if not values), None)
        if empty is not None:
            raise ValueError(f"{empty} has no value")
        return grid


@dataclass(frozen=True)
class Point:
    """A point of a sweep.

    Attributes:
        values: setting → its value, with the grid's names.
        resolved: the recipe that is trained; its name identifies the point.
        laid: key of params.yaml → value, which define the additions in the name.
    """

    values: Mapping[str, Value]
    resolved: ResolvedRecipe
    laid: Mapping[str, Value]


def points(params: Params, recipe: str, grid: Grid) -> list[Point]:
    """Every combination of the grid's values, with the last setting varying fastest; all are looked up and checked.

    Args:
        params: the user's settings, which override recipes, additions, models, frameworks and losses.
        recipe: such as ``mmgcn+dclf@text``.
        grid: setting → its values.

    Raises:
        BadSettings: if a setting or a value is not one of the recipe's, a value would have no effect, or two points
            would have the same name.
    """
    base = resolve(params, recipe)
    keys = {key: _key(base, key) for key in grid}
    made: dict[str, Point] = {}
    for values in product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        additions = {
            f"{key.replace('.', '-')}-{_word(key, value)}": (keys[key], value) for key, value in chosen.items()
        }
        more = {f"additions.{name}.{key}": value for name, (key, value) in additions.items()}
        laid = params.with_overrides(**more)
        resolved = resolve(laid, _named(recipe, list(additions)))
        laid.check_overrides()
        if resolved.name in made:
            raise BadSettings(f"the grid has two points that would have the same name, {resolved.name}")
        made[resolved.name] = Point(chosen, resolved, more)
    return list(made.values())


def train_point(point: Point, layout: Layout, run: RunOptions, *, runs: Path) -> dict[str, Any]:
    """Trains a point unless it has been trained; returns a row of the sweep's table, with scores in per cent. Arguments
    and errors as for :func:`merc.training.stage.train`.
    """
    results = files.read_json(train(point.resolved, layout, run, runs=runs) / "results.json")
    row: dict[str, Any] = {"recipe": point.resolved.name, **point.values, "seeds": len(results["seeds"])}
    for split in ("dev", "test"):
        mean, std = (results[name][split]["weighted_f1"] for name in ("mean", "std"))
        row |= {f"{split}_weighted_f1": 100 * mean, f"{split}_std": None if std is None else 100 * std}
    return row


def experiment(params: Params, point: Point, dataset: str, overrides: Sequence[str] = ()) -> str:
    """The shell command that puts a point into DVC's queue: it adds the point's additions, and an entry under
    ``train``, to params.yaml.

    Args:
        params: settings that the point was made with. point: point to train. dataset: dataset to train on.
        overrides: ``KEY=VALUE``, other settings that override params.yaml.

    Raises:
        BadSettings: if the recipe does not come from a shipped file.
    """
    entry = {f"train.{ENTRY}.{key}": value for key, value in training_entry(params, point.resolved, dataset).items()}
    settings = [*overrides, *(f"{key}={json.dumps(value)}" for key, value in {**point.laid, **entry}.items())]
    name = re.sub(r"[^A-Za-z0-9_-]", "-", point.resolved.name)  # characters allowed in a Git name
    return shlex.join(
        [
            "dvc",
            "exp",
            "run",
            "--queue",
            "--name",
            name,
            *(word for one in settings for word in ("-S", f"++{one}")),
            f"train@{ENTRY}",
        ]
    )


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows of :func:`train_point` as CSV, completely or not at all."""
    files.write_csv(path, list(rows[0]), rows)


def _named(recipe: str, additions: Sequence[str]) -> str:
    parts = RecipeName.parse(recipe)
    return "+".join([parts.base, *parts.additions, *additions]) + (
        f"@{'-'.join(parts.modalities)}" if parts.modalities else ""
    )


def _key(base: ResolvedRecipe, key: str) -> str:
    """The key of an addition that sets a setting."""
    first, _, rest = key.partition(".")
    if first in Recipe.model_fields:
        return key
    holders = {term.name: f"losses.{term.name}" for term in base.losses} | {base.recipe.model: "model_settings"}
    if base.framework is not None:
        holders[base.framework.name] = "framework_settings"
    if first not in holders or not rest:
        raise BadSettings(
            f"{base.name} has no setting {key!r}; it must start with a key of the recipe, or one of its parts:"
            f" {nearest(first, list(holders))}"
        )
    return f"{holders[first]}.{rest}"


def _word(key: str, value: Value) -> str:
    """A value as it is in the name of a point.

    >>> [_word("a", value) for value in (16, 0.05, True, "both")]
    ['16', '0_05', 'true', 'both']
    """
    word = str(value).lower() if isinstance(value, bool) else str(value).replace(".", "_")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", word):
        raise BadSettings(f"{key}={value}: numbers, true, false and words of letters, digits, _ and - can be swept")
    return word
