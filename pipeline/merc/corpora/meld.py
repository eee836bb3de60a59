"""MELD: multi-party conversations cut from a TV series, seven emotions and three sentiments.

Paper: Poria et al., "MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in Conversations", ACL 2019,
https://aclanthology.org/P19-1050
Home: https://affective-meld.github.io and https://github.com/declare-lab/MELD
Licence: annotations GPL-3.0; the clips are excerpts of a TV series, for research only, and must not be redistributed.

Known defects of the distribution, and what is done about each:

- Dialogue numbers start at 0 in every split, so the split is part of every id. Papers report 1039 train dialogues:
  number 60 does not exist.
- ``Sr No.`` repeats in train: it is not read.
- ``Utterance_ID`` has gaps in 72 train, 2 dev and 2 test dialogues: it determines the order and the source id;
  positions are dense.
- Hours have one or two digits. Three time stamps have lost a digit of their milliseconds (train dia437_utt2, test
  dia187_utt2 and dia233_utt8). They are read as decimals (``11,82`` = 11.820 s, not 11.082 s): subtitles there follow
  each other by 0.167 s, and this reading is closer to that.
- Test dia155_utt3 ends where it starts; test dia38_utt4 (305 s) and dia220_utt0 (235 s) span several scenes: decoding
  cuts them, and records it.
- Train dia125_utt3 cannot be decoded and dev dia110_utt7 does not exist in the official archive: decoding records both,
  unless ``replacements`` has them.
- About 132 clips of the test folder occur twice: ``final_videos_test…`` replaces a faulty cut of the same id, so it
  is preferred.
- 118 of the other clips of the test folder are 0.4 to 5.3 s longer than their annotation, 87 of them because they
  continue into the next utterance: decoding cuts them to the annotation's length, and records it (train and dev have no
  such clips). No clip is cut to an implausibly short annotation (0.14 s for "It's been fourteen and a half minutes …",
  test dia242_utt1).
- Some speakers are spelled in two ways (``Phoebe Sr`` and ``Phoebe Sr.``): see speaker_names.py.
- Archives packed on a Mac contain a ``._…`` companion of each file: skipped.
- Older copies of the annotations hold cp1252 bytes or control characters such as U+0092 for an apostrophe: repaired and
  recorded.
- Many clips start or end in a neighbouring utterance, or do not contain their own at all: with ``realignment`` an
  utterance is where MELD-FAIR places it, one or more spans of one or more clips (see engine/meld_realignment.py), and
  no clip is cut to an annotation.
"""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import Field, field_validator

from merc.corpora.engine import folders, label_synonyms, meld_realignment, speaker_names, text_repair
from merc.corpora.engine.base import CorpusReader, Reading
from merc.corpora.engine.csv_rows import CsvConfig, CsvForm, CsvRow, read_rows
from merc.corpora.engine.labels import LABEL_SETS
from merc.corpora.engine.meld_realignment import ClipSpan, Realignment
from merc.corpora.engine.table_rows import is_plain_path
from merc.errors import BadTable, RawDataMissing
from merc.files import broken_link, sha256
from merc.log import logger
from merc.records.dialogue import SPLITS, Dialogue, MediaSpan, Utterance
from merc.records.failures import Failure

ARCHIVE = "MELD.Raw"
"""The folder inside the official archive; the corpus may be in it or directly in the dataset's folder."""
ANNOTATIONS = MappingProxyType({split: f"{split}_sent_emo.csv" for split in SPLITS})
CLIPS = MappingProxyType({"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"})
REPLACEMENT = "final_videos_test"

EMOTIONS = LABEL_SETS["meld7"].classes
SENTIMENTS = ("positive", "negative", "neutral")


SPELLINGS = MappingProxyType({"Phoebe Sr": "Phoebe Sr.", "Dr. Leedbetter": "Dr. Ledbetter"})
"""Speakers with two spellings in the files → the spelling used here."""

_NAMED = 10
_COLUMNS = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "StartTime", "EndTime")
_TIME = re.compile(r"([0-9]{1,2}):([0-5]?[0-9]):([0-5]?[0-9])[,.]([0-9]{1,3})")


@dataclass(frozen=True)
class Counts:
    """The content of a split of the official distribution.

    Attributes:
        utterances, dialogues: their numbers.
        emotions, sentiments: label → number of utterances.
    """

    utterances: int
    dialogues: int
    emotions: Mapping[str, int]
    sentiments: Mapping[str, int]


# Counted in the files of the official repository.
EXPECTED = MappingProxyType(
    {
        "train": Counts(
            utterances=9989,
            dialogues=1038,
            emotions={
                "neutral": 4710,
                "joy": 1743,
                "surprise": 1205,
                "anger": 1109,
                "sadness": 683,
                "disgust": 271,
                "fear": 268,
            },
            sentiments={"positive": 2334, "negative": 2945, "neutral": 4710},
        ),
        "dev": Counts(
            utterances=1109,
            dialogues=114,
            emotions={
                "neutral": 470,
                "joy": 163,
                "surprise": 150,
                "anger": 153,
                "sadness": 111,
                "disgust": 22,
                "fear": 40,
            },
            sentiments={"positive": 233, "negative": 406, "neutral": 470},
        ),
        "test": Counts(
            utterances=2610,
            dialogues=280,
            emotions={
                "neutral": 1256,
                "joy": 402,
                "surprise": 281,
                "anger": 345,
                "sadness": 208,
                "disgust": 68,
                "fear": 50,
            },
            sentiments={"positive": 521, "negative": 833, "neutral": 1256},
        ),
    }
)


class Meld(CorpusReader):
    """Reads MELD as distributed: three CSV files, and one folder of clips per split."""

    class Config(CsvConfig):
        """Settings of MELD.

        A test clip that is longer than its annotation is cut to it (``media.max_overlong_seconds``), unless the
        annotation is implausibly short.
        """

        label_set: str = "meld7"
        """The one label set of MELD."""
        min_believed_seconds: float = Field(default=0.5, ge=0)
        """Seconds; a shorter annotation is considered an error, and no test clip is cut to it."""
        max_characters_per_second: float = Field(default=35.0, gt=0)
        """Characters per second; no test clip is cut to an annotation in which the text would have to be spoken faster
        (of MELD's utterances 97 % have less than 31).
        """
        replacements: str = ""
        """Folder below raw/ with clips that replace the corpus's own: ``meld/replacements`` for
        ``meld/replacements/train/dia125_utt3.mp4``;
        likewise dev, test. Empty: none.
        """
        realignment: str | None = None
        """``MELD_video_realignment_timestamps.csv`` of MELD-FAIR, or a folder with it, below raw/ (``meld/realigned``:
        DVC watches the corpus's own folder), the realigned tables next to it: an utterance is then the spans of clips
        that it names, and not its own clip.
        null: MELD's own clips.
        """

        @field_validator("replacements", "realignment")
        @classmethod
        def _stays_in_raw(cls, path: str | None) -> str | None:
            if path and not is_plain_path(path):
                raise ValueError("expected a path below the folder raw/")
            return path

    LABEL_SETS: ClassVar[tuple[str, ...]] = ("meld7",)
    SOURCE: ClassVar[str] = (
        "MELD (Poria et al., ACL 2019; annotations GPL-3.0, clips for research) is available at"
        " https://github.com/declare-lab/MELD: download MELD.Raw.tar.gz, unpack it, then unpack the train.tar.gz,"
        " dev.tar.gz and test.tar.gz inside it. For text alone the three CSV files suffice."
    )
    config: Config
    EXPECTED_TREE: ClassVar[str] = """\
train_sent_emo.csv
dev_sent_emo.csv
test_sent_emo.csv
train_splits/dia{D}_utt{U}.mp4
dev_splits_complete/dia{D}_utt{U}.mp4
output_repeated_splits_test/dia{D}_utt{U}.mp4
output_repeated_splits_test/final_videos_testdia{D}_utt{U}.mp4"""

    def read(self, root: Path, raw: Path, *, media: frozenset[str], splits: tuple[str, ...]) -> Reading:
        """Reads the annotations, and checks which clips exist (see :meth:`CorpusReader.read`).

        Raises:
            RawDataMissing: see :meth:`CorpusReader.read`; also if a CSV file lacks a column, has no rows or has another
                encoding or delimiter.
            BadTable: if a row has an id that is not a number, an id that occurred before, or a label that MELD does not
                have; also as for :class:`Realignment`.
        """
        wanted = tuple(split for split in SPLITS if split in splits)
        annotations = {split: _find(root, ANNOTATIONS[split], self.others_in(root, raw)) for split in wanted}
        absent = [ANNOTATIONS[split] for split in wanted if not annotations[split].is_file()]
        if absent:
            raise self._missing(root, raw, f"{', '.join(absent)} not found in {root}")
        reading = Reading([], missing={modality: {} for modality in sorted(media)})
        form = CsvForm(self.encoding, self.config.delimiter, f"{self.key}.delimiter")
        realignment = Realignment(raw / self.config.realignment, form) if self.config.realignment else None
        if realignment is not None:
            file = realignment.file.relative_to(raw).as_posix()
            reading.checks["realignment"] = {"file": file, "sha256": sha256(realignment.file), "splits": {}}
        for split in wanted:
            turns = _turns(annotations[split], split, form)
            if not turns:
                raise self._missing(root, raw, f"{annotations[split]} holds no utterance")
            folder, replacements = (
                _clip_folder(root, annotations[split].parent, CLIPS[split], self.others_in(root, raw)),
                self._replacements(raw, split),
            )
            found = _Media(_Clips(raw, folder, replacements), _Clips(raw, folder, replacements, better_cuts=False))
            if realignment is not None:
                found.spans = self._realign(split, turns, realignment, found, reading)
            self._read_split(split, turns, found, reading)
        utterances = sum(len(dialogue.utterances) for dialogue in reading.dialogues)
        if any(len(missing) == utterances for missing in reading.missing.values()):
            sound = len(reading.missing.get("audio", ())) < utterances and "audio" in reading.missing
            hint = "; their audio exists, and --modalities text,audio reads it" if sound else ""
            raise self._missing(root, raw, f"there is not one of {utterances} clips{hint}")
        if self.config.replacements:
            reading.deviations += self._without_use(raw, reading)
        if realignment is not None:
            reading.source = meld_realignment.credit(file, reading.checks["realignment"]["splits"].values())
        return reading

    def _realign(
        self, split: str, turns: "list[_Turn]", realignment: Realignment, found: "_Media", reading: Reading
    ) -> Mapping[str, Sequence[ClipSpan]]:
        """The spans of the turns in the realignment; oddities are added to the reading."""
        placed = realignment.of(split, {(turn.dialogue, turn.number): turn.speaker for turn in turns})
        spans = {
            turn.id: placed.spans[turn.dialogue, turn.number]
            for turn in turns
            if (turn.dialogue, turn.number) in placed.spans
        }
        reading.checks["realignment"]["splits"][split] = meld_realignment.facts(placed, len(turns))
        left = [turn.id for turn in turns if turn.id not in spans]
        words = f"{realignment.file.name} has no span of it; MELD's own cut was used"
        reading.failures += [Failure(f"{split}/{one}", "manifest", "all", "not_realigned", words) for one in left]
        clips = dict.fromkeys(span.clip for of_turn in spans.values() for span in of_turn)
        absent = [clip for clip in clips if not all(found.cuts.has(modality, clip) for modality in reading.missing)]
        for what, names in (
            ("utterances have no span in the realignment, and keep MELD's own cut", left),
            (
                "utterances of the realignment are not in MELD's table",
                [f"dia{dialogue}_utt{number}" for dialogue, number in placed.unknown],
            ),
            ("clips in which the realignment has spans are not there", absent),
        ):
            if names:
                reading.deviations.append(f"{split}: {len(names)} {what}: {_some(names)}")
        return spans

    def _read_split(self, split: str, turns: "list[_Turn]", found: "_Media", reading: Reading) -> None:
        spellings = speaker_names.one_spelling((turn.speaker for turn in turns), SPELLINGS)
        bounded = {
            turn.id
            for turn in turns
            if split == "test" and turn.id not in found.spans and found.clips.is_plain(turn.id)
        }
        believed = {turn.id for turn in turns if self._believes(turn)}
        reading.dialogues += _dialogues(turns, split, found, spellings, bounded & believed)
        for modality, missing in reading.missing.items():
            missing |= {
                f"{split}/{turn.id}": path for turn in turns if (path := found.missing(modality, turn.id)) is not None
            }
        for turn in turns:
            reading.failures += [
                one for one in turn.failures if one.reason != "span_empty" or turn.id not in found.spans
            ]
            if turn.id in bounded - believed and not turn.repaired and turn.seconds:
                told = f"{turn.seconds:.3f} s for {len(turn.text)} characters"
                reading.failures.append(Failure(f"{split}/{turn.id}", "manifest", "all", "span_doubted", told))
        reading.deviations += [
            f"{split}: {line}" for line in (*_renamed(turns), *found.remarks(turn.id for turn in turns))
        ]
        if self.config.check_counts:
            reading.deviations += _deviations(turns, split)

    def _replacements(self, raw: Path, split: str) -> "_ClipFolder":
        if not self.config.replacements:
            return _ClipFolder(raw, exists=False, clips={}, wavs={})
        base = raw / self.config.replacements
        if not any((base / one).is_dir() for one in SPLITS):
            raise RawDataMissing(
                f"replacements: {base} is not a folder with one of {', '.join(SPLITS)} in it, such as"
                f" {base / 'train' / 'dia125_utt3.mp4'}"
            )
        return _listed(base / split)

    def _without_use(self, raw: Path, reading: Reading) -> list[str]:
        """A line if there are replacements of clips that the corpus does not have; their names may be misspelt."""
        known = {dialogue.utterance_id(one) for dialogue in reading.dialogues for one in dialogue.utterances}
        read = {dialogue.split for dialogue in reading.dialogues}
        useless = [
            f"{split}/{name}"
            for split in SPLITS
            if split in read
            for name in self._replacements(raw, split).clips
            if f"{split}/{name}" not in known
        ]
        return [f"{self.config.replacements}: {_some(useless)} replace no clip of MELD"] if useless else []

    def _believes(self, turn: "_Turn") -> bool:
        """Whether the annotation's length is plausible for the utterance."""
        long_enough = (
            turn.seconds >= self.config.min_believed_seconds
            and len(turn.text) <= self.config.max_characters_per_second * turn.seconds
        )
        return long_enough and not turn.repaired

    def _missing(self, root: Path, raw: Path, problem: str) -> RawDataMissing:
        found = []
        for split in SPLITS:
            path = _find(root, ANNOTATIONS[split], self.others_in(root, raw))
            found.append(f"{ANNOTATIONS[split]}: {'there' if path.is_file() else 'missing'}")
        for split in SPLITS:
            folder = _clip_folder(root, root, CLIPS[split], self.others_in(root, raw))
            found.append(
                f"{CLIPS[split]}/:"
                f" {f'{len(folder.clips)} clips' if folder.exists else broken_link(folder.path) or 'missing'}"
            )
        expected = _indented(self.EXPECTED_TREE.splitlines())
        return RawDataMissing(
            f"MELD: {problem}.\nExpected in {root} (or in its"
            f" {ARCHIVE}):\n{expected}\nFound:\n{_indented(found)}\n{self.SOURCE}"
        )


def _indented(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:_NAMED])}{f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''}"


def _find(root: Path, name: str, others: Collection[str]) -> Path:
    """The place of ``name``: in ``root``, in the archive's folder, or in a folder around it, but not in ``others``; in
    ``root`` if it is nowhere.
    """
    folder = folders.holder(root, [name], (".", ARCHIVE), closed=[*CLIPS.values(), *others])
    if folder not in (None, root, root / ARCHIVE):
        logger.info("meld: %s is read from %s", name, folder, extra={"folder": str(folder)})
    return (folder or root) / name


@dataclass(frozen=True)
class _ClipFolder:
    """A folder of clips, listed once (checking each of 14,000 files takes minutes on a network disk).

    Attributes:
        path: its actual or expected path.
        exists: whether it exists.
        clips: name without ``.mp4`` → file; the suffix's case does not matter.
        wavs: the same for ``.wav``.
    """

    path: Path
    exists: bool
    clips: Mapping[str, str]
    wavs: Mapping[str, str]


def _clip_folder(root: Path, default: Path, name: str, others: Collection[str]) -> _ClipFolder:
    path = _find(root, name, others)
    return _listed(path) if path.is_dir() else _ClipFolder(default / name, exists=False, clips={}, wavs={})


def _listed(path: Path) -> _ClipFolder:
    if not path.is_dir():
        return _ClipFolder(path, exists=False, clips={}, wavs={})
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("._"))
    clips, wavs = (
        {one[: -len(end)]: one for one in sorted(names, key=lambda one: one.endswith(end)) if one.lower().endswith(end)}
        for end in (".mp4", ".wav")
    )  # if both exist, .mp4 comes after .MP4 and wins
    return _ClipFolder(path, exists=True, clips=clips, wavs=wavs)


class _Clips:
    """The files of a split's clips, by the id of their utterance; the official name even if there is no file at all.

    Args:
        raw: the folder that paths are relative to.
        folder: the corpus's folder of clips.
        replacements: the user's folder, which takes precedence.
        better_cuts: whether the corpus's own replacements of faulty cuts come next; spans measured in the original cut
            are elsewhere in them.
    """

    def __init__(self, raw: Path, folder: _ClipFolder, replacements: _ClipFolder, *, better_cuts: bool = True) -> None:
        self._folder, self._replacements = folder, replacements
        self._better_cuts = ((folder, REPLACEMENT),) if better_cuts else ()
        self._prefixes = {id(one): one.path.relative_to(raw) for one in (folder, replacements)}

    def picture(self, clip: str) -> str:
        """Path relative to raw/."""
        for folder, prefix in ((self._replacements, ""), *self._better_cuts):
            if prefix + clip in folder.clips:
                return self._path(folder, folder.clips[prefix + clip])
        return self._path(self._folder, self._folder.clips.get(clip, f"{clip}.mp4"))

    def sound(self, clip: str) -> str:
        """The same; a wav file if there is no clip."""
        return self._path(self._folder, self._folder.wavs[clip]) if self._has_wav_alone(clip) else self.picture(clip)

    def has(self, modality: str, clip: str) -> bool:
        """Whether the file exists."""
        has_clip = any(
            prefix + clip in folder.clips
            for folder, prefix in ((self._replacements, ""), *self._better_cuts, (self._folder, ""))
        )
        return has_clip or (modality == "audio" and clip in self._folder.wavs)

    def is_plain(self, clip: str) -> bool:
        """Whether nothing replaces the corpus's original cut."""
        return clip not in self._replacements.clips and REPLACEMENT + clip not in self._folder.clips

    def remarks(self, clips: Iterable[str]) -> Iterator[str]:
        """A line for each kind of file used instead of the corpus's own clips."""
        wanted = list(clips)
        if replaced := [clip for clip in wanted if clip in self._replacements.clips]:
            yield (
                f"{len(replaced)} clips replaced by those of {self._prefixes[id(self._replacements)]}:"
                f" {_some(replaced)}"
            )
        if wavs := [clip for clip in wanted if self._has_wav_alone(clip)]:
            yield f"{len(wavs)} utterances have their sound from a wav, since there is no mp4: {_some(wavs)}"

    def _has_wav_alone(self, clip: str) -> bool:
        return clip in self._folder.wavs and not self.has("visual", clip)

    def _path(self, folder: _ClipFolder, name: str) -> str:
        return (self._prefixes[id(folder)] / name).as_posix()


@dataclass
class _Media:
    """Where audio and video of a split's utterances are: in one clip per utterance or, with a realignment, in spans of
    the original cuts.

    Attributes:
        clips: clips of utterances without spans.
        cuts: clips of spans.
        spans: id of an utterance → its spans.
    """

    clips: _Clips
    cuts: _Clips
    spans: Mapping[str, Sequence[ClipSpan]] = field(default_factory=dict)

    def fields(self, utterance: str) -> dict[str, Any]:
        """The fields of :class:`Utterance` that state it."""
        if utterance not in self.spans:
            return {"video_path": self.clips.picture(utterance), "audio_path": self.clips.sound(utterance)}
        first, *further = (
            MediaSpan(self.cuts.picture(one.clip), self.cuts.sound(one.clip), one.start_seconds, one.end_seconds)
            for one in self.spans[utterance]
        )
        ends = {f"{stream}_start_seconds": first.start_seconds for stream in ("video", "audio")}
        ends |= {f"{stream}_end_seconds": first.end_seconds for stream in ("video", "audio")}
        return {"video_path": first.video_path, "audio_path": first.audio_path, **ends, "further_spans": tuple(further)}

    def missing(self, modality: str, utterance: str) -> str | None:
        """The path of the missing file, or of the first of several. None if at least one of them exists."""
        clips = self.cuts if utterance in self.spans else self.clips
        names = [one.clip for one in self.spans.get(utterance, ())] or [utterance]
        if any(clips.has(modality, name) for name in names):
            return None
        return clips.sound(names[0]) if modality == "audio" else clips.picture(names[0])

    def remarks(self, utterances: Iterable[str]) -> Iterator[str]:
        """See :meth:`_Clips.remarks`."""
        return self.clips.remarks(
            dict.fromkeys(
                clip for one in utterances for clip in [span.clip for span in self.spans.get(one, ())] or [one]
            )
        )


@dataclass(frozen=True, kw_only=True)
class _Turn:
    """A checked row of the annotations; the fields are those of :class:`Utterance`, except that ``speaker`` has the
    corpus's spelling.

    Attributes:
        repaired: whether a time was repaired.
        renamed: (column, word as written, label) for each label that was not one of MELD's own words.
    """

    dialogue: int
    number: int
    speaker: str
    text: str
    emotion: str
    sentiment: str
    start_seconds: float
    end_seconds: float
    repaired: bool
    renamed: tuple[tuple[str, str, str], ...]
    failures: tuple[Failure, ...]

    @property
    def seconds(self) -> float:
        return self.end_seconds - self.start_seconds

    @property
    def id(self) -> str:
        return f"dia{self.dialogue}_utt{self.number}"


def _turns(path: Path, split: str, form: CsvForm) -> list[_Turn]:
    """The rows of one CSV file, ordered by dialogue and utterance number."""
    lines: dict[tuple[int, int], int] = {}
    turns = []
    for row in read_rows(path, _COLUMNS, form):
        key = row.whole_number("Dialogue_ID", path), row.whole_number("Utterance_ID", path)
        if key in lines:
            raise BadTable(
                f"{path}: Dialogue_ID {key[0]}, Utterance_ID {key[1]} are in line {lines[key]} and again in line"
                f" {row.line}"
            )
        lines[key] = row.line
        turns.append(_turn(row, *key, split, path))
    return sorted(turns, key=lambda turn: (turn.dialogue, turn.number))


def _turn(row: CsvRow, dialogue: int, number: int, split: str, path: Path) -> _Turn:
    remarks: list[tuple[str, str, str]] = []  # modality, reason, detail
    text, speaker = text_repair.repair(row.cells["Utterance"]), text_repair.repair(row.cells["Speaker"])
    if not speaker.strip():
        raise BadTable(f"{path}, line {row.line}: no Speaker")
    if how := _how_repaired(row, "Utterance", text):
        remarks.append(("text", "text_repaired", how))
    if how := _how_repaired(row, "Speaker", speaker):
        remarks.append(("all", "annotation_repaired", f"Speaker: {how}"))
    start_seconds, end_seconds, odd = _span(row.cells["StartTime"], row.cells["EndTime"])
    remarks += [("all", "annotation_repaired", detail) for detail in odd]
    if start_seconds == end_seconds and not odd:
        remarks.append(("all", "span_empty", f"begins and ends at {start_seconds:g} s"))
    labels = {
        column: _label(row, column, valid, path) for column, valid in (("Emotion", EMOTIONS), ("Sentiment", SENTIMENTS))
    }
    words = {column: row.cells[column].strip() for column in labels}
    return _Turn(
        dialogue=dialogue,
        number=number,
        speaker=speaker.strip(),
        text=text,
        emotion=labels["Emotion"],
        sentiment=labels["Sentiment"],
        start_seconds=start_seconds,
        end_seconds=end_seconds,
        repaired=bool(odd),
        renamed=tuple(
            (column, words[column], label) for column, label in labels.items() if words[column].lower() != label
        ),
        failures=tuple(Failure(f"{split}/dia{dialogue}_utt{number}", "manifest", *remark) for remark in remarks),
    )


def _label(row: CsvRow, column: str, valid: tuple[str, ...], path: Path) -> str:
    word = row.cells[column].strip().lower()
    label = label_synonyms.meant(word, valid)
    if label is None:
        raise BadTable(f"{path}, line {row.line}: {column} is {word!r} instead of one of {', '.join(valid)}")
    return label


def _renamed(turns: Iterable[_Turn]) -> Iterator[str]:
    """A line for each word that was interpreted as a label."""
    counts = Counter(one for turn in turns for one in turn.renamed)
    for (column, word, label), count in sorted(counts.items()):
        yield f"{column} {word!r} is read as {label!r}, in {count} utterances"


def _how_repaired(row: CsvRow, column: str, result: str) -> str:
    """How a cell became ``result``; empty if that is the file's content."""
    before = row.cells[column]
    if before != result:
        return f"wrongly decoded: {before!r}"
    return "not UTF-8, read as cp1252" if row.recoded and not before.isascii() else ""


def _span(start: str, end: str) -> tuple[float, float, list[str]]:
    """Both times in seconds, and what was repaired. An unusable time is replaced by the other one."""
    begin_ms, end_ms = _milliseconds(start), _milliseconds(end)
    repairs = []
    for name, cell, value in (("StartTime", start, begin_ms), ("EndTime", end, end_ms)):
        if value is None:
            repairs.append(f"{name} {cell!r} is not a time")
        elif not re.search(r"[0-9]{3}$", cell.strip()):
            repairs.append(f"{name} {cell!r} lacks a digit; read as {value / 1000} s of the episode")
    if begin_ms is None:
        begin_ms = end_ms or 0
    if end_ms is None:
        end_ms = begin_ms
    if end_ms < begin_ms:
        repairs.append(f"EndTime {end!r} is before StartTime {start!r}; the end was set to the start")
        end_ms = begin_ms
    return begin_ms / 1000, end_ms / 1000, repairs


def _milliseconds(cell: str) -> int | None:
    """A time such as ``00:16:16,059`` or ``0:36:59,425`` in seconds; None if it is invalid."""
    match = _TIME.fullmatch(cell.strip())
    if match is None:
        return None
    hours, minutes, seconds, fraction = match.groups()
    return (int(hours) * 3600 + int(minutes) * 60 + int(seconds)) * 1000 + int(fraction.ljust(3, "0"))


def _dialogues(
    turns: Iterable[_Turn], split: str, found: _Media, spellings: Mapping[str, str], bounded: Collection[str]
) -> Iterator[Dialogue]:
    """Groups turns by dialogue, in their order; the clips of those in ``bounded`` contain nothing of theirs beyond the
    annotation's length.
    """
    by_number: dict[int, list[_Turn]] = {}
    for turn in turns:
        by_number.setdefault(turn.dialogue, []).append(turn)
    for number, members in by_number.items():
        utterances = tuple(
            Utterance(
                source_utterance_id=turn.id,
                speaker=spellings[turn.speaker],
                source_speaker=turn.speaker,
                text=turn.text,
                emotion=turn.emotion,
                sentiment=turn.sentiment,
                start_seconds=turn.start_seconds,
                end_seconds=turn.end_seconds,
                expected_seconds=round(turn.seconds, 3) if turn.id in bounded else None,
                **found.fields(turn.id),
            )
            for turn in members
        )
        yield Dialogue(split=split, source_dialogue_id=f"dia{number}", utterances=utterances)


def _deviations(turns: list[_Turn], split: str) -> list[str]:
    """One line per count that differs from the official distribution."""
    expected = EXPECTED[split]
    emotions, sentiments = Counter(turn.emotion for turn in turns), Counter(turn.sentiment for turn in turns)
    pairs = [
        ("utterances", len(turns), expected.utterances),
        ("dialogues", len({turn.dialogue for turn in turns}), expected.dialogues),
        *((f"utterances with emotion {name}", emotions[name], count) for name, count in expected.emotions.items()),
        *(
            (f"utterances with sentiment {name}", sentiments[name], count)
            for name, count in expected.sentiments.items()
        ),
    ]
    return [f"{split}: {there} {what} instead of {count}" for what, there, count in pairs if there != count]
