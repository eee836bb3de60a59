"""Audio: decoded frames become one 16 kHz mono waveform per span.

Channels are first mixed by their names at the file's own rate, so only one channel is resampled, and only once. The
loudness is unchanged: nothing is normalised. Doubtful audio (recorded too loud, nearly silent) is reported and used.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from merc.media.config import Config
from merc.media.phase import Phases
from merc.media.spans import Span, sample
from merc.records.media import BEYOND_ANY_SCALE, SAMPLE_RATE_HZ

_FRONT = {"FL", "FR", "FLC", "FRC"}
_LOW = {"LFE", "LFE2"}
_SIDES = {"left": "FL", "right": "FR"}
MIX = "mix"
# Rates of sound cards and codecs; a header that claims a rate outside this range is broken, and a minute at such a rate
# may fill the memory.
_RATES_HZ = range(1_000, 768_001)

# Zero point and full scale of FFmpeg's sample formats, by their numpy type.
_SCALES = {
    "u1": (128, 2.0**7),
    "i2": (0, 2.0**15),
    "i4": (0, 2.0**31),
    "i8": (0, 2.0**63),
    "f4": (0, 1.0),
    "f8": (0, 1.0),
}


def mix_weights(channels: Sequence[str], config: Config) -> list[float]:
    """Weight of each channel in the mono sum.

    With a front centre channel, as in films, speech is in the centre: it keeps its full level, and the others are added
    at a lower one (as in ITU-R BS.775, except that there the centre is attenuated in both stereo channels). Without a
    front centre: the mean.

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


def side_weights(channels: Sequence[str], side: str) -> list[float] | None:
    """Weights that select one side of stereo audio; None if there are no sides.

    Args:
        channels: FFmpeg's names in the stream's order; two channels without names are left and right.
        side: ``left`` or ``right``.
    """
    names = list(_SIDES.values()) if len(channels) == 2 and not set(_SIDES.values()) & set(channels) else list(channels)
    if not set(_SIDES.values()) <= set(names):
        return None
    return [float(name == _SIDES[side]) for name in names]


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
        ValueError: for a sample format that FFmpeg did not have when this code was written.
    """
    values = frame.to_ndarray()
    kind = values.dtype.str[1:]
    if kind not in _SCALES:
        raise ValueError(f"unknown sample format {frame.format.name!r}")
    zero, scale = _SCALES[kind]
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if zero == 0 and scale == 1.0:
        with np.errstate(over="ignore"):
            return np.asarray(values, dtype=np.float32)
    return ((values.astype(np.float64) - zero) / scale).astype(np.float32)


def undefined(rows_CS: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """(channels, samples): which samples are not finite, or far beyond any scale; None if there are none, as nearly
    always.
    """
    if not rows_CS.size or (rows_CS.max() <= BEYOND_ANY_SCALE and rows_CS.min() >= -BEYOND_ANY_SCALE):
        return None
    return ~(np.abs(rows_CS) <= BEYOND_ANY_SCALE)


def flat_tops(rows_CS: NDArray[np.float32], config: Config) -> NDArray[np.bool_] | None:
    """Samples at which some channel stays at full scale: anything louder was clipped during recording.

    Args:
        rows_CS: (channels, samples), full scale at 1.
        config: ``clipping_level`` and ``clipping_run_samples``: a single sample at full scale is a peak, several in a
            row are clipping.

    Returns:
        (samples,) bool; None if there are none, as nearly always. A run across the border of two blocks counts as two
        runs.
    """
    level, run = config.clipping_level, config.clipping_run_samples
    if not rows_CS.size or (rows_CS.max() < level and rows_CS.min() > -level):
        return None
    full_CS = np.abs(rows_CS) >= level
    begins_CS = full_CS[:, : max(0, full_CS.shape[1] - run + 1)].copy()
    for step in range(1, run):
        begins_CS &= full_CS[:, step : step + begins_CS.shape[1]]
    flat_S = np.zeros(full_CS.shape[1], dtype=bool)
    begins_S = np.any(begins_CS, axis=0)
    for step in range(run):
        flat_S[step : step + len(begins_S)] |= begins_S
    return flat_S if flat_S.any() else None


@dataclass(frozen=True)
class Heard:
    """One block, mixed in one way.

    Attributes:
        mono: (samples,) float32.
        mix: description of the channels in the mix.
        flat: (samples,) bool; see :func:`flat_tops`, for the channels that are used.
        undefined: (samples,) bool; see :func:`undefined`, for any channel that is used; they are replaced by zeros.
        lost: (samples,) bool; undefined in all channels that are used.
        as_wished: False if a side was requested and there are no sides.
        names, weights, apart: of the mixed channels: (channels,), (channels,) and (channels, samples); None if only one
        channel is used.
    """

    mono: NDArray[np.float32]
    mix: str
    flat: NDArray[np.bool_] | None
    undefined: NDArray[np.bool_] | None
    lost: NDArray[np.bool_] | None
    as_wished: bool
    names: Sequence[str] = ()
    weights: NDArray[np.float32] | None = None
    apart: NDArray[np.float32] | None = None


class SoundSpan:
    """Gathers the audio of one span from the blocks of its stream.

    Args:
        wanted: the span of the file.
        max_seconds: maximum length that is kept.
        channel: ``mix``, or ``left`` or ``right`` of stereo audio.
        min_mix_share: see :class:`merc.media.phase.Phases`.

    Attributes:
        kept: the span up to the cap.
        cut: whether there was audio after the cap.
        mixes: how the channels were mixed, one entry per channel layout encountered.
        as_wished: whether the requested side was found.
        phases: whether the channels cancel each other.
        samples: number of samples of the source.
        undefined_samples: number of these replaced by zeros in some channel; see :func:`undefined`.
        lost_samples: number of these replaced by zeros in all channels.
        flat_samples: number of these in a run at full scale; ``flat_share`` is their share.
    """

    def __init__(self, wanted: Span, max_seconds: float, channel: str = MIX, min_mix_share: float = 0.0) -> None:
        self.wanted = wanted
        self.kept = wanted.capped(max_seconds)
        self.channel = channel
        self.cut = False
        self.as_wished = True
        self.phases = Phases(min_mix_share)
        self.samples = 0
        self.undefined_samples = 0
        self.lost_samples = 0
        self._mixes: list[str] = []
        self._blocks: list[tuple[int, NDArray[np.float32]]] = []  # (rate, samples)
        self.flat_samples = 0

    @property
    def mixes(self) -> list[str]:
        return [f"{self.phases.alone}*1"] if self.phases.alone else self._mixes

    @property
    def flat_share(self) -> float:
        return self.flat_samples / max(1, self.samples)

    def take(self, heard: Heard | None, begin: int, length: int, rate_hz: int) -> None:
        """Takes the span's share of a block.

        Args:
            heard: the block; None for ``length`` samples of silence.
            begin: index of the block's first sample, counted from the start of the file at ``rate_hz``.
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
        piece = np.zeros(stop - first, np.float32) if heard is None else heard.mono[first:stop]
        self._blocks.append((rate_hz, piece))
        self.samples += stop - first
        if heard is not None:
            if heard.mix not in self._mixes:
                self._mixes.append(heard.mix)
            self.as_wished &= heard.as_wished
            if heard.flat is not None:
                self.flat_samples += int(np.count_nonzero(heard.flat[first:stop]))
            if heard.undefined is not None:
                self.undefined_samples += int(np.count_nonzero(heard.undefined[first:stop]))
            if heard.lost is not None:
                self.lost_samples += int(np.count_nonzero(heard.lost[first:stop]))
            if heard.apart is not None and heard.weights is not None:
                self.phases.add(len(self._blocks) - 1, piece, heard.names, heard.weights, heard.apart[:, first:stop])

    def waveform(self) -> NDArray[np.float32]:
        """(samples,) float32 at 16 kHz, not limited to full scale; empty if the stream has nothing in the span."""
        blocks = [(rate_hz, self.phases.heard(number, piece)) for number, (rate_hz, piece) in enumerate(self._blocks)]
        runs = [
            _resample(np.concatenate([piece for _, piece in run]), rate_hz)
            for rate_hz, run in groupby(blocks, key=lambda block: block[0])
        ]
        return np.concatenate(runs) if runs else np.zeros(0, np.float32)


class Sound:
    """The audio of an utterance: one span, or several spans in sequence, of one or more files.

    Args:
        spans: in order, at least one; all of their blocks have been taken.

    Attributes:
        mixes, samples, undefined_samples, lost_samples: as for a span, over all spans.
        flat_share: share of the source's samples in a run at full scale.
        out_of_phase: message stating how much is left in the mix of channels that cancel each other; empty if they do
            not.
        missed_channel: the requested side of stereo audio if it is missing; else empty.
    """

    def __init__(self, spans: Sequence[SoundSpan]) -> None:
        self.mixes = list(dict.fromkeys(mix for one in spans for mix in one.mixes))
        self.samples = sum(one.samples for one in spans)
        self.undefined_samples = sum(one.undefined_samples for one in spans)
        self.lost_samples = sum(one.lost_samples for one in spans)
        self.flat_share = sum(one.flat_samples for one in spans) / max(1, self.samples)
        self.out_of_phase = next((one.phases.words for one in spans if one.phases.alone), "")
        self.missed_channel = next((one.channel for one in spans if not one.as_wished), "")


def is_silence(waveform_S: NDArray[np.float32]) -> bool:
    """True if all samples are equal once stored with 16 bits: nothing was recorded, or a constant."""
    return not np.ptp(np.round(waveform_S * np.float32(2**15)))


def doubts(waveform_S: NDArray[np.float32], sound: Sound, config: Config) -> list[tuple[str, str]]:
    """Doubts about the audio: reason and detail of each.

    Args:
        waveform_S: audio of the utterance, not empty and not :func:`is_silence`.
        sound: where it came from.
        config: ``short_sound_seconds``, ``quiet_sound_db``, ``min_clipped_share``.
    """
    found = []
    seconds = len(waveform_S) / SAMPLE_RATE_HZ
    if seconds < config.short_sound_seconds:
        found.append(("nearly_empty", f"{seconds:.4f} s"))
    level_db = 20 * math.log10(float(np.std(waveform_S.astype(np.float64))))
    if level_db < config.quiet_sound_db:
        found.append(("nearly_silent", f"{level_db:.1f} dB below full scale".replace("-", "")))
    if sound.flat_share >= config.min_clipped_share:
        found.append(("source_clipped", f"{sound.flat_share:.3%} of the samples"))
    if sound.out_of_phase:
        found.append(("out_of_phase", sound.out_of_phase))
    if sound.missed_channel:
        found.append(
            ("channel_missing", f"the {sound.missed_channel} channel was wanted; there is {'; '.join(sound.mixes)}")
        )
    return found


def _resample(mono_S: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    if rate_hz == SAMPLE_RATE_HZ:
        return mono_S
    return np.asarray(soxr.resample(mono_S, rate_hz, SAMPLE_RATE_HZ, quality="HQ"), dtype=np.float32)


class SoundStream:
    """Hands the frames of one stream to the spans of the utterances in it. Spans may overlap.

    Time stamps decide where audio lies: if a frame starts more than ``max_gap_seconds`` after the end of the previous
    one (or the start of the file), the gap is silence. Smaller jumps, and steps back, are due to a container's rounding
    and are ignored.

    Attributes:
        channels: of the source; the first layout if it changes.
        rate_hz: of the source; the first if it changes.
        end_seconds: where the decoded audio ends so far.
    """

    def __init__(self, spans: Sequence[SoundSpan], config: Config) -> None:
        self._waiting = sorted(spans, key=lambda one: one.kept.start)
        self._active: list[SoundSpan] = []
        self._last_end = max(one.kept.end for one in spans)
        self._mixings: dict[tuple[tuple[str, ...], str], tuple[NDArray[np.float32], list[int], str, bool]] = {}
        self._wished = sorted({one.channel for one in spans})
        self._config = config
        self._cursor = 0
        self._cursor_rate_hz = 0
        self.channels = 0
        self.rate_hz = 0
        self.end_seconds = 0.0

    @property
    def done(self) -> bool:
        """No further audio can belong to any span."""
        return self.end_seconds > self._last_end

    def feed(self, frame: av.AudioFrame, begin_seconds: float | None) -> None:
        """Takes one decoded frame.

        Args:
            frame: any layout, rate and sample format; each may differ from those of the previous frame.
            begin_seconds: its time stamp, from the start of the file; None if it follows the previous frame.

        Raises:
            ValueError: for a sample rate or format that no real file has.
        """
        rate_hz = frame.sample_rate
        if rate_hz not in _RATES_HZ:
            raise ValueError(f"a sample rate of {rate_hz} Hz")
        names = tuple(
            f"unnamed{index}" if one.name == "NONE" else one.name for index, one in enumerate(frame.layout.channels)
        )
        if not self.rate_hz:
            self.rate_hz, self.channels = rate_hz, len(names)
        rows_CS = channel_rows(frame)
        undefined_CS = undefined(rows_CS)
        if undefined_CS is not None:
            rows_CS = np.where(undefined_CS, np.float32(0), rows_CS)
        heard = {channel: self._hear(rows_CS, undefined_CS, names, channel) for channel in self._wished}
        if rate_hz != self._cursor_rate_hz:
            self._cursor, self._cursor_rate_hz = sample(self.end_seconds, rate_hz), rate_hz
        if begin_seconds is not None and begin_seconds - self._cursor / rate_hz > self._config.max_gap_seconds:
            self._hand_out(None, sample(begin_seconds, rate_hz) - self._cursor, rate_hz)
        self._hand_out(heard, rows_CS.shape[1], rate_hz)

    def _hear(
        self, rows_CS: NDArray[np.float32], undefined_CS: NDArray[np.bool_] | None, names: tuple[str, ...], channel: str
    ) -> Heard:
        weights_C, heard, mix, as_wished = self._mixing(names, channel)
        heard_CS = rows_CS if len(heard) == len(names) else rows_CS[heard]
        mono_S = heard_CS[0] if len(heard) == 1 and weights_C[heard[0]] == 1 else weights_C @ rows_CS
        undefined_S, lost_S = (
            (None, None)
            if undefined_CS is None
            else (np.any(undefined_CS[heard], axis=0), np.all(undefined_CS[heard], axis=0))
        )
        flat_S = flat_tops(heard_CS, self._config)
        if len(heard) == 1:
            return Heard(mono_S, mix, flat_S, undefined_S, lost_S, as_wished)
        return Heard(
            mono_S,
            mix,
            flat_S,
            undefined_S,
            lost_S,
            as_wished,
            [names[one] for one in heard],
            weights_C[heard],
            heard_CS,
        )

    def _mixing(self, names: tuple[str, ...], channel: str) -> tuple[NDArray[np.float32], list[int], str, bool]:
        """Weights, indices of the channels used, description of the mix, and whether it is the requested one; computed
        once per layout.
        """
        if (names, channel) not in self._mixings:
            side = None if channel == MIX else side_weights(names, channel)
            weights = mix_weights(names, self._config) if side is None else side
            heard = [index for index, weight in enumerate(weights) if weight]
            self._mixings[names, channel] = (
                np.asarray(weights, dtype=np.float32),
                heard,
                describe_mix(names, weights),
                channel == MIX or side is not None,
            )
        return self._mixings[names, channel]

    def _hand_out(self, heard: Mapping[str, Heard] | None, length: int, rate_hz: int) -> None:
        begin = self._cursor
        self._cursor += length
        self.end_seconds = self._cursor / rate_hz
        while self._waiting and self._waiting[0].kept.start < self.end_seconds:
            self._active.append(self._waiting.pop(0))
        for one in self._active:
            one.take(None if heard is None else heard[one.channel], begin, length, rate_hz)
        self._active = [one for one in self._active if one.kept.end >= begin / rate_hz]
