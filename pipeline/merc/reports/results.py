"""The results of a training in ``runs/<dataset>/<recipe>/``: read, checked, and summarised over the seeds."""

import csv
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from merc import files
from merc.encoders.engine.adapted import FROZEN
from merc.errors import BadTable
from merc.job import RECORD, Record

RESULTS = "results.json"
HISTORY = "history.csv"
PREDICTIONS = "predictions.parquet"
_HISTORY_COLUMNS = ("seed", "epoch", "train_loss", "dev_weighted_f1")


class _Lenient(BaseModel):
    """Reads the keys that the report shows; a run may record more."""

    model_config = ConfigDict(extra="ignore", frozen=True)


Share = Annotated[float, Field(ge=0, le=1 + 1e-9, allow_inf_nan=False)]
"""A score, 0 to 1; sums of floats may be slightly above."""


class Scores(_Lenient):
    """Scores of one split."""

    weighted_f1: Share
    accuracy: Share
    macro_f1: Share | None = None


class ClassScores(_Lenient):
    """Scores of one class; ``support`` is its number of utterances."""

    precision: Share
    recall: Share
    f1: Share
    support: int


class TestScores(Scores):
    """Scores of the test split; ``confusion[true][predicted]`` counts utterances."""

    __test__ = False  # not a test class, whatever its name

    per_class: dict[str, ClassScores]
    confusion: list[list[int]]


class BestTestEpoch(_Lenient):
    """The best epoch if the test split had been used to choose it; shown as such, never chosen."""

    epoch: int
    weighted_f1: Share


class Seed(_Lenient):
    """One run; ``epoch`` is the one chosen on dev."""

    epoch: int
    dev: Scores
    test: TestScores
    best_test_epoch: BestTestEpoch | None = None


class Recipe(_Lenient):
    """All seeds of one recipe on one dataset; ``tag`` says whether its encoders were fine-tuned on emotion labels,
    ``unlabelled_in_context`` whether the dialogues contain utterances outside the label set, which most papers drop.
    """

    dataset: str
    recipe: str
    model: str
    modalities: list[str]
    label_set: str
    classes: list[str]
    encoders: dict[str, str]
    tag: str = FROZEN
    unlabelled_in_context: bool = False
    parameters: int
    causal: bool
    selection: str
    majority: dict[str, Scores]
    seeds: dict[str, Seed]

    @property
    def features(self) -> str:
        """The features of the scores; recipes with different ones must not be ranked together."""
        return ", ".join(f"{modality} {self.encoders[modality]}" for modality in self.modalities)

    @property
    def protocol(self) -> str:
        """The label set, and whether the context includes utterances outside it; recipes with different protocols must
        not be ranked together.
        """
        return (
            f"{self.label_set}, with utterances outside it as context" if self.unlabelled_in_context else self.label_set
        )

    def over_seeds(self, score: Callable[[Seed], float]) -> "Spread":
        """A score's mean and spread over the seeds."""
        return Spread([score(seed) for seed in self.seeds.values()])

    @property
    def dev_weighted_f1(self) -> float:
        return self.over_seeds(lambda seed: seed.dev.weighted_f1).mean

    @property
    def confusion(self) -> list[list[int]]:
        """Test confusion summed over the seeds, ``[true][predicted]``."""
        matrices = [seed.test.confusion for seed in self.seeds.values()]
        return [[sum(cells) for cells in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]


@dataclass(frozen=True)
class Spread:
    """Values of the same score, one per seed."""

    values: Sequence[float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Standard deviation with denominator n - 1; None for a single seed, which says nothing about the spread."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def percent(self) -> str:
        """In per cent, in the field's usual format: ``57.21 ± 0.34``."""
        mean = f"{100 * self.mean:.2f}"
        return mean if self.std is None else f"{mean} ± {100 * self.std:.2f}"


@dataclass(frozen=True)
class Epoch:
    """One line of a history."""

    seed: str
    epoch: int
    train_loss: float
    dev_weighted_f1: float


def read_recipes(runs: Path, dataset: str) -> list[Recipe]:
    """The finished recipes of a dataset, by name; empty if nothing was trained.

    Raises:
        BadTable: if a results file was not written by a training; the message names file and key.
    """
    return [_read_recipe(path) for path in sorted((runs / dataset).glob(f"*/{RESULTS}"))]


def read_record(runs: Path, recipe: Recipe) -> dict[str, Any]:
    """What a run was made with: its ``settings``, and under ``inputs`` the fingerprint of its ``shards``; empty if it
    has no record.
    """
    path = runs / recipe.dataset / recipe.recipe / RECORD
    record: dict[str, Any] = files.read_record(path, Record, "the record of a training") if path.is_file() else {}
    return record


def state(runs: Path, recipe: Recipe) -> str:
    """A hash of the current results of a recipe.

    Raises:
        BadTable: if they are gone.
    """
    path = runs / recipe.dataset / recipe.recipe / RESULTS
    try:
        return files.sha256(path)
    except OSError as error:
        raise BadTable(f"{path}: removed while the report was made; run merc-report again") from error


def read_history(runs: Path, recipe: Recipe) -> list[Epoch]:
    """Training loss and dev score per seed and epoch; empty if none was written.

    Raises:
        BadTable: if the columns are wrong, or a cell is not a number.
    """
    path = runs / recipe.dataset / recipe.recipe / HISTORY
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        missing = set(_HISTORY_COLUMNS) - set(rows.fieldnames or ())
        if missing:
            raise BadTable(f"{path}: no column {', '.join(sorted(missing))}; there are {rows.fieldnames}")
        try:
            return [
                Epoch(row["seed"], int(row["epoch"]), float(row["train_loss"]), float(row["dev_weighted_f1"]))
                for row in rows
            ]
        except (TypeError, ValueError) as error:
            raise BadTable(f"{path}, line {rows.line_num}: {error}") from error


def _read_recipe(path: Path) -> Recipe:
    content = files.read_json(path)
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise BadTable(f"{path}: not the results of a run: {problems}") from error
    if not recipe.seeds:
        raise BadTable(f"{path}: no seed has been run")
    expected = {"dataset": path.parts[-3], "recipe": path.parts[-2]}
    for key, folder in expected.items():
        if getattr(recipe, key) != folder:
            raise BadTable(f"{path}: {key} is {getattr(recipe, key)!r}, the folder's name is {folder!r}")
    width = len(recipe.classes)
    for seed, run in recipe.seeds.items():
        if len(run.test.confusion) != width or any(len(row) != width for row in run.test.confusion):
            raise BadTable(f"{path}: the confusion matrix of seed {seed} is not {width} x {width}")
        strange = set(run.test.per_class) ^ set(recipe.classes)
        if strange:
            raise BadTable(f"{path}: seed {seed}: per_class and classes differ in {', '.join(sorted(strange))}")
    for name in set(recipe.modalities) - set(recipe.encoders):
        raise BadTable(f"{path}: encoders names none for {name}")
    for split in {"dev", "test"} - set(recipe.majority):
        raise BadTable(f"{path}: majority has no {split}")
    return recipe
