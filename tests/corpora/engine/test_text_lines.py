"""Text files in common encodings: the right one reads correctly, a wrong one leads to the question which one it is."""

import re
from pathlib import Path

import pytest

from merc.corpora.engine.text_lines import Encoding, read_lines, wide_encoding
from merc.errors import RawDataMissing

KEY = "corpora.own.encoding"
CHINESE = "说话人,内容\n小明,你好，今天怎么样？\n小红,我很高兴。\n"
RUSSIAN = "кто,что\nАня,Привет, как дела?\nБорис,Очень хорошо.\n"
JAPANESE = "話者,発話\n花子,こんにちは、元気ですか\n太郎,はい、とても\n"
FRENCH = "qui,quoi\nZoë,Ça a été très bon.\nRené,Voilà où j’étais.\n"


def _lines(folder: Path, content: bytes, encoding: str = "utf-8", stray: int = 0) -> list[tuple[str, bool]]:
    path = folder / "some.csv"
    path.write_bytes(content)
    return read_lines(path, Encoding(encoding, KEY), stray=stray)


OTHERS = [
    (CHINESE, "gbk"),
    (CHINESE, "gb18030"),
    (RUSSIAN, "cp1251"),
    (RUSSIAN, "koi8-r"),
    (JAPANESE, "shift_jis"),
    (JAPANESE, "euc_jp"),
    (FRENCH, "cp1252"),
]
WIDE = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


@pytest.mark.parametrize(
    ("text", "encoding"), [*OTHERS, *((text, name) for text in (CHINESE, FRENCH) for name in WIDE)]
)
def test_the_encoding_of_the_settings_gives_the_text_as_it_was_written(
    tmp_path: Path, text: str, encoding: str
) -> None:
    assert _lines(tmp_path, text.encode(encoding), encoding) == [
        (line, False) for line in text.splitlines(keepends=True)
    ]


@pytest.mark.parametrize(("text", "encoding"), OTHERS)
def test_another_encoding_is_asked_for_instead_of_guessed(tmp_path: Path, text: str, encoding: str) -> None:
    with pytest.raises(
        RawDataMissing,
        match=(
            r"some\.csv is not UTF-8: \d of the \d lines that are not ASCII are in another encoding, the first is line"
        ),
    ) as raised:
        _lines(tmp_path, text.encode(encoding))
    assert f"Name its encoding, for example {KEY}=" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "encoding", "read"),
    [(CHINESE, "gbk", "说话人,内容"), (RUSSIAN, "cp1251", "кто,что"), (JAPANESE, "shift_jis", "話者,発話")],
)
def test_the_question_shows_how_each_likely_encoding_reads_the_first_line(
    tmp_path: Path, text: str, encoding: str, read: str
) -> None:
    with pytest.raises(RawDataMissing) as raised:
        _lines(tmp_path, text.encode(encoding))
    assert f"{encoding}: {read}" in [
        line.strip().replace("gbk, gb18030:", "gbk:") for line in str(raised.value).splitlines()
    ]


@pytest.mark.parametrize(("text", "encoding"), [(CHINESE, "gbk"), (RUSSIAN, "cp1251"), (FRENCH, "cp1252")])
def test_the_example_in_the_question_is_the_likely_one(tmp_path: Path, text: str, encoding: str) -> None:
    with pytest.raises(RawDataMissing, match=f"for example {KEY}={encoding}"):
        _lines(tmp_path, text.encode(encoding))


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("text", [CHINESE, "who,what\nAnn,Hello\n"])
def test_two_or_four_bytes_a_character_are_named_as_such(tmp_path: Path, text: str, encoding: str) -> None:
    with pytest.raises(RawDataMissing, match=rf"some\.csv is {encoding.upper()}, not UTF-8: set {KEY}={encoding}$"):
        _lines(tmp_path, text.encode(encoding))


@pytest.mark.parametrize(("text", "encoding"), [(JAPANESE, "iso2022_jp"), ("누구,무엇\n", "iso2022_kr")])
def test_seven_bits_a_character_are_named_as_such(tmp_path: Path, text: str, encoding: str) -> None:
    with pytest.raises(RawDataMissing, match=f"set {KEY}={encoding}"):
        _lines(tmp_path, text.encode(encoding))
    assert "".join(line for line, _ in _lines(tmp_path, text.encode(encoding), encoding)) == text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04" + bytes(range(256)), "save it as CSV"),
        (b"\x1f\x8b\x08" + bytes(range(256)), "unpack it"),
        (b"PAR1" + bytes(range(256)), "must end in .parquet"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        (b"<!DOCTYPE html><title>Sign in</title>", "web page"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "gbk"])
def test_a_file_that_is_not_text_is_reported_as_what_it_is(
    tmp_path: Path, content: bytes, words: str, encoding: str
) -> None:
    with pytest.raises(RawDataMissing, match=rf"some\.csv is no text file: .*{re.escape(words)}"):
        _lines(tmp_path, content, encoding)


@pytest.mark.parametrize(
    "content", [b"", b"a", b"a,b\n1,\0\n", CHINESE.encode(), CHINESE.encode("gbk"), bytes(range(256))]
)
def test_files_of_single_bytes_are_not_taken_for_wide_ones(content: bytes) -> None:
    assert wide_encoding(content) == ""


def test_a_few_lines_of_cp1252_among_utf8_are_read_as_such_and_marked(tmp_path: Path) -> None:
    content = "“One”\n“two”\n".encode() + b"Zo\xeb\n" + b"plain\n"
    assert _lines(tmp_path, content) == [("“One”\n", False), ("“two”\n", False), ("Zoë\n", True), ("plain\n", False)]


def test_quotes_and_dashes_of_windows_are_repaired_however_many_there_are(tmp_path: Path) -> None:
    """The characters are the same in all code pages in question, so there is nothing to ask."""
    assert _lines(tmp_path, b"it\x92s\n\x93well\x94 \x96 yes\x85\n") == [("it’s\n", True), ("“well” – yes…\n", True)]


def test_stray_lines_are_forgiven_where_the_corpus_is_known_to_be_ascii(tmp_path: Path) -> None:
    assert _lines(tmp_path, b"Zo\xeb\nplain\n", stray=1) == [("Zoë\n", True), ("plain\n", False)]
    with pytest.raises(RawDataMissing, match="2 of the 2 lines that are not ASCII"):
        _lines(tmp_path, b"Zo\xeb\nRen\xe9\n", stray=1)


def test_utf8_is_not_read_in_another_encoding_because_the_settings_say_so(tmp_path: Path) -> None:
    for content in (CHINESE.encode(), b"\xef\xbb\xbfplain\n"):
        with pytest.raises(RawDataMissing, match=rf"some\.csv is UTF-8, but {KEY} is cp1251: leave that setting out"):
            _lines(tmp_path, content, "cp1251")
    assert _lines(tmp_path, b"plain\n", "cp1251") == [("plain\n", False)]


def test_one_long_line_of_utf8_is_enough_to_tell_it(tmp_path: Path) -> None:
    with pytest.raises(RawDataMissing, match="is UTF-8, but"):
        _lines(tmp_path, "who,what\nAnn,我不知道\n".encode(), "gbk")


def test_a_file_that_is_not_in_the_encoding_of_the_settings_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(
        RawDataMissing, match=rf"some\.csv, line 2: {KEY} is shift_jis, but the file is not: .*can't decode"
    ):
        _lines(tmp_path, b"a\n\xff\xff\xff\n", "shift_jis")


def test_lines_end_only_where_line_ends_are_regardless_of_the_encoding(tmp_path: Path) -> None:
    text = "a\x85b\u2028c\x0bd\r\ne\rf\ng"
    assert [line for line, _ in _lines(tmp_path, text.encode("utf-16"), "utf-16")] == [
        "a\x85b\u2028c\x0bd\r\n",
        "e\r",
        "f\n",
        "g",
    ]
