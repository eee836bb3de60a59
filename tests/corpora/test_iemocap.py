"""The corpora here are generated in IEMOCAP's exact format; every word and number in them is made up."""

import hashlib
import itertools
import random
import shutil
import wave
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merc.corpora.engine import building
from merc.corpora.engine.base import Reading
from merc.corpora.engine.iemocap_annotations import (
    Evaluation,
    counts_as_happy,
    majority,
    read_evaluations,
    read_transcription,
)
from merc.corpora.engine.iemocap_channels import Spoken, Votes, listen
from merc.corpora.engine.labels import label_set
from merc.corpora.iemocap import VALIDATION_12, Iemocap, assign_splits
from merc.errors import BadSettings, BadTable, RawDataMissing
from merc.params import Params
from merc.records import manifest
from merc.records.dialogue import Dialogue, Utterance

WORDS = {
    "hap": "Happiness",
    "sad": "Sadness",
    "neu": "Neutral",
    "ang": "Anger",
    "exc": "Excited",
    "fru": "Frustration",
    "sur": "Surprise",
    "fea": "Fear",
    "dis": "Disgust",
    "oth": "Other",
}


@dataclass
class Turn:
    """What is written for one utterance; ``ratings`` are the lines below the first of the block."""

    name: str  # the end of the id: F000
    code: str = "neu"
    text: str = "Excuse me."
    start: float = 1.0
    end: float = 2.5
    triple: str = "2.5000, 3.0000, 2.5000"
    ratings: list[str] = field(default_factory=list)


def agreed(code: str) -> list[str]:
    """Ratings that yield the official label ``code``; for xxx, three raters who disagree."""
    words = (
        ["Neutral", "Anger", "Sadness"]
        if code == "xxx"
        else [WORDS[code], f"{WORDS[code]}; Surprise" if code != "sur" else WORDS[code], "Fear"]
    )
    return [f"C-E{rater}:\t{word};\t()" for rater, word in enumerate(words, start=2)] + [
        "A-E3:\tval 3; act 2; dom  2;\t()"
    ]


def evaluation_text(dialogue_id: str, turns: list[Turn]) -> str:
    blocks = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n"]
    for turn in sorted(turns, key=lambda turn: turn.name):  # all F, then all M, as in the release
        first = f"[{turn.start:.4f} - {turn.end:.4f}]\t{dialogue_id}_{turn.name}\t{turn.code}\t[{turn.triple}]"
        blocks.append("\n".join([first, *(turn.ratings or agreed(turn.code)), ""]))
    return "\n".join(blocks)


def spoken_line(dialogue_id: str, turn: Turn) -> str:
    return f"{dialogue_id}_{turn.name} [{turn.start:08.4f}-{turn.end:08.4f}]: {turn.text}"


def write_dialogue(
    base: Path,
    dialogue_id: str,
    turns: list[Turn],
    *,
    lines: list[str] | None = None,
    evaluated: list[Turn] | None = None,
) -> None:
    """Writes both annotation files; ``lines`` replace those of the transcription, ``evaluated`` the turns of the
    evaluation.
    """
    folder = base / f"Session{dialogue_id[4]}" / "dialog"
    (folder / "EmoEvaluation").mkdir(parents=True, exist_ok=True)
    (folder / "transcriptions").mkdir(exist_ok=True)
    spoken = [spoken_line(dialogue_id, turn) for turn in turns] if lines is None else lines
    evaluation = evaluation_text(dialogue_id, turns if evaluated is None else evaluated)
    (folder / "EmoEvaluation" / f"{dialogue_id}.txt").write_text(evaluation, encoding="ascii", newline="\n")
    (folder / "transcriptions" / f"{dialogue_id}.txt").write_text(
        "".join(f"{line}\r\n" for line in spoken), encoding="ascii", newline=""
    )


def write_media(base: Path, dialogue_id: str, turns: list[Turn], *, sentences: bool = True) -> None:
    """Empty files where the release has media: the reader only lists them."""
    session = base / f"Session{dialogue_id[4]}"
    paths = [
        session / "dialog" / "avi" / "DivX" / f"{dialogue_id}.avi",
        session / "dialog" / "wav" / f"{dialogue_id}.wav",
    ]
    if sentences:
        paths += [session / "sentences" / "wav" / dialogue_id / f"{dialogue_id}_{turn.name}.wav" for turn in turns]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


SMALL = {
    "Ses01F_impro01": [
        Turn("M000", start=0.5, end=1.5),
        Turn("F000", "hap", "Hi. [LAUGHTER]"),
        Turn("F001", "xxx"),
        Turn("M001", "exc"),
    ],
    "Ses01M_impro01": [Turn("F000", "sad"), Turn("M000", "ang")],
    "Ses02F_impro02": [Turn("F000", "fru"), Turn("M000", "sur")],
    "Ses03M_impro05a": [Turn("F000", "fea"), Turn("M000", "dis")],
    "Ses03M_impro05b": [Turn("M000", "oth"), Turn("F000", "xxx")],
    "Ses04F_script01_1": [Turn("F000"), Turn("M000", "sad")],
    "Ses05F_impro07": [Turn("F000", "hap"), Turn("M000", "exc")],
    "Ses05M_script01_1b": [Turn("M000", "neu"), Turn("F000", "ang")],
}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """raw/iemocap with eight small dialogues and all their media."""
    for dialogue_id, turns in SMALL.items():
        write_dialogue(tmp_path / "iemocap", dialogue_id, turns)
        write_media(tmp_path / "iemocap", dialogue_id, turns)
    return tmp_path


def read(
    raw: Path,
    media: frozenset[str] = frozenset(),
    splits: tuple[str, ...] = ("train", "dev", "test"),
    **settings: object,
) -> Reading:
    config = Iemocap.Config(**{"reader": "iemocap", "check_counts": False, **settings})
    return Iemocap(config).read(raw / "iemocap", raw, media=media, splits=splits)


def utterances(reading: Reading) -> dict[str, Utterance]:
    return {
        utterance.source_utterance_id: utterance for dialogue in reading.dialogues for utterance in dialogue.utterances
    }


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_bytes()
    assert text.count(old.encode()) >= 1
    path.write_bytes(text.replace(old.encode(), new.encode("latin-1")))


def evaluation_file(raw: Path, dialogue_id: str) -> Path:
    return raw / "iemocap" / f"Session{dialogue_id[4]}" / "dialog" / "EmoEvaluation" / f"{dialogue_id}.txt"


def transcription_file(raw: Path, dialogue_id: str) -> Path:
    return raw / "iemocap" / f"Session{dialogue_id[4]}" / "dialog" / "transcriptions" / f"{dialogue_id}.txt"


# ---- dialogues, order, ids


def test_dialogues_come_by_split_and_id_with_their_scenario(raw: Path) -> None:
    assert [(dialogue.dialogue_id, dialogue.scenario) for dialogue in read(raw).dialogues] == [
        ("train/Ses01F_impro01", "impro01"),
        ("train/Ses03M_impro05a", "impro05"),
        ("train/Ses03M_impro05b", "impro05"),
        ("train/Ses04F_script01_1", "script01_1"),
        ("dev/Ses01M_impro01", "impro01"),
        ("dev/Ses02F_impro02", "impro02"),
        ("test/Ses05F_impro07", "impro07"),
        ("test/Ses05M_script01_1b", "script01_1"),
    ]


def test_the_transcription_gives_the_order_even_against_the_start_times(raw: Path) -> None:
    turns = [Turn("M000", start=5, end=6), Turn("F001", start=3, end=4), Turn("F000", start=1, end=2)]
    write_dialogue(raw / "iemocap", "Ses01F_impro01", turns)
    assert [utterance.source_utterance_id[-4:] for utterance in read(raw).dialogues[0].utterances] == [
        "M000",
        "F001",
        "F000",
    ]


def test_an_utterance_has_text_with_tags_speaker_times_and_attributes(raw: Path) -> None:
    utterance = utterances(read(raw))["Ses01F_impro01_F000"]
    assert (utterance.text, utterance.speaker, utterance.emotion) == ("Hi. [LAUGHTER]", "Ses01_F", "happy")
    assert (utterance.start_seconds, utterance.end_seconds) == (1.0, 2.5)
    assert (utterance.valence, utterance.arousal, utterance.dominance) == (2.5, 3.0, 2.5)


def test_every_code_has_its_word(raw: Path) -> None:
    emotions = {name: utterance.emotion for name, utterance in utterances(read(raw)).items()}
    assert emotions == {
        "Ses01F_impro01_M000": "neutral",
        "Ses01F_impro01_F000": "happy",
        "Ses01F_impro01_F001": "undecided",
        "Ses01F_impro01_M001": "excited",
        "Ses01M_impro01_F000": "sad",
        "Ses01M_impro01_M000": "angry",
        "Ses02F_impro02_F000": "frustrated",
        "Ses02F_impro02_M000": "surprised",
        "Ses03M_impro05a_F000": "fearful",
        "Ses03M_impro05a_M000": "disgusted",
        "Ses03M_impro05b_M000": "other",
        "Ses03M_impro05b_F000": "undecided",
        "Ses04F_script01_1_F000": "neutral",
        "Ses04F_script01_1_M000": "sad",
        "Ses05F_impro07_F000": "happy",
        "Ses05F_impro07_M000": "excited",
        "Ses05M_script01_1b_M000": "neutral",
        "Ses05M_script01_1b_F000": "angry",
    }


def test_the_manifest_keeps_or_drops_what_is_outside_the_label_set(raw: Path) -> None:
    dialogues = read(raw).dialogues
    kept = building.build("iemocap", dialogues, label_set("iemocap6"))
    assert kept["emotion_index"].to_pylist() == [2, 0, -1, 4, -1, -1, -1, -1, 2, 1, 1, 3, 5, -1, 0, 4, 2, 3]
    assert kept["position"].to_pylist() == [0, 1, 2, 3, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
    dropped = building.build("iemocap", dialogues, label_set("iemocap4_merged"), drop_unlabelled=True)
    assert dropped["emotion"].to_pylist() == [
        "neutral",
        "happy",
        "excited",
        "neutral",
        "sad",
        "sad",
        "angry",
        "happy",
        "excited",
        "neutral",
        "angry",
    ]
    assert dropped["emotion_index"].to_pylist() == [2, 0, 0, 2, 1, 1, 3, 0, 0, 2, 3]


def test_the_corpus_may_be_in_the_folder_of_its_archive_or_be_the_raw_folder_itself(raw: Path) -> None:
    plain = building.build("iemocap", read(raw).dialogues, label_set("iemocap6"))
    moved = raw / "iemocap" / "IEMOCAP_full_release"
    (raw / "iemocap").rename(raw / "held")
    moved.parent.mkdir()
    (raw / "held").rename(moved)
    inside = read(raw)
    assert (
        inside.dialogues[0].utterances[0].video_path
        == "iemocap/IEMOCAP_full_release/Session1/dialog/avi/DivX/Ses01F_impro01.avi"
    )
    assert building.build("iemocap", inside.dialogues, label_set("iemocap6")).num_rows == plain.num_rows
    config = Iemocap.Config(reader="iemocap", check_counts=False)
    itself = Iemocap(config).read(moved, moved, media=frozenset({"audio", "visual"}), splits=("train", "dev", "test"))
    assert itself.dialogues[0].utterances[0].video_path == "Session1/dialog/avi/DivX/Ses01F_impro01.avi"


def test_shadows_of_macs_and_annotation_projects_are_passed_over(raw: Path) -> None:
    before = utterances(read(raw))
    for path in (evaluation_file(raw, "Ses01F_impro01"), transcription_file(raw, "Ses01F_impro01")):
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")
        path.with_suffix(".anvil").write_bytes(b"<annotation/>")
        path.with_name("Categorical").mkdir()
        path.with_name("Ses01F_impro99.txt").write_text("not a dialogue of the corpus")
    assert utterances(read(raw)) == before


# ---- traps of the annotation files


def test_lines_without_evaluation_or_id_are_left_out_and_counted(raw: Path) -> None:
    name = "Ses03M_impro05a"
    known = [spoken_line(name, turn) for turn in SMALL[name]]
    unlabelled = [
        f"{name}_MXX0 [001.0000-002.0000]: Hm.",
        f"{name}_FXX1 [001.0000-002.0000]: Oh.",
        f"{name}_MXX0 [003.0000-004.0000]: Hm.",
    ]
    write_dialogue(
        raw / "iemocap",
        name,
        SMALL[name],
        lines=[unlabelled[0], known[0], "M: Yeah.", *unlabelled[1:], "", "F:[LAUGHTER]", known[1]],
    )
    spoken, left_out = read_transcription(transcription_file(raw, name))
    assert list(spoken) == [f"{name}_F000", f"{name}_M000"]
    assert left_out == {"lines without an evaluation (_MXX0, _FXX1)": 3, "lines without an id": 2}
    reading = read(raw)
    assert not reading.failures
    assert [utterance.source_utterance_id for utterance in reading.dialogues[1].utterances] == list(spoken)


def test_broken_ratings_are_recorded_and_the_utterance_kept(raw: Path) -> None:
    ratings = [
        "C-E2:\tHappiness;\t()",
        "C-E3:\tHappiness; Excited;\t(a (nested) remark)",
        "C-F1:\t;\t()",
        "A-E3:\tval 6; act 6; dom ;\t()",
        "what is this",
    ]
    write_dialogue(raw / "iemocap", "Ses05F_impro07", [Turn("F000", "hap", ratings=ratings)])
    reading = read(raw)
    assert [(row.utterance_id, row.modality, row.reason, row.kind, row.detail) for row in reading.failures] == [
        (
            "test/Ses05F_impro07_F000",
            "all",
            "annotation_repaired",
            "altered",
            "not three numbers: A-E3:\tval 6; act 6; dom ;\t()",
        ),
        (
            "test/Ses05F_impro07_F000",
            "all",
            "annotation_repaired",
            "altered",
            "neither a label nor a rating of attributes: what is this",
        ),
    ]
    assert not reading.deviations
    evaluation = read_evaluations(evaluation_file(raw, "Ses05F_impro07"))["Ses05F_impro07_F000"]
    assert (evaluation.votes, evaluation.self_votes) == (["happy", "happy", "excited"], [])


def test_attributes_outside_the_scale_are_kept_and_recorded(raw: Path) -> None:
    write_dialogue(raw / "iemocap", "Ses05F_impro07", [Turn("F000", triple="5.5000, 3.0000, 0.5000")])
    reading = read(raw)
    utterance = utterances(reading)["Ses05F_impro07_F000"]
    assert (utterance.valence, utterance.arousal, utterance.dominance) == (5.5, 3.0, 0.5)
    assert [row.detail for row in reading.failures] == ["outside 1 to 5, kept: valence 5.5, dominance 0.5"]


def test_an_official_label_against_the_votes_is_reported(raw: Path) -> None:
    write_dialogue(raw / "iemocap", "Ses05F_impro07", [Turn("F000", "ang", ratings=agreed("sad")), Turn("M000", "xxx")])
    reading = read(raw)
    assert reading.deviations == [
        "Ses05F_impro07: 1 official labels differ from the raters' majority; Ses05F_impro07_F000 is angry, the votes"
        " give sad"
    ]
    assert utterances(reading)["Ses05F_impro07_F000"].emotion == "angry"


def test_an_utterance_that_only_one_file_knows_is_kept_and_recorded(raw: Path) -> None:
    first, unspoken, unrated, last = (
        Turn(name, start=start, end=start + 1)
        for name, start in (("F000", 1.0), ("M000", 2.0), ("F001", 3.0), ("M001", 4.0))
    )
    name = "Ses05F_impro07"
    lines = [spoken_line(name, turn) for turn in (first, unrated, last)]
    write_dialogue(raw / "iemocap", name, [], lines=lines, evaluated=[first, unspoken, last])
    reading = read(raw)
    dialogue = next(dialogue for dialogue in reading.dialogues if dialogue.source_dialogue_id == name)
    assert [(one.source_utterance_id[-4:], one.text, one.emotion, one.valence) for one in dialogue.utterances] == [
        ("F000", "Excuse me.", "neutral", 2.5),
        ("M000", "", "neutral", 2.5),
        ("F001", "Excuse me.", "undecided", None),
        ("M001", "Excuse me.", "neutral", 2.5),
    ]
    assert [(row.utterance_id, row.reason) for row in reading.failures] == [
        (f"test/{name}_M000", "annotation_repaired"),
        (f"test/{name}_F001", "annotation_repaired"),
    ]


def test_times_that_differ_between_the_files_are_recorded(raw: Path) -> None:
    rewrite(transcription_file(raw, "Ses05F_impro07"), "F000 [001.0000-", "F000 [001.2500-")
    reading = read(raw)
    assert utterances(reading)["Ses05F_impro07_F000"].start_seconds == 1.0
    assert [row.detail for row in reading.failures] == [
        "1 to 2.5 s in the evaluation, which was used, 1.25 to 2.5 s in the transcription"
    ]


def test_a_stray_byte_is_read_as_cp1252_and_recorded(raw: Path) -> None:
    rewrite(
        transcription_file(raw, "Ses05F_impro07"),
        "M000 [001.0000-002.5000]: Excuse me.",
        "M000 [001.0000-002.5000]: It\x92s Zo\xeb \x81.",
    )
    rewrite(evaluation_file(raw, "Ses05F_impro07"), "Happiness;\t()", "Happiness;\t(Zo\xeb)")
    reading = read(raw)
    assert utterances(reading)["Ses05F_impro07_M000"].text == "It’s Zoë \x81."
    assert [(row.utterance_id, row.modality, row.reason) for row in reading.failures] == [
        ("test/Ses05F_impro07_F000", "all", "annotation_repaired"),
        ("test/Ses05F_impro07_M000", "text", "text_repaired"),
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "gbk"])
def test_a_transcript_in_another_encoding_is_asked_about_and_read_when_it_is_named(raw: Path, encoding: str) -> None:
    path = transcription_file(raw, "Ses05F_impro07")
    turns = [Turn("F000", "hap", "你好。"), Turn("M000", "exc", "今天怎么样？"), Turn("M001", text="很好。")]
    path.write_bytes("".join(f"{spoken_line('Ses05F_impro07', turn)}\r\n" for turn in turns).encode(encoding))
    with pytest.raises(RawDataMissing, match=rf"Ses05F_impro07\.txt is (?s:.*)corpora\.iemocap\.encoding={encoding}"):
        read(raw)
    found = utterances(read(raw, encoding=encoding))
    assert [found[f"Ses05F_impro07_{turn.name}"].text for turn in turns] == [turn.text for turn in turns]
    assert found["Ses05M_script01_1b_M000"].text == "Excuse me."


def test_a_byte_order_mark_and_other_line_ends_do_not_matter(raw: Path) -> None:
    before = utterances(read(raw))
    evaluation, transcription = evaluation_file(raw, "Ses05F_impro07"), transcription_file(raw, "Ses05F_impro07")
    evaluation.write_bytes(b"\xef\xbb\xbf" + evaluation.read_bytes().replace(b"\n", b"\r\n"))
    transcription.write_bytes(b"\xef\xbb\xbf" + transcription.read_bytes().replace(b"\r\n", b"\n"))
    reading = read(raw)
    assert utterances(reading) == before
    assert not reading.failures


@pytest.mark.parametrize(
    ("which", "old", "new", "message"),
    [
        (
            evaluation_file,
            "\thap\t",
            "\thate\t",
            "'hate' instead of one of hap, sad, neu, ang, exc, fru, sur, fea, dis, oth, xxx",
        ),
        (evaluation_file, "\thap\t", "\t\t", "'' instead of one of hap"),
        (
            evaluation_file,
            "[2.5000, 3.0000, 2.5000]",
            "[2.5000, 3.0000]",
            "Ses05F_impro07.txt:3: .* is not of the form",
        ),
        (evaluation_file, "\n[1.0000", "\nC-E2:\tAnger;\t()\n[1.0000", "is before the first utterance"),
        (evaluation_file, "_M000", "_F000", "Ses05F_impro07_F000 occurs twice"),
        (
            evaluation_file,
            "Ses05F_impro07_M000",
            "Ses05F_impro01_M000",
            "'Ses05F_impro01_M000' is not an utterance of Ses05F_impro07",
        ),
        (
            evaluation_file,
            "Ses05F_impro07_M000",
            "../../x_M000",
            "'../../x_M000' is not an utterance of Ses05F_impro07",
        ),
        (transcription_file, "_M000", "_F000", "Ses05F_impro07_F000 occurs twice"),
        (transcription_file, "_M000", "/../../x_M000", "is not an utterance of Ses05F_impro07"),
        (
            transcription_file,
            "[001.0000-002.5000]",
            "[001.0000-]",
            "Ses05F_impro07.txt:1: .* is not of the form utterance",
        ),
    ],
)
def test_a_broken_annotation_file_is_refused_naming_file_line_and_value(
    raw: Path, which: Callable[[Path, str], Path], old: str, new: str, message: str
) -> None:
    rewrite(which(raw, "Ses05F_impro07"), old, new)
    with pytest.raises(BadTable, match=message):
        read(raw)


def test_a_dialogue_without_utterances_is_refused(raw: Path) -> None:
    write_dialogue(raw / "iemocap", "Ses05F_impro07", [])
    with pytest.raises(BadTable, match=r"Ses05F_impro07\.txt: holds no utterance"):
        read(raw)


# ---- labels


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        ([], "undecided"),
        (["sad"], "undecided"),
        (["sad", "sad"], "sad"),
        (["sad", "angry", "sad"], "sad"),
        (["sad", "angry", "neutral"], "undecided"),
        (["sad", "sad", "angry", "angry"], "undecided"),
        (["sad", "sad", "angry", "angry", "angry"], "angry"),
    ],
)
def test_the_majority_is_the_single_most_frequent_label_with_two_votes(votes: list[str], label: str) -> None:
    assert majority(votes) == label


@given(st.lists(st.sampled_from(["happy", "sad", "neutral", "angry"]), max_size=12), st.randoms(use_true_random=False))
def test_the_majority_beats_every_other_label_in_any_order(votes: list[str], shuffler: random.Random) -> None:
    winner = majority(votes)
    shuffled = list(votes)
    shuffler.shuffle(shuffled)
    assert majority(shuffled) == winner
    beats_all = [
        one
        for one in set(votes)
        if votes.count(one) >= 2 and all(votes.count(one) > votes.count(other) for other in set(votes) - {one})
    ]
    assert beats_all == ([] if winner == "undecided" else [winner])


@pytest.mark.parametrize(
    ("official", "votes", "self_votes", "happy"),
    [
        ("undecided", ["happy", "angry", "neutral"], ["happy"], True),
        ("undecided", ["happy", "happy", "excited", "excited"], ["happy"], True),
        ("undecided", ["happy", "angry", "neutral"], ["happy", "excited"], False),  # not only Happiness
        ("undecided", ["happy", "angry", "neutral"], ["excited"], False),
        ("undecided", ["happy", "angry", "neutral"], [], False),
        ("undecided", ["happy", "angry", "angry", "neutral", "neutral"], ["happy"], False),  # no majority
        ("undecided", ["excited", "angry", "neutral"], ["happy"], False),
        ("excited", ["happy", "excited", "excited"], ["happy"], False),  # has an official label
    ],
)
def test_the_self_rating_can_make_an_undecided_utterance_happy(
    official: str, votes: list[str], self_votes: list[str], happy: bool
) -> None:
    assert counts_as_happy(Evaluation(0.0, 1.0, official, 3.0, 3.0, 3.0, votes, self_votes)) is happy


@pytest.mark.parametrize(
    ("labels", "emotion"), [("iemocap6", "happy"), ("iemocap4", "happy"), ("iemocap4_merged", "undecided")]
)
def test_self_rated_happiness_counts_in_the_dialogue_benchmarks_alone(raw: Path, labels: str, emotion: str) -> None:
    ratings = [
        "C-E1:\tHappiness;\t()",
        "C-E2:\tAnger;\t()",
        "C-E4:\tNeutral state;\t()",
        "C-F1:\tHappiness;\t()",
        "A-F1:\tval 4; act 3; dom  3;\t()",
    ]
    write_dialogue(raw / "iemocap", "Ses05F_impro07", [Turn("F000", "xxx", ratings=ratings)])
    reading = read(raw, label_set=labels)
    assert utterances(reading)["Ses05F_impro07_F000"].emotion == emotion
    assert not reading.deviations


# ---- splits

TRAINING = [
    f"Ses0{session}{actor}_impro0{number}" for session in (1, 2, 3, 4) for actor in "FM" for number in range(1, 9)
]


def test_the_twenty_random_dialogues_depend_on_the_seed_alone() -> None:
    ids = [*TRAINING, "Ses05F_impro01"]
    splits = assign_splits(ids, test_session=5, validation="random20", seed=0)
    assert Counter(splits.values()) == {"train": 44, "dev": 20, "test": 1}
    assert assign_splits(reversed(ids), test_session=5, validation="random20", seed=0) == splits
    assert assign_splits(ids, test_session=5, validation="random20", seed=1) != splits
    # The documented rule, which must never change: published results depend on it.
    first = min(TRAINING, key=lambda name: hashlib.sha256(f"0:{name}".encode()).hexdigest())
    assert splits[first] == "dev"


def test_random_validation_needs_more_than_twenty_training_dialogues(raw: Path) -> None:
    with pytest.raises(BadSettings, match="only 6 exist"):
        read(raw, validation="random20")


def test_without_validation_there_is_no_dev_split(raw: Path) -> None:
    assert {dialogue.split for dialogue in read(raw, validation="none").dialogues} == {"train", "test"}
    with pytest.raises(BadSettings, match="no dialogue is in the splits dev; the setting validation is none"):
        read(raw, validation="none", splits=("dev",))


def test_another_session_can_be_the_test_split(raw: Path) -> None:
    reading = read(raw, validation="none", test_session=3)
    assert [dialogue.dialogue_id for dialogue in reading.dialogues if dialogue.split == "test"] == [
        "test/Ses03M_impro05a",
        "test/Ses03M_impro05b",
    ]


def test_the_fixed_twelve_go_with_session_five_alone() -> None:
    params = Params({"corpora": {"iemocap": {"reader": "iemocap", "test_session": 3}}})
    with pytest.raises(BadSettings, match="test_session must be 5, not 3"):
        params.fill("corpora.iemocap", Iemocap.Config)


def test_only_the_sessions_of_the_wanted_splits_need_to_be_there(raw: Path) -> None:
    for session in (1, 2, 3, 4):
        (raw / "iemocap" / f"Session{session}").rename(raw / f"away{session}")
    assert [dialogue.dialogue_id for dialogue in read(raw, splits=("test",)).dialogues] == [
        "test/Ses05F_impro07",
        "test/Ses05M_script01_1b",
    ]


def test_the_defaults_are_the_benchmarks() -> None:
    config = Iemocap.Config(reader="iemocap")
    assert (config.validation, config.validation_seed, config.test_session) == ("val12", 0, 5)
    assert set(config.marked_actor_side.model_dump().values()) == {"left"}


# ---- media


def test_audio_is_the_utterances_own_file_and_the_video_a_half_and_span_of_the_video(raw: Path) -> None:
    utterance = utterances(read(raw, media=frozenset({"audio", "visual"})))["Ses01F_impro01_M000"]
    assert utterance.audio_path == "iemocap/Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav"
    assert (utterance.audio_start_seconds, utterance.audio_end_seconds) == (None, None)
    assert utterance.video_path == "iemocap/Session1/dialog/avi/DivX/Ses01F_impro01.avi"
    assert (utterance.video_start_seconds, utterance.video_end_seconds) == (0.5, 1.5)


def test_tags_are_kept_or_dropped(raw: Path) -> None:
    turns = [
        Turn("F000", text="[LAUGHTER] I [breathing] know. [GARBAGE]"),
        Turn("M000", text="[LIPSMACK]"),
        Turn("F001", text="Oh [LAUGHTER], well. [1]"),
    ]
    write_dialogue(raw / "iemocap", "Ses01F_impro01", turns)
    texts = {tags: [one.text for one in read(raw, tags=tags).dialogues[0].utterances] for tags in ("keep", "drop")}
    assert texts["keep"] == [turn.text for turn in turns]
    assert texts["drop"] == ["I know.", "", "Oh, well. [1]"]
    table = building.build("iemocap", read(raw, tags="drop").dialogues, label_set("iemocap6"))
    assert table["text_characters"].to_pylist()[:3] == [7, 0, 13]


def test_without_sentence_files_the_audio_is_a_span_of_the_dialogue(tmp_path: Path) -> None:
    for name, turns in SMALL.items():
        write_dialogue(tmp_path / "iemocap", name, turns)
        write_media(tmp_path / "iemocap", name, turns, sentences=False)
    utterance = utterances(read(tmp_path, media=frozenset({"audio"})))["Ses01F_impro01_M000"]
    assert utterance.audio_path == "iemocap/Session1/dialog/wav/Ses01F_impro01.wav"
    assert (utterance.audio_start_seconds, utterance.audio_end_seconds) == (0.5, 1.5)


def test_of_the_dialogues_audio_the_speakers_channel_alone_is_heard(tmp_path: Path) -> None:
    for name, turns in SMALL.items():
        write_dialogue(tmp_path / "iemocap", name, turns)
        write_media(tmp_path / "iemocap", name, turns, sentences=False)

    def channels(**settings: str) -> dict[str, str]:
        found = utterances(read(tmp_path, media=frozenset({"audio"}), marked_actor_channel=settings))
        return {name: one.audio_channel for name, one in found.items() if "impro01_" in name and name.endswith("000")}

    assert channels() == {
        "Ses01F_impro01_M000": "right",
        "Ses01F_impro01_F000": "left",
        "Ses01M_impro01_F000": "right",
        "Ses01M_impro01_M000": "left",
    }
    assert channels(session1="right")["Ses01F_impro01_M000"] == "left"


def test_an_utterances_own_file_needs_no_channel(raw: Path) -> None:
    assert {one.audio_channel for one in utterances(read(raw, media=frozenset({"audio"}))).values()} == {"mix"}


def write_voices(base: Path, dialogue_id: str, louder: list[tuple[float, float, str]], *, channels: int = 2) -> None:
    """A dialogue's wav of quiet noise, with one channel ten times louder in each span (start, end, side)."""
    sound = np.random.default_rng(0).normal(0, 100, (160_000, channels))
    for start, end, side in louder:
        sound[round(start * 16_000) : round(end * 16_000), channels - 1 if side == "right" else 0] *= 10
    path = base / f"Session{dialogue_id[4]}" / "dialog" / "wav" / f"{dialogue_id}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(sound.astype("<i2").tobytes())


TURNS = [
    Turn("F000", start=0.0, end=2.0),
    Turn("M000", start=2.0, end=4.0),
    Turn("F001", start=4.0, end=6.0),
    Turn("M001", start=6.0, end=8.0),
]
BOTH = frozenset({"audio", "visual"})


def one_session(raw: Path, sides: str, **settings: object) -> Reading:
    """Session 5 with one dialogue of four turns, F (who wears the markers) M F M; ``sides``: the louder channel in
    each.
    """
    for name in ("Ses05F_impro07", "Ses05M_script01_1b"):
        for file in (raw / "iemocap" / "Session5").rglob(f"{name}*"):
            if file.is_file():
                file.unlink()
    write_dialogue(raw / "iemocap", "Ses05F_impro07", TURNS)
    write_media(raw / "iemocap", "Ses05F_impro07", TURNS)
    names = {"l": "left", "r": "right"}
    write_voices(
        raw / "iemocap",
        "Ses05F_impro07",
        [(turn.start, turn.end, names[side]) for turn, side in zip(TURNS, sides, strict=True)],
    )
    return read(raw, media=BOTH, splits=("test",), **settings)


def _undecided(utterances: int, agrees: int, unreadable: int = 0) -> dict[str, object]:
    """The record of votes that are too few to decide."""
    channel, region = ({f"{what}_agrees": agrees, what: "undecided"} for what in ("channel", "region"))
    return {"utterances": utterances, **channel, **region, "unreadable_files": unreadable}


@pytest.mark.parametrize(("sides", "agrees"), [("lrlr", 4), ("lrll", 3), ("llll", 2)])
def test_the_louder_channel_bears_out_where_the_speakers_are(raw: Path, sides: str, agrees: int) -> None:
    reading = one_session(raw, sides)
    assert reading.checks == {"louder_channel": {"session5": _undecided(4, agrees)}}
    assert reading.deviations == []


def test_settings_that_most_utterances_speak_against_are_reported_each_by_its_name(raw: Path) -> None:
    reading = one_session(raw, "rlrr")
    assert reading.checks["louder_channel"]["session5"] == _undecided(4, 1)
    told = (
        "puts the speaker on the other side than the louder channel of dialog/wav in 3 of 4 utterances that were"
        " listened to"
    )
    assert [line.partition(";")[0] for line in reading.deviations] == [
        f"session 5: marked_actor_channel {told}",
        f"session 5: marked_actor_side {told}",
    ]
    assert (
        one_session(
            raw, "rlrr", marked_actor_channel={"session5": "right"}, marked_actor_side={"session5": "right"}
        ).deviations
        == []
    )
    reading = one_session(raw, "lrlr", marked_actor_side={"session5": "right"})
    assert [line.partition(" puts")[0] for line in reading.deviations] == ["session 5: marked_actor_side"]


@pytest.mark.parametrize(
    ("agrees", "utterances", "verdict"),
    [
        (10, 22, "undecided"),
        (4, 22, "undecided"),
        (3, 22, "contradicted"),
        (0, 9, "undecided"),
        (0, 10, "contradicted"),
        (10, 10, "confirmed"),
        (18, 60, "undecided"),
        (17, 60, "contradicted"),
        (43, 60, "confirmed"),
        (30, 60, "undecided"),
        (0, 0, "undecided"),
    ],
)
def test_settings_are_called_wrong_only_where_chance_would_hardly_do_it(
    agrees: int, utterances: int, verdict: str
) -> None:
    """Chance alone gives 12 or more of 22 against it in four of ten corpora."""
    votes = Votes(utterances=utterances, channel_agrees=agrees, region_agrees=utterances)
    assert votes.record()["channel"] == verdict
    told = {"undecided": "that can be chance: undecided", "contradicted": "it seems to be the other way round"}
    spoken_against = (
        "session 2: marked_actor_channel puts the speaker on the other side than the louder channel of dialog/wav in"
        f" {utterances - agrees} of {utterances} "
    )
    lines = [f"{spoken_against}utterances that were listened to; {told[verdict]}"] if 2 * agrees < utterances else []
    assert votes.contradictions(2) == lines


def test_the_same_voices_are_listened_to_every_time_and_not_more_than_sixty(raw: Path) -> None:
    first = one_session(raw, "lrlr").checks
    assert one_session(raw, "lrlr").checks == first
    path = raw / "iemocap" / "Session5" / "dialog" / "wav" / "Ses05F_impro07.wav"
    many = (
        [Spoken(path, 0.0, 2.0, "left", "left")] * 50
        + [Spoken(path, 2.0, 4.0, "left", "right")] * 150
        + [Spoken(path, 0.0, 0.4, "left", "left")] * 99
    )
    votes = listen(many)
    assert (votes.utterances, votes.channel_agrees, votes.region_agrees) == (60, 15, 60)


def test_audio_without_two_channels_is_reported_and_nothing_is_concluded(raw: Path) -> None:
    one_session(raw, "lrlr")
    write_voices(raw / "iemocap", "Ses05F_impro07", [], channels=1)
    reading = read(raw, media=BOTH, splits=("test",))
    assert reading.checks["louder_channel"]["session5"] == _undecided(0, 0, unreadable=1)
    assert reading.deviations == [
        "session 5: none of 1 files of dialog/wav is a wav of two channels; who sits where is not checked"
    ]


def test_for_text_alone_nothing_is_listened_to(raw: Path) -> None:
    one_session(raw, "rlrl")
    reading = read(raw, splits=("test",))
    assert (reading.checks, reading.deviations) == ({}, [])


def test_the_speakers_half_follows_the_marked_actor_and_the_session(raw: Path) -> None:
    def regions(**sides: str) -> dict[str, str]:
        return {
            name: one.video_region
            for name, one in utterances(read(raw, marked_actor_side=sides)).items()
            if "impro01_" in name and name.endswith("000")
        }

    assert regions() == {
        "Ses01F_impro01_M000": "right",
        "Ses01F_impro01_F000": "left",
        "Ses01M_impro01_F000": "right",
        "Ses01M_impro01_M000": "left",
    }
    assert regions(session1="right") == {
        "Ses01F_impro01_M000": "left",
        "Ses01F_impro01_F000": "right",
        "Ses01M_impro01_F000": "left",
        "Ses01M_impro01_M000": "right",
    }


def test_a_manifest_made_for_text_is_the_one_made_for_all(raw: Path) -> None:
    assert utterances(read(raw)) == utterances(read(raw, media=frozenset({"audio", "visual"})))


def test_one_missing_file_is_left_to_decoding(raw: Path) -> None:
    gone = raw / "iemocap" / "Session5" / "dialog" / "avi" / "DivX" / "Ses05F_impro07.avi"
    gone.unlink()
    utterance = utterances(read(raw, media=frozenset({"visual"})))["Ses05F_impro07_F000"]
    assert raw / utterance.video_path == gone


# ---- what is missing


def test_nothing_at_all_says_what_to_unpack_and_where_to_ask(tmp_path: Path) -> None:
    with pytest.raises(RawDataMissing) as caught:
        read(tmp_path)
    message = str(caught.value)
    assert caught.value.exit_code == 4
    assert "no folder Session1, Session2, Session3, Session4, Session5" in message
    assert "dialog/EmoEvaluation/Ses01F_impro01.txt" in message
    assert f"Found in {tmp_path / 'iemocap'}:\n  nothing, there is no such folder" in message
    assert "https://sail.usc.edu/iemocap/" in message


def test_something_else_in_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "iemocap" / "Session 1").mkdir(parents=True)
    (tmp_path / "iemocap" / "IEMOCAP.tar.gz").touch()
    with pytest.raises(RawDataMissing, match=r"\n  Session 1, IEMOCAP\.tar\.gz\n"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("absent", "line"),
    [((4,), "session 4 is not there; sessions 1, 2, 3, 5 are read"), ((4, 5), "sessions 4, 5 are not there; ")],
)
def test_sessions_that_are_there_are_read_without_the_others_and_that_is_reported(
    raw: Path, absent: tuple[int, ...], line: str
) -> None:
    whole = utterances(read(raw))
    for number in absent:
        (raw / "iemocap" / f"Session{number}").rename(raw / f"away{number}")
    reading = read(raw, media=frozenset({"audio", "visual"}))
    assert utterances(reading) == {name: one for name, one in whole.items() if int(name[4]) not in absent}
    assert [one for one in reading.deviations if one.startswith(line)]


@pytest.mark.parametrize(
    "folder", ["IEMOCAP_full_release", "IEMOCAP_full_release_withoutVideos", "IEMOCAP/IEMOCAP_full_release", "a/b/c"]
)
def test_the_sessions_are_found_in_the_folders_that_were_put_around_them(raw: Path, folder: str) -> None:
    (raw / "iemocap").rename(raw / "away")
    (raw / "iemocap" / folder).parent.mkdir(parents=True)
    (raw / "away").rename(raw / "iemocap" / folder)
    one = utterances(read(raw, media=frozenset({"audio", "visual"})))["Ses01F_impro01_F000"]
    assert one.video_path == f"iemocap/{folder}/Session1/dialog/avi/DivX/Ses01F_impro01.avi"


def test_two_folders_that_hold_sessions_are_both_named(raw: Path) -> None:
    (raw / "iemocap").rename(raw / "first")
    (raw / "iemocap" / "second").mkdir(parents=True)
    shutil.copytree(raw / "first", raw / "iemocap" / "first")
    (raw / "iemocap" / "second" / "Session1").mkdir()
    with pytest.raises(
        RawDataMissing, match=r"iemocap/first and .*iemocap/second both hold Session1 or .*; remove one"
    ):
        read(raw)
    (raw / "iemocap" / "second" / "Session1").rmdir()
    (raw / "iemocap" / "second").rmdir()
    (raw / "iemocap" / "second").symlink_to("first")  # the same folder under another name is not a second one
    assert read(raw).dialogues


def test_capitals_in_the_suffix_of_a_file_do_not_matter(raw: Path) -> None:
    for suffix in ("avi", "wav", "txt"):
        for path in list((raw / "iemocap" / "Session1").rglob(f"*.{suffix}")):
            path.rename(path.with_suffix(f".{suffix.upper()}"))
    reading = read(raw, media=frozenset({"audio", "visual"}))
    one = utterances(reading)["Ses01F_impro01_F000"]
    assert (Path(one.video_path).name, Path(one.audio_path).name) == ("Ses01F_impro01.AVI", "Ses01F_impro01_F000.WAV")
    assert reading.missing == {"audio": {}, "visual": {}}


def test_links_in_a_circle_are_not_folders(raw: Path) -> None:
    (raw / "iemocap" / "Session1" / "dialog" / "avi" / "DivX" / "loop").symlink_to("loop")
    assert read(raw, media=frozenset({"visual"})).dialogues


def test_a_word_for_an_emotion_is_read_as_its_label_and_that_is_reported(raw: Path) -> None:
    rewrite(evaluation_file(raw, "Ses05F_impro07"), "\thap\t", "\tHappiness\t")
    rewrite(evaluation_file(raw, "Ses05M_script01_1b"), "\tang\t", "\tanger\t")
    reading = read(raw)
    assert [utterances(reading)[name].emotion for name in ("Ses05F_impro07_F000", "Ses05M_script01_1b_F000")] == [
        "happy",
        "angry",
    ]
    assert reading.deviations == [
        "the emotion 'Happiness' is read as 'happy', in 1 utterances",
        "the emotion 'anger' is read as 'angry', in 1 utterances",
    ]


@pytest.mark.parametrize(
    ("which", "missing"),
    [
        (evaluation_file, "EmoEvaluation/Ses03M_impro05b.txt"),
        (transcription_file, "transcriptions/Ses03M_impro05b.txt"),
    ],
)
def test_half_of_a_dialogues_annotations_missing_is_refused(
    raw: Path, which: Callable[[Path, str], Path], missing: str
) -> None:
    which(raw, "Ses03M_impro05b").unlink()
    with pytest.raises(RawDataMissing, match=f"1 annotation files are missing, the first is Session3/dialog/{missing}"):
        read(raw)


def test_a_session_without_annotations_is_refused(raw: Path) -> None:
    evaluation_file(raw, "Ses04F_script01_1").unlink()
    transcription_file(raw, "Ses04F_script01_1").unlink()
    with pytest.raises(RawDataMissing, match="Session4 holds no annotations"):
        read(raw)


@pytest.mark.parametrize(
    ("modality", "folder", "count", "first"),
    [
        ("visual", "dialog/avi", 4, "iemocap/Session3/dialog/avi/DivX/Ses03M_impro05a.avi"),
        ("audio", "sentences", 4, "iemocap/Session3/sentences/wav/Ses03M_impro05a/Ses03M_impro05a_F000.wav"),
    ],
)
def test_what_is_missing_of_media_that_are_wanted_is_listed(
    raw: Path, modality: str, folder: str, count: int, first: str
) -> None:
    (raw / "iemocap" / "Session3" / folder).rename(raw / "away")
    assert read(raw).missing == {}
    missing = read(raw, media=frozenset({modality})).missing[modality]
    assert len(missing) == count
    assert missing["train/Ses03M_impro05a_F000"] == first


def test_annotations_alone_are_refused_when_media_are_wanted(tmp_path: Path) -> None:
    for name, turns in SMALL.items():
        write_dialogue(tmp_path / "iemocap", name, turns)
    with pytest.raises(RawDataMissing, match="audio: none of 18 files is there"):
        read(tmp_path, media=frozenset({"audio"}))
    with pytest.raises(
        RawDataMissing,
        match=r"visual: none of 8 files is there, .*the release without videos, .*--modalities text,audio runs without",
    ):
        read(tmp_path, media=frozenset({"visual"}))


# ---- the counts of the release


def release_dialogues() -> dict[int, list[str]]:
    """Ids with the release's number of dialogues per session and its five odd ids."""
    sessions: dict[int, list[str]] = {}
    for session in (1, 2, 3, 4, 5):
        scripts = ["script01_1", "script01_2", "script01_3", "script02_1", "script02_2", "script03_1", "script03_2"]
        impros = [f"impro0{number}" for number in range(1, 8 if session == 1 else 9)]
        names = {actor: [*impros, *scripts] for actor in "FM"}
        if session == 3:
            names["M"] = [*impros[:4], "impro05a", "impro05b", "impro06", "impro07", "impro08a", "impro08b", *scripts]
        if session == 5:
            names["M"] = [*names["M"], "script01_1b"]
        sessions[session] = [f"Ses0{session}{actor}_{name}" for actor in "FM" for name in names[actor]]
    return sessions


def codes(counts: dict[str, int]) -> Iterator[str]:
    """Each code as often as given, then xxx indefinitely; "self" stands for an undecided one that counts as happy."""
    return itertools.chain((code for code, count in counts.items() for _ in range(count)), itertools.repeat("xxx"))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10,039 made-up utterances in 151 dialogues with all the counts of the release; the labels of each split are
    assigned in order.
    """
    raw = tmp_path_factory.mktemp("release")
    pools = {
        "train": codes(
            {
                "hap": 399,
                "self": 52,
                "sad": 771,
                "neu": 1221,
                "ang": 831,
                "exc": 593,
                "fru": 1296,
                "sur": 107,
                "fea": 40,
                "dis": 2,
                "oth": 3,
            },
        ),
        "dev": codes({"hap": 53, "sad": 68, "neu": 103, "ang": 102, "exc": 149, "fru": 172}),
        "test": codes({"self": 1, "hap": 143, "sad": 245, "neu": 384, "ang": 170, "exc": 299, "fru": 381}),
    }
    left_out = {
        3: (24, 30),
        5: (24, 122),
    }  # lines without an evaluation or without an id; in the first dialogue of the session
    broken, outside = (
        itertools.repeat("A-E1:\tval 6; act 6; dom ;\t()", 39),
        itertools.repeat("5.5000, 3.0000, 3.0000", 4),
    )
    for session, utterance_count in {1: 1819, 2: 1811, 3: 2136, 4: 2103, 5: 2170}.items():
        names = release_dialogues()[session]
        for index, name in enumerate(names):
            size = utterance_count // len(names) + (index < utterance_count % len(names))
            pool = pools["test" if session == 5 else "dev" if name in VALIDATION_12 else "train"]
            turns = []
            for number in range(size):
                code, actor = next(pool), "FM"[number % 2]
                turn = Turn(
                    f"{actor}{number:03d}",
                    "xxx" if code == "self" else code,
                    f"Word {number}.",
                    float(number),
                    number + 0.5,
                )
                turn.ratings = agreed(turn.code)
                if code == "self":
                    turn.ratings = [
                        "C-E1:\tHappiness;\t()",
                        "C-E2:\tAnger;\t()",
                        "C-E4:\tNeutral;\t()",
                        f"C-{actor}1:\tHappiness;\t()",
                    ]
                turn.ratings += itertools.islice(broken, 1)
                turn.triple = next(outside, turn.triple)
                turns.append(turn)
            unlabelled, bare = left_out.get(session, (0, 0)) if index == 0 else (0, 0)
            lines = (
                [f"{name}_MXX0 [001.0000-002.0000]: Hm."] * unlabelled
                + ["M: Yeah."] * bare
                + [spoken_line(name, turn) for turn in turns]
            )
            write_dialogue(raw / "iemocap", name, turns, lines=lines)
    return raw


@pytest.mark.parametrize(
    ("labels", "validation", "labelled"),
    [
        ("iemocap6", "val12", 7433),
        ("iemocap4", "val12", 4543),
        ("iemocap4_merged", "val12", 5531),
        ("iemocap6", "random20", 7433),
        ("iemocap4_merged", "none", 5531),
    ],
)
def test_the_counts_of_the_release_give_no_deviation(
    release: Path, labels: str, validation: str, labelled: int
) -> None:
    reading = read(release, label_set=labels, validation=validation, check_counts=True)
    assert reading.deviations == []
    table = building.build("iemocap", reading.dialogues, label_set(labels))
    assert (table.num_rows, len(manifest.dialogue_bounds(table))) == (10039, 151)
    assert sum(index >= 0 for index in table["emotion_index"].to_pylist()) == labelled
    assert len(reading.failures) == 43


@pytest.mark.parametrize(
    ("validation", "splits"),
    [
        ("val12", ("train",)),
        ("val12", ("dev", "test")),
        ("val12", ("train", "dev")),
        ("random20", ("dev",)),
        ("none", ("train",)),
    ],
)
def test_a_part_of_the_splits_is_compared_with_its_own_counts(
    release: Path, validation: str, splits: tuple[str, ...]
) -> None:
    assert read(release, splits=splits, validation=validation, check_counts=True).deviations == []


def test_deviating_counts_are_reported_with_both_numbers(raw: Path) -> None:
    deviations = read(raw, check_counts=True).deviations
    assert "dialogues of session 1: 28 in the release, 2 here" in deviations
    assert "utterances of session 5: 2170 in the release, 4 here" in deviations
    assert "dialogues in dev: 12 in the release, 2 here" in deviations
    assert (
        "iemocap6, session 5, utterances of happy, sad, neutral, angry, excited, frustrated: "
        "(144, 245, 384, 170, 299, 381) in the release, (1, 0, 1, 1, 1, 0) here" in deviations
    )
    assert "official labels undecided: 2507 in the release, 2 here" in deviations
    assert "lines without an id: 152 in the release, 0 here" in deviations
    assert "broken attribute ratings: 39 in the release, 0 here" in deviations
    assert "utterances that count as happy by their self rating: 53 in the release, 0 here" in deviations
    assert read(raw, check_counts=False).deviations == []


def test_a_dialogue_is_the_same_record_whatever_is_read_next_to_it(release: Path) -> None:
    whole = {dialogue.dialogue_id: dialogue for dialogue in read(release).dialogues}
    alone: list[Dialogue] = read(release, splits=("test",)).dialogues
    assert len(alone) == 31
    assert all(whole[dialogue.dialogue_id] == dialogue for dialogue in alone)
