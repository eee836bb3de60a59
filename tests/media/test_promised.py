"""Truncated files are distinguished from complete ones, container by container."""

import math
import struct
from pathlib import Path

import numpy as np
import pytest

from merc.media.clip import decode_dialogue
from merc.media.promised import shortfall
from merc.media.tasks import DialogueTask

_SOUND = {"size": None, "sound_codec": "pcm_s16le"}
_CONTAINERS = {
    "avi": {"codec": "mpeg4", "sound_codec": "pcm_s16le"},
    "mkv": {},
    "webm": {"codec": "libvpx-vp9", "sound_codec": "libopus", "rate_hz": 48_000},
    "mp4": {"options": {"movflags": "faststart"}},
    "mov": {"options": {"movflags": "frag_keyframe+empty_moov"}},
    "flv": {"rate_hz": 44_100},
    "ts": {},
    "m2ts": {},
    "wmv": {"codec": "wmv2", "sound_codec": "wmav2", "sound_bit_rate": 64_000, "rate_hz": 44_100},
    "asf": {"codec": "msmpeg4", "sound_codec": "libmp3lame", "rate_hz": 44_100},
    "wav": _SOUND,
    "w64": _SOUND,
    "rf64.wav": _SOUND | {"options": {"rf64": "always"}},
    "au": _SOUND | {"sound_codec": "pcm_s16be"},
    "ogg": {"size": None, "sound_codec": "libopus", "rate_hz": 48_000},
}
# For these FFmpeg itself reports a truncation.
_TOLD_BY_FFMPEG = {
    "aiff": _SOUND | {"sound_codec": "pcm_s16be"},
    "flac": {"size": None, "sound_codec": "flac"},
    "mp3": {"size": None, "sound_codec": "libmp3lame"},
}

_PACKET_BYTES = {"ts": 188, "m2ts": 192}  # if a whole number of these remains, the truncation cannot be detected


def cut(path: Path, share: float = 0.6) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def written(tmp_path: Path, write_media, suffix: str) -> Path:
    fields = {**_CONTAINERS, **_TOLD_BY_FFMPEG}[suffix]
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 2 * fields.get("rate_hz", 16_000))).astype(np.float32)
    write_media(path, seconds=2.0, sound_CS=noise, **fields)
    return path


@pytest.mark.parametrize("suffix", [*_CONTAINERS, *_TOLD_BY_FFMPEG])
def test_a_file_cut_off_in_any_container_is_partly_decoded_and_a_whole_one_is_not(
    tmp_path: Path, write_media, decode_one, suffix
):
    path = written(tmp_path, write_media, suffix)
    assert shortfall(path) == ""
    row, failures = decode_one(tmp_path, path.name)
    assert row["audio_status"] == "ok"
    assert {reason for _, reason in failures} <= {"no_face", "no_video_stream"}
    cut(path)
    if path.stat().st_size % _PACKET_BYTES.get(suffix, math.inf) == 0:
        path.write_bytes(path.read_bytes()[:-1])
    row, failures = decode_one(tmp_path, path.name)
    partly = {modality for modality, reason in failures if reason in ("partly_decoded", "media_undecodable")}
    assert partly == ({"audio", "visual"} if row["frames_seen"] else {"audio"})


def test_an_mp4_whose_index_at_the_end_is_cut_off_is_not_whole(tmp_path: Path, write_media):
    write_media(tmp_path / "a.mp4")
    assert shortfall(tmp_path / "a.mp4") == ""
    cut(tmp_path / "a.mp4", 0.99)
    assert shortfall(tmp_path / "a.mp4").startswith("cut off")


def test_a_transport_stream_with_checksums_is_told_from_one_that_was_cut_off(tmp_path: Path, write_media):
    path = written(tmp_path, write_media, "ts")
    content = path.read_bytes()
    path.write_bytes(b"".join(content[at : at + 188] + bytes(16) for at in range(0, len(content), 188)))
    assert shortfall(path) == ""
    path.write_bytes(path.read_bytes()[:-100])
    assert shortfall(path).startswith("cut off")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        (b"/annex/objects/MD5E-s1234--0f.mp4\n", "git annex get"),
        (b"\n<!DOCTYPE html><title>Quota exceeded</title>", "web page"),
        (bytes(1000), "moov atom not found"),
    ],
)
def test_a_note_in_place_of_a_file_is_reported_as_such(tmp_path: Path, make_clip, config, content, words):
    (tmp_path / "a.mp4").write_bytes(content)
    ((_, failures),) = decode_dialogue(
        DialogueTask(tmp_path, "meld", (make_clip("a.mp4"),), frozenset({"audio"}), config, None)
    )
    assert [failure["reason"] for failure in failures] == ["media_undecodable"]
    assert words in failures[0]["detail"]


@pytest.mark.parametrize("suffix", ["mp4", "w64", "wmv", "mkv", "wav"])
def test_sizes_beyond_any_file_do_not_make_the_reading_of_a_header_fail(tmp_path: Path, write_media, suffix):
    path = written(tmp_path, write_media, suffix)
    content = path.read_bytes()
    for at in range(4, 200, 2):
        for size in (b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\0\0\0\1" + content[at + 4 : at + 8] + b"\xff" * 8):
            path.write_bytes(content[:at] + size + content[at + len(size) :])
            shortfall(path)


def test_what_is_missing_is_reported_in_bytes(tmp_path: Path, write_media):
    path = written(tmp_path, write_media, "wav")
    size = path.stat().st_size
    cut(path)
    assert shortfall(path) == f"cut off: its headers promise {size} bytes, {path.stat().st_size} are there"


def test_an_utterance_that_is_before_the_cut_is_whole(tmp_path: Path, write_media, config, make_clip):
    path = written(tmp_path, write_media, "avi")
    cut(path, 0.8)
    early, late = (
        make_clip(
            path.name,
            utterance_id=name,
            audio_start_seconds=start,
            audio_end_seconds=end,
            video_start_seconds=start,
            video_end_seconds=end,
        )
        for name, start, end in (("early", 0.0, 0.5), ("late", 1.0, 2.0))
    )
    rows = decode_dialogue(
        DialogueTask(path.parent, "meld", (early, late), frozenset({"audio", "visual"}), config, None)
    )
    told = [
        {(failure["modality"], failure["reason"]) for failure in failures} - {("visual", "no_face")}
        for _, failures in rows
    ]
    assert told == [set(), {("audio", "partly_decoded"), ("visual", "partly_decoded")}]


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000])
def test_a_wav_that_was_streamed_promises_nothing(tmp_path: Path, write_media, decode_one, size):
    path = written(tmp_path, write_media, "wav")
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", size)
    path.write_bytes(content)
    assert shortfall(path) == ""
    row, failures = decode_one(tmp_path, path.name)
    assert (row["duration_seconds"], failures) == (2.0, [("visual", "no_video_stream")])


@pytest.mark.parametrize("difference", [-8, 36, 44])
def test_a_wav_whose_size_counts_its_header_too_or_not_is_whole(tmp_path: Path, write_media, difference):
    path = written(tmp_path, write_media, "wav")
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", struct.unpack("<I", content[at : at + 4])[0] + difference)
    path.write_bytes(content)
    assert shortfall(path) == ""


def test_a_matroska_file_of_unknown_size_promises_nothing(tmp_path: Path, write_media, decode_one):
    write_media(tmp_path / "live.mkv", seconds=2.0, options={"live": "1"})
    cut(tmp_path / "live.mkv")
    assert shortfall(tmp_path / "live.mkv") == ""


@pytest.mark.parametrize("suffix", sorted(_CONTAINERS))
def test_no_cut_makes_the_reading_of_a_header_fail(tmp_path: Path, write_media, suffix):
    path = written(tmp_path, write_media, suffix)
    content = path.read_bytes()
    for length in [*range(1, 600, 7), len(content) // 2, len(content) - 70]:
        path.write_bytes(content[:length])
        shortfall(path)
        path.write_bytes(content[:length] + np.random.default_rng(length).bytes(300))
        shortfall(path)
