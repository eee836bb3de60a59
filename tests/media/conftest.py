"""Media files and manifests generated on the fly."""

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from merc.corpora.engine import building
from merc.corpora.engine.labels import label_set
from merc.layout import Layout
from merc.media.config import Config as MediaConfig
from merc.media.tasks import STREAMS, Clip, DialogueTask
from merc.records import manifest
from merc.records.dialogue import Dialogue, Utterance


@pytest.fixture(scope="session")
def config() -> MediaConfig:
    return MediaConfig()


@pytest.fixture(scope="session")
def write_media() -> Callable[..., None]:
    return _write_media


def _write_media(
    path: Path,
    *,
    seconds: float = 1.0,
    fps: int = 10,
    picture_times: Sequence[float] | None = None,
    size: tuple[int, int] | None = (64, 48),
    sound_CS: NDArray[np.float32] | None = None,
    layout: str | None = "mono",
    rate_hz: int = 16_000,
    sound_begin: float = 0.0,
    codec: str = "libx264",
    sound_codec: str = "aac",
    sound_bit_rate: int | None = None,
    options: dict[str, str] | None = None,
    pixel_format: str = "yuv420p",
    pixel_aspect: Fraction | None = None,
    pictures_HWC: Sequence[NDArray[np.uint8]] | None = None,
    seed: int = 0,
) -> None:
    """Writes a clip: frames whose grey level is five times their number (from 50 on it repeats), and a tone (or the
    given audio).

    Args:
        path: the suffix determines the container.
        seconds: of both streams.
        fps: of the frames, unless ``picture_times`` says when each begins.
        picture_times: in hundredths of a second, exactly.
        size: width and height; None for no frames.
        sound_CS: (channels, samples) float32; by default a tone on all channels.
        layout: FFmpeg's name; None for no audio.
        rate_hz: of the audio.
        sound_begin: time stamp of the first sample.
        codec: of the frames.
        sound_codec: of the audio.
        sound_bit_rate: bits per second, for codecs that have no default.
        options: of the container.
        pixel_format: FFmpeg's name.
        pixel_aspect: width of a pixel over its height.
        pictures_HWC: RGB frames used cyclically instead of the grey ones.
        seed: determines the frequency of the tone.
    """
    times = (
        [number / fps for number in range(max(1, round(seconds * fps)))]
        if picture_times is None
        else list(picture_times)
    )
    with av.open(str(path), "w", options=options or {}) as container:
        pictures: Any = None
        if size is not None:
            pictures = container.add_stream(codec, rate=100 if picture_times is not None else fps)
            pictures.width, pictures.height, pictures.pix_fmt = *size, pixel_format
            if pixel_aspect is not None:
                pictures.codec_context.sample_aspect_ratio = pixel_aspect
            pictures.codec_context.time_base = Fraction(1, 100)
            pictures.bit_rate = 2_000_000  # so that grey levels survive
        sound: Any = None
        if layout is not None:
            sound = container.add_stream(sound_codec, rate=rate_hz, layout=layout)
            if sound_bit_rate is not None:
                sound.bit_rate = sound_bit_rate
            channels = len(sound.layout.channels)
            if sound_CS is None:
                tone = 0.3 * np.sin(2 * np.pi * (300 + 50 * seed) * np.arange(round(seconds * rate_hz)) / rate_hz)
                sound_CS = np.repeat(tone[None], channels, axis=0).astype(np.float32)
        if pictures is not None:
            for number, time in enumerate(times):
                picture = (
                    np.full((size[1], size[0], 3), 5 * number % 250, np.uint8)
                    if pictures_HWC is None
                    else pictures_HWC[number % len(pictures_HWC)]
                )
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = round(time * 100), Fraction(1, 100)
                if picture_times is None:
                    frame.duration = round(100 / fps)
                container.mux(pictures.encode(frame))
            container.mux(pictures.encode(None))
        if sound is not None and sound_CS is not None:
            block = sound.codec_context.frame_size or 1024
            for begin in range(0, sound_CS.shape[1], block):
                values = sound_CS[:, begin : begin + block]
                if sound.format.name == "fltp":
                    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(values), format="fltp", layout=layout)
                else:
                    frame = av.AudioFrame.from_ndarray(
                        np.round(values.T * 32767).astype(np.int16).reshape(1, -1), format="s16", layout=layout
                    )
                frame.sample_rate, frame.pts, frame.time_base = (
                    rate_hz,
                    begin + round(sound_begin * rate_hz),
                    Fraction(1, rate_hz),
                )
                container.mux(sound.encode(frame))
            container.mux(sound.encode(None))


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., Clip]:
    """A clip whose audio and video are in one file, used completely; any field can be given."""

    def make(path: str, **fields: Any) -> Clip:
        whole = Clip("train/dia0_utt0", "train/dia0", path, path, "full", None, None, None, None)
        return replace(whole, **fields)

    return make


@pytest.fixture(scope="session")
def decode_one(
    config: MediaConfig, make_clip: Callable[..., Clip]
) -> Callable[..., tuple[dict[str, Any], list[tuple[str, str]]]]:
    """Decodes one file below a raw folder: its row, and its failures as (modality, reason)."""
    from merc.media.clip import decode_dialogue

    def decode(
        raw: Path, name: str, settings: MediaConfig = config, model: Path | None = None, **fields: Any
    ) -> tuple[Any, Any]:
        task = DialogueTask(raw, "meld", (make_clip(name, **fields),), frozenset(STREAMS), settings, model)
        ((row, failures),) = decode_dialogue(task)
        return row, [(failure["modality"], failure["reason"]) for failure in failures]

    return decode


@pytest.fixture
def write_manifest(tmp_path: Path) -> Callable[..., Layout]:
    """Writes a manifest of dialogues of clips in ``tmp_path/raw``: one list of relative paths per dialogue."""

    def write(dialogues: Sequence[Sequence[str]], **fields: Any) -> Layout:
        layout = Layout(tmp_path / "raw", tmp_path / "features", "tiny")
        built = [
            Dialogue(
                split="train",
                source_dialogue_id=f"dia{number}",
                utterances=tuple(
                    Utterance(
                        source_utterance_id=f"dia{number}_utt{position}",
                        speaker="A",
                        text="Oh.",
                        emotion="neutral",
                        start_seconds=0.0,
                        end_seconds=1.0,
                        **({"video_path": path, "audio_path": path} | fields),
                    )
                    for position, path in enumerate(paths)
                ),
            )
            for number, paths in enumerate(dialogues)
        ]
        manifest.write(layout.manifest, building.build("tiny", built, label_set("meld7")))
        return layout

    return write


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Any]:
    """The module ``benchmarks/speaking_face.py``."""
    path = Path(__file__).parents[2] / "benchmarks" / "speaking_face.py"
    spec = importlib.util.spec_from_file_location("speaking_face", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["speaking_face"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["speaking_face"]
