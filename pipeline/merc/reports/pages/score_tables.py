"""The tables of scores on the pages: sortable cells, and short tags of features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from merc.reports import figures
from merc.reports.evaluations import Block, Evaluations, Value
from merc.reports.pace import NOTHING, Pace
from merc.reports.pages.base import slug
from merc.reports.results import Recipe, Spread
from merc.reports.scoreboard import SCORES, Scoreboard, significance_words, spread

SELECTIONS = {"dev weighted F1": "dev WF1"}
"""Shorter words for how an epoch is selected."""


@dataclass(frozen=True)
class Cell:
    """A score: ``mean`` and ``deviation`` as printed, and the number to sort by; None if there is no score."""

    mean: str
    deviation: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Row:
    """A recipe in a table of scores.

    Attributes:
        recipe: its name.
        anchor: anchor of its provenance on the page of the dataset.
        tags: tags of its features, such as ``text: roberta``.
        cells: cells under the headings.
        best, marked: see :class:`merc.reports.scoreboard.Scoreboard`.
        facts: everything else that is known about it.
    """

    recipe: str
    anchor: str
    tags: Sequence[str]
    cells: Sequence[Cell]
    best: bool = False
    marked: bool = False
    facts: Recipe | None = None


def anchor(recipe: str) -> str:
    """Place of the provenance of a recipe's scores on the page of a dataset."""
    return f"run-{slug(recipe)}"


def tags(recipe: Recipe) -> list[str]:
    """One for each modality."""
    return [f"{modality}: {recipe.encoders[modality]}" for modality in recipe.modalities]


def cell(value: Spread | Value | None, *, percent: bool = True) -> Cell:
    """A score over the seeds."""
    if value is None:
        return Cell("–")
    scale, digits = (100, 2) if percent else (1, 3)
    return Cell(
        f"{scale * value.mean:.{digits}f}", "" if value.std is None else f"± {scale * value.std:.{digits}f}", value.mean
    )


def board_view(board: Scoreboard, paces: Mapping[str, Pace]) -> dict[str, Any]:
    """A scoreboard for the template."""
    rows = [_row(recipe, board, [cell(spread(recipe, score)) for score in SCORES]) for recipe in board.recipes]
    return {
        "board": board,
        "majority": _majority(board.recipes[0]),
        "rows": rows,
        "paces": {recipe.recipe: paces.get(recipe.recipe, NOTHING) for recipe in board.recipes},
        "classes": board.recipes[0].classes,
        "per_class": [
            _row(recipe, board, [cell(_class_f1(recipe, name)) for name in board.recipes[0].classes])
            for recipe in board.recipes
        ],
        "figure": figures.scores(board.recipes),
        "significance": significance_words(board),
        "selections": SELECTIONS,
    }


def _row(recipe: Recipe, board: Scoreboard, cells: Sequence[Cell]) -> Row:
    return Row(
        recipe.recipe,
        anchor(recipe.recipe),
        tags(recipe),
        cells,
        recipe is board.best,
        recipe.recipe in board.marked,
        recipe,
    )


def _majority(recipe: Recipe) -> list[Cell]:
    dev, test = recipe.majority["dev"], recipe.majority["test"]
    return [
        Cell(f"{100 * score:.2f}") if score is not None else Cell("–")
        for score in (test.weighted_f1, test.accuracy, test.macro_f1, dev.weighted_f1)
    ]


def _class_f1(recipe: Recipe, name: str) -> Spread:
    return Spread([seed.test.per_class[name].f1 for seed in recipe.seeds.values()])


def block_view(block: Block, recipes: Sequence[Recipe]) -> dict[str, Any]:
    """An evaluation as a table of scores."""
    rows = [
        Row(
            one.recipe,
            anchor(one.recipe),
            tags(one),
            [cell(block.rows[one.recipe].get(head), percent=block.percent) for head in block.columns],
        )
        for one in recipes
        if one.recipe in block.rows
    ]
    return {"block": block, "rows": rows}


def pair_rows(evaluated: Evaluations) -> list[dict[str, Any]]:
    """The pairs of recipes that were compared on test, differences in points."""
    pairs = evaluated.significance.pairs if evaluated.significance else ()
    return [
        {
            "first": pair.first,
            "second": pair.second,
            "seeds": pair.seeds,
            "difference": _points(pair.difference),
            "value": pair.difference,
            "interval": "–" if pair.low is None else f"{_points(pair.low)} to {_points(pair.high)}",
            "p": "–" if pair.p_holm is None else f"{pair.p_holm:.3f}",
            "verdict": {None: "no significance is claimed", True: "significant", False: "not significant"}[
                pair.significant
            ],
            "needed": "–" if pair.seeds_needed is None else str(pair.seeds_needed),
        }
        for pair in pairs
    ]


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.2f}"
