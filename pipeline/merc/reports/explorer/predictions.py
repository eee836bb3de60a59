"""The recipes' predictions for the utterances of the shards: the class with the highest mean probability over the
seeds.

Legend: N utterances of the shards, U utterances in a file, C classes of a run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from merc import parquet
from merc.errors import BadTable
from merc.reports import predictions
from merc.reports.evaluations import is_of
from merc.reports.explorer.corpus import Corpus
from merc.reports.predictions import Predictions, of_table
from merc.reports.results import PREDICTIONS, RESULTS, Recipe, read_record
from merc.shown import visible

UNIMODAL = "any_modality_oracle/unimodal.parquet"
NOTHING = -2
"""Used instead of a class if a run has no prediction for an utterance."""


@dataclass(frozen=True)
class Said:
    """Predictions for the utterances.

    Attributes:
        classes: index into the classes of the shards; :data:`NOTHING` if there is no prediction.
        percent: the mean probability of that class as an integer percentage, 0 to 99.
    """

    classes: NDArray[np.int64]
    percent: NDArray[np.int64]


@dataclass(frozen=True)
class Predicted:
    """The predictions of a recipe.

    Attributes:
        recipe: its name.
        seeds: number of seeds.
        fused: its predictions.
        unimodal: modality → predictions of that modality by itself; empty if not requested.
    """

    recipe: str
    seeds: int
    fused: Said
    unimodal: Mapping[str, Said] = field(default_factory=dict)


def read_predictions(
    runs: Path, evaluations: Path | None, recipes: Sequence[Recipe], corpus: Corpus
) -> tuple[list[Predicted], list[str]]:
    """Reads the predictions of all finished recipes.

    Args:
        runs: the folder of the trained runs.
        evaluations: the folder of the evaluations, which contain each modality's predictions; None: do not look for
            them.
        recipes: the recipes.
        corpus: the utterances.

    Returns:
        The predictions, in the order of the recipes, and a sentence for each recipe that is left out.

    Raises:
        BadTable: if a file is damaged or contains something else, or a run has been removed since ``recipes`` was read.
    """
    found, left_out = [], []
    for recipe in recipes:
        folder = runs / recipe.dataset / recipe.recipe
        strange = [name for name in recipe.classes if name not in corpus.classes]
        if strange:
            left_out.append(
                f"{recipe.recipe} is not shown: it predicts {_listed(strange)}, and these shards have"
                f" {_listed(corpus.classes)}."
            )
        elif (folder / PREDICTIONS).is_file():
            fused = _said(predictions.read(folder / PREDICTIONS, len(recipe.classes))[1], recipe.classes, corpus)
            unimodal, why_not = _read_unimodal(runs, evaluations, recipe, corpus)
            found.append(Predicted(recipe.recipe, len(recipe.seeds), fused, unimodal))
            left_out += why_not
        else:
            left_out.append(f"{recipe.recipe} is not shown: its run has no {PREDICTIONS}; retrain it.")
        if not (folder / RESULTS).is_file():
            raise BadTable(f"{folder}: the run was removed while the report was made; run merc-report again")
    return found, left_out


def _read_unimodal(
    runs: Path, evaluations: Path | None, recipe: Recipe, corpus: Corpus
) -> tuple[dict[str, Said], list[str]]:
    """The predictions of each modality, and a sentence if they are outdated."""
    home = None if evaluations is None else evaluations / "runs" / recipe.dataset / recipe.recipe
    if home is None or not (home / UNIMODAL).is_file():
        return {}, []
    if not is_of((home / UNIMODAL).parent, read_record(runs, recipe).get("fingerprint")):
        again = f"merc-evaluate --dataset {recipe.dataset} --recipe {recipe.recipe} --protocol any_modality_oracle"
        return {}, [
            f"The predictions of single modalities in {recipe.recipe} are from an earlier training, and not shown;"
            f" this remakes them: {again}"
        ]
    table = parquet.read(home / UNIMODAL, [*predictions.COLUMNS, "modality"])
    names = pc.unique(table["modality"]).to_pylist()
    each = {name: table.filter(pc.equal(table["modality"], name)) for name in names}
    return {
        name: _said(of_table(rows, len(recipe.classes), home / UNIMODAL), recipe.classes, corpus)
        for name, rows in each.items()
    }, []


def _said(found: Predictions, classes: Sequence[str], corpus: Corpus) -> Said:
    place_U = corpus.places(found.utterance_ids)
    here_U = place_U >= 0
    own = np.array([corpus.classes.index(name) for name in classes])
    classes_N, percent_N = np.full(corpus.utterances, NOTHING), np.zeros(corpus.utterances, dtype=np.int64)
    classes_N[place_U[here_U]] = own[found.means[here_U].argmax(axis=1)]
    percent_N[place_U[here_U]] = np.clip(np.rint(100 * found.means[here_U].max(axis=1)), 0, 99)
    return Said(classes_N, percent_N)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(visible(name) for name in names)
