"""Writes the demonstration's recordings: H.264 with AAC in MP4, MPEG-4 with MP3 in AVI, and WAV; reproducible byte for
byte.

One thread per encoder and the bit-exact flags make the bytes independent of the machine's load and free of time stamps.
"""

import io
import itertools
import wave
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import soxr
from av.codec.context import Flags
from numpy.typing import NDArray

from merc.corpora.demo.faces import Image
from merc.corpora.demo.voices import Wave
from merc.records.media import SAMPLE_RATE_HZ

MELD_FPS = Fraction(24_000, 1001)
IEMOCAP_FPS = Fraction(30_000, 1001)
CLIP_RATE_HZ = 48_000
PICTURES_PER_DRAWING = 2  # heads are drawn "on twos", as in animation: half the work without a visible difference
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def frame_count(seconds: float, fps: Fraction) -> int:
    """Frames in this many seconds; at least one."""
    return max(1, round(seconds * fps))


@dataclass(frozen=True)
class _Kind:
    """Container and codecs of a recording."""

    container: str
    video_codec: str
    video_options: dict[str, str]
    fps: Fraction
    audio_codec: str
    audio_options: dict[str, str]


# As in MELD. "fast" selects the AAC encoder's quick coder: the default one takes longer than the video.
_MELD = _Kind(
    "mp4", "libx264", {"preset": "ultrafast", "crf": "27", "threads": "1"}, MELD_FPS, "aac", {"aac_coder": "fast"}
)
# As in IEMOCAP.
_IEMOCAP = _Kind(
    "avi",
    "mpeg4",
    {"flags": "+qscale", "global_quality": str(8 * 118), "g": "60", "threads": "1"},
    IEMOCAP_FPS,
    "libmp3lame",
    {"compression_level": "7"},
)
_BITS_PER_SECOND = 96_000  # of an audio track, per two channels


def write_mp4(path: Path, pictures: Iterable[Image] | None, sound: NDArray[np.float32]) -> None:
    """Writes a clip like MELD's: H.264 at 23.976 fps, AAC at 48 kHz, and the index (moov) at the end, so that a
    truncated file cannot be read.

    Args:
        path: of the file.
        pictures: (height, width, 3) uint8 RGB each; None for a file without a video stream.
        sound: (channels, samples) float32, 16 kHz; six channels are 5.1 in the order FL FR FC LFE BL BR.
    """
    _write(path, _MELD, pictures, sound)


def write_avi(path: Path, pictures: Iterable[Image], sound: NDArray[np.float32]) -> None:
    """Writes a video like IEMOCAP's: MPEG-4 part 2 marked as DivX at 29.97 fps, with audio at 48 kHz; arguments as
    :func:`write_mp4`.
    """
    _write(path, _IEMOCAP, pictures, sound)


def _write(path: Path, kind: _Kind, pictures: Iterable[Image] | None, sound: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=kind.container, options={"fflags": "+bitexact"}) as container:
        frames = None if pictures is None else _video_frames(pictures, kind.fps)
        first = None if frames is None else next(frames)
        # All streams exist before the first packet: the container's header lists them.
        video = None if first is None else _video_stream(container, kind, first)
        audio = _audio_stream(container, kind, len(sound))
        if frames is not None and first is not None and video is not None:
            for frame in itertools.chain([first], frames):
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        for audio_frame in _audio_frames(sound, audio.codec_context.frame_size):
            container.mux(audio.encode(audio_frame))
        container.mux(audio.encode(None))


def _video_stream(container: Any, kind: _Kind, first: av.VideoFrame) -> Any:
    stream = container.add_stream(kind.video_codec, rate=kind.fps, options=kind.video_options)
    stream.width, stream.height, stream.pix_fmt = first.width, first.height, "yuv420p"
    stream.codec_context.flags |= Flags.bitexact
    if kind is _IEMOCAP:
        stream.codec_context.codec_tag = "DX50"
    return stream


def _video_frames(pictures: Iterable[Image], fps: Fraction) -> Iterator[av.VideoFrame]:
    """Numbered frames; a repeated frame is converted once."""
    before: Image | None = None
    frame = av.VideoFrame()
    for index, picture in enumerate(pictures):
        if picture is not before:
            # OpenCV converts ten times faster than FFmpeg's scaler here.
            frame = av.VideoFrame.from_ndarray(
                np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420), dtype=np.uint8), format="yuv420p"
            )
            before = picture
        frame.pts, frame.time_base = index, 1 / fps
        yield frame


def _audio_stream(container: Any, kind: _Kind, channels: int) -> Any:
    stream = container.add_stream(
        kind.audio_codec, rate=CLIP_RATE_HZ, layout=_LAYOUTS[channels], options=kind.audio_options
    )
    stream.bit_rate = _BITS_PER_SECOND * channels // 2
    stream.codec_context.flags |= Flags.bitexact
    return stream


def _audio_frames(sound: NDArray[np.float32], frame_samples: int) -> Iterator[av.AudioFrame]:
    """Cuts (channels, samples) at 16 kHz into planar float frames at 48 kHz."""
    fast = np.ascontiguousarray(soxr.resample(sound.T, SAMPLE_RATE_HZ, CLIP_RATE_HZ).T, dtype=np.float32)
    step = frame_samples or 1024
    for begin in range(0, fast.shape[1], step):
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(fast[:, begin : begin + step]), format="fltp", layout=_LAYOUTS[len(sound)]
        )
        frame.sample_rate, frame.pts, frame.time_base = CLIP_RATE_HZ, begin, Fraction(1, CLIP_RATE_HZ)
        yield frame


def write_wav(path: Path, sound: NDArray[np.float32]) -> None:
    """Writes (channels, samples) float32 at 16 kHz as 16-bit PCM."""
    path.parent.mkdir(parents=True, exist_ok=True)
    memory = io.BytesIO()
    with wave.open(memory, "wb") as file:
        file.setnchannels(len(sound))
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(np.rint(np.clip(sound.T, -1, 1) * 32767).astype("<i2").tobytes())
    path.write_bytes(memory.getvalue())


def in_surround(voice: Wave, left_right: Wave, rear: Wave) -> NDArray[np.float32]:
    """A 5.1 mix like MELD's: the dialogue in the front centre, 13 dB weaker left and right; noise in the rear.

    Args:
        voice: (samples,) the dialogue.
        left_right: (samples,) noise for the front pair.
        rear: (samples,) noise for the surrounds.

    Returns:
        (6, samples): FL FR FC LFE BL BR.
    """
    side = voice * np.float32(10 ** (-13 / 20)) + left_right
    return np.stack([side, side, voice, 0.3 * left_right, rear, -rear]).astype(np.float32)
