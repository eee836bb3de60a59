"""``merc-shards neighbours``: a dialogue next to those with similar emotion trajectories, as strips of emotions."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from merc import extras, files, log
from merc.command_line import echo, exiting
from merc.commands import completion
from merc.errors import BadSettings, nearest
from merc.shown import visible

if TYPE_CHECKING:
    from merc.trajectories.config import Config
    from merc.trajectories.lookup import Seen

_UNLABELLED = "··"
_CELL = 3


@click.command()
@click.argument("dialogue_id")
@click.option(
    "--shards",
    "root",
    type=click.Path(path_type=Path),
    help="Folder of the shards. Default: features/<dataset>/shards, if there is only one.",
)
@click.option(
    "--similarity",
    shell_complete=completion.similarities,
    help="Similarity by which neighbours are chosen. Default: path, or pooled where there are none by labels.",
)
@click.option("--number", "-n", type=click.IntRange(min=1), default=5, show_default=True, help="Number of neighbours.")
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write an HTML page to this file instead, with texts on hover.",
)
@click.option(
    "--predictions",
    type=click.Path(path_type=Path, dir_okay=False),
    help="predictions.parquet of a run, for neighbours by predicted labels.",
)
@click.option("--seed", type=int, help="Seed whose predictions are used. Default: the smallest.")
def command(
    dialogue_id: str,
    root: Path | None,
    similarity: str | None,
    number: int,
    page: Path | None,
    predictions: Path | None,
    seed: int | None,
) -> None:
    """Show a dialogue, for example train/dia0, next to its nearest dialogues.

    Neighbours by labels are found only for train dialogues; others have neighbours by features, or, with --predictions,
    by a model's predicted labels. The numbers are the similarity, from 0 to 1, and the order excess: 0 if the emotions'
    order adds nothing to their counts, 1 if the dialogues are identical.
    """
    log.set_up()
    with exiting():
        from merc.shards.format import reader

        if seed is not None and predictions is None:
            raise BadSettings("--seed chooses among --predictions")
        root = root or _only_shards(Path("features"))
        classes = reader.info(root)["classes"]
        name, shown = _shown(root, dialogue_id, similarity, number, predictions, seed, classes)
        if page is not None:
            extras.need("report", "--html")
            from merc.reports.neighbours import render

            files.write_text(page, render(shown, name, classes))
            echo(page)
            return
        for line in strips(shown, name, classes, shutil.get_terminal_size().columns):
            click.echo(line)


def _shown(
    root: Path,
    dialogue_id: str,
    similarity: str | None,
    number: int,
    predictions: Path | None,
    seed: int | None,
    classes: Sequence[str],
) -> tuple[str, list["Seen"]]:
    """The name of the similarity, and the dialogues to show."""
    from merc.trajectories import lookup

    row = lookup.read_row(root, dialogue_id)
    if predictions is None:
        name = lookup.choose(row, similarity)
        return name, lookup.with_neighbours(root, row, name, number)
    extras.need("report", "--predictions")
    from merc.trajectories.predicted import SUFFIX, predicted_table

    config = _settings(root, row["split"], similarity)
    rows = {
        one["dialogue_id"]: one
        for one in predicted_table(root, predictions, config, classes, row["split"], seed).to_pylist()
    }
    name = lookup.choose(rows[dialogue_id], similarity, SUFFIX) + SUFFIX
    labels = {one: found[f"trajectory{SUFFIX}"] for one, found in rows.items()}
    return name, lookup.with_neighbours(root, rows[dialogue_id], name, number, labels)


def _settings(root: Path, split: str, similarity: str | None) -> "Config":
    """The settings that the trajectories were made with, but with only the similarity that is shown."""
    from merc.params import fill
    from merc.trajectories.config import POOLED, Config
    from merc.trajectories.lookup import DEFAULT, made_with

    made = made_with(root, split)
    block = {key: made[key] for key in Config.model_fields if key in made}
    from_labels = [name for name in made.get("similarities", []) if name != POOLED]
    if similarity == POOLED:
        raise BadSettings(
            f"{POOLED!r} uses features, not labels: leave out --predictions; {nearest(POOLED, from_labels)}"
        )
    first = DEFAULT if DEFAULT in from_labels or not from_labels else from_labels[0]
    return fill({**block, "similarities": [similarity or first]}, Config, where="trajectories")


def strips(shown: Sequence["Seen"], name: str, classes: Sequence[str], columns: int) -> Iterator[str]:
    """Lines for a terminal: one strip per dialogue, cut at the width of the terminal, and the legend.

    Args:
        shown: the dialogue and its neighbours.
        name: of the similarity.
        classes: names of the labels.
        columns: width of the terminal in characters.
    """
    from merc.reports.colours import emotion_colours
    from merc.reports.examples import abbreviations

    # The lines contain our colours, so control characters in names are made visible here.
    name, classes, names = visible(name), [visible(one) for one in classes], [visible(one.dialogue_id) for one in shown]
    short, colours = abbreviations(classes), emotion_colours(classes)
    ids = max(map(len, names))
    heads = [
        f"{called:<{ids}} {len(one.labels):>4} {_number(one.similarity)} {_number(one.order_excess)} "
        for called, one in zip(names, shown, strict=True)
    ]
    yield f"{'':<{ids}} {'utt.':>4} {'simil.':>6} {'order':>6}  by {name}"
    across = max(1, (columns - len(heads[0])) // _CELL)
    for one, head in zip(shown, heads, strict=True):
        cells = [_cell(classes[label], short, colours) if label >= 0 else f"{_UNLABELLED} " for label in one.labels]
        for begin in range(0, len(cells), across):
            note = "  same scenario" if one.same_scenario and begin + across >= len(cells) else ""
            yield (head if begin == 0 else " " * len(head)) + "".join(cells[begin : begin + across]) + note
    if len(shown) == 1:
        yield (
            f"no neighbours by {name}: it has no labels that may be looked at, or there is no other dialogue to compare"
            " it with"
        )
    yield ""
    yield "  ".join(f"{_cell(one, short, colours)} {one}" for one in classes) + f"  {_UNLABELLED} outside the label set"


def _cell(emotion: str, short: Mapping[str, str], colours: Mapping[str, str]) -> str:
    from merc.reports.colours import ink_on

    return click.style(
        f"{short[emotion][:_CELL]:<{_CELL}}", fg=_rgb(ink_on(colours[emotion])), bg=_rgb(colours[emotion])
    )


def _rgb(colour: str) -> tuple[int, int, int]:
    """The parts of ``#rrggbb``."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue


def _number(value: float | None) -> str:
    return f"{value:6.3f}" if value is not None else " " * 6


def _only_shards(out: Path) -> Path:
    there = sorted(out.glob("*/shards"))
    if len(there) != 1:
        found = f"there are {', '.join(map(str, there))}" if there else f"there are none in {out}"
        raise BadSettings(f"name the shards with --shards; {found}")
    return there[0]
