"""Files with several tracks of a kind: which one is used, and that this is reported."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from merc.media.clip import decode_dialogue
from merc.media.config import Config
from merc.media.tasks import DialogueTask

_DEFAULT = av.stream.Disposition.default


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """``default.mkv`` marks the second of two audio tracks and of two video tracks; ``plain.mkv`` marks none."""
    path = tmp_path_factory.mktemp("tracks")
    _write(path / "default.mkv", default=1)
    _write(path / "plain.mkv", default=None)
    return path


def _write(path: Path, default: int | None) -> None:
    """Audio of 300 and 900 Hz, in German and English; frames 32 and 64 pixels wide."""
    with av.open(str(path), "w", options={"default_mode": "passthrough"}) as out:
        sounds, pictures = [], []
        for number, language in enumerate(("ger", "eng")):
            sound: Any = out.add_stream("pcm_s16le", rate=16_000, layout="mono")
            picture: Any = out.add_stream("mpeg4", rate=10)
            picture.width, picture.height, picture.pix_fmt = 32 * (number + 1), 32, "yuv420p"
            sound.metadata["language"] = language
            sound.disposition = picture.disposition = _DEFAULT if number == default else av.stream.Disposition(0)
            sounds.append(sound)
            pictures.append(picture)
        for number, (sound, picture) in enumerate(zip(sounds, pictures, strict=True)):
            tone = np.round(9000 * np.sin(2 * np.pi * 300 * (1 + 2 * number) * np.arange(16_000) / 16_000)).astype(
                np.int16
            )
            heard = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
            heard.sample_rate, heard.pts, heard.time_base = 16_000, 0, Fraction(1, 16_000)
            out.mux(sound.encode(heard))
            out.mux(sound.encode(None))
            for time in range(10):
                frame = av.VideoFrame.from_ndarray(np.full((32, picture.width, 3), 100, np.uint8), format="rgb24")
                frame.pts, frame.time_base = time, Fraction(1, 10)
                out.mux(picture.encode(frame))
            out.mux(picture.encode(None))


class Sizes:
    """Records the size of the frames."""

    def __init__(self):
        self.seen = set()

    def look(self, utterance_id, seconds, picture):
        self.seen.add(picture.size)

    def choose(self, *found):
        pass


def taken(
    folder: Path, name: str, make_clip, **settings: Any
) -> tuple[dict[str, Any], list[dict[str, Any]], set[tuple[int, int]]]:
    sizes = Sizes()
    task = DialogueTask(folder, "x", (make_clip(name),), frozenset({"audio", "visual"}), Config(**settings), None)
    ((row, failures),) = decode_dialogue(task, sizes)
    return row, failures, sizes.seen


def pitch(row: dict[str, Any]) -> int:
    waveform, rate_hz = soundfile.read(io.BytesIO(row["audio"]))
    return round(float(np.argmax(np.abs(np.fft.rfft(waveform)))) * rate_hz / len(waveform))


@pytest.mark.parametrize(
    ("name", "settings", "hz", "width", "words"),
    [
        ("default.mkv", {}, 900, 64, ("1 (eng) of 2", "1 of 2")),
        ("plain.mkv", {}, 300, 32, ("0 (ger) of 2", "0 of 2")),
        ("default.mkv", {"audio_track": 0, "video_track": 0}, 300, 32, ("0 (ger) of 2", "0 of 2")),
        ("plain.mkv", {"audio_track": "eng", "video_track": 1}, 900, 64, ("1 (eng) of 2", "1 of 2")),
    ],
)
def test_the_track_marked_default_is_taken_or_the_one_asked_for_and_it_is_reported(
    folder, make_clip, name, settings, hz, width, words
):
    row, failures, sizes = taken(folder, name, make_clip, **settings)
    assert pitch(row) == hz
    assert sizes == {(width, 32)}
    assert (row["audio_track_used"], row["video_track_used"]) == words
    assert [failure["reason"] for failure in failures] == ["no_face"]


def test_a_track_that_the_file_lacks_is_reported_with_those_that_are_there(folder, make_clip):
    row, failures, _ = taken(folder, "plain.mkv", make_clip, audio_track="fre", video_track=2)
    assert (row["audio_status"], row["visual_status"]) == ("no_audio_stream", "no_video_stream")
    assert [failure["detail"] for failure in failures] == [
        "plain.mkv: track fre was wanted; there is 0 (ger), 1 (eng)",
        "plain.mkv: track 2 was wanted; there is 0, 1",
    ]


def test_of_a_file_with_one_track_nothing_is_reported(tmp_path: Path, write_media, make_clip):
    write_media(tmp_path / "a.mp4")
    row, _, _ = taken(tmp_path, "a.mp4", make_clip, audio_track=0)
    assert (row["audio_status"], row["audio_track_used"], row["video_track_used"]) == ("ok", "", "")


@pytest.mark.parametrize("track", [-1, "English", "", 1.5, True])
def test_what_is_neither_an_index_nor_a_language_is_refused(track):
    with pytest.raises(
        ValidationError, match=r"1 validation error.*\n.*\n.*expected an index from 0, or a language"
    ) as refused:
        Config(audio_track=track)
    assert refused.value.errors()[0]["loc"] == ("audio_track",)


def test_a_track_that_begins_in_the_middle_of_the_file_does_not_end_the_reading(tmp_path: Path, write_media, make_clip):
    path = tmp_path / "a.flv"
    write_media(path, seconds=2.0, codec="flv1", sound_codec="libmp3lame", rate_hz=44_100)
    content = bytearray(path.read_bytes())
    at, half = 13, len(content) // 2
    while at < len(content):  # each tag: kind, size, time, and behind it 4 bytes of its own size
        if content[at] == 8 and at > half:
            content[at + 11] = 0x3E  # PCM instead of MP3: a different audio track
        at += 15 + int.from_bytes(content[at + 1 : at + 4], "big")
    path.write_bytes(content)
    row, _, sizes = taken(tmp_path, "a.flv", make_clip)
    assert (row["audio_status"], row["frames_seen"], sizes) == ("ok", 8, {(64, 48)})
    assert 0.8 < row["duration_seconds"] < 1.2
