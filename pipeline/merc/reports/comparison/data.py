"""The data of the page of comparisons: every recipe with everything that can be drawn, and what is known about
pairs.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from merc.job import flat
from merc.reports.colours import emotion_colours
from merc.reports.comparison import evaluated, predicted
from merc.reports.comparison.evaluated import number
from merc.reports.comparison.predicted import Said
from merc.reports.evaluations import Significance
from merc.reports.results import Epoch, Recipe, read_history

_SAID_AGAIN = re.compile(r"recipe\..*\blosses\.[^.]+\.settings\b")
SCORES = ("weighted_f1", "accuracy", "macro_f1")


def compare_data(
    dataset: str,
    recipes: Sequence[Recipe],
    records: Mapping[str, Mapping[str, Any]],
    runs: Path,
    evaluations: Path | None,
    *,
    significance: Significance | None = None,
    points: Collection[str] = (),
    outdated: Collection[str] = (),
) -> dict[str, Any]:
    """JSON-able; two recipes can be compared if their ``group`` is the same, which stands for label set and classes.

    Args:
        dataset: its name.
        recipes: the finished ones.
        records: recipe → record of its training; empty if there is none. runs: the folder of all runs.
        evaluations: the folder of all evaluations, which may be missing; None: there are none.
        significance: which recipes differ, as far as they have been compared.
        points: the recipes that are points of a sweep.
        outdated: those that were trained on earlier shards.

    Raises:
        BadTable: if a file of a run or an evaluation is invalid.
    """
    groups = list(dict.fromkeys((recipe.protocol, tuple(recipe.classes)) for recipe in recipes))
    fingerprints = {recipe.recipe: records.get(recipe.recipe, {}).get("fingerprint") for recipe in recipes}
    said = {recipe.recipe: predicted.read(runs / dataset / recipe.recipe, len(recipe.classes)) for recipe in recipes}
    lists = _lists(said)
    of_each = []
    for recipe in recipes:
        name = recipe.recipe
        home = None if evaluations is None else evaluations / "runs" / dataset / name
        of_each.append(
            _recipe(recipe, runs)
            | {
                "group": groups.index((recipe.protocol, tuple(recipe.classes))),
                "point": name in points,
                "outdated": name in outdated,
            }
            | {"settings": _settings(name, records.get(name, {})), "said": _said(said[name], lists)}
            | {"evaluated": evaluated.of_run(home, fingerprints[name]) if home else {}}
        )
    return {
        "dataset": dataset,
        "groups": [
            {"label_set": protocol, "classes": list(classes), "colours": list(emotion_colours(classes).values())}
            for protocol, classes in groups
        ],
        "recipes": of_each,
        "lists": [
            {"utterances": list(ids), "dialogues": _runs(dialogues), "labels": labels}
            for ids, dialogues, labels in lists
        ],
        "pairs": [pair.model_dump() for pair in significance.pairs] if significance else [],
    }


def _recipe(recipe: Recipe, runs: Path) -> dict[str, Any]:
    seeds = list(recipe.seeds.values())
    of_classes = [[seed.test.per_class[name] for seed in seeds] for name in recipe.classes]
    return {
        "name": recipe.recipe,
        "model": recipe.model,
        "features": recipe.features,
        "tag": recipe.tag,
        "causal": recipe.causal,
        "parameters": recipe.parameters,
        "seeds": list(recipe.seeds),
        **{
            split: {score: [number(getattr(getattr(seed, split), score)) for seed in seeds] for score in SCORES}
            for split in ("dev", "test")
        },
        "classes_f1": [[number(one.f1) for one in of_class] for of_class in of_classes],
        "support": [of_class[0].support for of_class in of_classes],
        "confusion": recipe.confusion,
        "history": _history(recipe, read_history(runs, recipe)),
    }


def _history(recipe: Recipe, epochs: Sequence[Epoch]) -> list[dict[str, Any]]:
    """Per seed: its losses and dev scores, epoch after epoch through all phases, and the index of the chosen one, None
    if it is missing.
    """
    curves = []
    for name, seed in recipe.seeds.items():
        own = [one for one in epochs if one.seed == name]
        chosen = [place for place, one in enumerate(own) if one.epoch == seed.epoch]
        if own:
            curve = {
                "seed": name,
                "loss": [number(one.train_loss) for one in own],
                "dev": [number(one.dev_weighted_f1) for one in own],
            }
            curves.append(curve | {"chosen": chosen[-1] if chosen else None})
    return curves


def _settings(name: str, record: Mapping[str, Any]) -> dict[str, str]:
    """Dotted key → value as text; the recipe's own keys are under ``recipe``, since its name differs between recipes.

    The recipe's own settings of its losses are left out: everything in effect is under ``losses``.
    """
    inputs = {f"inputs.{key}": value for key, value in flat(record.get("inputs", {})).items()}
    own = {
        key.replace(f"recipes.{name}.", "recipe.", 1): value for key, value in flat(record.get("settings", {})).items()
    }
    return {key: _words(value) for key, value in sorted({**own, **inputs}.items()) if not _SAID_AGAIN.match(key)}


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value)) or "none"
    return "none" if value is None or value == {} else str(value).lower() if isinstance(value, bool) else str(value)


_List = tuple[tuple[str, ...], tuple[str, ...], str]


def _lists(said: Mapping[str, Said | None]) -> list[_List]:
    """The distinct lists of test utterances, their dialogues and labels; recipes on the same shards share one."""
    return list(
        dict.fromkeys((one.utterance_ids, one.dialogue_ids, one.labels) for one in said.values() if one is not None)
    )


def _said(said: Said | None, lists: Sequence[_List]) -> dict[str, Any] | None:
    return (
        None
        if said is None
        else {"list": lists.index((said.utterance_ids, said.dialogue_ids, said.labels)), "classes": said.classes}
    )


def _runs(values: Sequence[str]) -> list[list[Any]]:
    """Run-length encoding of values as ``[value, count]``.

    >>> _runs(["dia0", "dia0", "dia1"])
    [['dia0', 2], ['dia1', 1]]
    """
    found: list[list[Any]] = []
    for value in values:
        if found and found[-1][0] == value:
            found[-1][1] += 1
        else:
            found.append([value, 1])
    return found
