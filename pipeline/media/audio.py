"""Sound: decoded frames become one 16 kHz mono waveform per span.

Channels are mixed by their names first, at the file's own rate, so that one channel alone is resampled, and once.
"""

from collections.abc import Sequence

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from pipeline.media.config import MediaConfig
from pipeline.media.spans import Span, sample
from pipeline.media.tables import SAMPLE_RATE_HZ

_FRONT = {"FL", "FR", "FLC", "FRC"}
_LOW = {"LFE", "LFE2"}
# Rates that sound cards and codecs have; a header that claims another is broken, and a minute at such a rate may fill the memory.
_RATES_HZ = range(1_000, 768_001)

# Zero point and full scale of FFmpeg's sample formats, by their numpy type.
_SCALES = {"u1": (128, 2.0**7), "i2": (0, 2.0**15), "i4": (0, 2.0**31), "i8": (0, 2.0**63), "f4": (0, 1.0), "f8": (0, 1.0)}


def mix_weights(channels: Sequence[str], config: MediaConfig) -> list[float]:
    """Weight of each channel in the mono sum.

    With a front centre, as in films, speech is in the centre: it keeps its full level, the others are added below it (the
    arrangement of ITU-R BS.775, whose centre keeps its level in neither stereo channel). Without one: the mean.

    Args:
        channels: FFmpeg's names in the stream's order, such as ``FL FR FC LFE SL SR``; mono is ``FC``.
        config: ``front_weight`` and ``surround_weight``.
    """
    if "FC" in channels:
        weights = {"FC": 1.0} | dict.fromkeys(_FRONT, config.front_weight) | dict.fromkeys(_LOW, 0.0)
        return [weights.get(name, config.surround_weight) for name in channels]
    heard = [name not in _LOW for name in channels]
    if not any(heard):
        heard = [True] * len(channels)
    return [float(one) / sum(heard) for one in heard]


def describe_mix(channels: Sequence[str], weights: Sequence[float]) -> str:
    """The mix in words, for ``audio_channel_used``.

    >>> describe_mix(["FL", "FR", "FC", "LFE"], [0.7071, 0.7071, 1.0, 0.0])
    'FC*1+FL*0.7071+FR*0.7071'
    """
    parts = [(weight, name) for name, weight in zip(channels, weights, strict=True) if weight]
    return "+".join(f"{name}*{weight:.4g}" for weight, name in sorted(parts, key=lambda part: -part[0]))


def channel_rows(frame: av.AudioFrame) -> NDArray[np.float32]:
    """The frame's samples as (channels, samples) float32, full scale at 1.

    Raises:
        ValueError: for a sample format that FFmpeg did not have when this was written.
    """
    values = frame.to_ndarray()
    kind = values.dtype.str[1:]
    if kind not in _SCALES:
        raise ValueError(f"unknown sample format {frame.format.name!r}")
    zero, scale = _SCALES[kind]
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if zero == 0 and scale == 1.0:
        return np.asarray(values, dtype=np.float32)
    return ((values.astype(np.float64) - zero) / scale).astype(np.float32)


class SoundSpan:
    """Gathers the sound of one span from the blocks of its stream.

    Args:
        wanted: the span inside the file.
        max_seconds: how much of it is kept.

    Attributes:
        kept: the span, cut at the cap.
        cut: there was sound behind the cap.
    """

    def __init__(self, wanted: Span, max_seconds: float) -> None:
        self.wanted = wanted
        self.kept = wanted.capped(max_seconds)
        self.cut = False
        self._runs: list[tuple[int, list[NDArray[np.float32]]]] = []  # (rate, blocks); a new run where the rate changes

    def take(self, mono_S: NDArray[np.float32] | None, begin: int, length: int, rate_hz: int) -> None:
        """Takes the span's share of a block.

        Args:
            mono_S: (length,) float32; None for ``length`` samples of silence.
            begin: index of the block's first sample, counted from the file's beginning at ``rate_hz``.
            length: samples in the block.
            rate_hz: of the block.
        """
        border = sample(self.kept.end, rate_hz)
        first = max(sample(self.kept.start, rate_hz) - begin, 0)
        stop = min(border - begin, length)
        if self.kept.end < self.wanted.end and begin + length > border:
            self.cut = True
        if stop <= first:
            return
        piece = np.zeros(stop - first, np.float32) if mono_S is None else mono_S[first:stop]
        if not self._runs or self._runs[-1][0] != rate_hz:
            self._runs.append((rate_hz, []))
        self._runs[-1][1].append(piece)

    def waveform(self) -> NDArray[np.float32]:
        """(samples,) float32 at 16 kHz, not limited to full scale; empty where the stream has nothing in the span."""
        runs = [_resample(np.concatenate(blocks), rate_hz) for rate_hz, blocks in self._runs]
        return np.concatenate(runs) if runs else np.zeros(0, np.float32)


def _resample(mono_S: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    if rate_hz == SAMPLE_RATE_HZ:
        return mono_S
    return np.asarray(soxr.resample(mono_S, rate_hz, SAMPLE_RATE_HZ, quality="HQ"), dtype=np.float32)


class SoundStream:
    """Hands the frames of one stream to the spans of the utterances in it. Spans may overlap.

    Time stamps decide where sound lies: where a frame begins more than ``max_gap_seconds`` behind the end of the one before it
    (or of the file's beginning), there is silence. Smaller jumps, and steps back, are a container's rounding and are ignored.

    Attributes:
        channels: of the source; the first layout if it changes.
        mixes: how the channels were mixed, one entry per layout met.
        rate_hz: of the source; the first if it changes.
        end_seconds: where the decoded sound ends so far.
    """

    def __init__(self, spans: Sequence[SoundSpan], config: MediaConfig) -> None:
        self._waiting = sorted(spans, key=lambda one: one.kept.start)
        self._active: list[SoundSpan] = []
        self._last_end = max(one.kept.end for one in spans)
        self._config = config
        self._cursor = 0
        self._cursor_rate_hz = 0
        self.channels = 0
        self.mixes: list[str] = []
        self.rate_hz = 0
        self.end_seconds = 0.0

    @property
    def done(self) -> bool:
        """Nothing that comes can belong to any span."""
        return self.end_seconds > self._last_end

    def feed(self, frame: av.AudioFrame, begin_seconds: float | None) -> None:
        """Takes one decoded frame.

        Args:
            frame: any layout, rate and sample format; each may differ from the frame before.
            begin_seconds: its time stamp, from the file's beginning; None: it follows the frame before.

        Raises:
            ValueError: for a sample rate or format that no real file has.
        """
        rate_hz = frame.sample_rate
        if rate_hz not in _RATES_HZ:
            raise ValueError(f"a sample rate of {rate_hz} Hz")
        names = [f"unnamed{index}" if one.name == "NONE" else one.name for index, one in enumerate(frame.layout.channels)]
        weights = mix_weights(names, self._config)
        mix = describe_mix(names, weights)
        if not self.rate_hz:
            self.rate_hz, self.channels = rate_hz, len(names)
        if mix not in self.mixes:
            self.mixes.append(mix)
        rows_CS = channel_rows(frame)
        mono_S = rows_CS[0] if len(names) == 1 else np.asarray(weights, dtype=np.float32) @ rows_CS
        if rate_hz != self._cursor_rate_hz:
            self._cursor, self._cursor_rate_hz = sample(self.end_seconds, rate_hz), rate_hz
        if begin_seconds is not None and begin_seconds - self._cursor / rate_hz > self._config.max_gap_seconds:
            self._hand_out(None, sample(begin_seconds, rate_hz) - self._cursor, rate_hz)
        self._hand_out(mono_S, len(mono_S), rate_hz)

    def _hand_out(self, mono_S: NDArray[np.float32] | None, length: int, rate_hz: int) -> None:
        begin = self._cursor
        self._cursor += length
        self.end_seconds = self._cursor / rate_hz
        while self._waiting and self._waiting[0].kept.start < self.end_seconds:
            self._active.append(self._waiting.pop(0))
        for one in self._active:
            one.take(mono_S, begin, length, rate_hz)
        self._active = [one for one in self._active if one.kept.end >= begin / rate_hz]
