import csv
from dataclasses import replace
from pathlib import Path

import pytest

from merc.corpora.engine.csv_rows import LARGEST_CELL, CsvConfig, CsvForm, CsvRow, read_rows
from merc.corpora.engine.text_lines import Encoding
from merc.errors import BadTable, RawDataMissing


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "some.csv"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_byte_order_mark_and_line_ends_do_not_matter(tmp_path: Path, mark: bytes, line_end: bytes) -> None:
    path = _file(tmp_path, mark + line_end.join([b"a,b", b"1,\xe2\x80\x99", b'2,"x,y"', b""]))
    assert read_rows(path, ("a", "b")) == [
        CsvRow(2, {"a": "1", "b": "’"}, False),
        CsvRow(3, {"a": "2", "b": "x,y"}, False),
    ]


def test_line_numbers_count_the_lines_of_the_file_not_the_rows(tmp_path: Path) -> None:
    path = _file(tmp_path, b'a,b\n"first\nsecond",1\n\n,\n2,3\n')
    assert [(row.line, row.cells["a"]) for row in read_rows(path, ("a",))] == [(2, "first\nsecond"), (6, "2")]


def test_only_the_rows_with_cp1252_bytes_are_marked_as_recoded(tmp_path: Path) -> None:
    path = _file(tmp_path, b'a,b\nx,1\nit\x92s,2\n"that\x92s\none more",3\nx,4\n')
    assert [(row.cells["a"], row.recoded) for row in read_rows(path, ("a",))] == [
        ("x", False),
        ("it’s", True),
        ("that’s\none more", True),
        ("x", False),
    ]


def test_a_control_character_does_not_end_a_line(tmp_path: Path) -> None:
    """U+0085 is a mis-decoded ellipsis of cp1252, and a line end for many readers."""
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


FORM = CsvForm(Encoding("utf-8", "corpora.own.encoding"), ",", "corpora.own.delimiter")


@pytest.mark.parametrize(
    ("between", "named", "written"), [(";", "';'", "semicolon"), ("\t", "tabs", "tab"), ("|", "'\\|'", "pipe")]
)
def test_another_delimiter_is_named_with_its_setting_and_then_read(
    tmp_path: Path, between: str, named: str, written: str
) -> None:
    path = _file(tmp_path, between.join(["who", '"what"']).encode() + between.join(["\nAnn", '"Hi, you"\n']).encode())
    with pytest.raises(
        RawDataMissing,
        match=(
            rf"the columns are separated by {named}, not by ',': set corpora\.own\.delimiter={written}\. The header is"
        ),
    ):
        read_rows(path, ("who", "what"), FORM)
    delimiter = CsvConfig(reader="table", label_set="own", delimiter=written).delimiter
    assert read_rows(path, ("who", "what"), replace(FORM, delimiter=delimiter)) == [
        CsvRow(2, {"who": "Ann", "what": "Hi, you"}, False)
    ]


def test_commas_are_named_too_where_the_settings_say_otherwise(tmp_path: Path) -> None:
    with pytest.raises(RawDataMissing, match=r"separated by ',', not by tabs: set corpora\.own\.delimiter=comma"):
        read_rows(_file(tmp_path, b"who,what\nAnn,Hi\n"), ("who", "what"), replace(FORM, delimiter="\t"))


def test_a_delimiter_inside_the_name_of_a_column_is_none(tmp_path: Path) -> None:
    path = _file(tmp_path, b"who;or whom,what\nAnn,Hi\n")
    with pytest.raises(RawDataMissing, match="the columns who are missing; there are who;or whom, what"):
        read_rows(path, ("who", "what"), FORM)


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n"])
def test_a_delimiter_is_one_character(delimiter: str) -> None:
    with pytest.raises(ValueError, match="expected one character, or one of the words comma, semicolon, tab, pipe"):
        CsvConfig(reader="table", label_set="own", delimiter=delimiter)


@pytest.mark.parametrize("encoding", ["utf8", "UTF-8-SIG", "gbk", "cp1251", "latin-1"])
def test_an_encoding_is_one_that_python_has(encoding: str) -> None:
    assert CsvConfig(reader="table", label_set="own", encoding=encoding).encoding == encoding
    for wrong in ("gkb", "base64", "rot13", "undefined", ""):
        with pytest.raises(ValueError, match="expected the name of an encoding"):
            CsvConfig(reader="table", label_set="own", encoding=wrong)


def test_one_of_two_columns_of_the_same_name_does_not_win(tmp_path: Path) -> None:
    path = _file(tmp_path, b"who,what, what ,note,note\nAnn,Hi,Bye,1,2\n")
    for columns, may_lack in ((("who", "what"), ()), (("who",), ("what",))):
        with pytest.raises(
            BadTable, match=r"some\.csv: columns 2 and 3 are both called 'what'; rename the one that should not be read"
        ):
            read_rows(path, columns, may_lack=may_lack)
    assert read_rows(path, ("who",))[0].cells["who"] == "Ann"  # the others are not read


def test_a_cell_may_be_long_and_the_limit_of_the_csv_module_stays_what_it_was(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    path = _file(tmp_path, b"who,what\nAnn," + b"x" * 200_000 + b"\n")
    assert len(read_rows(path, ("who", "what"))[0].cells["what"]) == 200_000
    assert csv.field_size_limit() == before


def test_a_cell_beyond_all_measure_is_refused_with_its_line(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    path = _file(tmp_path, b'who,what\nAnn,Hi\nBob,"' + b"a line of the rest\n" * (LARGEST_CELL // 19 + 1))
    with pytest.raises(
        BadTable,
        match="line 3: a cell has more than 16,777,216 characters; is there an unclosed quotation mark",
    ):
        read_rows(path, ("who", "what"))
    assert csv.field_size_limit() == before
