"""Dialogues by id from a stream of row groups."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from merc.shards.facts import Facts, dialogue_rows
from merc.shards.format.row_groups import column, files_of, opened, with_equal_lists

_KEPT = 4  # row groups that stay in memory, for slightly different orders


class Lookup:
    """The dialogues of a split by id.

    If requested in (nearly) their own order, every row group is read once; in an unrelated order, once per dialogue.

    Args:
        root: folder of the shards.
        split: ``train``, ``dev`` or ``test``.
        facts: of the shards.

    Attributes:
        ids: of all dialogues, in order.
    """

    def __init__(self, root: Path, split: str, facts: Facts) -> None:
        pieces = [column(rows, "dialogue_id") for rows in dialogue_rows(root, split, facts, ["dialogue_id"])]
        self.ids = pa.chunked_array(pieces, pa.string())
        self._groups = [
            (path, index) for path in files_of(root, "dialogues", split) for index in range(_row_groups(path))
        ]
        self._bounds = np.cumsum([0, *(len(piece) for piece in pieces)])
        self._kept: OrderedDict[int, pa.Table] = OrderedDict()

    def take(self, ids: pa.Array) -> pa.Table:
        """The rows of these dialogues, in this order; all must be in :attr:`ids`."""
        row_K = pc.index_in(ids, value_set=self.ids).to_numpy()
        group_K = np.searchsorted(self._bounds, row_K, side="right") - 1
        pieces, places = [], []
        for group in dict.fromkeys(group_K.tolist()):
            here = np.flatnonzero(group_K == group)
            pieces.append(self._group(group).take(pa.array(row_K[here] - self._bounds[group])))
            places.append(here)
        rows, place_K = pa.concat_tables(pieces), np.concatenate(places)
        return rows if np.array_equal(place_K, np.arange(len(place_K))) else rows.take(pa.array(np.argsort(place_K)))

    def _group(self, group: int) -> pa.Table:
        if group not in self._kept:
            path, index = self._groups[group]
            with opened(path) as file:
                self._kept[group] = with_equal_lists(file.read_row_group(index), path)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(group)
        return self._kept[group]


def _row_groups(path: Path) -> int:
    with opened(path) as file:
        return int(file.num_row_groups)
