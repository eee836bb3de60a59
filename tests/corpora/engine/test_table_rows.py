"""Rows of a table of one's own: both kinds of file give the same, and each bad cell is named with its place."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merc.corpora.engine.table_rows import TableRow, read_table
from merc.errors import BadTable, RawDataMissing

COLUMNS = {"dialogue": "talk", "text": "said", "start": "begin", "split": ""}


def _csv(folder: Path, text: str, name: str = "own.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_cells_are_found_by_what_they_mean(tmp_path: Path) -> None:
    path = _csv(tmp_path, 'said,begin,other,talk\n"Hello, you",1.5,x, a \n\nBye,,y,b\n')
    rows = read_table(path, COLUMNS)
    assert [row.cells for row in rows] == [
        {"dialogue": "a", "text": "Hello, you", "start": "1.5", "split": ""},
        {"dialogue": "b", "text": "Bye", "start": "", "split": ""},
    ]
    assert [row.where for row in rows] == [f"{path}, line 2", f"{path}, line 4"]


def test_parquet_gives_the_same_cells_as_csv(tmp_path: Path) -> None:
    frame = pd.DataFrame({"talk": [1, 2], "said": ["Hello, you", None], "begin": [1.5, None], "kind": pd.Categorical(["x", "y"])})
    frame.to_csv(tmp_path / "own.csv", index=False)
    frame.to_parquet(tmp_path / "own.parquet", index=False)
    columns = {**COLUMNS, "split": "kind"}
    one, other = (read_table(tmp_path / name, columns) for name in ("own.csv", "own.parquet"))
    assert [row.cells for row in one] == [row.cells for row in other]
    assert one[0].cells == {"dialogue": "1", "text": "Hello, you", "start": "1.5", "split": "x"}
    assert [row.where for row in other] == [f"{tmp_path / 'own.parquet'}, row {number}" for number in (1, 2)]


@pytest.mark.parametrize("name", ["own.csv", "own.parquet"])
def test_a_column_may_be_missing_only_where_it_is_allowed(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"talk": ["a"], "said": ["Hm"]})
    frame.to_csv(tmp_path / "own.csv", index=False)
    frame.to_parquet(tmp_path / "own.parquet", index=False)
    with pytest.raises(RawDataMissing, match=f"{name}: the columns begin are missing; there are talk, said"):
        read_table(tmp_path / name, COLUMNS)
    assert read_table(tmp_path / name, COLUMNS, may_lack=("start",))[0].cells["start"] == ""


def test_one_column_may_have_two_meanings(tmp_path: Path) -> None:
    pd.DataFrame({"a": ["x"]}).to_parquet(tmp_path / "own.parquet", index=False)
    assert read_table(tmp_path / "own.parquet", {"dialogue": "a", "speaker": "a"})[0].cells == {"dialogue": "x", "speaker": "x"}


@pytest.mark.parametrize("name", ["own.csv", "own.parquet"])
def test_a_table_without_rows_is_refused(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"talk": [], "said": [], "begin": []})
    frame.to_csv(tmp_path / "own.csv", index=False)
    frame.to_parquet(tmp_path / "own.parquet", index=False)
    with pytest.raises(BadTable, match="holds no utterance"):
        read_table(tmp_path / name, COLUMNS)


def test_files_of_another_kind_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RawDataMissing, match=r"ends in \.csv or \.parquet"):
        read_table(_csv(tmp_path, "talk\n", "own.xlsx"), COLUMNS)
    with pytest.raises(BadTable, match=r"own.parquet: not a Parquet file"):
        read_table(_csv(tmp_path, "talk\na\n", "own.parquet"), COLUMNS)
    with pytest.raises(RawDataMissing, match="cannot be read"):
        read_table(tmp_path / "nothing.parquet", COLUMNS)
    with pytest.raises(BadTable, match=r"line 2: 2 cells instead of 3"):
        read_table(_csv(tmp_path, "talk,said,begin\na,b\n"), COLUMNS)


def test_a_column_of_lists_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"talk": ["a"], "said": [["b"]], "begin": [1]}), tmp_path / "own.parquet")
    with pytest.raises(BadTable, match=r"the column said holds list<.*> instead of text or numbers"):
        read_table(tmp_path / "own.parquet", COLUMNS)


def _row(cell: str) -> TableRow:
    return TableRow("own.csv, line 7", {"it": cell}, recoded=False)


@pytest.mark.parametrize("cell", ["", "a/b", "a\\b", "a\tb", "a\0b"])
def test_what_cannot_be_part_of_an_id_is_refused(cell: str) -> None:
    with pytest.raises(BadTable, match=r"own.csv, line 7: the it is .*a name is expected"):
        _row(cell).name("it")
    assert _row("Scène 3, Ä").name("it") == "Scène 3, Ä"


@pytest.mark.parametrize(("cell", "value"), [("", None), ("0", 0.0), ("12.5", 12.5), ("-1e-3", -0.001)])
def test_a_number_is_decimal(cell: str, value: float | None) -> None:
    assert _row(cell).number("it") == value


@pytest.mark.parametrize("cell", ["00:01:02", "1,5", "nan", "inf", "x"])
def test_what_is_no_number_is_refused(cell: str) -> None:
    with pytest.raises(BadTable, match=f"own.csv, line 7: it is '{cell}' instead of a"):
        _row(cell).number("it")


@pytest.mark.parametrize("cell", ["../a.mp4", "/etc/passwd", "a/../../b.mp4", "a\\b.mp4", "a\0.mp4"])
def test_a_path_out_of_the_media_is_refused(cell: str) -> None:
    with pytest.raises(BadTable, match=r"own.csv, line 7: the it .*leads out of the folder of media"):
        _row(cell).path("it")
    assert _row("a/b c.mp4").path("it") == "a/b c.mp4"
