"""The lines of a text file in the encoding named by the settings; if it evidently has another one, an error that asks
which.

UTF-8 is expected, but handled leniently: single lines in cp1252 are read as such, and marked. No encoding is guessed:
Chinese text in GBK reads as Greek letters in cp1253 and as accents in cp1252, all without an error.
"""

import codecs
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from merc import files
from merc.corpora.engine import text_repair
from merc.errors import RawDataMissing
from merc.files import stand_in

UTF_8 = "utf-8"

# Longest first: the mark of UTF-32 starts with that of UTF-16.
_WIDE_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Seven-bit encodings of e-mail, which look like ASCII except for the escape sequence that starts another alphabet.
_ESCAPES = ((b"\x1b$B", "iso2022_jp"), (b"\x1b$@", "iso2022_jp"), (b"\x1b$)C", "iso2022_kr"))
_NO_TEXT = (
    (b"PK\x03\x04", "a zip archive, as spreadsheets are (xlsx); save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "a spreadsheet (xls); save it as CSV"),
    (b"\x1f\x8b", "compressed by gzip; unpack it"),
    (b"PAR1", "a Parquet file; its name must end in .parquet"),
)
_SAMPLE_BYTES = 4096
# Names and numbers of columns, commas and line ends are ASCII in any language: in UTF-16 far more than this share of
# all bytes is zero.
_ZEROS_OF_WIDE_TEXT = 0.05
_FEW_ZEROS = 3
# Curly quotes, dashes, bullet and ellipsis: the same in all Windows code pages, so a line without other non-ASCII bytes
# is unambiguous.
_WINDOWS_PUNCTUATION = bytes([0x85, *range(0x91, 0x98)])
# The strict ones first: a long file that can be read as GBK or Shift-JIS at all most likely is in that encoding.
_CANDIDATES = ("gbk", "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1251", "cp1250", "cp1252")
_RUN = re.compile(rb"[\x80-\xff]+")
_SHOWN_BEFORE, _SHOWN_BEHIND = 10, 40
_LINES_THAT_ARE_NO_CHANCE = 2
_BYTES_THAT_ARE_NO_CHANCE = 9


@dataclass(frozen=True)
class Encoding:
    """The encoding of text files.

    Attributes:
        name: name of Python's codec.
        key: dotted key of the setting, for messages.
    """

    name: str = UTF_8
    key: str = "corpora.<dataset>.encoding"


def read_lines(path: Path, encoding: Encoding, *, stray: int = 0) -> list[tuple[str, bool]]:
    """Reads the lines of a file, without its byte order mark.

    Args:
        path: the file.
        encoding: of the whole file; if it is UTF-8, lines that are not are read as cp1252.
        stray: number of lines that may be neither ASCII nor UTF-8, whatever the others are, in a corpus known to be
            ASCII.

    Returns:
        Each line with its line ending (line feed, carriage return, or both; nothing else), and whether it had to be
        read as cp1252.

    Raises:
        RawDataMissing: if the file cannot be opened, is not text or has another encoding; the message shows the text in
            each likely encoding.
    """
    try:
        files.check_kind(path)
        content = path.read_bytes()
    except OSError as error:
        raise RawDataMissing(f"{path}: cannot be read: {error}") from error
    if what := next((words for begin, words in _NO_TEXT if content.startswith(begin)), "") or stand_in(path):
        raise RawDataMissing(f"{path} is no text file: {what}")
    if codecs.lookup(encoding.name).name not in ("utf-8", "utf-8-sig"):
        return [(line, False) for line in _decoded(content, path, encoding)]
    if wide := wide_encoding(content):
        raise RawDataMissing(f"{path} is {wide.upper()}, not UTF-8: set {encoding.key}={wide}")
    if escaped := next((name for escape, name in _ESCAPES if escape in content), ""):
        raise RawDataMissing(f"{path} is {escaped.upper()}, not UTF-8: set {encoding.key}={escaped}")
    lines = content.removeprefix(codecs.BOM_UTF8).splitlines(keepends=True)
    _check_that_it_is_utf8(lines, path, encoding, stray)
    return [text_repair.decode(line) for line in lines]


def wide_encoding(content: bytes) -> str:
    """The encoding with two or four bytes per character that a file has according to its byte order mark or its zero
    bytes; empty for any other.

    >>> [wide_encoding("a,b\\n".encode(name)) for name in ("utf-16", "utf-16-be", "utf-32-le", "utf-8")]
    ['utf-16', 'utf-16-be', 'utf-32-le', '']
    """
    for mark, name in _WIDE_MARKS:
        if content.startswith(mark):
            return name
    sample = content[:_SAMPLE_BYTES]
    zeros = [sample[place::4].count(0) for place in range(4)]
    if sum(zeros) <= max(_FEW_ZEROS, _ZEROS_OF_WIDE_TEXT * len(sample)):
        return ""
    for name, always in (("utf-32-le", (2, 3)), ("utf-32-be", (0, 1))):
        if all(zeros[place] >= 0.9 * len(sample[place::4]) for place in always):
            return name
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    return "utf-16-le" if odd > 10 * even else "utf-16-be" if even > 10 * odd else ""


def _decoded(content: bytes, path: Path, encoding: Encoding) -> list[str]:
    """The lines of a file that is not UTF-8 by the settings; refused if it is UTF-8 after all, since most encodings
    accept any bytes.
    """
    told = f"{encoding.key} is {encoding.name}"
    name = encoding.name
    if codecs.lookup(name).name.startswith(("utf-16", "utf-32")) and content.isascii() and not wide_encoding(content):
        name = "ascii"  # an unmodified file; as UTF-16, two of its letters would become a Chinese one
    others = [line for line in content.splitlines() if not line.isascii()]
    no_chance = (
        len(others) >= _LINES_THAT_ARE_NO_CHANCE or sum(map(len, _RUN.findall(content))) >= _BYTES_THAT_ARE_NO_CHANCE
    )
    if content.startswith(codecs.BOM_UTF8) or (no_chance and all(_is_utf8(line) for line in others)):
        raise RawDataMissing(
            f"{path} is UTF-8, but {told}: leave that setting out, or convert the files of the corpus to one encoding"
        )
    try:
        text = content.decode(name)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RawDataMissing(f"{path}, line {line}: {told}, but the file is not: {error}") from error
    return list(io.StringIO(text.removeprefix("\ufeff"), newline=""))


def _check_that_it_is_utf8(lines: Sequence[bytes], path: Path, encoding: Encoding, stray: int) -> None:
    others = [number for number, line in enumerate(lines) if not line.isascii()]
    foreign = [number for number in others if _is_foreign(lines[number])]
    if len(foreign) <= stray or 2 * len(foreign) <= len(others):
        return
    first = foreign[0]
    readings = _readings(b"".join(lines), lines[first])
    shown = (
        f" Line {first + 1} would read:\n" + "\n".join(f"    {name}: {text}" for name, text in readings)
        if readings
        else ""
    )
    raise RawDataMissing(
        f"{path} is not UTF-8: {len(foreign)} of the {len(others)} lines that are not ASCII are in another encoding,"
        f" the first is line {first + 1}. Name its encoding, for example"
        f" {encoding.key}={readings[0][0].partition(',')[0] if readings else 'gbk'}.{shown}"
    )


def _is_foreign(line: bytes) -> bool:
    return not _is_utf8(line) and not line.translate(None, _WINDOWS_PUNCTUATION).isascii()


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode(UTF_8)
    except UnicodeDecodeError:
        return False
    return True


def _readings(content: bytes, line: bytes) -> list[tuple[str, str]]:
    """Encodings in which the whole file can be read, likely ones first, each with an excerpt of one line."""
    runs = _RUN.findall(content)
    accents = 2 * sum(len(run) == 1 for run in runs) > len(
        runs
    )  # single letters among ASCII, as only European languages have them
    readings: dict[str, list[str]] = {}
    for name in reversed(_CANDIDATES) if accents else _CANDIDATES:
        try:
            content.decode(name)
        except UnicodeDecodeError:
            continue
        text = line.decode(name).strip()
        first = next(place for place, character in enumerate(text) if not character.isascii())
        readings.setdefault(text[max(0, first - _SHOWN_BEFORE) : first + _SHOWN_BEHIND], []).append(name)
    return [(", ".join(names), text) for text, names in readings.items()]
