"""Rows of your own table: both kinds of file give the same result, and each bad cell is reported with its place."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merc.corpora.engine.csv_rows import LARGEST_CELL
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
    frame = pd.DataFrame(
        {"talk": [1, 2], "said": ["Hello, you", None], "begin": [1.5, None], "kind": pd.Categorical(["x", "y"])}
    )
    frame.to_csv(tmp_path / "own.csv", index=False)
    frame.to_parquet(tmp_path / "own.parquet", index=False)
    columns = {**COLUMNS, "split": "kind"}
    one, other = (read_table(tmp_path / name, columns) for name in ("own.csv", "own.parquet"))
    assert [row.cells for row in one] == [row.cells for row in other]
    assert one[0].cells == {"dialogue": "1", "text": "Hello, you", "start": "1.5", "split": "x"}
    assert [row.where for row in other] == [f"{tmp_path / 'own.parquet'}, row {number}" for number in (1, 2)]


def test_null_and_nan_are_missing_cells_whatever_the_column_means(tmp_path: Path) -> None:
    nan = float("nan")
    table = pa.table(
        {
            "talk": [1.0, 2.0, nan],
            "said": pa.array([nan, None, nan]),
            "begin": [nan, 2.5, None],
            "who": pa.array(["Ann", None, None]),
        }
    )
    pq.write_table(table, tmp_path / "own.parquet")
    roles = ("dialogue", "speaker", "emotion", "text", "start", "utterance")
    rows = read_table(
        tmp_path / "own.parquet", dict(zip(roles, ("talk", "who", "said", "said", "begin", "begin"), strict=True))
    )
    assert [list(row.cells.values()) for row in rows] == [
        ["1", "Ann", "", "", "", ""],
        ["2", "", "", "", "2.5", "2.5"],
    ]  # the last row is empty
    assert (rows[0].number("start"), rows[1].number("start")) == (None, 2.5)


def test_a_missing_cell_does_not_make_ids_and_classes_decimal_in_either_kind_of_file(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "talk": [7, None, 8],
            "said": ["Hi", None, "5.0"],
            "begin": [1.0, None, 2.0],
            "feels": [3, None, None],
            "odd": [1.5, None, 2],
        }
    )
    frame.to_csv(tmp_path / "own.csv", index=False)
    frame.to_parquet(tmp_path / "own.parquet", index=False)
    columns = {"dialogue": "talk", "text": "said", "start": "begin", "emotion": "feels", "speaker": "odd"}
    one, other = (read_table(tmp_path / name, columns) for name in ("own.csv", "own.parquet"))
    assert [row.cells for row in one] == [row.cells for row in other]
    assert one[0].cells == {"dialogue": "7", "text": "Hi", "start": "1.0", "emotion": "3", "speaker": "1.5"}
    assert one[1].cells == {"dialogue": "8", "text": "5.0", "start": "2.0", "emotion": "", "speaker": "2.0"}
    assert [row.where for row in other] == [f"{tmp_path / 'own.parquet'}, row {number}" for number in (1, 3)]


def test_one_of_two_columns_of_the_same_name_does_not_win(tmp_path: Path) -> None:
    pq.write_table(
        pa.table([["a"], ["Hi"], ["Bye"], [1]], names=["talk", "said", "said", "begin"]), tmp_path / "own.parquet"
    )
    (tmp_path / "own.csv").write_text("talk,said,said,begin\na,Hi,Bye,1\n")
    for name in ("own.csv", "own.parquet"):
        with pytest.raises(BadTable, match=f"{name}: columns 2 and 3 are both called 'said'"):
            read_table(tmp_path / name, COLUMNS)


def test_a_cell_beyond_all_measure_is_refused_with_its_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"talk": ["a", "b"], "said": ["Hi", "x" * (LARGEST_CELL + 1)]}), tmp_path / "own.parquet")
    with pytest.raises(BadTable, match="row 2: a cell has more than 16,777,216 characters"):
        read_table(tmp_path / "own.parquet", {"dialogue": "talk", "text": "said"})


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
    assert read_table(tmp_path / "own.parquet", {"dialogue": "a", "speaker": "a"})[0].cells == {
        "dialogue": "x",
        "speaker": "x",
    }


@pytest.mark.parametrize("name", ["own.csv", "own.parquet"])
def test_a_table_without_rows_is_refused(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"talk": [], "said": [], "begin": []})
    frame.to_csv(tmp_path / "own.csv", index=False)
    frame.to_parquet(tmp_path / "own.parquet", index=False)
    with pytest.raises(BadTable, match="holds no utterance"):
        read_table(tmp_path / name, COLUMNS)


def test_files_of_another_kind_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RawDataMissing, match=r"ends in \.csv, \.tsv, \.txt or \.parquet"):
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
def test_what_is_not_a_number_is_refused(cell: str) -> None:
    with pytest.raises(BadTable, match=f"own.csv, line 7: it is '{cell}' instead of a"):
        _row(cell).number("it")


@pytest.mark.parametrize("cell", ["../a.mp4", "/etc/passwd", "a/../../b.mp4", "a\\b.mp4", "a\0.mp4"])
def test_a_path_out_of_the_media_is_refused(cell: str) -> None:
    with pytest.raises(BadTable, match=r"own.csv, line 7: the it .*leads outside the media folder"):
        _row(cell).path("it")
    assert _row("a/b c.mp4").path("it") == "a/b c.mp4"


def test_capitals_of_the_suffix_do_not_matter(tmp_path: Path) -> None:
    assert read_table(_csv(tmp_path, "talk,said,begin\na,Hi,1\n", "OWN.CSV"), COLUMNS)[0].cells["text"] == "Hi"
