"""``merc-shards diff``: how two folders of shards differ."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merc import extras, files, log
from merc.command_line import echo, echo_json, exiting
from merc.errors import BadSettings

if TYPE_CHECKING:
    from merc.shards.difference import Difference, Ids, VectorChange

_WIDEST = 60


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("one", metavar="A", type=click.Path(path_type=Path))
@click.argument("other", metavar="B", type=click.Path(path_type=Path))
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="A vector counts as changed if a number differs by more than this.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option(
    "--html", "page", type=click.Path(path_type=Path, dir_okay=False), help="Write an HTML page to this file instead."
)
def command(one: Path, other: Path, tolerance: float, as_json: bool, page: Path | None) -> None:
    """Report how the shards in B differ from those in A.

    Compared are vectors (how many changed, and by how much), presence, labels, texts, speakers, failures, trajectories,
    encoders and settings. Dialogues and utterances are matched by their ids, so neither their order nor the division
    into files matters. Library versions are shown, but do not count as a difference.

    \b
    Exit codes:
      0  equal                   4  no shards, of another schema version, or a file that cannot be read
      1  different
    """
    log.set_up()
    with exiting():
        from merc.shards.diff import diff

        if as_json and page is not None:
            raise BadSettings("--json and --html exclude each other")
        found = diff(one, other, tolerance=tolerance)
        if page is not None:
            extras.need("report", "--html")
            from merc.reports.difference import render

            files.write_text(page, render(found, one, other, tolerance))
        for line in [page] if page is not None else [] if as_json else table(found):
            echo(line)
        if as_json:
            echo_json(asdict(found))
        sys.exit(1 if found.differs else 0)


def table(found: "Difference") -> Iterator[str]:
    """The difference as lines of text."""
    for what, only in (("split", found.only), ("column", found.columns)):
        for names, where in zip(only, "AB", strict=True):
            if names:
                yield f"{what}s only in {where}: {', '.join(names)}"
    for split, change in found.splits.items():
        yield f"{split}: {_ids('dialogues', change.dialogues)}; {_ids('utterances', change.utterances)}"
        for modality, vectors in change.vectors.items():
            yield f"  {modality:8} {_vectors(vectors)}"
        for name, (count, first) in change.columns.items():
            yield f"  {name:24} {count} changed, the first of {first}"
        if any(change.failures):
            yield f"  failures: {change.failures[0]} rows only in A, {change.failures[1]} only in B"
        if change.trajectories:
            yield f"  trajectories differ in {', '.join(change.trajectories)}"
    for title, values in (("provenance", found.info), ("library versions", found.versions)):
        if values:
            yield f"{title}:"
            for key, (one, other) in values.items():
                yield f"  {key}: {_value(one)} in A, {_value(other)} in B"
    if not found.differs:
        yield "equal"


def _ids(what: str, ids: "Ids") -> str:
    told = f"{ids.both} {what} in both"
    for count, first, where in zip(ids.only, ids.first, "AB", strict=True):
        if count:
            told += f", {count} only in {where} (such as {first})"
    return told


def _vectors(change: "VectorChange") -> str:
    if change.lengths is not None:
        told = f"{change.lengths[0]} numbers in A, {change.lengths[1]} in B: not compared"
    elif change.changed:
        told = (
            f"{change.changed} of {change.compared} vectors changed: by up to {change.largest:.3g} ({change.worst}), "
            f"cosine {change.lowest_cosine:.6f} at least, {change.mean_cosine:.6f} on average"
        )
    else:
        told = f"{change.compared} vectors, none changed"
    for count, where in ((change.lost, "A"), (change.gained, "B")):
        if count:
            told += f"; {count} present only in {where}"
    return told


def _value(value: Any) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDEST else f"{text[:_WIDEST]}…"
