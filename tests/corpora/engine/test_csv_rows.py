from pathlib import Path

import pytest

from merc.corpora.engine.csv_rows import CsvRow, read_rows
from merc.errors import BadTable, RawDataMissing


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "some.csv"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_byte_order_mark_and_line_ends_do_not_matter(tmp_path: Path, mark: bytes, line_end: bytes) -> None:
    path = _file(tmp_path, mark + line_end.join([b"a,b", b"1,\xe2\x80\x99", b'2,"x,y"', b""]))
    assert read_rows(path, ("a", "b")) == [CsvRow(2, {"a": "1", "b": "’"}, False), CsvRow(3, {"a": "2", "b": "x,y"}, False)]


def test_line_numbers_count_the_lines_of_the_file_not_the_rows(tmp_path: Path) -> None:
    path = _file(tmp_path, b'a,b\n"first\nsecond",1\n\n,\n2,3\n')
    assert [(row.line, row.cells["a"]) for row in read_rows(path, ("a",))] == [(2, "first\nsecond"), (6, "2")]


def test_only_the_rows_with_cp1252_bytes_are_marked_as_recoded(tmp_path: Path) -> None:
    path = _file(tmp_path, b'a,b\nx,1\nit\x92s,2\n"that\x92s\none more",3\nx,4\n')
    assert [(row.cells["a"], row.recoded) for row in read_rows(path, ("a",))] == [("x", False), ("it’s", True), ("that’s\none more", True), ("x", False)]


def test_a_control_character_does_not_end_a_line(tmp_path: Path) -> None:
    """U+0085 is an ellipsis of cp1252 gone wrong, and a line end to many a reader."""
    path = _file(tmp_path, "a,b\nwell\x85,1\n".encode())
    assert read_rows(path, ("a",)) == [CsvRow(2, {"a": "well\x85", "b": "1"}, False)]


def test_missing_columns_are_named_with_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, b"a, b ,d\n1,2,3\n")
    with pytest.raises(RawDataMissing, match=r"some\.csv: the columns c, e are missing; there are a, b, d"):
        read_rows(path, ("a", "b", "c", "e"))


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(RawDataMissing, match=r"some\.csv: the file is empty"):
        read_rows(_file(tmp_path, content), ("a",))


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RawDataMissing, match=r"nothing\.csv: cannot be read"):
        read_rows(tmp_path / "nothing.csv", ("a",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n3\n", "line 3: 1 cells instead of 2"),
        (b"a,b\n1,2,3\n", "line 2: 3 cells instead of 2"),
        (b'a,b\n1,"cut of', "line 2: not CSV: unexpected end of data"),
        (b'a,b\n1,"two"words\n', "line 2: not CSV: ',' expected after '\"'"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(BadTable, match=message):
        read_rows(_file(tmp_path, content), ("a",))
