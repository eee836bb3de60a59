"""Scores printed in papers, with their source: shown next to ours but never ranked with them, since features, splits
and selection differ.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files as resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from merc import files
from merc.errors import BadSettings

FILE = "published.csv"
_KEY = "report.published"

Percent = Annotated[
    Annotated[float, Field(ge=0, le=100)] | None, BeforeValidator(lambda value: None if value == "" else value)
]


class Published(BaseModel):
    """A row of the file: scores in per cent on test, None if the paper prints none.

    ``eccs``, ``eics``, ``shift`` and ``no_shift`` are weighted F1 with another context, and on utterances whose emotion
    shifts or stays.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    corpus: str = Field(min_length=1)
    """Name of the dataset next to whose results the row is shown."""
    label_set: str = Field(min_length=1)
    """A row is shown if the shards have this label set."""
    system: str = Field(min_length=1)
    weighted_f1: Percent = None
    accuracy: Percent = None
    eccs: Percent = None
    eics: Percent = None
    shift: Percent = None
    no_shift: Percent = None
    features: str = Field(min_length=1)
    """Tag of the features; rows with different tags must not be compared."""
    modalities: str = ""
    """Separated by spaces; empty if the paper does not say."""
    year: int = Field(ge=1900, le=2200)
    """Year of the source."""
    source: str = Field(min_length=1)
    """Where the scores are printed, possibly a later paper than the system's own."""
    protocol: str = ""
    """Split, number of runs, how the epoch is chosen."""
    note: str = ""


@dataclass(frozen=True)
class TagGroup:
    """Rows with the same features, in the order of the file."""

    features: str
    rows: Sequence[Published]


def read_published(more: str | None = None) -> list[Published]:
    """The rows that ship with the package, and those of the file ``more``.

    Raises:
        BadSettings: if that file is missing, or a column or value is invalid; the message names file and line.
    """
    own = resources("merc.reports").joinpath(FILE).read_text(encoding="utf-8")
    rows = _rows(own.splitlines(keepends=True), FILE)
    return rows if more is None else rows + _rows(_lines(Path(more)), more)


def by_features(rows: Iterable[Published], corpus: str, label_set: str) -> list[TagGroup]:
    """The rows of a corpus and a label set, those with the same features together."""
    groups: dict[str, list[Published]] = {}
    for row in rows:
        if (row.corpus, row.label_set) == (corpus, label_set):
            groups.setdefault(row.features, []).append(row)
    return [TagGroup(features, of_tag) for features, of_tag in groups.items()]


def _lines(path: Path) -> list[str]:
    try:
        files.check_kind(path)
        return path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    except OSError as error:
        raise BadSettings(
            f"{_KEY}: {path} cannot be read: {error.strerror}; null shows only what comes with the package"
        ) from error
    except UnicodeDecodeError as error:
        raise BadSettings(f"{_KEY}: {path} is not a text file in UTF-8: {error}") from error


def _rows(lines: Sequence[str], name: str) -> list[Published]:
    reader = csv.DictReader(lines, strict=True)
    try:
        _check_columns(reader.fieldnames or [], name)
        return [_row(row, f"{name}, line {reader.line_num}") for row in reader]
    except csv.Error as error:
        raise BadSettings(f"{_KEY}: {name}, line {reader.reader.line_num}: {error}") from error


def _check_columns(there: Sequence[str], name: str) -> None:
    known = list(Published.model_fields)
    needed = [column for column, field in Published.model_fields.items() if field.is_required()]
    missing, unknown = [one for one in needed if one not in there], [one for one in there if one not in known]
    if missing or unknown or len(set(there)) != len(there):
        wrong = [f"lacks {', '.join(missing)}"] * bool(missing) + [
            f"has the unknown {', '.join(map(repr, unknown))}"
        ] * bool(unknown)
        raise BadSettings(
            f"{_KEY}: the first line of {name} {' and '.join(wrong) or 'names a column twice'}; columns:"
            f" {', '.join(known)}"
        )


def _row(row: dict[str | Any, Any], where: str) -> Published:
    cells = {name: value for name, value in row.items() if value is not None}  # a short line has no values for the rest
    if None in cells:
        raise BadSettings(f"{_KEY}: {where}: more cells than columns; a cell that contains a comma must be quoted")
    try:
        return Published.model_validate(cells)
    except ValidationError as error:
        told = "; ".join(f"{problem['loc'][0]} {problem['input']!r}: {problem['msg']}" for problem in error.errors())
        raise BadSettings(f"{_KEY}: {where}: {told}") from error
