"""IEMOCAP: ten actors in pairs, five sessions of improvised and scripted dialogues, read as USC distributes it.

Paper: Busso et al., "IEMOCAP: Interactive emotional dyadic motion capture database", Language Resources and Evaluation
42, 2008.
Licence: for research, on request at https://sail.usc.edu/iemocap/; never redistributed, not even a line of a
transcript.

Known defects of the distribution, and what is done about each:

- ``EmoEvaluation`` is sorted by speaker, and even by start time the order is wrong in 67 dialogues: the transcription
  file's order counts.
- 48 transcribed lines (``…_MXX0``, ``…_FXX1``; two ids twice) have neither audio nor label, 152 do not even have an id:
  left out and counted.
- 39 ratings of attributes are broken (``val 6; act 6; dom ;``), four valence/arousal/dominance triples are outside the
  scale of 1 to 5: recorded and kept.
- 53 utterances without a majority count as happy in the benchmark of the dialogue literature (see ``counts_as_happy``
  in iemocap_annotations.py).
- Which actor sits on which side, and is in which channel of ``dialog/wav``, is known only for session 1: both are
  settings, which are compared with the louder channel (iemocap_channels.py); settings that most utterances contradict
  are reported.
- An utterance in only one of the two files (none in the release) is kept: one without an evaluation as ``undecided``,
  one without a transcription with an empty text, at the place given by its start time.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from merc.corpora.engine import folders, iemocap_channels
from merc.corpora.engine.base import CorpusConfig, CorpusReader, Reading
from merc.corpora.engine.iemocap_annotations import (
    UNDECIDED,
    WITHOUT_EVALUATION,
    WITHOUT_ID,
    Evaluation,
    Spoken,
    counts_as_happy,
    majority,
    read_evaluations,
    read_transcription,
    without_tags,
)
from merc.corpora.engine.iemocap_files import (
    MarkedActorChannel,
    MarkedActorSide,
    MediaPaths,
    SessionFiles,
    describe,
    list_session,
    scenario_of,
    session_of,
    speaker_letter,
)
from merc.corpora.engine.labels import label_set
from merc.errors import BadSettings, BadTable, RawDataMissing
from merc.log import logger
from merc.records.dialogue import SPLITS, Dialogue, Utterance
from merc.records.failures import Failure

SESSIONS = (1, 2, 3, 4, 5)

# The dialogue literature counts the 53 utterances of `counts_as_happy` (7,433 in six classes); speech emotion
# recognition, which merges excited into happy, uses only the official label (5,531 in four classes).
WITH_SELF_RATED_HAPPY = ("iemocap6", "iemocap4")

# The fixed twelve validation dialogues of sessions 1 to 4: the list that comes with TelME (Yun et al., NAACL 2024).
VALIDATION_12 = frozenset(
    (
        "Ses01M_impro01 Ses01M_script03_1 Ses02F_impro02 Ses02F_impro07 Ses02M_script01_2 Ses03F_impro01 "
        "Ses03M_impro02 Ses03M_impro08a Ses03M_script02_2 Ses03M_script03_2 Ses04F_impro07 Ses04F_script02_1"
    ).split()
)
RANDOM_VALIDATION_DIALOGUES = 20


# Counts of the release; deviations are reported if `check_counts` is on.
DIALOGUES_PER_SESSION = {1: 28, 2: 30, 3: 32, 4: 30, 5: 31}
UTTERANCES_PER_SESSION = {1: 1819, 2: 1811, 3: 2136, 4: 2103, 5: 2170}
OFFICIAL_LABELS = {
    "angry": 1103,
    "happy": 595,
    "excited": 1041,
    "sad": 1084,
    "neutral": 1708,
    "frustrated": 1849,
    "surprised": 107,
    "fearful": 40,
    "disgusted": 2,
    "other": 3,
    UNDECIDED: 2507,
}
SELF_RATED_HAPPY = 53
LEFT_OUT = {WITHOUT_EVALUATION: 48, WITHOUT_ID: 152}
_BROKEN, _OUTSIDE = "broken attribute ratings", "valence/arousal/dominance triples outside 1 to 5"
REPAIRED = {_BROKEN: 39, _OUTSIDE: 4}
# Utterances per class, in the label set's order. How many of the 53 are among the happy utterances of val12 is unknown,
# so there is no such row for iemocap4_merged.
PER_CLASS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "iemocap6": {
        "sessions 1 to 4": (504, 839, 1324, 933, 742, 1468),
        "session 5": (144, 245, 384, 170, 299, 381),
        "train of val12": (451, 771, 1221, 831, 593, 1296),
        "dev of val12": (53, 68, 103, 102, 149, 172),
    },
    "iemocap4": {
        "sessions 1 to 4": (504, 839, 1324, 933),
        "session 5": (144, 245, 384, 170),
        "train of val12": (451, 771, 1221, 831),
        "dev of val12": (53, 68, 103, 102),
    },
    "iemocap4_merged": {"sessions 1 to 4": (1194, 839, 1324, 933), "session 5": (442, 245, 384, 170)},
}
DIALOGUES_PER_SPLIT = {
    "val12": {"train": 108, "dev": 12, "test": 31},
    "random20": {"train": 100, "dev": 20, "test": 31},
    "none": {"train": 120, "test": 31},
}


_ARCHIVE = "IEMOCAP_full_release"


@dataclass
class Tally:
    """What the reader found in addition to utterances, for comparison with the release's counts."""

    official: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    renamed: Counter[tuple[str, str]] = field(default_factory=Counter)
    self_rated_happy: int = 0


def assign_splits(dialogue_ids: Iterable[str], *, test_session: int, validation: str, seed: int) -> dict[str, str]:
    """Dialogue id → ``train``, ``dev`` or ``test``.

    Args:
        dialogue_ids: of all sessions whose splits are requested.
        test_session: session whose dialogues are the test split.
        validation: ``val12``, ``random20`` or ``none``. ``random20`` takes the twenty ids with the smallest sha256 of
            ``<seed>:<id>``, which no version of a random number library can change.
        seed: for ``random20``.

    Raises:
        BadSettings: if ``random20`` would leave no dialogues for training.
    """
    ids = sorted(dialogue_ids)
    splits = {one: "test" if session_of(one) == test_session else "train" for one in ids}
    training = [one for one in ids if splits[one] == "train"]
    chosen: Iterable[str] = ()
    if validation == "val12":
        chosen = VALIDATION_12.intersection(training)
    elif validation == "random20" and training:
        if len(training) <= RANDOM_VALIDATION_DIALOGUES:
            raise BadSettings(
                f"validation random20 draws 20 of the training dialogues, but only {len(training)} exist; use val12 or"
                " none"
            )
        chosen = sorted(training, key=lambda one: hashlib.sha256(f"{seed}:{one}".encode()).digest())[
            :RANDOM_VALIDATION_DIALOGUES
        ]
    return splits | dict.fromkeys(chosen, "dev")


class Iemocap(CorpusReader):
    """Reads IEMOCAP; see the head of this file.

    Speakers are the actors (``Ses01_F``). The video is the speaker's half of the dialogue's video. The audio is the
    utterance's own file under ``sentences/wav``; if that folder is not unpacked, it is the utterance's span of
    ``dialog/wav``, using only the speaker's channel of the two, one per actor.
    """

    class Config(CorpusConfig):
        """Settings of IEMOCAP."""

        label_set: str = "iemocap6"
        """``iemocap6``; ``iemocap4``, which drops excited and frustrated; ``iemocap4_merged``, in which excited counts
        as happy."""
        validation: Literal["val12", "random20", "none"] = "val12"
        """``val12``, the fixed twelve dialogues; ``random20``, twenty of the 120 training dialogues; ``none``, no dev
        split."""
        validation_seed: int = 0
        """Decides which twenty ``random20`` draws."""
        test_session: int = Field(default=5, ge=1, le=5)
        """Session that is the test split; the benchmark's is 5."""
        marked_actor_side: MarkedActorSide = MarkedActorSide()
        """Half of the frame in which the actor with the markers sits; the other actor is assumed to sit in the other
        half.
        """
        marked_actor_channel: MarkedActorChannel = MarkedActorChannel()
        """Channel of ``dialog/wav`` of the actor with the markers; both this and the side are compared with the louder
        channel, and manifest.json records how many utterances agree.
        """
        tags: Literal["keep", "drop"] = "keep"
        """``keep`` remarks such as ``[LAUGHTER]`` in the transcripts, or ``drop`` them."""

        @model_validator(mode="after")
        def _val12_lies_outside_session_5(self) -> Self:
            if self.validation == "val12" and self.test_session != 5:
                raise ValueError(
                    f"validation val12 is in sessions 1 to 4, so test_session must be 5, not {self.test_session}; or"
                    " use random20 or none"
                )
            return self

    LABEL_SETS = ("iemocap6", "iemocap4", "iemocap4_merged")
    SOURCE = (
        "IEMOCAP is given by USC to researchers who sign its release form, at https://sail.usc.edu/iemocap/; it cannot"
        " be downloaded for you."
    )
    EXPECTED_TREE = """\
IEMOCAP_full_release/             (or its content)
  Session1/ … Session5/
    dialog/EmoEvaluation/Ses01F_impro01.txt
    dialog/transcriptions/Ses01F_impro01.txt
    dialog/avi/DivX/Ses01F_impro01.avi                       (for the visual modality)
    sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav     (for the audio modality;
    dialog/wav/Ses01F_impro01.wav                             this one where the sentences are not unpacked;
                                                              it also tells whether the sides in the settings are right)"""  # noqa: E501

    config: Config

    def read(self, root: Path, raw: Path, *, media: frozenset[str], splits: tuple[str, ...]) -> Reading:
        config = self.config
        base = (
            folders.holder(
                root, [f"Session{number}" for number in SESSIONS], (_ARCHIVE, "."), closed=self.others_in(root, raw)
            )
            or root
        )
        if base not in (root, root / _ARCHIVE):
            logger.info("iemocap: the sessions are read from %s", base, extra={"folder": str(base)})
        needed = [
            number
            for number in SESSIONS
            if set(splits) & ({"test"} if number == config.test_session else {"train", "dev"})
        ]
        listed = {number: list_session(base / f"Session{number}", number) for number in needed}
        self._check_annotations(base, listed)
        sessions = {number: files for number, files in listed.items() if files.exists}
        ids = [one for files in sessions.values() for one in files.evaluations]
        split_of = assign_splits(
            ids, test_session=config.test_session, validation=config.validation, seed=config.validation_seed
        )
        paths = MediaPaths(
            base.relative_to(raw).as_posix(), sessions, config.marked_actor_side, config.marked_actor_channel
        )
        reading, tally = Reading([]), Tally()
        if absent := sorted(set(listed) - set(sessions)):
            reading.deviations.append(f"{_sessions(absent)} not there; {_sessions(sessions)} read")
        for split in (one for one in SPLITS if one in splits):
            for dialogue_id in (one for one in sorted(ids) if split_of[one] == split):
                reading.dialogues.append(self._dialogue(base, dialogue_id, split, paths, reading, tally))
        if not reading.dialogues:
            raise BadSettings(
                f"no dialogue is in the splits {', '.join(splits)}; the setting validation is {config.validation}"
            )
        utterances = {dialogue.utterance_id(one): one for dialogue in reading.dialogues for one in dialogue.utterances}
        for modality, column in (("audio", "audio_path"), ("visual", "video_path")):
            if modality in media:
                reading.missing[modality] = self._missing_media(
                    base, sessions, modality, {name: getattr(one, column) for name, one in utterances.items()}, paths
                )
        if media:
            self._listen(raw, reading, paths)
        for what, count in sorted(tally.left_out.items()):
            logger.info(
                "iemocap: %d %s left out of the transcriptions", count, what, extra={"left_out": what, "count": count}
            )
        for (word, emotion), count in sorted(tally.renamed.items()):
            reading.deviations.append(f"the emotion {word!r} is read as {emotion!r}, in {count} utterances")
        if config.check_counts:
            reading.deviations += deviations(reading.dialogues, tally, config, splits)
        return reading

    def _dialogue(
        self, base: Path, dialogue_id: str, split: str, paths: MediaPaths, reading: Reading, tally: Tally
    ) -> Dialogue:
        folder, listed = base / f"Session{session_of(dialogue_id)}" / "dialog", paths.listed(dialogue_id)
        transcription = folder / "transcriptions" / listed.transcriptions[dialogue_id]
        evaluations = read_evaluations(folder / "EmoEvaluation" / listed.evaluations[dialogue_id], self.encoding)
        spoken, left_out = read_transcription(transcription, self.encoding)
        spoken = _completed(spoken, evaluations)
        if not spoken:
            raise BadTable(f"{transcription}: holds no utterance")
        utterances = []
        for utterance_id, line in spoken.items():
            evaluation = evaluations.get(utterance_id)
            reading.failures += [
                Failure(f"{split}/{utterance_id}", "manifest", *remark) for remark in _remarks(line, evaluation)
            ]
            text = line.text if self.config.tags == "keep" else without_tags(line.text)
            if evaluation is not None and evaluation.renamed:
                tally.renamed[evaluation.renamed, evaluation.official] += 1
            utterances.append(
                _utterance(
                    dialogue_id, utterance_id, replace(line, text=text), evaluation, self._emotion(evaluation), paths
                )
            )
        self._count(evaluations.values(), left_out, tally)
        reading.deviations += _other_than_the_votes(dialogue_id, evaluations)
        return Dialogue(
            split=split, source_dialogue_id=dialogue_id, utterances=tuple(utterances), scenario=scenario_of(dialogue_id)
        )

    def _listen(self, raw: Path, reading: Reading, paths: MediaPaths) -> None:
        """Compares the actors' positions in the settings with the louder channels, session by session."""
        by_session: dict[int, list[iemocap_channels.Spoken]] = {}
        for dialogue in (one for one in reading.dialogues if paths.has_dialogue_wav(one.source_dialogue_id)):
            name = dialogue.source_dialogue_id
            for one in dialogue.utterances:
                sides = paths.channel(name, one.source_utterance_id), one.video_region
                spoken = iemocap_channels.Spoken(
                    raw / paths.dialogue_wav(name), one.start_seconds, one.end_seconds, *sides
                )
                by_session.setdefault(session_of(name), []).append(spoken)
        for session, of_session in sorted(by_session.items()):
            votes = iemocap_channels.listen(of_session)
            reading.checks.setdefault("louder_channel", {})[f"session{session}"] = votes.record()
            reading.deviations += votes.contradictions(session)

    def _emotion(self, evaluation: Evaluation | None) -> str:
        if evaluation is None:
            return UNDECIDED
        return "happy" if self._self_rated(evaluation) else evaluation.official

    def _self_rated(self, evaluation: Evaluation) -> bool:
        return self.config.label_set in WITH_SELF_RATED_HAPPY and counts_as_happy(evaluation)

    def _count(self, evaluations: Iterable[Evaluation], left_out: Counter[str], tally: Tally) -> None:
        tally.left_out += left_out
        for evaluation in evaluations:
            tally.official[evaluation.official] += 1
            tally.repaired[_BROKEN] += len(evaluation.broken_ratings)
            tally.repaired[_OUTSIDE] += bool(evaluation.outside_scale)
            tally.self_rated_happy += self._self_rated(evaluation)

    def _check_annotations(self, base: Path, sessions: Mapping[int, SessionFiles]) -> None:
        if not any(files.exists for files in sessions.values()):
            raise self._missing(f"no folder {', '.join(f'Session{number}' for number in sessions)}", base, sessions)
        for number, files in ((number, files) for number, files in sessions.items() if files.exists):
            if not files.evaluations and not files.transcriptions:
                raise self._missing(f"Session{number} holds no annotations", base, sessions)
            for what, one_sided in (
                ("transcriptions", files.evaluations.keys() - files.transcriptions.keys()),
                ("EmoEvaluation", files.transcriptions.keys() - files.evaluations.keys()),
            ):
                if one_sided:
                    first = f"Session{number}/dialog/{what}/{min(one_sided)}.txt"
                    raise self._missing(
                        f"{len(one_sided)} annotation files are missing, the first is {first}", base, sessions
                    )

    def _missing_media(
        self,
        base: Path,
        sessions: Mapping[int, SessionFiles],
        modality: str,
        path_of: Mapping[str, str],
        paths: MediaPaths,
    ) -> dict[str, str]:
        """See :attr:`Reading.missing`. Raises ``RawDataMissing`` if no file of the modality is there."""
        there = paths.there(path_of.values())
        if not any(there.values()):
            without = (
                "; this is the release without videos, or they are not unpacked: --modalities text,audio runs without"
                " them"
                if modality == "visual"
                else ""
            )
            raise self._missing(
                f"{modality}: none of {len(there)} files is there, the first is {next(iter(there))}{without}",
                base,
                sessions,
            )
        return {name: path for name, path in path_of.items() if not there[path]}

    def _missing(self, what: str, base: Path, sessions: Mapping[int, SessionFiles]) -> RawDataMissing:
        return RawDataMissing(
            f"IEMOCAP: {what}.\nExpected:\n{self.EXPECTED_TREE}\nFound in"
            f" {base}:\n{describe(base, sessions)}\n{self.SOURCE}"
        )


def _sessions(numbers: Iterable[int]) -> str:
    """``session 4 is``, ``sessions 1, 2 are``."""
    names = [str(number) for number in sorted(numbers)]
    return f"session{'s' if len(names) > 1 else ''} {', '.join(names)} {'are' if len(names) > 1 else 'is'}"


def _completed(spoken: Mapping[str, Spoken], evaluations: Mapping[str, Evaluation]) -> dict[str, Spoken]:
    """The transcription in its order, with the utterances that only the evaluation has inserted before the first one
    that starts later.
    """
    order = list(spoken.items())
    for utterance_id, evaluation in evaluations.items():
        if utterance_id not in spoken:
            start, end = evaluation.start_seconds, evaluation.end_seconds
            place = next((index for index, (_, line) in enumerate(order) if line.start_seconds > start), len(order))
            order.insert(place, (utterance_id, Spoken(start, end, "", listed=False)))
    return dict(order)


def _utterance(
    dialogue_id: str, utterance_id: str, line: Spoken, evaluation: Evaluation | None, emotion: str, paths: MediaPaths
) -> Utterance:
    times = evaluation or line  # equal in the release; its sentence files were cut by the evaluation's times
    start, end = times.start_seconds, times.end_seconds
    return Utterance(
        source_utterance_id=utterance_id,
        speaker=f"Ses0{session_of(dialogue_id)}_{speaker_letter(utterance_id)}",
        text=line.text,
        emotion=emotion,
        valence=evaluation.valence if evaluation else None,
        arousal=evaluation.arousal if evaluation else None,
        dominance=evaluation.dominance if evaluation else None,
        start_seconds=start,
        end_seconds=end,
        video_path=paths.video(dialogue_id),
        audio_path=paths.audio(dialogue_id, utterance_id),
        video_region=paths.region(dialogue_id, utterance_id),
        video_start_seconds=start,
        video_end_seconds=end,
        audio_start_seconds=None if paths.whole_files else start,
        audio_end_seconds=None if paths.whole_files else end,
        audio_channel="mix" if paths.whole_files else paths.channel(dialogue_id, utterance_id),
    )


def _remarks(line: Spoken, evaluation: Evaluation | None) -> Iterator[tuple[str, str, str]]:
    """Yields modality, reason and detail of every repair in one utterance."""
    if line.undecodable:
        yield "text", "text_repaired", "the line of the transcription is not UTF-8; read as cp1252"
    if evaluation is None:
        yield "all", "annotation_repaired", f"no evaluation; kept as {UNDECIDED}"
        return
    if not line.listed:
        yield (
            "all",
            "annotation_repaired",
            "no line in the transcription; kept with an empty text, at the place its start time gives",
        )
    if evaluation.undecodable:
        yield "all", "annotation_repaired", "the evaluation is not UTF-8; read as cp1252"
    for rating in evaluation.broken_ratings:
        yield "all", "annotation_repaired", f"not three numbers: {rating}"
    for strange in evaluation.strange_lines:
        yield "all", "annotation_repaired", f"neither a label nor a rating of attributes: {strange}"
    if evaluation.outside_scale:
        yield "all", "annotation_repaired", f"outside 1 to 5, kept: {', '.join(evaluation.outside_scale)}"
    if (line.start_seconds, line.end_seconds) != (evaluation.start_seconds, evaluation.end_seconds):
        spans = [f"{times.start_seconds:g} to {times.end_seconds:g} s" for times in (evaluation, line)]
        yield (
            "all",
            "annotation_repaired",
            f"{spans[0]} in the evaluation, which was used, {spans[1]} in the transcription",
        )


def _other_than_the_votes(dialogue_id: str, evaluations: Mapping[str, Evaluation]) -> list[str]:
    """A line for the file if official labels differ from the result of its raters' votes."""
    differing = [
        (name, one.official, majority(one.votes))
        for name, one in evaluations.items()
        if one.official != majority(one.votes)
    ]
    if not differing:
        return []
    first, official, voted = differing[0]
    return [
        f"{dialogue_id}: {len(differing)} official labels differ from the raters' majority; {first} is {official}, the"
        f" votes give {voted}"
    ]


def deviations(dialogues: Sequence[Dialogue], tally: Tally, config: Iemocap.Config, splits: Sequence[str]) -> list[str]:
    """Compares with the counts of the release.

    Args:
        dialogues: of the splits that were read, nothing dropped.
        tally: what was found in addition to the utterances.
        config: determines which counts apply.
        splits: the splits that were read; counts that they do not determine are not compared.

    Returns:
        One line per count that is not met, giving both numbers.
    """
    found: list[tuple[str, object, object]] = []  # what, expected, found
    read = set(splits)
    train_whole = {"train", "dev"} <= read or (config.validation == "none" and "train" in read)
    by_session = [number for number in SESSIONS if (("test" in read) if number == config.test_session else train_whole)]
    for number in by_session:
        there = [dialogue for dialogue in dialogues if session_of(dialogue.source_dialogue_id) == number]
        found.append((f"dialogues of session {number}", DIALOGUES_PER_SESSION[number], len(there)))
        found.append(
            (
                f"utterances of session {number}",
                UTTERANCES_PER_SESSION[number],
                sum(len(dialogue.utterances) for dialogue in there),
            )
        )
    if config.test_session == 5:
        found += by_split(dialogues, config, read, train_whole)
    if by_session == list(SESSIONS):
        found += [(f"official labels {name}", count, tally.official[name]) for name, count in OFFICIAL_LABELS.items()]
        found += [(what, count, tally.left_out[what]) for what, count in LEFT_OUT.items()]
        found += [(what, count, tally.repaired[what]) for what, count in REPAIRED.items()]
        if config.label_set in WITH_SELF_RATED_HAPPY:
            found.append(
                ("utterances that count as happy by their self rating", SELF_RATED_HAPPY, tally.self_rated_happy)
            )
    return [f"{what}: {expected} in the release, {met} here" for what, expected, met in found if expected != met]


def by_split(
    dialogues: Sequence[Dialogue], config: Iemocap.Config, read: set[str], train_whole: bool
) -> Iterator[tuple[str, object, object]]:
    """Yields what is counted, its number in the benchmark, and its number here; session 5 must be the test split.

    Args:
        dialogues: of the splits that were read, nothing dropped.
        config: label set and validation determine which counts apply.
        read: the splits that were read.
        train_whole: whether all of sessions 1 to 4 was read.
    """
    for split, count in DIALOGUES_PER_SPLIT[config.validation].items():
        if split in read:
            yield f"dialogues in {split}", count, sum(dialogue.split == split for dialogue in dialogues)
    groups = {
        "session 5": {"test"} if "test" in read else set(),
        "sessions 1 to 4": {"train", "dev"} if train_whole else set(),
    }
    if config.validation == "val12":
        groups |= {f"{split} of val12": {split} & read for split in ("train", "dev")}
    labels = label_set(config.label_set)
    for group, expected in PER_CLASS[config.label_set].items():
        chosen = groups.get(group)
        if chosen:
            counts = Counter(
                labels.index(utterance.emotion)
                for dialogue in dialogues
                if dialogue.split in chosen
                for utterance in dialogue.utterances
            )
            yield (
                f"{labels.name}, {group}, utterances of {', '.join(labels.classes)}",
                expected,
                tuple(counts[index] for index in range(len(labels.classes))),
            )
