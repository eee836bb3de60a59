"""Bad input: every fault leads to a row, none to an exception."""

import io
import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import soundfile

from merc.media import container, faces, speaker
from merc.media.clip import decode_dialogue
from merc.media.faces import Sighting
from merc.media.tables import SCHEMA
from merc.media.tasks import Clip, DialogueTask
from merc.records.failures import REASONS


def test_a_whole_clip_fills_every_column_and_fails_in_nothing_but_the_face(tmp_path: Path, write_media, decode_one):
    write_media(tmp_path / "a.mp4", layout="stereo", rate_hz=48_000)
    row, failures = decode_one(tmp_path, "a.mp4")
    assert list(row) == SCHEMA.names
    assert (row["audio_status"], row["audio_channels"], row["audio_channel_used"], row["sample_rate_source"]) == (
        "ok",
        2,
        "FL*0.5+FR*0.5",
        48_000,
    )
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


def test_a_named_pipe_is_reported_and_not_waited_for(tmp_path: Path, config, make_clip):
    os.mkfifo(tmp_path / "pipe.mp4")
    ((_, failures),) = decode_dialogue(
        DialogueTask(tmp_path, "meld", (make_clip("pipe.mp4"),), frozenset({"audio"}), config, None)
    )
    assert [(failure["reason"], failure["detail"]) for failure in failures] == [
        ("media_undecodable", "pipe.mp4: a named pipe instead of a file")
    ]


def test_a_path_out_of_the_raw_folder_is_refused(tmp_path: Path, write_media, decode_one):
    raw = tmp_path / "raw"
    raw.mkdir()
    write_media(tmp_path / "secret.mp4")
    for path in ("../secret.mp4", os.fspath(tmp_path / "secret.mp4")):
        row, failures = decode_one(raw, path)
        assert failures == [("audio", "media_refused"), ("visual", "media_refused")]
        assert row["audio"] == b""


def test_a_link_out_of_the_raw_folder_is_followed_unless_that_is_forbidden(
    tmp_path: Path, write_media, config, make_clip
):
    raw, cache = tmp_path / "raw", tmp_path / "files" / "md5" / "ab"
    raw.mkdir()
    cache.mkdir(parents=True)
    write_media(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").rename(cache / "cdef")  # as in DVC's cache, where no suffix names the container
    (raw / "link.mp4").symlink_to(cache / "cdef")
    for follow, status in ((True, "ok"), (False, "media_refused")):
        task = DialogueTask(
            raw, "meld", (make_clip("link.mp4"),), frozenset({"audio"}), config, None, follow_links=follow
        )
        ((row, _),) = decode_dialogue(task)
        assert row["audio_status"] == status


@pytest.mark.parametrize(
    ("target", "words"),
    [("gone/ab.mp4", "a broken link"), ("link.mp4", "links in a circle")],
)
def test_a_link_that_leads_nowhere_says_so_and_not_where_it_led_to(tmp_path: Path, config, make_clip, target, words):
    (tmp_path / "link.mp4").symlink_to(tmp_path / target)
    ((_, failures),) = decode_dialogue(
        DialogueTask(tmp_path, "meld", (make_clip("link.mp4"),), frozenset({"audio"}), config, None)
    )
    assert [(failure["reason"], failure["detail"]) for failure in failures] == [("media_missing", f"link.mp4: {words}")]


def test_audio_without_video_and_video_without_audio(tmp_path: Path, write_media, decode_one):
    write_media(tmp_path / "sound.mp4", size=None)
    write_media(tmp_path / "pictures.mp4", layout=None)
    row, failures = decode_one(tmp_path, "sound.mp4")
    assert (row["audio_status"], row["visual_status"], failures) == (
        "ok",
        "no_video_stream",
        [("visual", "no_video_stream")],
    )
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


def test_a_span_behind_the_end_has_neither_audio_nor_frames(tmp_path: Path, write_media, decode_one):
    write_media(tmp_path / "a.mp4")
    spans = {"audio_start_seconds": 5.0, "audio_end_seconds": 6.0, "video_start_seconds": 5.0, "video_end_seconds": 6.0}
    row, failures = decode_one(tmp_path, "a.mp4", **spans)
    assert failures == [("audio", "no_audio_samples"), ("visual", "no_video_frames")]
    assert (row["audio_status"], row["visual_status"]) == ("no_audio_samples", "no_video_frames")


def test_an_empty_span_has_neither_audio_nor_frames(tmp_path: Path, write_media, decode_one):
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
    from merc.media import container

    read = container.read
    monkeypatch.setattr(container, "read", lambda path, *rest: (opened.append(path.name), read(path, *rest))[1])
    rows = decode_dialogue(DialogueTask(tmp_path, "meld", tuple(clips), frozenset({"audio", "visual"}), config, None))
    assert sorted(opened) == ["0.wav", "1.wav", "2.wav", "both.avi"]
    assert [(row["audio_status"], row["duration_seconds"], row["frames_seen"]) for row, _ in rows] == [
        ("ok", 1.5, 8),
        ("ok", 1.0, 8),
        ("ok", 2.0, 8),
    ]


def test_odd_frames_do_not_stop_a_run(tmp_path: Path, write_media, decode_one):
    write_media(tmp_path / "tiny.mkv", size=(2, 2), layout=None, codec="ffv1")
    write_media(tmp_path / "flat.mkv", size=(600, 4), layout=None, codec="ffv1")
    for name in ("tiny.mkv", "flat.mkv"):
        row, failures = decode_one(tmp_path, name)
        assert row["visual_status"] in REASONS
        assert ("audio", "no_audio_stream") in failures


def test_frames_too_large_for_the_memory_are_refused(tmp_path: Path, write_media, config, make_clip, monkeypatch):
    from merc.media import container

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


def test_a_video_of_one_frame_is_looked_at_once(tmp_path: Path, write_media, decode_one):
    write_media(tmp_path / "one.mp4", seconds=0.1, fps=10)
    row, failures = decode_one(tmp_path, "one.mp4")
    assert (row["audio_status"], row["frames_seen"]) == ("ok", 1)
    assert ("visual", "no_face") in failures


@pytest.mark.parametrize("codec", ["libx265", "libx264", "mpeg4", "libvpx-vp9"])
def test_usual_codecs_are_read(tmp_path: Path, write_media, decode_one, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no encoder {codec}")
    write_media(tmp_path / "a.mkv", codec=codec)
    row, failures = decode_one(tmp_path, "a.mkv")
    assert (row["audio_status"], row["visual_status"], row["frames_seen"]) == ("ok", "no_face", 8)
    assert failures == [("visual", "no_face")]


def test_audio_that_starts_late_keeps_its_place(tmp_path: Path, write_media, decode_one):
    tone = 0.3 * np.ones((1, 8_000), np.float32) * np.sin(np.arange(8_000) * 0.2, dtype=np.float32)
    write_media(tmp_path / "late.mkv", seconds=1.0, sound_CS=tone, sound_begin=0.5, sound_codec="pcm_s16le")
    row, _ = decode_one(tmp_path, "late.mkv")
    waveform, _ = soundfile.read(io.BytesIO(row["audio"]))
    assert row["duration_seconds"] == pytest.approx(1.0, abs=0.001)
    assert not waveform[:7_990].any()
    assert waveform[8_010:].std() == pytest.approx(0.3 / np.sqrt(2), rel=0.02)


def test_audio_shorter_than_the_frames_leaves_these_whole(tmp_path: Path, write_media, decode_one):
    write_media(
        tmp_path / "short.mkv",
        seconds=2.0,
        sound_CS=np.full((1, 8_000), 0.1, np.float32) * np.sign(np.sin(np.arange(8_000))),
        sound_codec="pcm_s16le",
    )
    row, failures = decode_one(tmp_path, "short.mkv")
    assert (row["audio_status"], row["duration_seconds"], row["frames_seen"]) == ("ok", 0.5, 8)
    assert failures == [("visual", "no_face")]


def test_a_wav_that_is_called_mp4_is_what_it_is(tmp_path: Path, write_media, decode_one):
    write_media(tmp_path / "a.wav", size=None, sound_codec="pcm_s16le")
    (tmp_path / "a.wav").rename(tmp_path / "a.mp4")
    row, failures = decode_one(tmp_path, "a.mp4")
    assert (row["audio_status"], row["duration_seconds"], failures) == ("ok", 1.0, [("visual", "no_video_stream")])


@pytest.mark.parametrize(
    "name", ["two\nlines.mp4", 'it\'s "quoted".mp4', "100%d.mp4", "-y.mp4", "file:a.mp4", "päth ünd spaces .mp4"]
)
def test_names_are_taken_as_they_are(tmp_path: Path, write_media, decode_one, name):
    write_media(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").rename(tmp_path / name)
    row, failures = decode_one(tmp_path, name)
    assert (row["audio_status"], row["frames_seen"], failures) == ("ok", 8, [("visual", "no_face")])


class Chooser:
    """Stands in for the choice of the speaker: takes the second person, and records its input."""

    def __init__(self):
        self.calls = []

    def choose(self, tracks, looks, glimpses, waveform, config):
        self.calls.append((len(tracks), [seconds for seconds, _ in looks], glimpses, waveform))
        return speaker.Choice(min(1, len(tracks) - 1), 0.75, 0.5)


@pytest.fixture
def chooser(monkeypatch):
    """Two people in the left half of every frame and one in the right, as if found by a detector."""
    made = Chooser()

    def find(self, picture):
        scale = picture.size[0] / 64
        people = (
            [(4.0, 4.0, 12.0, 12.0), (30.0, 20.0, 10.0, 10.0)]
            if picture.rgb()[0, 0, 0] < 200
            else [(4.0, 4.0, 12.0, 12.0)]
        )
        found = []
        for number, box in enumerate(people):
            left, top, width, height = (scale * value for value in box)
            patch, patch_scale, corner = picture.square(round(left), round(top), round(2 * width), 336)
            appearance = np.eye(2, faces.APPEARANCE, dtype=np.float32)[number]
            found.append(Sighting((left, top, width, height), 0.9, patch, patch_scale, corner, None, appearance))
        return found

    monkeypatch.setattr(faces.FaceFinder, "find", find)
    monkeypatch.setattr(speaker, "choose", made.choose)
    return made


def test_the_choice_gets_the_audio_and_the_glimpses_of_a_clip(tmp_path: Path, write_media, decode_one, config, chooser):
    write_media(tmp_path / "a.mp4", seconds=2.0, fps=20, rate_hz=48_000)
    settings = config.model_copy(update={"choice": "speaking", "glimpses_per_second": 10.0, "glimpse_width_pixels": 32})
    row, failures = decode_one(tmp_path, "a.mp4", settings)
    assert failures == []
    ((persons, times, glimpses, waveform),) = chooser.calls
    assert persons == 2
    assert times == pytest.approx(np.arange(8) * 0.25 + 0.1, abs=0.03)
    assert [round(one.seconds, 2) for one in glimpses] == [round(0.1 * number + 0.05, 2) for number in range(20)]
    assert {(one.grey.shape, one.scale) for one in glimpses} == {((24, 32), 0.5)}
    assert len(waveform) == pytest.approx(32_000, abs=500)
    assert (row["face_track"], row["face_choice_score"], row["face_choice_margin"]) == (1, 0.75, 0.5)
    assert (row["face_tracks"], row["face_coverage"], len(row["faces"])) == (2, 1.0, 8)


def test_audio_from_another_file_reaches_the_choice_and_so_does_audio_that_no_one_asked_for(
    tmp_path: Path, write_media, config, chooser
):
    write_media(tmp_path / "both.avi", seconds=4.0, layout=None, codec="mpeg4", size=(128, 48))
    clips = []
    for number, (start, end) in enumerate([(2.0, 3.5), (0.0, 1.0), (0.5, 2.5)]):
        write_media(tmp_path / f"{number}.wav", size=None, sound_codec="pcm_s16le", seconds=end - start, seed=number)
        clips.append(Clip(f"train/d_u{number}", "train/d", "both.avi", f"{number}.wav", "left", start, end, None, None))
    settings = config.model_copy(update={"choice": "speaking", "glimpses_per_second": 10.0, "glimpse_width_pixels": 32})
    rows = {}
    for streams in (frozenset({"audio", "visual"}), frozenset({"visual"})):
        chooser.calls.clear()
        rows[streams] = [
            row for row, _ in decode_dialogue(DialogueTask(tmp_path, "meld", tuple(clips), streams, settings, None))
        ]
        assert sorted(len(waveform) for *_, waveform in chooser.calls) == [16_000, 24_000, 32_000]
        assert {one.grey.shape for *_, glimpses, _ in chooser.calls for one in glimpses} == {(24, 32)}  # of the half
        assert sorted(len(glimpses) for *_, glimpses, _ in chooser.calls) == [10, 15, 20]
    heard, unheard = rows.values()
    assert [row["audio_status"] for row in unheard] == ["not_decoded"] * 3
    assert [row["faces"] for row in heard] == [row["faces"] for row in unheard]


def test_glimpses_of_one_person_are_not_kept_and_other_choices_take_none(
    tmp_path: Path, write_media, decode_one, config, chooser
):
    write_media(tmp_path / "a.mp4", pictures_HWC=[np.full((48, 64, 3), 255, np.uint8)])
    row, _ = decode_one(tmp_path, "a.mp4", config.model_copy(update={"choice": "speaking"}))
    write_media(tmp_path / "b.mp4")
    decode_one(tmp_path, "b.mp4", config.model_copy(update={"choice": "largest"}))
    assert [(persons, len(glimpses)) for persons, _, glimpses, _ in chooser.calls] == [(1, 0), (2, 0)]
    assert row["face_track"] == 0


def test_audio_and_frames_of_several_utterances_in_one_file_are_each_decoded_once(
    tmp_path: Path, write_media, config, chooser, monkeypatch
):
    write_media(tmp_path / "all.mp4", seconds=4.0)
    spans = [(0.0, 1.5), (1.0, 4.0)]
    clips = tuple(
        Clip(f"train/d_u{number}", "train/d", "all.mp4", "all.mp4", "full", *one, *one)
        for number, one in enumerate(spans)
    )
    read = []
    real = container.read
    monkeypatch.setattr(
        container,
        "read",
        lambda path, sounds, wishes, *rest: (
            read.append((len(sounds), len(wishes))),
            real(path, sounds, wishes, *rest),
        )[1],
    )
    rows = decode_dialogue(DialogueTask(tmp_path, "meld", clips, frozenset({"audio", "visual"}), config, None))
    assert read == [(2, 0), (0, 2)]
    assert [(row["audio_status"], row["duration_seconds"], row["visual_status"]) for row, _ in rows] == [
        ("ok", 1.5, "ok"),
        ("ok", 3.0, "ok"),
    ]
    assert [len(waveform) for *_, waveform in chooser.calls] == [24_000, 48_000]


def test_a_turned_and_an_anamorphic_video_have_the_faces_of_the_upright_one(
    tmp_path: Path, write_media, decode_one, config, real_data
):
    with av.open(str(real_data / "media" / "single_face.mp4")) as opened:
        upright = [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)][::18]
    turned = [np.ascontiguousarray(np.rot90(picture)) for picture in upright]
    narrow = [np.ascontiguousarray(picture[:, ::2]) for picture in upright]
    settings = config.model_copy(update={"choice": "largest"})
    rows = {}
    for name, pictures, aspect in (
        ("upright", upright, None),
        ("turned", turned, None),
        ("narrow", narrow, Fraction(2)),
    ):
        height, width = pictures[0].shape[:2]
        path = tmp_path / f"{name}.mp4"
        write_media(path, seconds=0.4, size=(width, height), pictures_HWC=pictures, pixel_aspect=aspect, layout=None)
        if (
            name == "turned"
        ):  # a quarter turn clockwise puts it upright: a, b, c, d = 0, 1, -1, 0 of ISO/IEC 14496-12, 8.3.2
            content = bytearray(path.read_bytes())
            at = content.index(b"tkhd") + 44
            content[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
            path.write_bytes(content)
        rows[name], _ = decode_one(tmp_path, path.name, settings)
    for name, row in rows.items():
        assert (row["face_tracks"], row["face_coverage"]) == (1, 1.0), name
        ours, theirs = (
            cv2.imdecode(np.frombuffer(one["faces"][0], np.uint8), cv2.IMREAD_GRAYSCALE)
            for one in (row, rows["upright"])
        )
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.9, name


@pytest.mark.parametrize(
    ("annotated", "told"),
    # half a second off is normal; of a short utterance less than half is present
    [(0.0, False), (1.0, False), (1.4, False), (1.6, True), (3.5, True)],
)
def test_a_clip_shorter_than_its_annotation_is_reported_with_both_lengths(
    tmp_path: Path, write_media, config, make_clip, annotated, told
):
    write_media(tmp_path / "a.mp4", seconds=1.0)
    task = DialogueTask(
        tmp_path, "x", (make_clip("a.mp4", annotated_seconds=annotated),), frozenset({"audio", "visual"}), config, None
    )
    ((row, failures),) = decode_dialogue(task)
    details = {
        failure["modality"]: failure["detail"] for failure in failures if failure["reason"] == "shorter_than_annotation"
    }
    assert sorted(details) == (["audio", "visual"] if told else [])
    assert (row["audio_status"], row["frames_seen"]) == ("ok", 8)
    if told:
        assert details["visual"] == f"1.000 s of the annotated {annotated:.3f} s"


def test_a_very_short_clip_is_reported_by_its_share(tmp_path: Path, write_media, decode_one):
    write_media(tmp_path / "a.wav", size=None, sound_codec="pcm_s16le", seconds=0.1)
    assert ("audio", "shorter_than_annotation") in decode_one(tmp_path, "a.wav", annotated_seconds=0.3)[1]
    assert ("audio", "shorter_than_annotation") not in decode_one(tmp_path, "a.wav", annotated_seconds=0.18)[1]


def test_a_clip_longer_than_the_cap_is_not_short(tmp_path: Path, write_media, decode_one, config):
    write_media(tmp_path / "a.mp4", seconds=3.0)
    _, failures = decode_one(
        tmp_path, "a.mp4", config.model_copy(update={"max_clip_seconds": 1.0}), annotated_seconds=3.0
    )
    assert ("audio", "truncated") in failures
    assert not any(reason == "shorter_than_annotation" for _, reason in failures)


def test_a_dialogue_s_video_that_ends_before_an_utterance_does_is_reported(
    tmp_path: Path, write_media, config, make_clip
):
    write_media(tmp_path / "both.avi", seconds=4.0, codec="mpeg4", sound_codec="pcm_s16le")
    names = ("audio_start_seconds", "audio_end_seconds", "video_start_seconds", "video_end_seconds")
    spans = [dict(zip(names, (start, start + 2.0) * 2, strict=True)) for start in (0.0, 3.0)]
    clips = tuple(
        make_clip("both.avi", utterance_id=f"u{number}", annotated_seconds=2.0, **one)
        for number, one in enumerate(spans)
    )
    rows = decode_dialogue(DialogueTask(tmp_path, "x", clips, frozenset({"audio", "visual"}), config, None))
    told = [
        [failure["modality"] for failure in failures if failure["reason"] == "shorter_than_annotation"]
        for _, failures in rows
    ]
    assert told == [[], ["audio", "visual"]]
