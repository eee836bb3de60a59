"""Your own corpus: a CSV or Parquet file with one row per utterance, and a folder of media.

The settings assign the columns, so a table need not be rewritten. Each further corpus is a block under ``corpora`` with
``reader: table``. Rules for the rows:

- The rows of a dialogue are its utterances in order; they need not be contiguous. A dialogue is in one split.
- The id of an utterance is that of its dialogue followed by the cell of the column ``utterance``, or by the number of
  the turn; a cell that already starts with the dialogue's id is used unchanged.
- Several columns may form the id of a dialogue (season, episode and scene in EmoryNLP); their cells are joined by
  ``_``.
- A row without an emotion is unlabelled (index -1), as is one with ``unlabelled``. Any other emotion must be in the
  label set. Spellings that differ only in case or spaces are one class; merged spellings are reported.
- There may be one table per split. In a single table without a split column, dialogues are drawn by the shares and the
  seed in the settings.
- Without times, an utterance starts and ends at 0.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from merc.corpora.engine import text_repair
from merc.corpora.engine.base import CorpusReader, Reading
from merc.corpora.engine.csv_rows import CsvConfig, CsvForm
from merc.corpora.engine.emotion_names import counted, one_spelling, taken_for
from merc.corpora.engine.labels import LABEL_SETS, LabelSet, label_set
from merc.corpora.engine.table_rows import TableRow, is_plain_path, read_table
from merc.errors import BadSettings, BadTable, RawDataMissing, nearest
from merc.files import check_name
from merc.params import Settings
from merc.records.dialogue import SPLITS, Dialogue, Utterance
from merc.records.failures import Failure

OWN = "own"
"""The label set whose classes come from the settings or the table."""
UNLABELLED = "unlabelled"

_QUOTED = re.compile(r"""'[^'"\\]+'|"[^"\\]+\"""")
_LIST_OF_NAMES = re.compile(rf"\[(?:{_QUOTED.pattern})(?:, (?:{_QUOTED.pattern}))*\]")
_SPLIT_NAMES = {**{split: split for split in SPLITS}, "val": "dev", "valid": "dev", "validation": "dev"}


class Columns(Settings):
    """Names of the columns; empty for columns that the table does not have. The first four are required."""

    dialogue: str | tuple[str, ...] = "dialogue"
    """Id of the dialogue; a list of columns if several are needed to identify one: ``[Season, Episode,
    Scene_ID]``.
    """
    speaker: str = Field(default="speaker", min_length=1)
    """Name of the speaker."""
    text: str = Field(default="text", min_length=1)
    """Transcript."""
    emotion: str = Field(default="emotion", min_length=1)
    """Label; an empty cell and ``unlabelled`` mean none."""
    utterance: str = ""
    """Identifies an utterance within its dialogue; without it turns are numbered."""
    split: str = "split"
    """Train, dev (or val, valid, validation), test; without it dialogues are drawn by ``split_shares``."""
    start: str = ""
    """Seconds at which the utterance starts in its recording."""
    end: str = ""
    """Seconds at which the utterance ends in its recording."""
    video: str = "video"
    """Video file, below ``media_folder``."""
    audio: str = ""
    """Audio file, below ``media_folder``; without it, the audio is that of the video."""
    sentiment: str = ""
    """Sentiment, as the corpus has it."""
    valence: str = ""
    """Valence, on the corpus's own scale."""
    arousal: str = ""
    """Arousal, on the corpus's own scale."""
    dominance: str = ""
    """Dominance, on the corpus's own scale."""

    @field_validator("*", mode="before")
    @classmethod
    def _nothing_is_an_empty_name(cls, name: object) -> object:
        return "" if name is None else name  # YAML gives None for a key without a value

    @field_validator("dialogue")
    @classmethod
    def _dialogues_have_an_id(cls, names: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not names or not all(names):
            raise ValueError("expected the name of a column, or a list of names")
        return names

    @model_validator(mode="after")
    def _start_with_end(self) -> Self:
        if bool(self.start) != bool(self.end):
            raise ValueError("start and end: name both columns, or neither")
        return self


class SplitShares(Settings):
    """Share of the dialogues in each split, where the table has no column for it; a share above 0 is at least one
    dialogue.
    """

    train: float = Field(default=0.8, gt=0, le=1)
    """Share of the train split; it must not be 0, since there would be no training data."""
    dev: float = Field(default=0.1, ge=0, lt=1)
    """Share of the dev split; 0: no dev split."""
    test: float = Field(default=0.1, ge=0, lt=1)
    """Share of the test split; 0: no test split."""

    @model_validator(mode="after")
    def _make_a_whole(self) -> Self:
        if not math.isclose(self.train + self.dev + self.test, 1, abs_tol=1e-6):
            raise ValueError(f"train, dev and test sum to {self.train + self.dev + self.test:g} instead of 1")
        return self


class SplitFiles(Settings):
    """A table for each split, in the corpus's folder, instead of ``file`` and a split column; empty for a split that
    does not exist.
    """

    train: str = ""
    """Table of the train split."""
    dev: str = ""
    """Table of the dev split."""
    test: str = ""
    """Table of the test split."""

    @field_validator("*")
    @classmethod
    def _stays_in_the_corpus(cls, path: str) -> str:
        return _below_the_corpus(path)

    @model_validator(mode="after")
    def _differ(self) -> Self:
        files = list(self.named().values())
        if len(set(files)) != len(files):
            raise ValueError("one file is named for several splits; test data must not be trained on")
        return self

    def named(self) -> dict[str, str]:
        """Split → file, for the splits with a table."""
        return {split: file for split in SPLITS if (file := getattr(self, split))}


def _below_the_corpus(path: str) -> str:
    if path and not is_plain_path(path):
        raise ValueError("expected a path below the corpus's folder")
    return path


@dataclass(frozen=True)
class _Rows:
    """The rows of one dialogue, in their order."""

    split: str
    name: str
    rows: list[TableRow]


class Table(CorpusReader):
    """Reads your own corpus; see the head of this file."""

    class Config(CsvConfig):
        """Settings of a table."""

        file: str = "utterances.csv"
        """Table, as .csv (or .tsv, .txt) or .parquet, in the corpus's folder: raw/<name>, or what ``--raw`` names."""
        files: SplitFiles = SplitFiles()
        """A table for each split, instead of ``file``; ids may be the same in several."""
        media_folder: str = "media"
        """Folder that the paths in the table are relative to, in the corpus's folder; empty for that folder itself."""
        media_are: Literal["clips", "recordings"] = "clips"
        """``clips``: a file is one utterance, as a whole; ``recordings``: ``start`` and ``end`` cut it out."""
        columns: Columns = Columns()
        """Which column is what."""
        label_set: str = OWN
        """``own``, or one that comes with the package: meld7, iemocap4, iemocap4_merged, iemocap6, emorynlp,
        dailydialog.
        """
        labels: tuple[str, ...] = ()
        """Classes of the label set ``own`` in the order of their indices; empty: those in the table, by alphabet.
        Spellings that differ only in capitals or spaces are one class.
        """
        split_shares: SplitShares = SplitShares()
        """How dialogues are assigned to splits if the table has no column for the split."""
        split_seed: int = 0
        """Decides which dialogues are drawn for which split."""
        check_counts: bool = False
        """There are no published counts with which those of your own corpus could be compared."""

        @field_validator("file", "media_folder")
        @classmethod
        def _stays_in_the_corpus(cls, path: str) -> str:
            return _below_the_corpus(path)

        @model_validator(mode="after")
        def _labels_are_of_the_own_set(self) -> Self:
            if self.labels and self.label_set != OWN:
                raise ValueError(f"labels are those of the label set {OWN}; {self.label_set} has its own")
            if len(set(self.labels)) != len(self.labels) or UNLABELLED in self.labels:
                raise ValueError(f"labels: each must occur once, and none may be {UNLABELLED}")
            return self

    LABEL_SETS: ClassVar[tuple[str, ...]] = (OWN, *LABEL_SETS)
    SOURCE: ClassVar[str] = (
        "A custom corpus, read from a table of utterances; only its owner knows whom it belongs to and who may have it."
    )
    EXPECTED_TREE: ClassVar[str] = """\
utterances.csv          (corpora.<dataset>.file: one row per utterance; also .parquet; or a table for each split: corpora.<dataset>.files)
media/                  (corpora.<dataset>.media_folder: what the paths in the table are relative to)"""  # noqa: E501
    config: Config

    def read(self, root: Path, raw: Path, *, media: frozenset[str], splits: tuple[str, ...]) -> Reading:
        """Reads the table, and checks which media exist (see :meth:`CorpusReader.read`).

        Raises:
            RawDataMissing: see :meth:`CorpusReader.read`; also if the table lacks a column.
            BadSettings: if there is no column for requested media, or a requested split has no dialogue.
            BadTable: if a row has no dialogue or speaker, an invalid id, label, split or number, or a path that leaves
                the media folder.
        """
        config = self.config
        tables = self._tables(root)
        self._check_media_columns(media)
        dialogues = self._dialogues(tables, may_lack=() if media else ("video", "audio"))
        rows = [row for one in dialogues for row in one.rows]
        counts = Counter(row.cells["emotion"] for row in rows if row.cells["emotion"])
        spelling = one_spelling(counts, [*self._known(), UNLABELLED], closed=bool(self._known()))
        labels = self._labels(rows, spelling)
        reading = Reading([], labels=labels, deviations=taken_for(counts, spelling))
        folder = PurePosixPath(root.relative_to(raw).as_posix(), config.media_folder)
        for split in (one for one in SPLITS if one in splits):
            reading.dialogues += [
                self._dialogue(one, spelling, folder, reading.failures) for one in dialogues if one.split == split
            ]
        if not reading.dialogues:
            there = ", ".join(sorted({one.split for one in dialogues}))
            raise BadSettings(
                f"{', '.join(map(str, tables.values()))}: no dialogue is in {', '.join(splits)}; the table has {there}"
            )
        reading.deviations += self._unordered(one for one in dialogues if one.split in splits)
        reading.missing = self._missing_media(raw, root / config.media_folder, reading.dialogues, media)
        return reading

    def _unordered(self, dialogues: Iterable[_Rows]) -> list[str]:
        """A line if the turn numbers are not increasing, as in a shuffled table."""
        turns = {one.name: [row.cells["utterance"] for row in one.rows] for one in dialogues}
        numbers = {
            name: [int(cell) for cell in cells]
            for name, cells in turns.items()
            if all(cell.isdecimal() for cell in cells)
        }
        falling = [name for name, of_dialogue in numbers.items() if of_dialogue != sorted(of_dialogue)]
        if not falling:
            return []
        where = f"{counted(len(falling), 'dialogue')} of {len(turns)}, the first is {falling[0]}"
        return [
            f"the numbers of the column {self.config.columns.utterance} do not rise in {where}; turns stand in the"
            " order of the table: is it shuffled?"
        ]

    def _tables(self, root: Path) -> dict[str, Path]:
        """Split → its table; a single table without a split if all are in one.

        Raises:
            RawDataMissing: if one does not exist.
        """
        tables = {split: root / file for split, file in (self.config.files.named() or {"": self.config.file}).items()}
        absent = [str(path) for path in tables.values() if not path.is_file()]
        if absent:
            there = (
                ", ".join(sorted(entry.name for entry in root.iterdir())[:20]) if root.is_dir() else "no such folder"
            )
            raise RawDataMissing(
                f"{', '.join(absent)} not found.\nExpected in {root}:\n{self.EXPECTED_TREE}\nFound:"
                f" {there or 'nothing'}\n{self.SOURCE}"
            )
        return tables

    def _dialogues(self, tables: Mapping[str, Path], may_lack: Collection[str]) -> list[_Rows]:
        """All dialogues with their splits, in the order of the tables."""
        config = self.config
        form = CsvForm(self.encoding, config.delimiter, f"{self.key}.delimiter")
        columns = config.columns.model_dump() | ({} if "" in tables else {"split": ""})
        found: list[_Rows] = []
        for split, path in tables.items():
            by_name: dict[str, list[TableRow]] = {}
            for row in read_table(path, columns, may_lack, form):
                by_name.setdefault(row.name("dialogue"), []).append(row)
            if split:
                split_of = dict.fromkeys(by_name, split)
            else:
                split_of = (
                    _splits_in(by_name)
                    if config.columns.split
                    else _drawn_splits(by_name, config.split_shares, config.split_seed)
                )
            found += [_Rows(split_of[name], name, rows) for name, rows in by_name.items()]
        return found

    def _check_media_columns(self, media: frozenset[str]) -> None:
        columns = self.config.columns
        for modality, names in (("visual", ("video",)), ("audio", ("audio", "video"))):
            if modality in media and not any(getattr(columns, name) for name in names):
                raise BadSettings(
                    f"the {modality} modality is requested, but the settings' columns name no {' or '.join(names)};"
                    " give --modalities without it"
                )
        if media and self.config.media_are == "recordings" and not columns.start:
            raise BadSettings("media_are recordings, but the settings' columns name no start and end")

    def _known(self) -> list[str]:
        """The valid emotions; empty if the table itself defines them."""
        if self.config.label_set == OWN:
            return list(self.config.labels)
        labels = label_set(self.config.label_set)
        return [*labels.classes, *labels.merge]

    def _labels(self, rows: Iterable[TableRow], spelling: Mapping[str, str]) -> LabelSet:
        """The label set, with every row's emotion checked against it."""
        config = self.config
        there = sorted(set(spelling.values()) - {UNLABELLED})
        labels = (
            label_set(config.label_set) if config.label_set != OWN else LabelSet(OWN, config.labels or tuple(there))
        )
        if not labels.classes:
            raise BadTable(f"{config.file}: no row has an emotion; name the classes in the settings' labels")
        unusable = [name for name in labels.classes if "," in name or not name.isprintable()]
        if unusable:
            raise BadTable(f"{config.file}: the emotion {unusable[0]!r} holds a comma or a control character")
        known = [*labels.classes, *labels.merge]
        for row in rows:
            emotion = row.cells["emotion"]
            if emotion and spelling[emotion] not in (UNLABELLED, *known):
                raise BadTable(
                    f"{row.where}: the emotion is {emotion!r}; {nearest(emotion, known)}; leave it empty if there is"
                    " none"
                )
        return labels

    def _dialogue(
        self, dialogue: _Rows, spelling: Mapping[str, str], folder: PurePosixPath, failures: list[Failure]
    ) -> Dialogue:
        name, split = dialogue.name, dialogue.split
        seen: dict[str, str] = {}
        utterances = []
        for position, row in enumerate(dialogue.rows):
            turn = row.name("utterance") if self.config.columns.utterance else str(position)
            utterance_id = turn if turn.startswith(f"{name}_") else f"{name}_{turn}"
            if utterance_id in seen:
                raise BadTable(
                    f"{row.where}: the utterance {turn!r} of dialogue {name!r} is already in {seen[utterance_id]}. If"
                    " several dialogues were joined, name all the columns that make up a dialogue's id:"
                    f" {self.key}.columns.dialogue=[Season, Episode, Scene]"
                )
            seen[utterance_id] = row.where
            failures += [
                Failure(f"{split}/{utterance_id}", "manifest", "all", "annotation_repaired", told)
                for told in row.repaired
            ]
            text = text_repair.repair(row.cells["text"])
            if text != row.cells["text"] or (row.recoded and not text.isascii()):
                told = (
                    f"wrongly decoded: {row.cells['text']!r}"
                    if text != row.cells["text"]
                    else "not UTF-8, read as cp1252"
                )
                failures.append(Failure(f"{split}/{utterance_id}", "manifest", "text", "text_repaired", told))
            emotion = spelling.get(row.cells["emotion"], UNLABELLED)
            utterances.append(self._utterance(row, utterance_id, text, emotion, folder))
        return Dialogue(split=split, source_dialogue_id=name, utterances=tuple(utterances))

    def _utterance(self, row: TableRow, utterance_id: str, text: str, emotion: str, folder: PurePosixPath) -> Utterance:
        speaker = row.cells["speaker"]
        if not speaker:
            raise BadTable(f"{row.where}: there is no speaker")
        start, end = row.number("start"), row.number("end")
        if (start is None) != (end is None) or (start is not None and end is not None and not 0 <= start <= end):
            raise BadTable(
                f"{row.where}: lasts from {row.cells['start'] or 'nothing'} to {row.cells['end'] or 'nothing'} s"
            )
        video, audio = row.path("video"), row.path("audio") or row.path("video")
        inside = self.config.media_are == "recordings" and bool(video or audio)
        if inside and start is None:
            raise BadTable(f"{row.where}: no start and end, by which the utterance is cut from its recording")
        return Utterance(
            source_utterance_id=utterance_id,
            speaker=_names(speaker),
            source_speaker=speaker,
            text=text,
            emotion=emotion,
            sentiment=row.cells["sentiment"],
            valence=row.number("valence"),
            arousal=row.number("arousal"),
            dominance=row.number("dominance"),
            start_seconds=start or 0.0,
            end_seconds=end or 0.0,
            video_path=(folder / video).as_posix() if video else "",
            audio_path=(folder / audio).as_posix() if audio else "",
            video_start_seconds=start if inside and video else None,
            video_end_seconds=end if inside and video else None,
            audio_start_seconds=start if inside else None,
            audio_end_seconds=end if inside else None,
        )

    def _missing_media(
        self, raw: Path, folder: Path, dialogues: Iterable[Dialogue], media: frozenset[str]
    ) -> dict[str, dict[str, str]]:
        """See :attr:`Reading.missing`. Raises ``RawDataMissing`` if no file of a modality is there."""
        utterances = {dialogue.utterance_id(one): one for dialogue in dialogues for one in dialogue.utterances}
        missing: dict[str, dict[str, str]] = {}
        for modality, column in (("visual", "video_path"), ("audio", "audio_path")):
            if modality not in media:
                continue
            paths = {name: getattr(one, column) for name, one in utterances.items()}
            there = {path: _is_there(raw / path) for path in dict.fromkeys(paths.values()) if path}
            missing[modality] = {name: path for name, path in paths.items() if not there.get(path)}
            if not any(there.values()):
                first = next((path for path in paths.values() if path), "an empty cell of the table")
                raise RawDataMissing(
                    f"{modality}: none of {len(there)} files is in {folder}, the first is"
                    f" {first}.\nExpected:\n{self.EXPECTED_TREE}"
                )
        return missing


def _is_there(path: Path) -> bool:
    check_name(path)
    return path.is_file()


def _names(speaker: str) -> str:
    """A speaker's name; if the cell is a Python list, the names of several who speak at once.

    >>> _names("['Ross Geller', 'Monica Geller']"), _names("Ross")
    ('Ross Geller, Monica Geller', 'Ross')
    """
    return ", ".join(name[1:-1] for name in _QUOTED.findall(speaker)) if _LIST_OF_NAMES.fullmatch(speaker) else speaker


def _splits_in(by_dialogue: Mapping[str, Sequence[TableRow]]) -> dict[str, str]:
    """Dialogue → split, from the column."""
    found: dict[str, str] = {}
    for name, rows in by_dialogue.items():
        for row in rows:
            split = _SPLIT_NAMES.get(row.cells["split"].lower())
            if split is None:
                raise BadTable(
                    f"{row.where}: the split is {row.cells['split']!r};"
                    f" {nearest(row.cells['split'].lower(), list(_SPLIT_NAMES))}"
                )
            if found.setdefault(name, split) != split:
                raise BadTable(
                    f"{row.where}: the dialogue {name!r} is in {split} here, and in {found[name]} in {rows[0].where}"
                )
    return found


def _drawn_splits(dialogues: Iterable[str], shares: SplitShares, seed: int) -> dict[str, str]:
    """Dialogue → split by the sha256 of ``<seed>:<dialogue>``, which no version of a random number library can change.

    >>> sorted(_drawn_splits(["a", "b", "c"], SplitShares(), 0).values())
    ['dev', 'test', 'train']
    """
    order = sorted(dialogues, key=lambda one: hashlib.sha256(f"{seed}:{one}".encode()).digest())
    sizes = {
        split: max(1, round(share * len(order))) if share else 0
        for split, share in (("dev", shares.dev), ("test", shares.test))
    }
    if sum(sizes.values()) >= len(order):
        raise BadSettings(
            f"{len(order)} dialogues are too few for the split_shares; name a column for the split, or set the shares"
            " of dev and test to 0"
        )
    drawn = [split for split, size in sizes.items() for _ in range(size)]
    return dict(zip(order, [*drawn, *["train"] * (len(order) - len(drawn))], strict=True))
