"""A few train dialogues with their nearest, as strips of coloured cells."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from merc import parquet
from merc.errors import BadSettings, BadTable, nearest
from merc.reports.colours import ink_on
from merc.shards.format.schema import check_trajectories

UNLABELLED_COLOUR = "none"
ENOUGH_EMOTIONS = 3
"""An example must show a change; two dialogues with only "neutral" are always identical."""


@dataclass(frozen=True)
class Cell:
    """One utterance in a strip; places in per cent of the strip's width."""

    left: float
    width: float
    colour: str
    ink: str
    letters: str
    title: str


@dataclass(frozen=True)
class Strip:
    """A dialogue as drawn; ``similarity`` to the example above it, None for the example itself."""

    dialogue_id: str
    utterances: int
    similarity: float | None
    cells: list[Cell]


@dataclass(frozen=True)
class Example:
    """A dialogue, and its nearest below it, best first."""

    dialogue: Strip
    neighbours: list[Strip]


def read_examples(
    trajectories: Path,
    similarity: str,
    *,
    classes: Sequence[str],
    colours: Mapping[str, str],
    number: int,
    neighbours: int,
) -> list[Example]:
    """Chooses and draws the examples.

    Of the train dialogues that are at least as long as half of them and have three different emotions or more, none of
    them in more than half of the utterances, those whose neighbours are most similar; others only if there are no more
    of these. A dialogue shown as a neighbour is not shown again as an example.

    Args:
        trajectories: folder of the tables that ``merc.trajectories.stage`` writes.
        similarity: similarity of the neighbours. ``path`` compares stretched trajectories: all strips get the same
            width. Otherwise all utterances of an example do.
        classes: names of the labels.
        colours: class → colour.
        number: number of examples. neighbours: number drawn below each.

    Raises:
        BadSettings: if the tables have no such similarity.
        BadTable: if they are damaged, or name labels or neighbours that do not exist.
    """
    files = sorted(trajectories.glob("train-*.parquet"))
    if not files:
        return []
    for path in files:
        check_trajectories(parquet.schema(path), path)
    there = [
        name.removeprefix("neighbours_") for name in parquet.schema(files[0]).names if name.startswith("neighbours_")
    ]
    if similarity not in there:
        raise BadSettings(
            f"report.similarity: {trajectories} has no neighbours by {similarity!r}; {nearest(similarity, there)}"
        )
    columns = ["dialogue_id", "trajectory", f"neighbours_{similarity}", f"similarity_{similarity}"]
    rows = {row["dialogue_id"]: row for row in parquet.read(files, columns).to_pylist()}
    _check_rows(rows, similarity, len(classes), trajectories)
    chosen = _choose(list(rows.values()), similarity, number, neighbours)
    return [_draw(rows, row, similarity, neighbours, classes, colours) for row in chosen]


def _check_rows(rows: Mapping[str, dict[str, Any]], similarity: str, classes: int, trajectories: Path) -> None:
    for name, row in rows.items():
        labels, neighbours, values = (
            row[key] for key in ("trajectory", f"neighbours_{similarity}", f"similarity_{similarity}")
        )
        if None in (name, labels, neighbours, values) or None in labels or len(neighbours) != len(values) or not labels:
            raise BadTable(f"{trajectories}: {name}: an empty cell, or not one similarity per neighbour")
        if not all(-1 <= label < classes for label in labels) or not rows.keys() >= {*neighbours}:
            raise BadTable(
                f"{trajectories}: {name}: a label outside the {classes} classes, or a neighbour that is not a dialogue"
                " of the split"
            )


def abbreviations(classes: Sequence[str]) -> dict[str, str]:
    """The shortest prefix of each name that distinguishes it from the others.

    >>> abbreviations(["sadness", "surprise", "joy"])
    {'sadness': 'Sa', 'surprise': 'Su', 'joy': 'J'}
    """
    short: dict[str, str] = {}
    for name in classes:
        lengths = (
            length
            for length in range(1, len(name))
            if not any(other != name and other.startswith(name[:length]) for other in classes)
        )
        short[name] = name[: next(lengths, len(name))].capitalize()
    return short


def _choose(rows: Sequence[dict[str, Any]], similarity: str, number: int, neighbours: int) -> list[dict[str, Any]]:
    lengths = [len(row["trajectory"]) for row in rows]
    half = float(np.median(lengths))

    def rank(row: dict[str, Any]) -> tuple[float, bool, float, str]:
        counts = Counter(label for label in row["trajectory"] if label >= 0)
        one_prevails = 2 * max(counts.values()) > counts.total()
        return (
            -min(len(counts), ENOUGH_EMOTIONS),
            one_prevails,
            -float(np.sum(row[f"similarity_{similarity}"][:neighbours])),
            row["dialogue_id"],
        )

    chosen: list[dict[str, Any]] = []
    shown: set[str] = set()
    for row in sorted(
        (row for row in rows if len(row["trajectory"]) >= half and row[f"neighbours_{similarity}"]), key=rank
    ):
        if len(chosen) < number and row["dialogue_id"] not in shown:
            chosen.append(row)
            shown.update(row[f"neighbours_{similarity}"][:neighbours])
    return chosen


def _draw(
    rows: Mapping[str, dict[str, Any]],
    row: dict[str, Any],
    similarity: str,
    neighbours: int,
    classes: Sequence[str],
    colours: Mapping[str, str],
) -> Example:
    nearest_rows = [rows[one] for one in row[f"neighbours_{similarity}"][:neighbours]]
    longest = max(len(one["trajectory"]) for one in (row, *nearest_rows))
    widths = [len(one["trajectory"]) if similarity == "path" else longest for one in (row, *nearest_rows)]
    values = [None, *row[f"similarity_{similarity}"][:neighbours]]
    strips = [
        _strip(one, value, width, classes, colours)
        for one, value, width in zip((row, *nearest_rows), values, widths, strict=True)
    ]
    return Example(strips[0], strips[1:])


def _strip(
    row: dict[str, Any], similarity: float | None, cells_across: int, classes: Sequence[str], colours: Mapping[str, str]
) -> Strip:
    short = abbreviations(classes)
    cells = []
    # More letters do not fit into the cell of a long dialogue.
    fits = 60 // cells_across
    for position, label in enumerate(row["trajectory"]):
        name = classes[label] if label >= 0 else ""
        letters = short[name] if name and len(short[name]) <= fits else ""
        title = f"utterance {position}: {name or 'outside the label set'}"
        colour = colours.get(name, UNLABELLED_COLOUR)
        ink = ink_on(colour) if name else ""
        cells.append(Cell(100 * position / cells_across, 100 / cells_across, colour, ink, letters, title))
    return Strip(row["dialogue_id"], len(row["trajectory"]), similarity, cells)
