"""What the recipes predict, laid over the utterances of the shards: the mean of the seeds' probabilities decides.

Legend: R rows of a file, N utterances of the shards, C classes of a run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from merc import files, parquet
from merc.errors import BadTable
from merc.job import RECORD
from merc.reports.explorer.corpus import Corpus
from merc.reports.results import PREDICTIONS, RESULTS, Recipe
from merc.shown import visible

UNIMODAL = "any_modality_oracle/unimodal.parquet"
NOTHING = -2
"""In place of a class where a run says nothing of an utterance."""


@dataclass(frozen=True)
class Said:
    """What was said of the utterances.

    Attributes:
        classes: index into the classes of the shards; :data:`NOTHING` where nothing was said.
        percent: the mean probability of that class in whole per cent, 0 to 99.
    """

    classes: NDArray[np.int64]
    percent: NDArray[np.int64]


@dataclass(frozen=True)
class Predicted:
    """What a recipe predicts.

    Attributes:
        recipe: its name.
        seeds: how many there are.
        fused: what it says.
        unimodal: modality → what that modality says by itself; empty where nobody asked.
    """

    recipe: str
    seeds: int
    fused: Said
    unimodal: Mapping[str, Said] = field(default_factory=dict)


def read_predictions(runs: Path, evaluations: Path | None, recipes: Sequence[Recipe], corpus: Corpus) -> tuple[list[Predicted], list[str]]:
    """Reads what all finished recipes predict.

    Args:
        runs: the folder of the trained runs.
        evaluations: the folder of the evaluations, which know what each modality says; None: they are not looked for.
        recipes: as they were read.
        corpus: the utterances.

    Returns:
        What was predicted, in the order of the recipes, and a sentence for each that is left out.

    Raises:
        BadTable: if a file is damaged or holds something else, or a run was removed since ``recipes`` was read.
    """
    found, left_out = [], []
    for recipe in recipes:
        folder = runs / recipe.dataset / recipe.recipe
        strange = [name for name in recipe.classes if name not in corpus.classes]
        if strange:
            left_out.append(f"{recipe.recipe} is not shown: it predicts {_listed(strange)}, and these shards have {_listed(corpus.classes)}.")
        elif (folder / PREDICTIONS).is_file():
            fused = _said(parquet.read(folder / PREDICTIONS, _COLUMNS), recipe.classes, corpus, folder / PREDICTIONS)
            unimodal, why_not = _read_unimodal(folder, evaluations, recipe, corpus)
            found.append(Predicted(recipe.recipe, len(recipe.seeds), fused, unimodal))
            left_out += why_not
        else:
            left_out.append(f"{recipe.recipe} is not shown: its run holds no {PREDICTIONS}; train it again.")
        if not (folder / RESULTS).is_file():
            raise BadTable(f"{folder}: the run was removed while the report was made; run merc-report again")
    return found, left_out


_COLUMNS = ("seed", "utterance_id", "probabilities")


def _read_unimodal(folder: Path, evaluations: Path | None, recipe: Recipe, corpus: Corpus) -> tuple[dict[str, Said], list[str]]:
    """What each modality says, and a sentence if that is not known any more."""
    home = None if evaluations is None else evaluations / "runs" / recipe.dataset / recipe.recipe
    if home is None or not (home / UNIMODAL).is_file():
        return {}, []
    of_run, of_evaluation = (files.read_json(path / RECORD) for path in (folder, (home / UNIMODAL).parent))
    if of_evaluation.get("inputs", {}).get("run") != of_run.get("fingerprint"):
        again = f"merc-evaluate --dataset {recipe.dataset} --recipe {recipe.recipe} --protocol any_modality_oracle"
        return {}, [f"What each modality says in {recipe.recipe} is of an earlier training, and not shown; this asks again: {again}"]
    table = parquet.read(home / UNIMODAL, [*_COLUMNS, "modality"])
    names = pc.unique(table["modality"]).to_pylist()
    return {name: _said(table.filter(pc.equal(table["modality"], name)), recipe.classes, corpus, home / UNIMODAL) for name in names}, []


def _said(table: pa.Table, classes: Sequence[str], corpus: Corpus, path: Path) -> Said:
    if not pa.types.is_string(table["utterance_id"].type) or not pa.types.is_integer(table["seed"].type):
        raise BadTable(f"{path}: utterance_id holds {table['utterance_id'].type} and seed {table['seed'].type} instead of strings and integers")
    probabilities_RC = _probabilities(table, len(classes), path)
    place_R = corpus.places(table["utterance_id"])
    here_R = place_R >= 0
    _check_once(np.asarray(table["seed"])[here_R], place_R[here_R], corpus.utterances, path)
    sums_NC = np.zeros((corpus.utterances, len(classes)))
    np.add.at(sums_NC, place_R[here_R], probabilities_RC[here_R])
    count_N = np.bincount(place_R[here_R], minlength=corpus.utterances)
    own = np.array([corpus.classes.index(name) for name in classes])
    percent_N = 100 * sums_NC.max(axis=1) / np.maximum(count_N, 1)
    return Said(np.where(count_N > 0, own[sums_NC.argmax(axis=1)], NOTHING), np.clip(np.rint(percent_N), 0, 99).astype(np.int64))


def _probabilities(table: pa.Table, classes: int, path: Path) -> NDArray[np.float64]:
    column = table["probabilities"].combine_chunks()
    if not pa.types.is_fixed_size_list(column.type) or column.type.list_size != classes or column.null_count:
        raise BadTable(f"{path}: probabilities are {column.type} instead of {classes} numbers, one for each class that {RESULTS} names")
    probabilities_RC = np.asarray(column.flatten(), dtype=np.float64).reshape(-1, classes)
    if not np.isfinite(probabilities_RC).all():
        raise BadTable(f"{path}: probabilities that are not finite")
    return probabilities_RC


def _check_once(seed_R: NDArray[np.int64], place_R: NDArray[np.int64], utterances: int, path: Path) -> None:
    keys = np.unique(seed_R, return_inverse=True)[1] * utterances + place_R
    if len(np.unique(keys)) != len(keys):
        raise BadTable(f"{path}: an utterance twice for one seed")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(visible(name) for name in names)
