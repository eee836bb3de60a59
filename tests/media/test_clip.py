"""Bad input: every fault ends in a row, none in an exception."""

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpora.failures import REASONS
from pipeline.media.clip import decode_dialogue
from pipeline.media.tables import SCHEMA
from pipeline.media.tasks import Clip, DialogueTask


def test_a_whole_clip_fills_every_column_and_fails_in_nothing_but_the_face(tmp_path: Path, write_media, decode_one):
    write_media(tmp_path / "a.mp4", layout="stereo", rate_hz=48_000)
    row, failures = decode_one(tmp_path, "a.mp4")
    assert list(row) == SCHEMA.names
    assert (row["audio_status"], row["audio_channels"], row["audio_channel_used"], row["sample_rate_source"]) == ("ok", 2, "FL*0.5+FR*0.5", 48_000)
    assert row["duration_seconds"] == pytest.approx(1.0, abs=0.03)  # AAC comes in packets of 1024 samples
    assert (row["visual_status"], row["frames_seen"], row["face_track"], row["faces"]) == ("no_face", 8, -1, [])
    assert failures == [("visual", "no_face")]


def test_an_mp4_without_its_index_is_undecodable_in_ffmpegs_words(tmp_path: Path, write_media, config, make_clip):
    write_media(tmp_path / "whole.mp4")
    content = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    task = DialogueTask(tmp_path, "meld", (make_clip("cut.mp4"),), frozenset({"audio", "visual"}), config, None)
    ((row, failures),) = decode_dialogue(task)
    assert (row["audio_status"], row["visual_status"]) == ("media_undecodable", "media_undecodable")
    assert [failure["modality"] for failure in failures] == ["audio", "visual"]
    assert "moov atom not found" in failures[0]["detail"]
    assert str(tmp_path) not in failures[0]["detail"]


def test_an_mp4_cut_in_the_middle_is_used_as_far_as_it_goes(tmp_path: Path, write_media, config, make_clip):
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 64_000)).astype(np.float32)
    write_media(tmp_path / "whole.mp4", seconds=4.0, sound_CS=noise, options={"movflags": "faststart"})
    content = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) * 6 // 10])
    task = DialogueTask(tmp_path, "meld", (make_clip("cut.mp4"),), frozenset({"audio", "visual"}), config, None)
    ((row, failures),) = decode_dialogue(task)
    assert row["audio_status"] == "ok"
    assert 1.0 < row["duration_seconds"] < 3.5
    assert 2 <= row["frames_seen"] < 8
    assert {(failure["modality"], failure["reason"]) for failure in failures} == {
        ("audio", "partly_decoded"),
        ("visual", "partly_decoded"),
        ("visual", "no_face"),
    }
    assert all(failure["detail"] for failure in failures)


def test_garbage_is_undecodable(tmp_path: Path, decode_one):
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(20_000))
    assert decode_one(tmp_path, "noise.mp4")[1] == [("audio", "media_undecodable"), ("visual", "media_undecodable")]


def test_a_playlist_is_not_followed(tmp_path: Path, write_media, decode_one):
    write_media(tmp_path / "a.mp4")
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile a.mp4\n")
    (tmp_path / "hls.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\na.mp4\n#EXT-X-ENDLIST\n")
    for name in ("list.mp4", "hls.m3u8"):
        assert decode_one(tmp_path, name)[1] == [("audio", "media_undecodable"), ("visual", "media_undecodable")]


def test_an_empty_file_is_named_so(tmp_path: Path, decode_one):
    (tmp_path / "empty.mp4").touch()
    row, failures = decode_one(tmp_path, "empty.mp4")
    assert failures == [("audio", "media_empty"), ("visual", "media_empty")]
    assert (row["audio"], row["faces"], row["audio_status"]) == (b"", [], "media_empty")


@pytest.mark.parametrize("path", ["gone.mp4", "", "folder"])
def test_a_file_that_is_not_there_is_named_so(tmp_path: Path, decode_one, path):
    (tmp_path / "folder").mkdir()
    assert decode_one(tmp_path, path)[1] == [("audio", "media_missing"), ("visual", "media_missing")]


def test_a_path_out_of_the_raw_folder_is_refused(tmp_path: Path, write_media, decode_one):
    raw = tmp_path / "raw"
    raw.mkdir()
    write_media(tmp_path / "secret.mp4")
    (raw / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    for path in ("link.mp4", "../secret.mp4", os.fspath(tmp_path / "secret.mp4")):
        row, failures = decode_one(raw, path)
        assert failures == [("audio", "media_refused"), ("visual", "media_refused")]
        assert row["audio"] == b""


def test_sound_without_pictures_and_pictures_without_sound(tmp_path: Path, write_media, decode_one):
    write_media(tmp_path / "sound.mp4", size=None)
    write_media(tmp_path / "pictures.mp4", layout=None)
    row, failures = decode_one(tmp_path, "sound.mp4")
    assert (row["audio_status"], row["visual_status"], failures) == ("ok", "no_video_stream", [("visual", "no_video_stream")])
    row, failures = decode_one(tmp_path, "pictures.mp4")
    assert (row["audio_status"], failures) == ("no_audio_stream", [("audio", "no_audio_stream"), ("visual", "no_face")])
    assert row["duration_seconds"] == pytest.approx(1.0, abs=0.01)


def test_a_clip_of_300_seconds_is_cut_and_says_so(tmp_path: Path, write_media, config, make_clip):
    write_media(tmp_path / "long.mp4", seconds=300.0, fps=2, size=(32, 32), rate_hz=8000)
    task = DialogueTask(tmp_path, "meld", (make_clip("long.mp4"),), frozenset({"audio", "visual"}), config, None)
    ((row, failures),) = decode_dialogue(task)
    assert (row["truncated"], row["duration_seconds"], row["audio_status"]) == (True, 60.0, "ok")
    cuts = {failure["modality"]: failure["detail"] for failure in failures if failure["reason"] == "truncated"}
    assert sorted(cuts) == ["audio", "visual"]
    assert cuts["visual"] == "cut from 300.000 s to 60.000 s"
    assert cuts["audio"].startswith("cut from 300.")
    assert cuts["audio"].endswith(" to 60.000 s")
    assert not any(failure["reason"] == "partly_decoded" for failure in failures)


def test_a_span_behind_the_end_has_neither_sound_nor_pictures(tmp_path: Path, write_media, decode_one):
    write_media(tmp_path / "a.mp4")
    spans = {"audio_start_seconds": 5.0, "audio_end_seconds": 6.0, "video_start_seconds": 5.0, "video_end_seconds": 6.0}
    row, failures = decode_one(tmp_path, "a.mp4", **spans)
    assert failures == [("audio", "no_audio_samples"), ("visual", "no_video_frames")]
    assert (row["audio_status"], row["visual_status"]) == ("no_audio_samples", "no_video_frames")


def test_an_empty_span_has_neither_sound_nor_pictures(tmp_path: Path, write_media, decode_one):
    write_media(tmp_path / "a.mp4")
    spans = {"audio_start_seconds": 0.5, "audio_end_seconds": 0.5, "video_start_seconds": 0.5, "video_end_seconds": 0.5}
    assert decode_one(tmp_path, "a.mp4", **spans)[1] == [("audio", "no_audio_samples"), ("visual", "no_video_frames")]


def test_a_dialogue_in_one_video_is_opened_once_and_shared_out(tmp_path: Path, write_media, config, monkeypatch):
    write_media(tmp_path / "both.avi", seconds=4.0, layout=None, codec="mpeg4")
    clips = []
    for number, (start, end, region) in enumerate([(2.0, 3.5, "left"), (0.0, 1.0, "right"), (0.5, 2.5, "left")]):
        write_media(tmp_path / f"{number}.wav", size=None, sound_codec="pcm_s16le", seconds=end - start, seed=number)
        clips.append(Clip(f"train/d_u{number}", "train/d", "both.avi", f"{number}.wav", region, start, end, None, None))
    opened = []
    from pipeline.media import container

    read = container.read
    monkeypatch.setattr(container, "read", lambda path, *rest: (opened.append(path.name), read(path, *rest))[1])
    rows = decode_dialogue(DialogueTask(tmp_path, "meld", tuple(clips), frozenset({"audio", "visual"}), config, None))
    assert sorted(opened) == ["0.wav", "1.wav", "2.wav", "both.avi"]
    assert [(row["audio_status"], row["duration_seconds"], row["frames_seen"]) for row, _ in rows] == [("ok", 1.5, 8), ("ok", 1.0, 8), ("ok", 2.0, 8)]


def test_odd_pictures_do_not_stop_a_run(tmp_path: Path, write_media, decode_one):
    write_media(tmp_path / "tiny.mkv", size=(2, 2), layout=None, codec="ffv1")
    write_media(tmp_path / "flat.mkv", size=(600, 4), layout=None, codec="ffv1")
    for name in ("tiny.mkv", "flat.mkv"):
        row, failures = decode_one(tmp_path, name)
        assert row["visual_status"] in REASONS
        assert ("audio", "no_audio_stream") in failures


def test_pictures_too_large_for_the_memory_are_refused(tmp_path: Path, write_media, config, make_clip, monkeypatch):
    from pipeline.media import container

    write_media(tmp_path / "a.mp4")
    monkeypatch.setattr(container, "_MAX_PIXELS", 1000)
    task = DialogueTask(tmp_path, "meld", (make_clip("a.mp4"),), frozenset({"audio", "visual"}), config, None)
    ((row, _),) = decode_dialogue(task)
    assert (row["audio_status"], row["visual_status"]) == ("ok", "media_undecodable")


def test_words_do_not_depend_on_what_was_decoded_before(tmp_path: Path, config, make_clip):
    for name in ("one.mp4", "two.mp4"):
        (tmp_path / name).write_bytes(b"\x00\x00\x00\x18ftypisom" + bytes(1000))
    details = []
    for name in ("one.mp4", "two.mp4", "one.mp4"):
        task = DialogueTask(tmp_path, "meld", (make_clip(name),), frozenset({"audio"}), config, None)
        ((_, failures),) = decode_dialogue(task)
        details.append([failure["detail"] for failure in failures])
    assert details[0] == details[1] == details[2]
