"""MELD's reader: the layouts, every known defect, malicious content, and the real annotations."""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from merc.corpora.engine import building, text_repair
from merc.corpora.engine.base import Reading
from merc.corpora.engine.csv_rows import read_rows
from merc.corpora.engine.labels import label_set
from merc.corpora.meld import Meld
from merc.errors import BadTable, RawDataMissing
from merc.records import manifest
from merc.records.dialogue import SPLITS, Dialogue, Utterance

NO_MEDIA: frozenset[str] = frozenset()


def _read(
    files: Any,
    *,
    media: frozenset[str] = NO_MEDIA,
    splits: tuple[str, ...] = SPLITS,
    check_counts: bool = False,
    raw: Path | None = None,
) -> Reading:
    reader = Meld(Meld.Config(reader="meld", check_counts=check_counts))
    return reader.read(files.root, raw or files.raw, media=media, splits=splits)


def _train(files: Any, *rows: dict[str, str], **how: Any) -> Reading:
    files.csv("train", rows, **how)
    return _read(files, splits=("train",))


def _only(reading: Reading) -> Utterance:
    ((utterance,),) = [dialogue.utterances for dialogue in reading.dialogues]
    return utterance


def test_the_split_is_part_of_every_id_because_numbers_restart_in_each(meld: Any) -> None:
    meld.small()
    dialogues = _read(meld).dialogues
    assert [dialogue.dialogue_id for dialogue in dialogues] == [
        "train/dia0",
        "train/dia1",
        "train/dia2",
        "dev/dia0",
        "test/dia0",
        "test/dia1",
    ]
    assert dialogues[1].utterance_id(dialogues[1].utterances[1]) == "train/dia1_utt1"
    assert dialogues[3].utterance_id(dialogues[3].utterances[0]) == "dev/dia0_utt0"


def test_a_row_becomes_an_utterance(meld: Any) -> None:
    row = meld.row(
        3,
        7,
        Utterance="“Hi”, he’s here…",
        Speaker=" Ann ",
        Emotion="joy",
        Sentiment="positive",
        StartTime="00:16:16,059",
        EndTime="0:16:21,731",
    )
    reading = _train(meld, row)
    assert _only(reading) == Utterance(
        source_utterance_id="dia3_utt7",
        speaker="Ann",
        source_speaker="Ann",
        text="“Hi”, he’s here…",
        emotion="joy",
        sentiment="positive",
        start_seconds=976.059,
        end_seconds=981.731,
        video_path="meld/train_splits/dia3_utt7.mp4",
        audio_path="meld/train_splits/dia3_utt7.mp4",
    )
    assert reading.failures == []


def test_utterances_are_ordered_by_number_and_dialogues_too_regardless_of_the_order_of_the_file(meld: Any) -> None:
    reading = _train(meld, *(meld.row(d, u) for d, u in [(10, 11), (2, 1), (10, 2), (2, 0), (10, 9)]))
    assert [[utterance.source_utterance_id for utterance in dialogue.utterances] for dialogue in reading.dialogues] == [
        ["dia2_utt0", "dia2_utt1"],
        ["dia10_utt2", "dia10_utt9", "dia10_utt11"],
    ]


def test_gaps_in_the_numbers_leave_positions_dense(meld: Any) -> None:
    reading = _train(meld, meld.row(0, 1), meld.row(0, 4), meld.row(0, 5))
    table = building.build("meld", reading.dialogues, label_set("meld7"))
    assert table["position"].to_pylist() == [0, 1, 2]
    assert table["source_utterance_id"].to_pylist() == ["dia0_utt1", "dia0_utt4", "dia0_utt5"]


def test_only_the_splits_that_are_wanted_are_read_and_in_the_usual_order(meld: Any) -> None:
    meld.small()
    (meld.root / "dev_sent_emo.csv").unlink()
    assert [dialogue.split for dialogue in _read(meld, splits=("test", "train")).dialogues] == ["train"] * 3 + [
        "test"
    ] * 2


@pytest.mark.parametrize(
    ("line_end", "encoding"), [("\r\n", "utf-8"), ("\n", "utf-8"), ("\r\n", "utf-8-sig"), ("\r", "utf-8-sig")]
)
def test_line_ends_and_byte_order_mark_do_not_matter(meld: Any, line_end: str, encoding: str) -> None:
    reading = _train(meld, meld.row(0, 0, Utterance="It’s"), line_end=line_end, encoding=encoding)
    assert _only(reading).text == "It’s"
    assert reading.failures == []


@pytest.mark.parametrize(
    ("cell", "encoding", "text", "detail"),
    [
        ("He\x92s late\x85", "utf-8", "He’s late…", "wrongly decoded: 'He\\x92s late\\x85'"),
        ("Heâ€™s late", "utf-8", "He’s late", "wrongly decoded: 'Heâ€™s late'"),
        ("He’s late…", "cp1252", "He’s late…", "not UTF-8, read as cp1252"),
    ],
)
def test_older_copies_are_repaired_and_that_is_recorded(
    meld: Any, cell: str, encoding: str, text: str, detail: str
) -> None:
    reading = _train(meld, meld.row(0, 0, Utterance=cell), meld.row(0, 1, Utterance="plain"), encoding=encoding)
    assert [utterance.text for utterance in reading.dialogues[0].utterances] == [text, "plain"]
    assert [failure.row() for failure in reading.failures] == [
        {
            "utterance_id": "train/dia0_utt0",
            "stage": "manifest",
            "modality": "text",
            "reason": "text_repaired",
            "kind": "altered",
            "detail": detail,
        }
    ]


@pytest.mark.parametrize("encoding", ["gbk", "cp1251", "shift_jis"])
def test_a_copy_that_was_saved_in_another_encoding_is_asked_about_and_read_when_it_is_named(
    meld: Any, encoding: str
) -> None:
    rows = [meld.row(0, 0, Utterance="Это он…" if encoding == "cp1251" else "“Привет”"), meld.row(0, 1)]
    with pytest.raises(
        RawDataMissing, match=r"train_sent_emo\.csv is not UTF-8: 1 of the 1 lines .*(?s:corpora\.meld\.encoding=)"
    ):
        _train(meld, *rows, encoding=encoding)
    reading = Meld(Meld.Config(reader="meld", check_counts=False, encoding=encoding)).read(
        meld.root, meld.raw, media=NO_MEDIA, splits=("train",)
    )
    assert [one.text for one in reading.dialogues[0].utterances] == [rows[0]["Utterance"], rows[1]["Utterance"]]
    assert reading.failures == []


def test_a_copy_with_semicolons_is_read_when_the_settings_say_so(meld: Any) -> None:
    path = meld.csv("train", [meld.row(0, 0, Utterance="Hi")])
    path.write_bytes(path.read_bytes().replace(b",", b";"))
    with pytest.raises(RawDataMissing, match=r"separated by ';', not by ',': set corpora\.copy\.delimiter=semicolon"):
        Meld(Meld.Config(reader="meld"), "copy").read(meld.root, meld.raw, media=NO_MEDIA, splits=("train",))
    reader = Meld(Meld.Config(reader="meld", check_counts=False, delimiter=";"))
    assert _only(reader.read(meld.root, meld.raw, media=NO_MEDIA, splits=("train",))).text == "Hi"


def test_a_speaker_is_the_same_one_whether_the_name_was_damaged_or_not(meld: Any) -> None:
    reading = _train(meld, meld.row(0, 0, Speaker="Bob’s Date"), meld.row(0, 1, Speaker="Bob\x92s Date "))
    assert [utterance.speaker for utterance in reading.dialogues[0].utterances] == ["Bob’s Date", "Bob’s Date"]
    assert [(failure.utterance_id, failure.reason, failure.detail) for failure in reading.failures] == [
        ("train/dia0_utt1", "annotation_repaired", "Speaker: wrongly decoded: 'Bob\\x92s Date '")
    ]


def test_missing_columns_are_named_with_the_file(meld: Any) -> None:
    meld.csv(
        "train",
        [meld.row(0, 0)],
        columns=["Utterance", "Speaker", "Sentiment", "Dialogue_ID", "Utterance_ID", "StartTime"],
    )
    with pytest.raises(
        RawDataMissing,
        match=r"train_sent_emo\.csv: the columns Emotion, EndTime are missing; there are Utterance, Speaker",
    ):
        _read(meld, splits=("train",))


def test_the_same_ids_twice_are_refused_with_both_lines(meld: Any) -> None:
    meld.csv("train", [meld.row(0, 0, Utterance="two\nlines"), meld.row(0, 1), meld.row(0, 0)])
    with pytest.raises(
        BadTable, match=r"train_sent_emo\.csv: Dialogue_ID 0, Utterance_ID 0 are in line 2 and again in line 5"
    ):
        _read(meld, splits=("train",))


@pytest.mark.parametrize(
    ("column", "value", "valid"),
    [
        ("Emotion", "hate", "neutral, surprise, fear, sadness, joy, disgust, anger"),
        ("Sentiment", "mixed", "positive, negative, neutral"),
        ("Emotion", "", "neutral, surprise"),
    ],
)
def test_a_label_that_meld_does_not_have_is_refused_with_file_and_line(
    meld: Any, column: str, value: str, valid: str
) -> None:
    meld.csv("train", [meld.row(0, 0), meld.row(0, 1, **{column: value})])
    with pytest.raises(
        BadTable, match=rf"train_sent_emo\.csv, line 3: {column} is '{value}' instead of one of {valid}"
    ):
        _read(meld, splits=("train",))


@pytest.mark.parametrize("column", ["Dialogue_ID", "Utterance_ID"])
@pytest.mark.parametrize(
    "value", ["../../x", "/etc/passwd", "-1", "1.0", "1e3", "", "0x1", "٣", "³", "1\x002", "9" * 30]
)
def test_an_id_that_is_not_a_plain_number_is_refused(meld: Any, column: str, value: str) -> None:
    meld.csv("train", [meld.row(0, 0), meld.row(0, 1, **{column: value})])
    with pytest.raises(BadTable, match=rf"train_sent_emo\.csv, line 3: {column} is .* instead of a number from 0"):
        _read(meld, splits=("train",))


def test_a_row_without_speaker_is_refused(meld: Any) -> None:
    meld.csv("train", [meld.row(0, 0, Speaker=" ")])
    with pytest.raises(BadTable, match=r"train_sent_emo\.csv, line 2: no Speaker"):
        _read(meld, splits=("train",))


def test_a_file_that_was_cut_off_is_refused(meld: Any) -> None:
    path = meld.csv("train", [meld.row(0, 0), meld.row(0, 1)])
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(BadTable, match=r"train_sent_emo\.csv, line 3: not CSV"):
        _read(meld, splits=("train",))


def test_annotations_without_a_single_row_are_refused(meld: Any) -> None:
    meld.csv("train", [])
    with pytest.raises(RawDataMissing, match=r"train_sent_emo\.csv holds no utterance"):
        _read(meld, splits=("train",))


@pytest.mark.parametrize(
    ("start", "end", "seconds", "details"),
    [
        ("0:36:59,425", "00:37:00.000", (2219.425, 2220.0), []),
        (
            "00:00:05,000",
            "00:00:04,000",
            (5.0, 5.0),
            ["EndTime '00:00:04,000' is before StartTime '00:00:05,000'; the end was set to the start"],
        ),
        ("00:00:05,000", "soon", (5.0, 5.0), ["EndTime 'soon' is not a time"]),
        ("", "00:00:04,000", (4.0, 4.0), ["StartTime '' is not a time"]),
        (
            "-1:00:00,000",
            "00:61:00,000",
            (0.0, 0.0),
            ["StartTime '-1:00:00,000' is not a time", "EndTime '00:61:00,000' is not a time"],
        ),
        (
            "00:05:05,680",
            "00:05:11,82",
            (305.68, 311.82),
            ["EndTime '00:05:11,82' lacks a digit; read as 311.82 s of the episode"],
        ),
    ],
)
def test_times_are_read_or_repaired_and_recorded(
    meld: Any, start: str, end: str, seconds: tuple[float, float], details: list[str]
) -> None:
    reading = _train(meld, meld.row(0, 0, StartTime=start, EndTime=end))
    utterance = _only(reading)
    assert (utterance.start_seconds, utterance.end_seconds) == seconds
    assert [(failure.reason, failure.modality, failure.detail) for failure in reading.failures] == [
        ("annotation_repaired", "all", detail) for detail in details
    ]
    assert building.build("meld", reading.dialogues, label_set("meld7")).num_rows == 1


def test_an_utterance_without_duration_is_kept_and_recorded(meld: Any) -> None:
    meld.csv("test", [meld.row(0, 0, StartTime="00:00:12,632", EndTime="00:00:12,632")])
    reading = _read(meld, splits=("test",))
    utterance = _only(reading)
    assert (utterance.start_seconds, utterance.end_seconds, utterance.expected_seconds) == (12.632, 12.632, None)
    assert [(failure.reason, failure.modality, failure.kind) for failure in reading.failures] == [
        ("span_empty", "all", "altered")
    ]


def test_plain_test_clips_alone_are_expected_to_last_as_long_as_their_annotation(meld: Any) -> None:
    for split in SPLITS:
        meld.csv(split, [meld.row(0, u, StartTime="00:00:01,000", EndTime="00:00:03,250") for u in range(3)])
        meld.clips(split, ["dia0_utt0.mp4", "dia0_utt1.mp4", "dia0_utt2.mp4"])
    meld.clips("test", ["final_videos_testdia0_utt1.mp4"])
    expected = {
        dialogue.split: [one.expected_seconds for one in dialogue.utterances] for dialogue in _read(meld).dialogues
    }
    assert expected == {"train": [None] * 3, "dev": [None] * 3, "test": [2.25, None, 2.25]}


@pytest.mark.parametrize(
    ("text", "start", "end", "expected", "reasons"),
    [
        ("x" * 70, "00:00:01,000", "00:00:03,000", 2.0, []),  # 35 characters a second
        ("x" * 71, "00:00:01,000", "00:00:03,000", None, ["span_doubted"]),
        ("No.", "00:00:01,000", "00:00:01,500", 0.5, []),
        ("No.", "00:00:01,000", "00:00:01,499", None, ["span_doubted"]),
        ("No.", "00:00:01,000", "00:00:03,50", None, ["annotation_repaired"]),
    ],
)
def test_an_annotation_that_is_too_short_to_be_true_cuts_nothing(
    meld: Any, text: str, start: str, end: str, expected: float | None, reasons: list[str]
) -> None:
    meld.csv("test", [meld.row(0, 0, Utterance=text, StartTime=start, EndTime=end)])
    reading = _read(meld, splits=("test",))
    assert _only(reading).expected_seconds == expected
    assert [failure.reason for failure in reading.failures] == reasons


def test_speakers_have_one_spelling_and_keep_that_of_the_corpus_next_to_it(meld: Any) -> None:
    names = ["Phoebe Sr", "Phoebe Sr.", "The Interviewer", "Interviewer", "Ross and Joey", "Joey and Ross"]
    reading = _train(meld, *(meld.row(0, number, Speaker=name) for number, name in enumerate(names)))
    table = building.build("meld", reading.dialogues, label_set("meld7"))
    assert table["speaker"].to_pylist() == [
        "Phoebe Sr.",
        "Phoebe Sr.",
        "Interviewer",
        "Interviewer",
        "Joey and Ross",
        "Joey and Ross",
    ]
    assert table["speaker_index"].to_pylist() == [0, 0, 1, 1, 2, 2]
    assert table["source_speaker"].to_pylist() == names


def test_the_corpus_may_be_in_the_folder_of_the_archive(meld: Any) -> None:
    meld.csv("train", [meld.row(0, 0)], folder="MELD.Raw")
    meld.clips("train", ["dia0_utt0.mp4"], folder="MELD.Raw")
    reading = _read(meld, media=frozenset({"audio"}), splits=("train",))
    assert _only(reading).video_path == "meld/MELD.Raw/train_splits/dia0_utt0.mp4"


def test_raw_may_be_the_folder_of_the_corpus_itself(meld: Any) -> None:
    meld.csv("train", [meld.row(0, 0)])
    assert _only(_read(meld, splits=("train",), raw=meld.root)).video_path == "train_splits/dia0_utt0.mp4"


@pytest.mark.parametrize("folder", [".", "MELD.Raw"])
def test_the_result_is_the_same_with_and_without_media(meld: Any, folder: str) -> None:
    meld.csv("train", [meld.row(0, 0), meld.row(0, 1)], folder=folder)
    without = _read(meld, splits=("train",))
    meld.clips("train", ["dia0_utt0.mp4", "dia0_utt1.mp4"], folder=folder)
    assert _read(meld, splits=("train",)) == without
    assert replace(_read(meld, splits=("train",), media=frozenset({"audio", "visual"})), missing={}) == without


def test_replaced_test_clips_are_preferred_and_shadow_files_are_not_taken_for_clips(meld: Any) -> None:
    for split in SPLITS:
        meld.csv(split, [meld.row(0, u) for u in range(3)])
        meld.clips(split, ["dia0_utt0.mp4", "dia0_utt1.mp4", "dia0_utt2.mp4", "._dia0_utt2.mp4"])
    meld.clips("test", ["final_videos_testdia0_utt1.mp4", "._final_videos_testdia0_utt2.mp4"])
    paths = [
        utterance.video_path
        for dialogue in _read(meld, media=frozenset({"visual"})).dialogues
        for utterance in dialogue.utterances
    ]
    assert paths == [
        "meld/train_splits/dia0_utt0.mp4",
        "meld/train_splits/dia0_utt1.mp4",
        "meld/train_splits/dia0_utt2.mp4",
        "meld/dev_splits_complete/dia0_utt0.mp4",
        "meld/dev_splits_complete/dia0_utt1.mp4",
        "meld/dev_splits_complete/dia0_utt2.mp4",
        "meld/output_repeated_splits_test/dia0_utt0.mp4",
        "meld/output_repeated_splits_test/final_videos_testdia0_utt1.mp4",
        "meld/output_repeated_splits_test/dia0_utt2.mp4",
    ]


def test_missing_annotations_are_reported_with_the_tree_what_was_found_and_where_to_ask(meld: Any) -> None:
    meld.csv("dev", [meld.row(0, 0)])
    meld.clips("dev", ["dia0_utt0.mp4", "._dia0_utt0.mp4"])
    with pytest.raises(RawDataMissing) as raised:
        _read(meld)
    message = str(raised.value)
    assert raised.value.exit_code == 4
    assert message.startswith(
        f"MELD: train_sent_emo.csv, test_sent_emo.csv not found in {meld.root}.\nExpected in {meld.root} (or in its"
        " MELD.Raw):\n    train_sent_emo.csv\n"
    )
    assert (
        "Found:\n"
        "    train_sent_emo.csv: missing\n"
        "    dev_sent_emo.csv: there\n"
        "    test_sent_emo.csv: missing\n"
        "    train_splits/: missing\n"
        "    dev_splits_complete/: 1 clips\n"
        "    output_repeated_splits_test/: missing\n" in message
    )
    assert "https://github.com/declare-lab/MELD" in message


def test_a_corpus_folder_that_does_not_exist_is_missing_data(tmp_path: Path) -> None:
    reader = Meld(Meld.Config(reader="meld"))
    with pytest.raises(RawDataMissing, match="not found in"):
        reader.read(tmp_path / "raw" / "meld", tmp_path / "raw", media=NO_MEDIA, splits=SPLITS)


def test_missing_clips_matter_only_if_media_are_wanted_and_only_for_wanted_splits(meld: Any) -> None:
    meld.small()
    meld.clips("dev", ["dia0_utt0.mp4", "dia0_utt1.mp4"])
    assert _read(meld).missing == {}
    assert _read(meld, media=frozenset({"audio"}), splits=("dev",)).missing == {"audio": {}}
    missing = _read(meld, media=frozenset({"audio"})).missing["audio"]
    assert len(missing) == 10
    assert missing["train/dia0_utt0"] == "meld/train_splits/dia0_utt0.mp4"


def test_media_of_which_none_is_there_are_refused_with_the_tree_that_is_expected(meld: Any) -> None:
    meld.csv("train", [meld.row(0, 0)])
    meld.clips("train", ["._dia0_utt0.mp4", "dia0_utt0.avi", "dia00_utt0.mp4"])
    with pytest.raises(
        RawDataMissing, match=r"(?s)there is not one of 1 clips\..*Expected in .*train_splits/dia\{D\}_utt\{U\}\.mp4"
    ):
        _read(meld, media=frozenset({"audio"}), splits=("train",))


def test_a_split_whose_link_leads_nowhere_is_reported_as_such(meld: Any) -> None:
    meld.csv("train", [meld.row(0, 0)])
    (meld.root / "train_splits").symlink_to("gone")
    with pytest.raises(RawDataMissing, match="train_splits/: a broken link"):
        _read(meld, media=frozenset({"audio"}), splits=("train",))


@pytest.mark.parametrize("folder", ["MELD.Raw/MELD.Raw", "data/MELD", "a/b/c"])
def test_the_corpus_is_found_in_the_folders_that_were_put_around_it(meld: Any, folder: str) -> None:
    meld.csv("train", [meld.row(0, 0)], folder=folder)
    meld.clips("train", ["dia0_utt0.mp4"], folder=f"{folder}")
    reading = _read(meld, media=frozenset({"audio"}), splits=("train",))
    assert _only(reading).video_path == f"meld/{folder}/train_splits/dia0_utt0.mp4"
    assert reading.missing == {"audio": {}}


def test_clips_may_be_one_level_below_the_annotations_as_their_archive_was_unpacked(meld: Any) -> None:
    meld.csv("train", [meld.row(0, 0)])
    meld.clips("train", ["dia0_utt0.mp4"], folder="train")
    (meld.root / "__MACOSX" / "train_splits").mkdir(parents=True)
    assert (
        _only(_read(meld, media=frozenset({"audio"}), splits=("train",))).video_path
        == "meld/train/train_splits/dia0_utt0.mp4"
    )


def test_two_folders_that_may_be_meant_are_both_named(meld: Any) -> None:
    for folder in ("copy", "original"):
        meld.csv("train", [meld.row(0, 0)], folder=folder)
    with pytest.raises(
        RawDataMissing, match=r"meld/copy and .*meld/original both hold train_sent_emo\.csv; remove one"
    ):
        _read(meld, splits=("train",))


def test_capitals_in_the_suffix_of_a_clip_do_not_matter(meld: Any) -> None:
    meld.csv("train", [meld.row(0, 0), meld.row(0, 1)])
    meld.clips("train", ["dia0_utt0.MP4", "dia0_utt1.MP4", "dia0_utt1.mp4"])
    reading = _read(meld, media=frozenset({"visual"}), splits=("train",))
    assert [Path(one.video_path).name for one in reading.dialogues[0].utterances] == ["dia0_utt0.MP4", "dia0_utt1.mp4"]
    assert reading.missing == {"visual": {}}


def test_audio_comes_from_a_wav_where_there_is_no_clip_and_that_is_reported(meld: Any) -> None:
    meld.csv("train", [meld.row(0, 0), meld.row(0, 1)])
    meld.clips("train", ["dia0_utt0.wav", "dia0_utt1.wav", "dia0_utt1.mp4"])
    reading = _read(meld, media=frozenset({"audio", "visual"}), splits=("train",))
    assert [Path(one.audio_path).name for one in reading.dialogues[0].utterances] == ["dia0_utt0.wav", "dia0_utt1.mp4"]
    assert reading.missing == {"audio": {}, "visual": {"train/dia0_utt0": "meld/train_splits/dia0_utt0.mp4"}}
    assert reading.deviations == ["train: 1 utterances have their sound from a wav, since there is no mp4: dia0_utt0"]


def test_where_there_are_wavs_alone_the_message_says_how_to_do_without_video(meld: Any) -> None:
    meld.csv("train", [meld.row(0, 0)])
    meld.clips("train", ["dia0_utt0.wav"])
    with pytest.raises(
        RawDataMissing, match="not one of 1 clips; their audio exists, and --modalities text,audio reads it"
    ):
        _read(meld, media=frozenset({"audio", "visual"}), splits=("train",))


def test_a_word_for_a_label_is_read_as_it_and_that_is_reported(meld: Any) -> None:
    reading = _train(
        meld,
        meld.row(0, 0, Emotion="Happiness", Sentiment="pos"),
        meld.row(0, 1, Emotion="happiness"),
        meld.row(0, 2, Emotion="NEUTRAL"),
    )
    assert [one.emotion for one in reading.dialogues[0].utterances] == ["joy", "joy", "neutral"]
    assert reading.deviations == [
        "train: Emotion 'Happiness' is read as 'joy', in 1 utterances",
        "train: Emotion 'happiness' is read as 'joy', in 1 utterances",
        "train: Sentiment 'pos' is read as 'positive', in 1 utterances",
    ]


def _replaced(meld: Any, folder: str, media: frozenset[str] = frozenset({"visual"})) -> Reading:
    reader = Meld(Meld.Config(reader="meld", check_counts=False, replacements=folder))
    return reader.read(meld.root, meld.raw, media=media, splits=SPLITS)


def test_clips_of_a_folder_of_replacements_take_the_place_of_the_corpuss_own_and_that_is_reported(meld: Any) -> None:
    for split in SPLITS:
        meld.csv(split, [meld.row(0, 0), meld.row(0, 1)])
        meld.clips(split, ["dia0_utt0.mp4"])
    meld.clips("test", ["final_videos_testdia0_utt1.mp4"])
    for name in ("dev/dia0_utt1.mp4", "test/dia0_utt1.MP4", "train/dia9_utt9.mp4", "train/dia0_utt1.mp4"):
        path = meld.root / "replacements" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    reading = _replaced(meld, "meld/replacements")
    paths = {dialogue.split: dialogue.utterances[1].video_path for dialogue in reading.dialogues}
    assert paths == {
        "train": "meld/replacements/train/dia0_utt1.mp4",
        "dev": "meld/replacements/dev/dia0_utt1.mp4",
        "test": "meld/replacements/test/dia0_utt1.MP4",
    }
    assert reading.missing == {"visual": {}}
    assert [one.expected_seconds for one in reading.dialogues[-1].utterances] == [
        1.5,
        None,
    ]  # the user's own clip is not cut
    assert reading.deviations == [
        "train: 1 clips replaced by those of meld/replacements/train: dia0_utt1",
        "dev: 1 clips replaced by those of meld/replacements/dev: dia0_utt1",
        "test: 1 clips replaced by those of meld/replacements/test: dia0_utt1",
        "meld/replacements: train/dia9_utt9 replace no clip of MELD",
    ]


def test_a_folder_of_replacements_that_is_not_there_is_named(meld: Any) -> None:
    meld.small()
    with pytest.raises(
        RawDataMissing,
        match=(
            r"replacements: .*meld/fixed is not a folder with one of train, dev, test in it, such as"
            r" .*fixed/train/dia125_utt3\.mp4"
        ),
    ):
        _replaced(meld, "meld/fixed")
    for outside in ("/fixed", "../fixed"):
        with pytest.raises(ValueError, match="expected a path below the folder raw/"):
            Meld.Config(reader="meld", replacements=outside)


def test_clip_folders_are_listed_once_and_clips_are_not_looked_at_one_by_one(
    meld: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in SPLITS:
        meld.csv(split, [meld.row(d, u) for d in range(20) for u in range(10)])
        meld.clips(split, [f"dia{d}_utt{u}.mp4" for d in range(20) for u in range(10)])
    listed, looked_at = [], []
    scandir, stat = os.scandir, os.stat
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(Path(path).name) or scandir(path))
    monkeypatch.setattr(os, "stat", lambda path, *how, **more: looked_at.append(str(path)) or stat(path, *how, **more))
    _read(meld, media=frozenset({"audio", "visual"}))
    assert listed == ["train_splits", "dev_splits_complete", "output_repeated_splits_test"]
    assert not [path for path in looked_at if path.endswith(".mp4")]
    assert len(looked_at) < 30


def test_counts_that_are_not_those_of_the_distribution_are_reported_line_by_line(meld: Any) -> None:
    meld.csv("dev", [meld.row(0, 0), meld.row(0, 1, Emotion="joy", Sentiment="positive"), meld.row(1, 0)])
    assert _read(meld, splits=("dev",), check_counts=True).deviations == [
        "dev: 3 utterances instead of 1109",
        "dev: 2 dialogues instead of 114",
        "dev: 2 utterances with emotion neutral instead of 470",
        "dev: 1 utterances with emotion joy instead of 163",
        "dev: 0 utterances with emotion surprise instead of 150",
        "dev: 0 utterances with emotion anger instead of 153",
        "dev: 0 utterances with emotion sadness instead of 111",
        "dev: 0 utterances with emotion disgust instead of 22",
        "dev: 0 utterances with emotion fear instead of 40",
        "dev: 1 utterances with sentiment positive instead of 233",
        "dev: 0 utterances with sentiment negative instead of 406",
        "dev: 2 utterances with sentiment neutral instead of 470",
    ]
    assert _read(meld, splits=("dev",), check_counts=False).deviations == []


@pytest.fixture(scope="module")
def real(real_data: Path) -> Reading:
    reader = Meld(Meld.Config(reader="meld"))
    return reader.read(real_data / "meld", real_data, media=NO_MEDIA, splits=SPLITS)


@pytest.fixture(scope="module")
def real_table(real: Reading) -> pa.Table:
    return building.build("meld", real.dialogues, label_set("meld7"))


def _per_split(table: pa.Table, column: str) -> dict[str, dict[str, int]]:
    pairs = Counter(zip(table["split"].to_pylist(), table[column].to_pylist(), strict=True))
    return {split: {value: count for (where, value), count in pairs.items() if where == split} for split in SPLITS}


def test_the_real_annotations_have_the_counts_of_the_distribution(real: Reading, real_table: pa.Table) -> None:
    assert real.deviations == []
    assert Counter(dialogue.split for dialogue in real.dialogues) == {"train": 1038, "dev": 114, "test": 280}
    assert Counter(real_table["split"].to_pylist()) == {"train": 9989, "dev": 1109, "test": 2610}
    assert _per_split(real_table, "emotion") == {
        "train": {
            "neutral": 4710,
            "joy": 1743,
            "surprise": 1205,
            "anger": 1109,
            "sadness": 683,
            "disgust": 271,
            "fear": 268,
        },
        "dev": {"neutral": 470, "joy": 163, "surprise": 150, "anger": 153, "sadness": 111, "disgust": 22, "fear": 40},
        "test": {"neutral": 1256, "joy": 402, "surprise": 281, "anger": 345, "sadness": 208, "disgust": 68, "fear": 50},
    }
    assert _per_split(real_table, "sentiment") == {
        "train": {"positive": 2334, "negative": 2945, "neutral": 4710},
        "dev": {"positive": 233, "negative": 406, "neutral": 470},
        "test": {"positive": 521, "negative": 833, "neutral": 1256},
    }
    assert Counter(real_table["emotion_index"].to_pylist())[4] == 1743 + 163 + 402


def _as_written(dialogue: Dialogue) -> int:
    return len({one.source_speaker for one in dialogue.utterances})


def test_the_real_dialogues_have_their_known_sizes_speakers_and_gaps(real: Reading) -> None:
    of_split = {split: [dialogue for dialogue in real.dialogues if dialogue.split == split] for split in SPLITS}
    lengths = {split: [len(dialogue.utterances) for dialogue in dialogues] for split, dialogues in of_split.items()}
    assert {split: (min(sizes), max(sizes)) for split, sizes in lengths.items()} == {
        "train": (1, 24),
        "dev": (1, 23),
        "test": (1, 33),
    }
    speakers = {
        split: [{utterance.source_speaker for utterance in dialogue.utterances} for dialogue in dialogues]
        for split, dialogues in of_split.items()
    }
    assert {split: len(set().union(*each)) for split, each in speakers.items()} == {
        "train": 260,
        "dev": 47,
        "test": 100,
    }
    assert {split: max(map(len, each)) for split, each in speakers.items()} == {"train": 9, "dev": 8, "test": 8}
    persons = {
        split: {utterance.speaker for dialogue in each for utterance in dialogue.utterances}
        for split, each in of_split.items()
    }
    assert {split: len(each) for split, each in persons.items()} == {"train": 254, "dev": 47, "test": 99}
    together = [
        dialogue.dialogue_id
        for dialogue in real.dialogues
        if len({one.speaker for one in dialogue.utterances}) < _as_written(dialogue)
    ]
    assert together == []  # no two speakers of a dialogue are merged
    numbers = {
        split: [
            [int(utterance.source_utterance_id.split("_utt")[1]) for utterance in dialogue.utterances]
            for dialogue in each
        ]
        for split, each in of_split.items()
    }
    assert {split: sum(one != list(range(len(one))) for one in each) for split, each in numbers.items()} == {
        "train": 72,
        "dev": 2,
        "test": 2,
    }
    assert "train/dia60" not in {dialogue.dialogue_id for dialogue in real.dialogues}
    assert {"train/dia59", "train/dia61", "dev/dia60", "test/dia60"} <= {
        dialogue.dialogue_id for dialogue in real.dialogues
    }


def test_positions_in_the_real_table_are_dense(real_table: pa.Table) -> None:
    bounds = manifest.dialogue_bounds(real_table)
    assert len(bounds) == 1432
    assert real_table["position"].to_pylist() == [
        position for start, stop in bounds for position in range(stop - start)
    ]


def test_of_the_real_annotations_three_times_are_repaired_and_too_short_ones_of_test_doubted(real: Reading) -> None:
    doubted = [failure for failure in real.failures if failure.reason == "span_doubted"]
    assert [(failure.utterance_id, failure.reason) for failure in real.failures if failure not in doubted] == [
        ("train/dia437_utt2", "annotation_repaired"),
        ("test/dia155_utt3", "span_empty"),
        ("test/dia187_utt2", "annotation_repaired"),
        ("test/dia233_utt8", "annotation_repaired"),
    ]
    assert {failure.utterance_id.partition("/")[0] for failure in doubted} == {"test"}
    assert len(doubted) == 108  # recounted with only the csv module
    assert ("test/dia242_utt1", "0.140 s for 75 characters") in [
        (failure.utterance_id, failure.detail) for failure in doubted
    ]
    by_id = {
        dialogue.utterance_id(utterance): utterance for dialogue in real.dialogues for utterance in dialogue.utterances
    }
    still = by_id["test/dia155_utt3"]
    assert still.start_seconds == still.end_seconds == 752.632
    assert round(by_id["test/dia38_utt4"].end_seconds - by_id["test/dia38_utt4"].start_seconds, 2) == 304.94


def test_no_real_utterance_is_altered_by_the_repair(real_data: Path) -> None:
    texts = [
        row.cells["Utterance"]
        for split in SPLITS
        for row in read_rows(real_data / "meld" / f"{split}_sent_emo.csv", ("Utterance",))
    ]
    assert len(texts) == 13_708
    assert [text for text in texts if text_repair.repair(text) != text] == []
    assert sum("’" in text for text in texts) > 3000  # they would reveal a repair that straightens quotes


def test_real_texts_saved_with_the_wrong_code_page_are_repaired(real_data: Path) -> None:
    """As in older copies: cp1252 bytes read as latin-1, which turned curly quotes into control characters."""
    texts = [row.cells["Utterance"] for row in read_rows(real_data / "meld" / "dev_sent_emo.csv", ("Utterance",))]
    damaged = [text.encode("cp1252").decode("latin-1") for text in texts]
    assert sum(before != after for before, after in zip(texts, damaged, strict=True)) > 300
    assert [text_repair.repair(text) for text in damaged] == texts
