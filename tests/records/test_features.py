"""Tables of vectors as files: whole or not at all, also when they are written row group by row group."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merc.errors import BadTable
from merc.records import features as feature_tables


def _table(rows: int) -> pa.Table:
    values = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    ids = [f"train/dia0_utt{row}" for row in range(rows)]
    return pa.table([ids, feature_tables.vectors(values), [True] * rows, ["ok"] * rows], schema=feature_tables.schema(3))


def test_row_groups_one_by_one_give_the_bytes_of_the_whole(tmp_path: Path) -> None:
    table = _table(7)
    feature_tables.write(tmp_path / "whole.parquet", table, 3)
    feature_tables.write_groups(tmp_path / "pieces.parquet", table.schema, (table.slice(start, 3) for start in (0, 3, 6)))
    assert (tmp_path / "pieces.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    metadata = pq.read_metadata(tmp_path / "pieces.parquet")
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [3, 3, 1]


def test_without_rows_there_is_no_row_group(tmp_path: Path) -> None:
    feature_tables.write_groups(tmp_path / "empty.parquet", feature_tables.schema(3), [])
    assert (pq.read_metadata(tmp_path / "empty.parquet").num_row_groups, pq.read_schema(tmp_path / "empty.parquet")) == (0, feature_tables.schema(3))


def test_a_failure_among_the_row_groups_leaves_what_was_there(tmp_path: Path) -> None:
    def groups() -> Iterator[pa.Table]:
        yield _table(2)
        raise BadTable("the second part is damaged")

    path = tmp_path / "there.parquet"
    feature_tables.write(path, _table(1))
    before = path.read_bytes()
    with pytest.raises(BadTable, match="the second part is damaged"):
        feature_tables.write_groups(path, feature_tables.schema(3), groups())
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["there.parquet"]
