"""The page of ``merc-shards diff``: how two folders of shards differ."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from merc import provenance
from merc.reports.pages.base import standalone
from merc.shards.difference import Difference, Ids, SplitChange

_TEMPLATE = "difference.html.j2"


def render(found: Difference, one: Path, other: Path, tolerance: float) -> str:
    """A self-contained HTML file.

    Args:
        found: how they differ.
        one, other: the folders, A and B on the page.
        tolerance: difference up to which numbers of vectors count as equal.
    """
    return standalone(
        _TEMPLATE,
        "Two folders of shards",
        provenance.versions(),
        found=found,
        folders=(one.as_posix(), other.as_posix()),
        tolerance=tolerance,
        ids=[(split, what, ids) for split, change in found.splits.items() for what, ids in _ids(change)],
        vectors=[
            (split, modality, vectors)
            for split, change in found.splits.items()
            for modality, vectors in change.vectors.items()
        ],
        columns=[
            (split, name, count, first)
            for split, change in found.splits.items()
            for name, (count, first) in change.columns.items()
        ],
        more=[
            (split, change.failures, change.trajectories)
            for split, change in found.splits.items()
            if any(change.failures) or change.trajectories
        ],
        made=[
            (title, _values(values))
            for title, values in (("Provenance", found.info), ("Library versions", found.versions))
            if values
        ],
    )


def _ids(change: SplitChange) -> list[tuple[str, Ids]]:
    return [("dialogues", change.dialogues), ("utterances", change.utterances)]


def _values(values: Mapping[str, tuple[Any, Any]]) -> list[tuple[str, list[str]]]:
    return [
        (key, ["–" if value is None else json.dumps(value, ensure_ascii=False) for value in pair])
        for key, pair in values.items()
    ]
