"""The demonstration corpus: raw layouts, odd clips, faces, voices, and the same bytes every time."""

import csv
import io
import os
import re
import wave
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from merc.corpora.demo import iemocap_layout, meld_layout
from merc.corpora.demo import make as demo
from merc.corpora.demo.config import Config
from merc.corpora.iemocap import Iemocap
from merc.corpora.meld import Meld
from merc.corpora.stage import choose
from merc.errors import BadSettings
from merc.params import Params
from merc.records.failures import Failure


@pytest.fixture(scope="module")
def raw(demonstration: Path) -> Path:
    return demonstration / "raw"


@pytest.fixture(scope="module")
def shipped() -> Config:
    """The shipped settings."""
    return Config()


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def rows(raw: Path, split: str) -> list[dict[str, str]]:
    text = (raw / "demo-meld" / f"{split}_sent_emo.csv").read_bytes().decode("utf-8", errors="replace")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def sound(path: Path) -> np.ndarray:
    """(channels, samples)."""
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)


def pictures(path: Path) -> list[np.ndarray]:
    """Grey frames."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def length_seconds(path: Path) -> float:
    with av.open(str(path)) as container:
        return container.duration / av.time_base


def annotated_seconds(row: dict[str, str]) -> float:
    def seconds(cell: str) -> float:
        hours, minutes, rest = cell.replace(",", ".").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(rest)

    return seconds(row["EndTime"]) - seconds(row["StartTime"])


def one_of_each_kind(jobs: list[Any]) -> list[Any]:
    """All recordings, and a clip of each kind from every split."""
    clips = {
        (str(Path(job[-1].path).parent), job[-1].odd): job
        for job in reversed(jobs)
        if isinstance(job[-1], meld_layout.Clip)
    }
    return [job for job in jobs if not isinstance(job[-1], meld_layout.Clip) or job in clips.values()]


def test_the_bytes_depend_neither_on_the_number_of_processes_nor_on_what_else_is_made(
    raw: Path, tmp_path: Path, demo_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = demo._plan
    monkeypatch.setattr(demo, "_plan", lambda *given: one_of_each_kind(plan(*given)))
    demo.make(tmp_path, Config(**{**demo_settings, "iemocap_dialogues": 1}), workers=1)
    few, all_clips = content(tmp_path / "demo-meld"), content(raw / "demo-meld")
    assert len(few) == 3 + 1 + 12  # annotations, a stray file, a normal clip of each split, and nine odd ones
    assert few == {name: all_clips[name] for name in few}
    one_dialogue = content(tmp_path / "demo-iemocap")
    assert (
        len(one_dialogue) == 1 + 1 + 1 + 1 + 8 + 3
    )  # evaluation, transcription, video, audio, sentences, three stray files
    everything = content(raw / "demo-iemocap")
    assert one_dialogue == {name: everything[name] for name in one_dialogue}


def test_an_interrupted_run_leaves_no_half_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_settings: dict[str, Any]
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(meld_layout, "write_clip", full_disk)
    monkeypatch.setattr(iemocap_layout, "write_recording", lambda *_: None)
    with pytest.raises(OSError, match="No space left"):
        demo.make(tmp_path, Config(**demo_settings), workers=1)
    assert list(tmp_path.iterdir()) == []


def test_an_old_corpus_and_the_leftovers_of_a_killed_run_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_settings: dict[str, Any]
) -> None:
    monkeypatch.setattr(meld_layout, "write_clip", lambda *_: None)
    monkeypatch.setattr(iemocap_layout, "write_recording", lambda *_: None)
    for name in (".demo-unfinished-killed", ".demo-unfinished-going-on", "demo-meld"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "old").touch()
    os.utime(tmp_path / ".demo-unfinished-killed", (1e9, 1e9))
    demo.make(tmp_path, Config(**demo_settings), workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".demo-unfinished-going-on",
        "demo-iemocap",
        "demo-meld",
    ]
    assert not (tmp_path / "demo-meld" / "old").exists()


def test_of_two_runs_at_a_time_the_first_to_end_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_settings: dict[str, Any]
) -> None:
    def other_run(*_: object) -> None:
        (tmp_path / "demo-iemocap").mkdir(exist_ok=True)
        (tmp_path / "demo-iemocap" / "by another run").touch()

    monkeypatch.setattr(meld_layout, "write_clip", other_run)
    monkeypatch.setattr(iemocap_layout, "write_recording", lambda *_: None)
    demo.make(tmp_path, Config(**demo_settings), workers=1)
    assert [path.name for path in (tmp_path / "demo-iemocap").iterdir()] == ["by another run"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo-iemocap", "demo-meld"]


def test_an_impossible_setting_is_named_before_anything_is_made(demo_settings: dict[str, Any]) -> None:
    with pytest.raises(BadSettings, match=r"demo\.misleading_face"):
        choose(Params({"demo": {**demo_settings, "misleading_face": 1.5}}), "demo-meld")


def test_meld_annotations_have_the_form_of_the_distribution(raw: Path) -> None:
    for split in ("train", "dev", "test"):
        data = (raw / "demo-meld" / f"{split}_sent_emo.csv").read_bytes()
        assert data.startswith(
            b"Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\r\n"
        )
        assert data.count(b"\n") == data.count(b"\r\n")
        assert re.search(rb',"0?0:\d\d:\d\d,\d{3}","0?0:\d\d:\d\d,\d{3}"\r\n', data)
    hours = {row["StartTime"].split(":")[0] for split in ("train", "test") for row in rows(raw, split)}
    assert hours == {"0", "00"}
    train = (raw / "demo-meld" / "train_sent_emo.csv").read_bytes()
    assert "\x92".encode() in train
    assert "â€™".encode() in train
    assert b"\x92" in train.replace("\x92".encode(), b"").replace("’".encode(), b"")


def test_every_meld_row_has_its_clip_but_one(raw: Path) -> None:
    missing = []
    for split, folder in (
        ("train", "train_splits"),
        ("dev", "dev_splits_complete"),
        ("test", "output_repeated_splits_test"),
    ):
        for row in rows(raw, split):
            path = raw / "demo-meld" / folder / f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}.mp4"
            missing += [] if path.is_file() else [path.name]
    assert missing == ["dia0_utt2.mp4"]


def test_ids_have_gaps_as_in_meld(raw: Path) -> None:
    train = rows(raw, "train")
    assert list(dict.fromkeys(row["Dialogue_ID"] for row in train)) == ["0", "1", "3"]
    assert [row["Utterance_ID"] for row in train if row["Dialogue_ID"] == "1"][:5] == ["0", "1", "2", "4", "5"]
    assert Counter(row["Sr No."] for row in train)["2"] == 2


def test_a_usual_clip_is_h264_at_film_speed_with_stereo_aac(raw: Path) -> None:
    with av.open(str(raw / "demo-meld/train_splits/dia0_utt0.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.width, video.height, video.average_rate) == (
            "h264",
            640,
            360,
            Fraction(24_000, 1001),
        )
        assert (audio.codec_context.name, audio.rate, audio.layout.name) == ("aac", 48_000, "stereo")
        assert "creation_time" not in container.metadata
    assert length_seconds(raw / "demo-meld/train_splits/dia0_utt0.mp4") == pytest.approx(
        annotated_seconds(rows(raw, "train")[0]), abs=0.08
    )


def test_broken_clips_are_broken_as_in_meld(raw: Path) -> None:
    clips = raw / "demo-meld" / "train_splits"
    with pytest.raises(av.error.InvalidDataError):
        av.open(str(clips / "dia1_utt2.mp4"))
    assert (clips / "dia3_utt1.mp4").read_bytes() == b""
    with av.open(str(clips / "dia1_utt5.mp4")) as container:
        assert not container.streams.video
    assert sound(clips / "dia1_utt5.mp4").shape[1] > 0.7 * 48_000
    assert (clips / "._dia0_utt0.mp4").stat().st_size < 100


def test_the_surround_clip_has_its_dialogue_in_the_front_centre(raw: Path) -> None:
    with av.open(str(raw / "demo-meld/train_splits/dia0_utt1.mp4")) as container:
        assert [channel.name for channel in container.streams.audio[0].layout.channels] == [
            "FL",
            "FR",
            "FC",
            "LFE",
            "BL",
            "BR",
        ]
    channels = sound(raw / "demo-meld/train_splits/dia0_utt1.mp4")
    level_db = 10 * np.log10(np.mean(channels**2, axis=1))
    # 13 dB as mixed; the codec and the noise in the front pair reduce it a little.
    assert level_db[2] - level_db[0] == pytest.approx(13, abs=1.5)
    assert level_db[4] == pytest.approx(-32, abs=2)


def test_the_short_audio_lasts_less_than_a_tenth_of_a_second(raw: Path) -> None:
    path = raw / "demo-meld/train_splits/dia3_utt3.mp4"
    assert 0 < sound(path).shape[1] < 0.1 * 48_000
    assert len(pictures(path)) >= 19


def test_a_replacement_is_next_to_a_clip_merged_with_its_neighbour(raw: Path) -> None:
    folder, row = raw / "demo-meld" / "output_repeated_splits_test", rows(raw, "test")[2]
    assert (row["Dialogue_ID"], row["Utterance_ID"]) == ("0", "2")
    assert length_seconds(folder / "final_videos_testdia0_utt2.mp4") == pytest.approx(annotated_seconds(row), abs=0.08)
    assert length_seconds(folder / "dia0_utt2.mp4") > 1.8 * annotated_seconds(row)


def test_a_clip_may_outlast_its_annotation_or_have_none_of_any_length(raw: Path) -> None:
    folder = raw / "demo-meld" / "output_repeated_splits_test"
    second = [row for row in rows(raw, "test") if row["Dialogue_ID"] == "1"]
    assert length_seconds(folder / "dia1_utt1.mp4") > annotated_seconds(second[1]) + 0.7
    assert annotated_seconds(second[3]) == 0
    assert length_seconds(folder / "dia1_utt3.mp4") > 0.7


def test_the_readers_read_it_with_no_other_surprise_than_those_made(raw: Path) -> None:
    config = {"reader": "", "label_set": "meld7", "check_counts": False, "max_characters_per_second": 1000}
    reading = Meld(Meld.Config(**config)).read(
        raw / "demo-meld", raw, media=frozenset(), splits=("train", "dev", "test")
    )
    assert reading.deviations == []
    assert Counter(failure.reason for failure in reading.failures) == {"text_repaired": 3, "span_empty": 1}
    assert "final_videos_testdia0_utt2.mp4" in {
        Path(one.video_path).name for dialogue in reading.dialogues for one in dialogue.utterances
    }
    texts = " ".join(one.text for dialogue in reading.dialogues for one in dialogue.utterances)
    assert not re.search("[\x80-\x9f�]|â€", texts)

    config = {"reader": "", "label_set": "iemocap6", "check_counts": False}
    reading = Iemocap(Iemocap.Config(**config)).read(
        raw / "demo-iemocap", raw, media=frozenset({"audio", "visual"}), splits=("train", "dev", "test")
    )
    assert reading.deviations == []  # which includes: the official labels follow from the raters' votes
    for votes in reading.checks["louder_channel"].values():  # the one on the left is louder in the left channel
        assert votes["utterances"] > 0
        assert (
            votes["channel_agrees"] == votes["region_agrees"] >= 0.9 * votes["utterances"]
        )  # one is interrupted by the other
        assert votes["unreadable_files"] == 0
    broken_rating = Failure(
        "train/Ses01F_impro03_M000",
        "manifest",
        "all",
        "annotation_repaired",
        "not three numbers: A-M1:\tval 6; act 6; dom ;\t()",
    )
    assert reading.failures == [broken_rating]
    by_split = Counter(dialogue.split for dialogue in reading.dialogues)
    assert by_split == {"train": 4, "dev": 1, "test": 1}
    interrupted = next(
        dialogue for dialogue in reading.dialogues if dialogue.source_dialogue_id == "Ses02F_script01_3"
    ).utterances
    assert interrupted[4].start_seconds > interrupted[5].start_seconds
    assert interrupted[4].start_seconds < interrupted[5].end_seconds


def test_one_undecided_utterance_is_happy_by_its_own_rating_alone(raw: Path) -> None:
    def happy(label_set: str) -> set[str]:
        config = Iemocap.Config(reader="", label_set=label_set, check_counts=False)
        reading = Iemocap(config).read(raw / "demo-iemocap", raw, media=frozenset(), splits=("train", "dev", "test"))
        return {
            one.source_utterance_id
            for dialogue in reading.dialogues
            for one in dialogue.utterances
            if one.emotion == "happy"
        }

    by_self_rating = happy("iemocap6") - happy("iemocap4_merged")
    assert len(by_self_rating) == 1
    assert by_self_rating.pop().startswith("Ses01F_impro03_")


def test_iemocap_has_the_layout_of_the_release(raw: Path, demo_settings: dict[str, Any]) -> None:
    release = raw / "demo-iemocap" / "IEMOCAP_full_release"
    assert sorted(path.name for path in release.iterdir()) == [f"Session{number}" for number in range(1, 6)]
    for recording in iemocap_layout.script(Config(**demo_settings)):
        dialogs = release / recording.session / "dialog"
        evaluation = (dialogs / "EmoEvaluation" / f"{recording.dialogue_id}.txt").read_bytes()
        assert b"\r" not in evaluation
        assert evaluation.startswith(b"% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n[")
        ids = re.findall(rb"\t(Ses\S+)\t", evaluation)
        assert ids == sorted(ids)
        transcription = (dialogs / "transcriptions" / f"{recording.dialogue_id}.txt").read_bytes()
        assert transcription.count(b"\n") == transcription.count(b"\r\n")
        for one in recording.spoken:
            with wave.open(
                str(release / recording.session / "sentences/wav" / recording.dialogue_id / f"{one.utterance_id}.wav")
            ) as file:
                assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
                assert file.getnframes() / 16_000 == pytest.approx(one.end_seconds - one.start_seconds, abs=0.00015)
    third = (release / "Session3/dialog/transcriptions/Ses03M_impro05a.txt").read_text(encoding="ascii")
    assert re.search(r"^Ses03M_impro05a_MXX0 \[\d{3}\.\d{4}-\d{3}\.\d{4}\]: ", third, re.MULTILINE)
    assert "\nM: Yeah.\n" in (release / "Session1/dialog/transcriptions/Ses01M_impro01.txt").read_text(encoding="ascii")


def test_the_marked_actor_sits_and_is_heard_on_the_left(raw: Path, demo_settings: dict[str, Any]) -> None:
    recording = next(
        one for one in iemocap_layout.script(Config(**demo_settings)) if one.dialogue_id == "Ses01M_impro01"
    )
    dialogs = raw / "demo-iemocap/IEMOCAP_full_release/Session1/dialog"
    with av.open(str(dialogs / "avi/DivX/Ses01M_impro01.avi")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.codec_tag, video.width, video.height) == (
            "mpeg4",
            "DX50",
            720,
            480,
        )
        assert (video.average_rate, audio.channels) == (Fraction(30_000, 1001), 2)
    with wave.open(str(dialogs / "wav/Ses01M_impro01.wav")) as file:
        assert (file.getframerate(), file.getnchannels()) == (16_000, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2).astype(float)
    alone = [one for index, one in enumerate(recording.spoken) if index not in (4, 5)]  # those two overlap
    for one in alone:
        left, right = (samples[one.span] ** 2).mean(axis=0)
        assert (left > right) == (one.turn.speaker == "M")


def test_the_cascade_finds_the_speakers_face_and_none_on_the_wall(raw: Path) -> None:
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")

    def widest(picture: np.ndarray) -> tuple[int, int, int, int] | None:
        half = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        found = cascade.detectMultiScale(half, 1.1, 4, minSize=(28, 28))
        return max((tuple(box) for box in found), key=lambda box: box[2], default=None)

    clips = sorted((raw / "demo-meld/output_repeated_splits_test").glob("*.mp4"))
    boxes = [widest(picture) for path in clips for picture in pictures(path)[::10]]
    found = [box for box in boxes if box is not None]
    assert len(found) >= 0.95 * len(boxes)
    middles = np.array([(x + width / 2, y + height / 2) for x, y, width, height in found])
    # In frames of 320 x 180 the speaker's face is within these bounds (see _close_up).
    assert ((middles[:, 0] > 95) & (middles[:, 0] < 225) & (middles[:, 1] > 75) & (middles[:, 1] < 115)).mean() > 0.95
    wall = pictures(raw / "demo-meld/train_splits/dia0_utt3.mp4")
    assert [widest(picture) for picture in wall[::5]] == [None] * len(wall[::5])


def test_the_shipped_corpus_has_enough_of_every_class(shipped: Config) -> None:
    by_split, clips = meld_layout.listing(shipped)
    counts = {split: Counter(line.turn.emotion for line in lines) for split, lines in by_split.items()}
    assert all(len(count) == 7 for count in counts.values())
    assert min(counts["train"].values()) >= 5
    assert sum(counts["test"].values()) >= 50
    assert all(count.most_common(1)[0][0] == "neutral" for count in counts.values())
    broken = sum(
        line.odd in ("truncated", "no_video", "empty", "missing") for lines in by_split.values() for line in lines
    )
    assert broken == 4
    assert broken < 0.05 * sum(len(lines) for lines in by_split.values())
    assert len({clip.path for clip in clips}) == len(clips)
    codes = {split: Counter() for split in ("train", "test")}
    for recording in iemocap_layout.script(shipped):
        codes["test" if recording.session == "Session5" else "train"] += Counter(one.code for one in recording.spoken)
    assert set(codes["train"]) == set(codes["test"]) == {"hap", "sad", "neu", "ang", "exc", "fru", "xxx"}


def test_no_sentence_is_said_twice(shipped: Config) -> None:
    texts = [line.turn.text for lines in meld_layout.script(shipped).values() for line in lines]
    assert len(set(texts)) == len(texts)


def test_each_modality_errs_as_often_as_set_and_by_itself(demo_settings: dict[str, Any]) -> None:
    config = Config(
        **{
            **demo_settings,
            "meld_train_dialogues": 120,
            "misleading_words": 0.2,
            "misleading_voice": 0.3,
            "misleading_face": 0.4,
        }
    )
    turns = [line.turn for line in meld_layout.script(config)["train"]]
    wrong = np.array(
        [[turn.words != turn.emotion, turn.voice != turn.emotion, turn.face != turn.emotion] for turn in turns]
    )
    # About 1000 turns: three standard errors are 0.05 for a share and 0.1 for a correlation.
    assert wrong.mean(axis=0) == pytest.approx([0.2, 0.3, 0.4], abs=0.05)
    assert np.abs(np.corrcoef(wrong.T) - np.eye(3)).max() < 0.1


def test_the_card_of_the_demonstration_forbids_nothing_and_that_of_a_real_corpus_does(demonstration: Path) -> None:
    shards = demonstration / "features" / "demo-meld" / "shards"
    card = (shards / "README.md").read_text(encoding="utf-8")
    assert "**This folder may be passed on: Apache-2.0. It was made by code and shows no real person.**" in card
    assert "not redistribute" not in card
    assert not any(
        choose(Params({}), name).reader.config.redistribution for name in ("meld", "iemocap", "emorynlp", "table")
    )
