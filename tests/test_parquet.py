"""Tables as files: complete or not at all, even when written row group by row group; damage is reported, not read."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from merc import parquet
from merc.errors import BadTable
from merc.records import features as feature_tables


def _table(rows: int) -> pa.Table:
    values = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    ids = [f"train/dia0_utt{row}" for row in range(rows)]
    return pa.table(
        [ids, feature_tables.vectors(values), [True] * rows, ["ok"] * rows], schema=feature_tables.schema(3)
    )


def test_row_groups_one_by_one_give_the_bytes_of_the_whole(tmp_path: Path) -> None:
    table = _table(7)
    parquet.write(tmp_path / "whole.parquet", table, 3)
    parquet.write_groups(tmp_path / "pieces.parquet", table.schema, (table.slice(start, 3) for start in (0, 3, 6)))
    assert (tmp_path / "pieces.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    metadata = pq.read_metadata(tmp_path / "pieces.parquet")
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [3, 3, 1]


@pytest.mark.parametrize(
    ("start", "stop", "groups"), [(0, 2, [0]), (3, 6, [1]), (2, 4, [0, 1]), (2, 7, [0, 1, 2]), (6, 7, [2])]
)
def test_a_span_of_rows_is_read_from_the_row_groups_that_hold_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: int, stop: int, groups: list[int]
) -> None:
    table = _table(7)
    parquet.write(tmp_path / "table.parquet", table, 3)
    read: list[list[int]] = []

    class Watched(pq.ParquetFile):
        def read_row_groups(self, wanted: list[int], **options: object) -> pa.Table:
            read.append(wanted)
            return super().read_row_groups(wanted, **options)

    monkeypatch.setattr(pq, "ParquetFile", Watched)
    assert parquet.read_span(tmp_path / "table.parquet", ["utterance_id"], start, stop).equals(
        table.select(["utterance_id"]).slice(start, stop - start)
    )
    assert read == [groups]
    with pytest.raises(BadTable, match=r"table\.parquet: no column 'utterance_ids'; did you mean 'utterance_id'"):
        parquet.read_span(tmp_path / "table.parquet", ["utterance_ids"], start, stop)


def test_without_rows_there_is_no_row_group(tmp_path: Path) -> None:
    parquet.write_groups(tmp_path / "empty.parquet", feature_tables.schema(3), [])
    assert (
        pq.read_metadata(tmp_path / "empty.parquet").num_row_groups,
        pq.read_schema(tmp_path / "empty.parquet"),
    ) == (0, feature_tables.schema(3))


def test_a_failure_among_the_row_groups_leaves_what_was_there(tmp_path: Path) -> None:
    def groups() -> Iterator[pa.Table]:
        yield _table(2)
        raise BadTable("the second part is damaged")

    path = tmp_path / "there.parquet"
    parquet.write(path, _table(1))
    before = path.read_bytes()
    with pytest.raises(BadTable, match="the second part is damaged"):
        parquet.write_groups(path, feature_tables.schema(3), groups())
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["there.parquet"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parquet") / "sound.parquet"
    parquet.write(path, _table(400), 64)
    return path


def _damaged(sound: Path, path: Path, seed: int) -> None:
    """A copy with 1 to 64 changed bytes, somewhere in the pages."""
    rng = np.random.default_rng(seed)
    content = bytearray(sound.read_bytes())
    footer = int.from_bytes(content[-8:-4], "little") + 8
    at = int(rng.integers(4, len(content) - footer - 64))
    for place in range(at, at + int(rng.integers(1, 65))):
        content[place] ^= int(rng.integers(1, 256))
    path.write_bytes(content)


@pytest.mark.parametrize("seed", range(40))
def test_bytes_changed_inside_the_pages_are_never_read_as_other_numbers(sound: Path, tmp_path: Path, seed: int) -> None:
    path = tmp_path / "damaged.parquet"
    _damaged(sound, path, seed)
    for read in (parquet.read, lambda path: parquet.read([path], filters=pc.field("present")), _by_row_group):
        found = _read(read, path)
        assert found is None or found.equals(_table(400))  # bytes that are never read, such as the page index


def _read(read: Callable[[Path], pa.Table], path: Path) -> pa.Table | None:
    """The table read; None if it is refused."""
    try:
        return read(path)
    except BadTable:
        return None


def _by_row_group(path: Path) -> pa.Table:
    with parquet.opened(path) as file:
        return pa.concat_tables([file.read_row_group(group) for group in range(file.num_row_groups)])


def test_most_damage_is_found(sound: Path, tmp_path: Path) -> None:
    refused = 0
    for seed in range(40):
        _damaged(sound, tmp_path / "damaged.parquet", seed)
        refused += _read(parquet.read, tmp_path / "damaged.parquet") is None
    assert refused > 30


def test_what_is_not_a_parquet_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadTable, match=r"absent\.parquet: no such file"):
        parquet.rows(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("not at all")
    for read in (parquet.read, parquet.schema, parquet.rows):
        with pytest.raises(BadTable, match=r"text\.parquet: not a Parquet file"):
            read(tmp_path / "text.parquet")
