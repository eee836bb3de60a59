"""The points of sweeps among finished runs: a run is one if its name says so and its recorded settings agree.

mmgcn+dclf+context_aware-window-2@text   ──►   mmgcn+dclf@text: context_aware.window = 2
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from merc.job import flat
from merc.reports.results import Recipe, Spread

Value = float | str


@dataclass(frozen=True)
class Point:
    """A trained point; ``values`` are in the order of its sweep's keys."""

    values: tuple[Value, ...]
    recipe: str
    dev: Spread
    test: Spread


@dataclass(frozen=True)
class Sweep:
    """The points of one recipe over the same settings.

    Attributes:
        recipe: its name without the swept settings.
        keys: the settings.
        axes: the occurring values of each setting, in order.
        points: in the order of their values.
    """

    recipe: str
    keys: tuple[str, ...]
    axes: tuple[tuple[Value, ...], ...]
    points: Sequence[Point]

    @property
    def best(self) -> Point:
        """The one with the highest mean dev score; the first in case of ties."""
        return max(self.points, key=lambda point: point.dev.mean)

    def at(self, *values: Value) -> Point | None:
        """The point with these values, if it was trained."""
        return next((point for point in self.points if point.values == values), None)

    def depth(self, point: Point, split: str) -> float:
        """The position of a score among those of the sweep, from 0 (lowest) to 1."""
        scores = [getattr(one, split).mean for one in self.points]
        room = max(scores) - min(scores)
        return float((getattr(point, split).mean - min(scores)) / room) if room else 0.5


def read(recipes: Sequence[Recipe], records: Mapping[str, Mapping[str, Any]]) -> list[Sweep]:
    """The sweeps with at least two finished points, by recipe.

    Args:
        recipes: all finished ones. records: recipe → record of its training; empty if there is none.
    """
    found: dict[tuple[str, tuple[str, ...]], list[Point]] = {}
    for recipe in recipes:
        base, swept = _swept(recipe.recipe, records.get(recipe.recipe, {}).get("settings", {}))
        if swept:
            dev, test = (
                recipe.over_seeds(lambda seed: seed.dev.weighted_f1),
                recipe.over_seeds(lambda seed: seed.test.weighted_f1),
            )
            found.setdefault((base, tuple(swept)), []).append(Point(tuple(swept.values()), recipe.recipe, dev, test))
    made = [
        Sweep(base, keys, _axes(points), sorted(points, key=lambda one: _order(one.values)))
        for (base, keys), points in sorted(found.items())
    ]
    return [sweep for sweep in made if len(sweep.points) > 1]


def points_of(sweeps: Sequence[Sweep]) -> set[str]:
    """The recipes that are points of a sweep."""
    return {point.recipe for sweep in sweeps for point in sweep.points}


def _swept(name: str, settings: Mapping[str, Any]) -> tuple[str, dict[str, Value]]:
    """A recipe's name without the swept settings, and these settings."""
    named, at, modalities = name.partition("@")
    base, *additions = named.split("+")
    there = {
        key.removeprefix(prefix): value
        for prefix in _prefixes(name, settings)
        for key, value in flat(settings).items()
        if key.startswith(prefix)
    }
    kept, swept = [base], {}
    for addition in additions:
        found = _setting(addition, there)
        if found is None:
            kept.append(addition)
        else:
            swept[found[0]] = found[1]
    return "+".join(kept) + at + modalities, swept


def _prefixes(name: str, settings: Mapping[str, Any]) -> list[str]:
    """The places in a record of the settings that a grid can name."""
    return [
        f"recipes.{name}.",
        f"recipes.{name}.losses.",
        *(f"{block}." for block in ("losses", "models", "frameworks") if block in settings),
    ]


def _setting(addition: str, there: Mapping[str, Any]) -> tuple[str, Value] | None:
    """``context_aware-window-2`` is a setting if it exists and has this value."""
    words = addition.split("-")
    for end in range(1, len(words)):
        key, value = ".".join(words[:end]), "-".join(words[end:])
        if key in there and _same(value, there[key]):
            return key, _value(there[key])
    return None


def _same(word: str, value: Any) -> bool:
    """Whether a word in a name stands for a value, as :mod:`merc.training.sweep` writes it: a point is an underscore.

    >>> _same("0_05", 0.05), _same("2", 2.0), _same("true", True), _same("both", "past")
    (True, True, True, False)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return word == str(value).lower() if isinstance(value, bool) else word == str(value)
    try:
        return float(word.replace("_", ".")) == float(value)
    except ValueError:
        return False


def _value(value: Any) -> Value:
    return (
        float(value)
        if isinstance(value, int | float) and not isinstance(value, bool)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


def _axes(points: Sequence[Point]) -> tuple[tuple[Value, ...], ...]:
    return tuple(
        tuple(sorted(set(values), key=lambda one: _order((one,))))
        for values in zip(*(point.values for point in points), strict=True)
    )


def _order(values: tuple[Value, ...]) -> tuple[tuple[bool, Value], ...]:
    """Numbers before words."""
    return tuple((isinstance(value, str), value) for value in values)
