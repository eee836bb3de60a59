"""Checks of the failure tables: readable rows about existing utterances, and one reason per absent vector."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from merc.errors import BadTable
from merc.records.failures import REASONS, SCHEMA
from merc.shards.checks.dialogues import SeenSplit
from merc.shards.checks.problems import LISTED, UNREADABLE, Problems
from merc.shards.format.row_groups import files_of, opened, row_groups

_COLUMNS = ["utterance_id", "modality", "reason", "kind"]


def check(root: Path, split: str, seen: SeenSplit, problems: Problems) -> int | None:
    """Checks the failures of a split against its utterances.

    Args:
        root: folder of the shards.
        split: ``train``, ``dev`` or ``test``.
        seen: the dialogues of the split.
        problems: what is wrong is added to it.

    Returns:
        Number of failure rows; None if they cannot be read.
    """
    rows = _read(root, split, problems)
    if rows is None:
        return None
    file = f"failures/{split}"
    if seen.complete:
        _tell(
            problems,
            file,
            rows,
            pc.invert(pc.is_in(rows["utterance_id"], value_set=seen.utterances)),
            "no such utterance",
        )
    for reason in pc.unique(rows["reason"]).to_pylist():
        of_reason = pc.equal(rows["reason"], reason)
        if reason not in REASONS:
            _tell(problems, file, rows, of_reason, f"unknown reason {reason!r}")
        else:
            kind = REASONS[reason][0]
            _tell(
                problems,
                file,
                rows,
                pc.and_(of_reason, pc.not_equal(rows["kind"], kind)),
                f"{reason} is of kind {kind!r}",
            )
    serious = rows.filter(pc.not_equal(rows["kind"], "altered"))
    for modality, flags in seen.present.items():
        own = serious.filter(pc.equal(serious["modality"], modality))["utterance_id"]
        any_of = serious.filter(pc.is_in(serious["modality"], value_set=pa.array([modality, "all"])))["utterance_id"]
        present_N = np.concatenate(flags) if flags else np.zeros(0, dtype=bool)
        for wrong_N, what in (
            (~present_N & ~_is_in(seen.utterances, any_of), "not present, and no failure row says why"),
            (present_N & _is_in(seen.utterances, own), "present, but a failure row says that it is not"),
        ):
            found = np.flatnonzero(wrong_N)
            listed = [
                (seen.dialogue_of(row), f"{seen.utterances[row].as_py()}: {what}") for row in found[:LISTED].tolist()
            ]
            problems.add_rows("presence", f"dialogues/{split}", listed, column=modality, times=len(found))
    return int(rows.num_rows)


def _read(root: Path, split: str, problems: Problems) -> pa.Table | None:
    paths, groups = files_of(root, "failures", split), []
    if not paths:
        problems.add("failures", f"failures/{split}", "there is no failure table of this split")
        return None
    for path in paths:
        file = path.relative_to(root).as_posix()
        try:
            with opened(path) as parquet:
                if not parquet.schema_arrow.equals(SCHEMA, check_metadata=False):
                    problems.add(
                        "schema",
                        file,
                        f"columns {', '.join(parquet.schema_arrow.names)} instead of {', '.join(SCHEMA.names)}",
                    )
                    return None
            groups += list(row_groups(path, _COLUMNS))
        except BadTable as error:
            problems.add(UNREADABLE, file, str(error).removeprefix(f"{path}: "))
            return None
    return pa.concat_tables(
        [SCHEMA.empty_table().select(_COLUMNS), *(group.replace_schema_metadata(None) for group in groups)]
    )


def _is_in(values: pa.ChunkedArray, known: pa.ChunkedArray) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = pc.is_in(values, value_set=known).to_numpy()
    return found


def _tell(problems: Problems, file: str, rows: pa.Table, wrong: pa.ChunkedArray, what: str) -> None:
    found = rows.filter(wrong)
    listed = [("", f"{one}: {what}") for one in found["utterance_id"].slice(0, LISTED).to_pylist()]
    problems.add_rows("failures", file, listed, times=found.num_rows)
