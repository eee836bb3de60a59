"""MELD realigned: the actual place of each utterance, as spans of the original clips.

Paper: Carneiro, Weber and Wermter, "Whose emotion matters? Speaking activity localisation without prior knowledge",
Neurocomputing 545 (2023), 126271, https://doi.org/10.1016/j.neucom.2023.126271
Home: https://github.com/knowledgetechnologyuhh/MELD-FAIR, folder ``csvs`` (GPL-3.0); must be downloaded from there.

These files number a dialogue's utterances in two ways:

    realigned_train_sent_emo.csv              Dialogue_ID 446, Utterance_ID 1, Original Utterance_ID 0               one utterance, by both
    MELD_video_realignment_timestamps.csv     train, Dialogue ID 446, Utterance ID 1                                 the same utterance is,
                                              Original Dialogue ID 446, Original Utterance ID 0, 0.162 to 0.282 s    first, here in dia446_utt0.mp4

- ``Utterance ID`` of the time stamps is ``Utterance_ID`` of the realigned tables: without gaps and mostly by time. In
  492 rows of train, 10 of dev and 18 of test it differs from MELD's own number, which is ``Original Utterance_ID``
  there. Without these tables it is impossible to tell which utterance is meant, since the same number often belongs to
  another one.
- ``Original …`` of the time stamps names a clip, by MELD's own numbers: the original cut ``dia446_utt2.mp4``, in which
  the times were measured, not ``final_videos_testdia…``, which is another cut.
- The spans of an utterance are in playing order. Within a clip they never overlap or go back, but 16 utterances
  continue in an earlier clip.
"""  # noqa: E501

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from merc.corpora.engine import folders, text_repair
from merc.corpora.engine.csv_rows import CsvForm, CsvRow, read_rows
from merc.errors import BadTable, RawDataMissing
from merc.records.dialogue import SPLITS

TIMESTAMPS = "MELD_video_realignment_timestamps.csv"
TABLES = MappingProxyType({split: f"realigned_{split}_sent_emo.csv" for split in SPLITS})
SOURCE = (
    "MELD-FAIR (Carneiro, Weber and Wermter, Neurocomputing 545, 2023; GPL-3.0), which is available at "
    "https://github.com/knowledgetechnologyuhh/MELD-FAIR, folder csvs"
)

_COLUMNS = (
    "Split",
    "Dialogue ID",
    "Utterance ID",
    "Original Dialogue ID",
    "Original Utterance ID",
    "Start Time",
    "End Time",
)
_TABLE_COLUMNS = ("Speaker", "Dialogue_ID", "Utterance_ID", "Original Utterance_ID")
# The speakers of the published tables differ from MELD's in one row of 13,708; those of another corpus would differ
# nearly everywhere.
_MOST_OTHER_SPEAKERS = 0.1

Key = tuple[int, int]
"""Numbers of a dialogue and of an utterance in it."""


@dataclass(frozen=True)
class ClipSpan:
    """A part of an original clip.

    Attributes:
        clip: its name without suffix, ``dia446_utt2``.
        start_seconds, end_seconds: half-open, from the start of the clip.
    """

    clip: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Placed:
    """Where the utterances of a split are.

    Attributes:
        spans: MELD's own numbers → the spans in playing order, at least one.
        unknown: utterances in the file that MELD does not have, by MELD's own numbers.
    """

    spans: Mapping[Key, tuple[ClipSpan, ...]]
    unknown: Sequence[Key]


@dataclass(frozen=True)
class _Line:
    """A row of the time stamps."""

    line: int
    span: ClipSpan


class Realignment:
    """The time stamps, read and checked.

    Args:
        path: the file, or a folder that contains it, at most three levels down.
        form: format of this file and the tables next to it.

    Attributes:
        file: where the time stamps are.

    Raises:
        RawDataMissing: if the file does not exist, lacks a column, has no rows or has another encoding or delimiter.
        BadTable: if a row has an id that is not a number, an invalid time, an end that is not after its start, or a
            span that occurs twice, overlaps another one of the utterance in the same clip, or lies before it; the
            message names the line.
    """

    def __init__(self, path: Path, form: CsvForm) -> None:
        self.file = _find(path)
        self._form = form
        self._lines: dict[str, dict[Key, list[_Line]]] = {split: {} for split in SPLITS}
        for row in read_rows(self.file, _COLUMNS, form):
            self._take(row)
        if not any(self._lines.values()):
            raise RawDataMissing(f"{self.file} holds no span")

    def _take(self, row: CsvRow) -> None:
        split = row.cells["Split"].strip()
        if split not in self._lines:
            raise BadTable(f"{self.file}, line {row.line}: Split is {split!r} instead of one of {', '.join(SPLITS)}")
        key = row.whole_number("Dialogue ID", self.file), row.whole_number("Utterance ID", self.file)
        dialogue, number = (
            row.whole_number(column, self.file) for column in ("Original Dialogue ID", "Original Utterance ID")
        )
        start, end = (self._seconds(row, column) for column in ("Start Time", "End Time"))
        if start >= end:
            raise BadTable(f"{self.file}, line {row.line}: the span ends at {end:g} s, and begins at {start:g} s")
        new = _Line(row.line, ClipSpan(_name((dialogue, number)), start, end))
        known = self._lines[split].setdefault(key, [])
        self._check_order(new, known)
        known.append(new)

    def _seconds(self, row: CsvRow, column: str) -> float:
        cell = row.cells[column].strip()
        try:
            seconds = float(cell)
        except ValueError as error:
            raise BadTable(
                f"{self.file}, line {row.line}: {column} is {cell!r} instead of seconds such as 1.25"
            ) from error
        if not (math.isfinite(seconds) and seconds >= 0):
            raise BadTable(f"{self.file}, line {row.line}: {column} is {cell!r} instead of seconds from 0")
        return seconds

    def _check_order(self, new: _Line, known: Sequence[_Line]) -> None:
        """Compares a span with earlier ones of the same utterance; in other clips it may be anywhere."""
        before = next((one for one in reversed(known) if one.span.clip == new.span.clip), None)
        if before is None or before.span.end_seconds <= new.span.start_seconds:
            return
        what = "is" if before.span == new.span else "overlaps or lies before"
        raise BadTable(
            f"{self.file}, line {new.line}: the span {_words(new.span)} {what} that of line {before.line},"
            f" {_words(before.span)}; the spans of an utterance must be in order, each once"
        )

    def of(self, split: str, speakers: Mapping[Key, str]) -> Placed:
        """Finds MELD's utterances.

        Args:
            split: one of the corpus.
            speakers: MELD's own numbers → speaker, of all utterances of the split.

        Raises:
            RawDataMissing: if the numbers are not MELD's, and the realigned table that maps them is not next to the
                file.
            BadTable: if the realigned table contradicts itself or the time stamps, or belongs to another corpus.
        """
        lines = self._lines[split]
        table = self.file.parent / TABLES[split]
        own = self._own_numbers(table, speakers) if table.is_file() else {key: key for key in speakers}
        strange = [key for key in lines if key not in own]
        if strange:
            raise self._unresolved(split, table, strange[0], lines[strange[0]][0].line)
        spans = {own[key]: tuple(one.span for one in found) for key, found in lines.items()}
        unknown = sorted(key for key in spans if key not in speakers)
        if spans and len(unknown) == len(spans):
            raise BadTable(
                f"{self.file}: not one of the {len(spans)} utterances of {split} is in MELD's own table; does the file"
                " belong to another corpus?"
            )
        return Placed({key: found for key, found in spans.items() if key in speakers}, unknown)

    def _unresolved(self, split: str, table: Path, key: Key, line: int) -> Exception:
        where = f"{self.file}, line {line}: {split}, dialogue {key[0]}, utterance {key[1]}"
        if table.is_file():
            return BadTable(f"{where} is in no row of {table}; are the two from the same release?")
        return RawDataMissing(
            f"{where} does not exist in MELD's own numbers; the file counts as the realigned tables do, and"
            f" {table.name}, which says which utterances are meant, is not next to it. It is a part of {SOURCE}"
        )

    def _own_numbers(self, table: Path, speakers: Mapping[Key, str]) -> dict[Key, Key]:
        """Numbers in the realigned table → MELD's own."""
        own: dict[Key, Key] = {}
        lines: dict[tuple[str, Key], int] = {}
        others: list[str] = []
        for row in read_rows(table, _TABLE_COLUMNS, self._form):
            dialogue = row.whole_number("Dialogue_ID", table)
            new, old = (
                (dialogue, row.whole_number(column, table)) for column in ("Utterance_ID", "Original Utterance_ID")
            )
            for column, key in (("Utterance_ID", new), ("Original Utterance_ID", old)):
                if (before := lines.setdefault((column, key), row.line)) != row.line:
                    raise BadTable(
                        f"{table}: Dialogue_ID {key[0]}, {column} {key[1]} are in line {before} and again in line"
                        f" {row.line}"
                    )
            own[new] = old
            speaker = text_repair.repair(row.cells["Speaker"]).strip()
            if speakers.get(old, speaker) != speaker:
                others.append(f"line {row.line} has {speaker!r}, and MELD's {_name(old)} {speakers[old]!r}")
        if len(others) > _MOST_OTHER_SPEAKERS * len(own):
            raise BadTable(
                f"{table}: {len(others)} of {len(own)} speakers are not MELD's: {others[0]}; does the table belong to"
                " another corpus?"
            )
        return own


def facts(placed: Placed, utterances: int) -> dict[str, int]:
    """Counts for the record: of utterances, unless stated otherwise."""
    several = Counter(len(spans) > 1 for spans in placed.spans.values())
    foreign = sum(any(span.clip != _name(key) for span in spans) for key, spans in placed.spans.items())
    return {
        "utterances": utterances,
        "realigned": len(placed.spans),
        "spans": sum(map(len, placed.spans.values())),
        "of_several_spans": several[True],
        "with_a_span_of_another_clip": foreign,
    }


def credit(file: str, counted: Iterable[Mapping[str, int]]) -> str:
    """A sentence on what was realigned, how much of it, and by whom.

    Args:
        file: the time stamps, relative to raw/.
        counted: of each split, :func:`facts`.
    """
    whole: Counter[str] = Counter()
    for one in counted:
        whole.update(one)
    return (
        f"Realigned: audio and video of {whole['realigned']} of {whole['utterances']} utterances are the spans of"
        f" the original clips that {file} names, {whole['spans']} in all; {whole['of_several_spans']} utterances lie in"
        f" several, {whole['with_a_span_of_another_clip']} not only in their own clip. It is a part of {SOURCE}."
    )


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    folder = folders.holder(path, [TIMESTAMPS], (".", "csvs")) if path.is_dir() else None
    if folder is None:
        raise RawDataMissing(
            f"realignment: {path} is neither a file, nor a folder with {TIMESTAMPS} in it. It is a part of {SOURCE}"
        )
    return folder / TIMESTAMPS


def _name(key: Key) -> str:
    return f"dia{key[0]}_utt{key[1]}"


def _words(span: ClipSpan) -> str:
    return f"{span.clip}, {span.start_seconds:g} to {span.end_seconds:g} s"
