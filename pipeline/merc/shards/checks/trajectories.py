"""Checks of the trajectory tables: the labels of the dialogues, and neighbours that exist in the same split, best
first.

Columns are identified by name: every ``neighbours_<s>`` has a ``similarity_<s>``; any other list column that ends in
``_<s>`` has one entry per neighbour, too.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from merc.errors import BadTable
from merc.shards.checks.dialogues import SeenSplit
from merc.shards.checks.problems import LISTED, UNREADABLE, Problems
from merc.shards.format.row_groups import column, files_of, opened, row_groups, without_nulls
from merc.shards.format.schema import check_trajectories

_NEIGHBOURS, _SIMILARITY = "neighbours_", "similarity_"
_NEEDED = {"dialogue_id", "split", "trajectory"}
_ROUNDING = 1e-6  # similarities are written as whole millionths in float32


def check(root: Path, split: str, seen: SeenSplit, problems: Problems) -> None:
    """Checks the trajectories of a split, if it has any, against its dialogues.

    Args:
        root: folder of the shards.
        split: ``train``, ``dev`` or ``test``.
        seen: the dialogues of the split.
        problems: what is wrong is added to it.
    """
    paths = files_of(root, "trajectories", split)
    times = np.zeros(len(seen.dialogues), dtype=np.int64)
    for path in paths:
        file = path.relative_to(root).as_posix()
        try:
            with opened(path) as parquet:
                columns = parquet.schema_arrow
            missing = _NEEDED - set(columns.names)
            if missing:
                problems.add("schema", file, f"no column {', '.join(sorted(missing))}")
                return
            check_trajectories(columns, path)
            for rows in row_groups(path):
                times += _Group(without_nulls(rows, path), file, seen, problems).check(split)
        except BadTable as error:
            problems.add(UNREADABLE, file, str(error).removeprefix(f"{path}: "))
            return
    if paths:
        wrong = np.flatnonzero(times != 1)
        listed = [(seen.dialogues[row].as_py(), f"{times[row]} rows instead of one") for row in wrong[:LISTED].tolist()]
        problems.add_rows("trajectories", f"trajectories/{split}", listed, times=len(wrong))


class _Group:
    """One row group of a trajectory table: K dialogues."""

    def __init__(self, rows: pa.Table, file: str, seen: SeenSplit, problems: Problems) -> None:
        self.rows, self.file, self.seen, self.problems = rows, file, seen, problems
        self.ids = column(rows, "dialogue_id")
        self.index_K: NDArray[np.int64] = _index_in(self.ids, seen.dialogues)

    def check(self, split: str) -> NDArray[np.int64]:
        """Checks everything; returns how often each dialogue of the split occurs."""
        if self.seen.complete:
            self._tell("trajectories", self.index_K < 0, "there is no such dialogue", "dialogue_id")
        self._tell(
            "splits",
            pc.not_equal(column(self.rows, "split"), split).to_numpy(zero_copy_only=False),
            f"a row of another split in a file of {split}",
            "split",
        )
        self._check_labels()
        for name in self.rows.column_names:
            if name.startswith(_NEIGHBOURS):
                self._check_neighbours(name.removeprefix(_NEIGHBOURS))
        return np.bincount(self.index_K[self.index_K >= 0], minlength=len(self.seen.dialogues))

    def _check_labels(self) -> None:
        known_K = self.index_K >= 0
        trajectory = column(self.rows, "trajectory")
        found_K = trajectory.value_lengths().to_numpy()
        index_K = np.maximum(self.index_K, 0)
        wanted_K = np.diff(self.seen.bounds)[index_K] if len(self.seen.dialogues) else np.zeros_like(found_K)
        same_K = known_K & (found_K == wanted_K)
        owner_N = np.repeat(np.arange(len(found_K)), found_K)
        start_K = np.cumsum(found_K) - found_K
        kept_N = same_K[owner_N]
        row_N = (self.seen.bounds[index_K][owner_N] + np.arange(len(owner_N)) - start_K[owner_N])[kept_N]
        labels_N = np.concatenate(self.seen.labels)[row_N] if self.seen.labels else np.zeros(0, dtype=np.int64)
        other_N = trajectory.flatten().to_numpy()[kept_N] != labels_N
        wrong_K = known_K & ~same_K
        wrong_K[owner_N[kept_N][other_N]] = True
        self._tell("trajectories", wrong_K, "other labels than the dialogue has", "trajectory")

    def _check_neighbours(self, similarity: str) -> None:
        name, values_name = f"{_NEIGHBOURS}{similarity}", f"{_SIMILARITY}{similarity}"
        if values_name not in self.rows.column_names:
            self.problems.add("neighbours", self.file, f"there is no column {values_name}", column=name)
            return
        lists = column(self.rows, name)
        number_K = lists.value_lengths().to_numpy()
        for other in self.rows.column_names:
            if other != name and other.endswith(f"_{similarity}") and pa.types.is_list(self.rows[other].type):
                self._tell(
                    "neighbours",
                    column(self.rows, other).value_lengths().to_numpy() != number_K,
                    "not one entry per neighbour",
                    other,
                )
        owner_N = np.repeat(np.arange(len(number_K)), number_K)
        index_N = _index_in(lists.flatten(), self.seen.dialogues)
        if self.seen.complete:
            self._tell_of(owner_N, index_N < 0, "a neighbour that is not a dialogue of this split", name)
        self._tell_of(
            owner_N,
            (index_N >= 0) & (index_N == self.index_K[owner_N]),
            "the dialogue itself among its neighbours",
            name,
        )
        pairs, times = np.unique(np.stack([owner_N, index_N])[:, index_N >= 0], axis=1, return_counts=True)
        self._tell_of(pairs[0], times > 1, "a neighbour twice", name)
        values = column(self.rows, values_name)
        value_N = values.flatten().to_numpy()
        owner_N = np.repeat(np.arange(len(number_K)), values.value_lengths().to_numpy())
        self._tell_of(owner_N, ~(np.abs(value_N) <= 1 + _ROUNDING), "a similarity outside -1 to 1", values_name)
        rising = (owner_N[1:] == owner_N[:-1]) & (value_N[1:] > value_N[:-1])
        self._tell_of(owner_N[1:], rising, "similarities that are not in descending order", values_name)

    def _tell_of(self, owner_N: NDArray[np.int64], wrong_N: NDArray[np.bool_], what: str, name: str) -> None:
        wrong_K = np.zeros(len(self.ids), dtype=bool)
        wrong_K[owner_N[wrong_N]] = True
        self._tell("neighbours", wrong_K, what, name)

    def _tell(self, kind: str, wrong_K: NDArray[np.bool_], what: str, name: str) -> None:
        rows = np.flatnonzero(wrong_K)
        self.problems.add_rows(
            kind,
            self.file,
            [(self.ids[row].as_py(), what) for row in rows[:LISTED].tolist()],
            column=name,
            times=len(rows),
        )


def _index_in(values: pa.Array, known: pa.ChunkedArray) -> NDArray[np.int64]:
    """Where each value is in ``known``; -1 if nowhere."""
    found: NDArray[np.int64] = (
        pc.index_in(values, value_set=known).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    )
    return found
