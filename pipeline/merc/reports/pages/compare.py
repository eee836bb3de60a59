"""The page ``compare.html`` of a dataset: two recipes side by side, and the results of sweeps."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from merc.reports.comparison import sweeps
from merc.reports.comparison.data import compare_data
from merc.reports.comparison.sweeps import Sweep
from merc.reports.pages.base import ASSETS, Report, folder_of, links_of
from merc.reports.pages.dataset import DatasetReport
from merc.reports.results import read_record

_DATA = "compare-data.js"


def write(report: Report, dataset: DatasetReport, *, runs: Path, evaluations: Path | None) -> None:
    """Writes the page and its data.

    Args:
        report: report that it belongs to.
        dataset: its dataset.
        runs: the folder of all runs; may be missing.
        evaluations: the folder of all evaluations; may be missing, None for none.

    Raises:
        BadTable: if a file of a run or an evaluation is invalid.
    """
    home = folder_of(dataset.name)
    records = {recipe.recipe: read_record(runs, recipe) for recipe in dataset.recipes}
    found = sweeps.read(dataset.recipes, records)
    points = sweeps.points_of(found)
    differing, outdated = dataset.evaluated.significance, dataset.trained_on_others
    content = compare_data(
        dataset.name,
        dataset.recipes,
        records,
        runs,
        evaluations,
        significance=differing,
        points=points,
        outdated=outdated,
    )
    content["picked"] = _picked(dataset, points)
    report.write_data(f"{home}/{_DATA}", "compare", content)
    scripts = [f"{home}/{_DATA}", f"{ASSETS}/charts.js", f"{ASSETS}/compare.js"]
    view = {
        "dataset": dataset.name,
        "recipes": [recipe.recipe for recipe in dataset.recipes],
        "sweeps": [_sweep(one) for one in found],
    }
    title = f"{dataset.name}: two recipes side by side"
    report.write(
        f"{home}/compare.html",
        "compare.html.j2",
        title,
        links=links_of(dataset.name),
        styles=["compare.css"],
        scripts=scripts,
        **view,
    )


def _picked(dataset: DatasetReport, points: Collection[str]) -> list[str]:
    """The initial comparison: the best on dev, and the next best of those that can be compared with it, points of
    sweeps last, else any other.
    """
    best = dataset.best
    if best is None:
        return []
    others = [recipe for recipe in dataset.recipes if recipe.recipe != best.recipe]
    same = {
        one.recipe: (
            (one.protocol, one.classes) == (best.protocol, best.classes),
            one.tag == best.tag,
            one.recipe not in points,
        )
        for one in others
    }
    others.sort(key=lambda one: (*(not fits for fits in same[one.recipe]), -one.dev_weighted_f1, one.recipe))
    return [best.recipe, *(one.recipe for one in others[:1])]


def _sweep(sweep: Sweep) -> dict[str, Any]:
    """A sweep as tables: by dev, which decides, and by test. Two settings become rows and columns; one, or more than
    two, the headings of rows.
    """
    grid = len(sweep.keys) == 2
    columns = sweep.axes[1] if grid else ()
    heads = [(value,) for value in sweep.axes[0]] if grid else [point.values for point in sweep.points]
    tables = {
        split: [
            (
                [_shown(one) for one in head],
                [_cell(sweep, split, (*head, *more)) for more in ([(value,) for value in columns] if grid else [()])],
            )
            for head in heads
        ]
        for split in ("dev", "test")
    }
    return {
        "recipe": sweep.recipe,
        "keys": sweep.keys,
        "columns": [_shown(value) for value in columns],
        "tables": tables,
        "best": sweep.best,
    }


def _cell(sweep: Sweep, split: str, values: tuple[sweeps.Value, ...]) -> dict[str, Any] | None:
    point = sweep.at(*values)
    if point is None:
        return None
    spread = getattr(point, split)
    mean, _, deviation = spread.percent().partition(" ± ")
    return {
        "mean": mean,
        "deviation": deviation,
        "depth": sweep.depth(point, split),
        "best": point is sweep.best,
        "recipe": point.recipe,
        "seeds": len(spread.values),
    }


def _shown(value: sweeps.Value) -> str:
    return f"{value:g}" if isinstance(value, float) else value
