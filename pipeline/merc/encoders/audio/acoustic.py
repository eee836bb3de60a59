"""Statistics of the voice and of the audio: pitch, energy, spectrum, MFCC, rhythm. No model, no download.

The choice follows what eGeMAPS found to carry emotion (Eyben et al. 2016, IEEE Trans. Affective Computing 7(2)):
pitch in semitones, loudness, spectral slope and balance, cepstrum, voiced segments and loudness peaks per second;
percentiles replace minima and maxima, which a single bad frame can distort. This is not an implementation of eGeMAPS.

Frames: one per hop, centred; pitch has a longer window, since it must hold two periods of the lowest voice.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from merc.encoders.engine.base import Encoded, Encoder, EncoderConfig, UtteranceInput
from merc.encoders.engine.batching import one_by_one
from merc.encoders.engine.sound import HALF_A_STEP
from merc.records.media import BEYOND_ANY_SCALE, SAMPLE_RATE_HZ

Frames = NDArray[np.float64]

MFCC = 20
MEL_BANDS = 40
FLOOR_DB = -100.0
REFERENCE_HZ = 27.5  # the A four octaves below 440 Hz; eGeMAPS counts semitones from it, too

# Fixed constants (offset, scale): (value - offset) / scale is of order one for speech. They are typical values of the
# measure, not statistics of a corpus; training standardises by the train split anyway.
_SEMITONES = (36.0, 12.0)  # 220 Hz, an octave
_DB = (-30.0, 15.0)
_KHZ = (1.5, 1.5)

_STATISTICS = ("mean", "std", "p20", "p50", "p80")
_SPECTRAL: dict[str, tuple[float, float]] = {
    "centroid_khz": _KHZ,
    "bandwidth_khz": _KHZ,
    "rolloff_khz": (2.5, 2.0),
    "flatness_log10": (-2.5, 1.0),
    "flux": (0.0, 0.5),
    "tilt_db_per_octave": (-6.0, 6.0),
    "alpha_ratio_db": (10.0, 10.0),  # 50-1000 Hz over 1-5 kHz
    "zero_crossings_khz": (2.5, 2.0),
}
_RHYTHM = (
    "duration_log_seconds",
    "voiced_share",
    "voiced_segments_per_second",
    "voiced_segment_log_seconds",
    "energy_peaks_per_second",
    "quiet_share",
    "longest_quiet_seconds",
)

FEATURE_NAMES: tuple[str, ...] = (
    *(f"pitch_semitones_{name}" for name in _STATISTICS),
    "pitch_range_semitones",
    "pitch_slope_semitones_per_second",
    "pitch_change_semitones",
    "pitch_rising_share",
    "harmonicity_mean",
    "harmonicity_std",
    *(f"energy_db_{name}" for name in _STATISTICS),
    "energy_range_db",
    "energy_slope_db_per_second",
    "energy_change_db",
    "energy_change_voiced_db",
    *(f"{measure}_{name}" for measure in _SPECTRAL for name in ("mean", "std", "p20", "p80")),
    *(f"mfcc{number}_{name}" for name in ("mean", "std", "p20", "p80") for number in range(MFCC)),
    *(f"mfcc{number}_{name}" for name in ("delta_std", "delta2_std") for number in range(MFCC)),
    *_RHYTHM,
)
"""Names of the vector's numbers, in order."""


@dataclass(frozen=True)
class Track:
    """Measures per frame.

    Attributes:
        pitch: (frames,) semitones above :data:`REFERENCE_HZ`.
        harmonicity: (frames,) normalised autocorrelation at the pitch's period, 0 to 1.
        energy: (frames,) root mean square in dB below full scale, at least :data:`FLOOR_DB`.
        loud: (frames,) bool, not quiet.
        voiced: (frames,) bool.
    """

    pitch: Frames
    harmonicity: Frames
    energy: Frames
    loud: NDArray[np.bool_]
    voiced: NDArray[np.bool_]


class Acoustic(Encoder):
    """The numbers of :data:`FEATURE_NAMES`, scaled by fixed constants to be of order one, and always finite."""

    class Config(EncoderConfig):
        """Settings of the statistics."""

        minimum_seconds: float = Field(default=0.1, gt=0)
        """Seconds; shorter clips are padded with zeros to this length, and recorded."""
        window_ms: float = Field(default=25.0, gt=0)
        """Milliseconds; window of energy and spectrum."""
        hop_ms: float = Field(default=10.0, gt=0)
        """Milliseconds from frame to frame, of energy, spectrum and pitch."""
        pitch_window_ms: float = Field(default=64.0, gt=0)
        """Milliseconds; window of the pitch tracker, which must hold two of the longest periods."""
        pitch_min_hz: float = Field(default=60.0, gt=0)
        """Hertz; lowest pitch that is searched for."""
        pitch_max_hz: float = Field(default=500.0, gt=0, lt=SAMPLE_RATE_HZ / 2)
        """Hertz; highest pitch that is searched for."""
        voicing_threshold: float = Field(default=0.45, gt=0, lt=1)
        """Least normalised autocorrelation, at the period found, of a voiced frame (0.45 in Praat: Boersma 1993)."""
        quiet_db: float = Field(default=30.0, gt=0)
        """Decibels; frames this far below the clip's loud ones are quiet: neither voiced nor in the spectral
        statistics."""

        @model_validator(mode="after")
        def _window_holds_two_periods(self) -> Self:
            if self.pitch_min_hz >= self.pitch_max_hz:
                raise ValueError(f"pitch_min_hz {self.pitch_min_hz} is not below pitch_max_hz {self.pitch_max_hz}")
            if self.pitch_window_ms < 2000 / self.pitch_min_hz:
                raise ValueError(
                    f"pitch_window_ms {self.pitch_window_ms} is shorter than two periods of pitch_min_hz"
                    f" {self.pitch_min_hz}, {2000 / self.pitch_min_hz:.1f} ms"
                )
            if self.minimum_seconds * 1000 < max(self.window_ms, self.hop_ms):
                raise ValueError(
                    f"minimum_seconds {self.minimum_seconds} is shorter than one window of {self.window_ms} ms and hop"
                    f" of {self.hop_ms} ms"
                )
            return self

        def samples(self, milliseconds: float) -> int:
            """A duration in samples."""
            return round(milliseconds * SAMPLE_RATE_HZ / 1000)

    MODALITY = "audio"
    config: Config

    def provenance(self) -> dict[str, Any]:
        return self.rule_provenance(
            pooling="statistics over frames", sample_rate_hz=SAMPLE_RATE_HZ, feature_names=list(FEATURE_NAMES)
        )

    @property
    def dim(self) -> int:
        return len(FEATURE_NAMES)

    def planned_dim(self) -> int:
        return self.dim

    def load(self, device: str) -> None:
        import torchaudio.transforms

        config = self.config
        window = config.samples(config.window_ms)
        self._n_fft = 1 << (window - 1).bit_length()
        self._mfcc = torchaudio.transforms.MFCC(
            SAMPLE_RATE_HZ,
            n_mfcc=MFCC,
            log_mels=True,
            melkwargs={
                "n_fft": self._n_fft,
                "win_length": window,
                "hop_length": config.samples(config.hop_ms),
                "n_mels": MEL_BANDS,
                "mel_scale": "htk",
                "norm": "slaney",
            },
        )
        with _one_process_at_a_time(), one_thread():
            self.statistics(np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE_HZ).astype(np.float32), 1.0)

    def encode(self, utterances: Sequence[UtteranceInput]) -> Encoded:
        with one_thread():
            return one_by_one(utterances, self.dim, self._encode_one)

    def _encode_one(self, utterance: UtteranceInput) -> tuple[NDArray[np.float32] | None, list[tuple[str, str]]]:
        waveform = utterance.waveform
        if waveform is None or waveform.size == 0:
            return None, [("no_audio_samples", "the waveform holds no sample")]
        bad = int((~(np.abs(waveform) < BEYOND_ANY_SCALE)).sum())
        if bad:
            return None, [
                (
                    "not_finite",
                    f"{bad} of {waveform.size} samples are not finite, or {BEYOND_ANY_SCALE:g} times beyond full scale",
                )
            ]
        sound = _without_offset(waveform.astype(np.float32))
        if np.abs(sound).max() < HALF_A_STEP:
            return None, [("silence", f"none of {sound.size} samples is half a step of 16 bit away from the others")]
        seconds, least = sound.size / SAMPLE_RATE_HZ, round(self.config.minimum_seconds * SAMPLE_RATE_HZ)
        remarks = []
        if sound.size < least:
            sound = np.pad(sound, (0, least - sound.size))
            remarks = [("padded", f"from {seconds:.4f} to {least / SAMPLE_RATE_HZ:.4f} s with zeros")]
        return self.statistics(sound, seconds), remarks

    def statistics(self, sound: NDArray[np.float32], seconds: float) -> NDArray[np.float32]:
        """The vector of one clip.

        Args:
            sound: (samples,) at least ``minimum_seconds`` long, finite, not silent.
            seconds: its length before padding.
        """
        frame_seconds = self.config.hop_ms / 1000
        track = self._track(sound)
        values = [
            *_pitch(track, frame_seconds),
            *_energy(track, frame_seconds),
            *_spectrum(self._spectrogram(sound), self._zero_crossings(sound), track.loud),
            *self._cepstrum(sound, track.loud),
            *_rhythm(track, seconds, frame_seconds),
        ]
        return np.array(values, dtype=np.float32)

    def _track(self, sound: NDArray[np.float32]) -> Track:
        import librosa

        config = self.config
        hop, window, pitch_window = (
            config.samples(config.hop_ms),
            config.samples(config.window_ms),
            config.samples(config.pitch_window_ms),
        )
        energy = _db(
            librosa.feature.rms(y=sound, frame_length=window, hop_length=hop, pad_mode="constant")[0].astype(np.float64)
        )
        pitch_hz = librosa.yin(
            sound,
            fmin=config.pitch_min_hz,
            fmax=config.pitch_max_hz,
            sr=SAMPLE_RATE_HZ,
            frame_length=pitch_window,
            hop_length=hop,
            pad_mode="constant",
        ).astype(np.float64)
        frames = min(len(energy), len(pitch_hz))
        energy, pitch_hz = energy[:frames], pitch_hz[:frames]
        framed = librosa.util.frame(np.pad(sound, pitch_window // 2), frame_length=pitch_window, hop_length=hop)[
            :, :frames
        ].T
        harmonicity = _autocorrelation(framed, np.rint(SAMPLE_RATE_HZ / pitch_hz).astype(np.int64))
        loud = energy > _loud_level(energy) - config.quiet_db
        pitch = 12 * np.log2(pitch_hz / REFERENCE_HZ)
        return Track(pitch, harmonicity, energy, loud, loud & (harmonicity > config.voicing_threshold))

    def _spectrogram(self, sound: NDArray[np.float32]) -> Frames:
        """(bins, frames) magnitudes."""
        import librosa

        config = self.config
        spectrum = librosa.stft(
            sound,
            n_fft=self._n_fft,
            win_length=config.samples(config.window_ms),
            hop_length=config.samples(config.hop_ms),
            pad_mode="constant",
        )
        magnitudes: Frames = np.abs(spectrum).astype(np.float64)
        return magnitudes

    def _zero_crossings(self, sound: NDArray[np.float32]) -> Frames:
        """(frames,) in thousands per second."""
        import librosa

        config = self.config
        share = librosa.feature.zero_crossing_rate(
            sound, frame_length=config.samples(config.window_ms), hop_length=config.samples(config.hop_ms)
        )[0]
        return np.asarray(share, dtype=np.float64) * SAMPLE_RATE_HZ / 1000

    def _cepstrum(self, sound: NDArray[np.float32], loud: NDArray[np.bool_]) -> list[float]:
        """MFCC over the loud frames: mean, std, p20, p80; std of first and second differences over all frames."""
        import torch
        import torchaudio.functional

        with torch.inference_mode():
            mfcc = self._mfcc(torch.from_numpy(sound))
            delta = torchaudio.functional.compute_deltas(mfcc)
            delta2 = torchaudio.functional.compute_deltas(delta)
        used = mfcc.numpy()[:, : len(loud)][:, loud].astype(np.float64)
        # The first coefficient is the sum of 40 log energies over sqrt(40); later ones decrease with their number.
        scale = np.array([20.0, *(6.0 / np.sqrt(np.arange(1, MFCC)))])
        offset = np.array([-60.0, *np.zeros(MFCC - 1)])
        return [
            *((used.mean(axis=1) - offset) / scale),
            *(used.std(axis=1) / scale),
            *((np.percentile(used, 20, axis=1) - offset) / scale),
            *((np.percentile(used, 80, axis=1) - offset) / scale),
            *(delta.numpy().std(axis=1, dtype=np.float64) / (scale / 4)),
            *(delta2.numpy().std(axis=1, dtype=np.float64) / (scale / 8)),
        ]


def _without_offset(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """The audio without the recorder's constant offset, which is the mean after clipping the outermost hundredths, so
    that a click does not bias it.
    """
    low, high = np.percentile(sound, (1, 99))
    return sound - np.float32(np.clip(sound, low, high).mean(dtype=np.float64))


@contextmanager
def _one_process_at_a_time() -> Iterator[None]:
    """Holds a lock per user and machine.

    numba compiles librosa's inner functions at their first use and caches them in files. A process that reads such a
    file while another writes it can crash (seen with two fresh processes in a new environment). A process that has used
    each function once, inside the lock, has them in memory and reads no file again.
    """
    lock = os.open(
        Path(tempfile.gettempdir()) / f"merc-pipeline-numba-{os.getuid()}.lock",
        os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW,
        0o600,
    )
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps torch on one thread inside the block: the work is spread over processes, and sums do not depend on the
    number of cores.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _db(amplitude: Frames) -> Frames:
    decibels: Frames = np.maximum(20 * np.log10(np.maximum(amplitude, 1e-12)), FLOOR_DB)
    return decibels


def _loud_level(energy: Frames) -> float:
    """The clip's loudness in dB: the 95th percentile, which ignores a bang unless there is hardly anything else."""
    return max(float(np.percentile(energy, 95)), float(energy.max()) - 30)


def _autocorrelation(framed: NDArray[np.float32], lags: NDArray[np.int64]) -> Frames:
    """Normalised autocorrelation of each frame at its own lag, in chunks that bound the memory.

    Args:
        framed: (frames, samples).
        lags: (frames,), each shorter than a frame.

    Returns:
        (frames,) from 0 (also for a silent frame) to 1.
    """
    found = np.zeros(len(framed))
    places = np.arange(framed.shape[1])
    for start in range(0, len(framed), 512):
        frames = framed[start : start + 512].astype(np.float64)
        frames -= frames.mean(axis=1, keepdims=True)
        lag = lags[start : start + 512, None]
        later = np.take_along_axis(frames, np.minimum(places + lag, frames.shape[1] - 1), axis=1)
        products = np.where(places < frames.shape[1] - lag, frames * later, 0.0).sum(axis=1)
        # Normalised by the power of the whole frame, not of the two overlapping stretches: a click near an edge is in
        # only one of them.
        power = (frames**2).sum(axis=1) * (1 - lag[:, 0] / frames.shape[1])
        found[start : start + 512] = products / np.maximum(power, 1e-12)
    return np.clip(found, 0.0, 1.0)


def _five(values: Frames, offset: float, scale: float) -> list[float]:
    """Scaled mean, std, 20th, 50th and 80th percentile; zeros if there is no value."""
    if values.size == 0:
        return [0.0] * 5
    low, middle, high = np.percentile(values, (20, 50, 80))
    return [
        (values.mean() - offset) / scale,
        values.std() / scale,
        (low - offset) / scale,
        (middle - offset) / scale,
        (high - offset) / scale,
    ]


def _slope(values: Frames, places: NDArray[np.floating[Any]]) -> float:
    """Least-squares slope; 0 with fewer than two distinct positions."""
    centred = places - places.mean() if places.size else places
    spread = float((centred**2).sum())
    return float((centred * values).sum()) / spread if spread > 0 else 0.0


def _mean(values: Frames) -> float:
    return float(values.mean()) if values.size else 0.0


def _pitch(track: Track, frame_seconds: float) -> list[float]:
    pitch = track.pitch[track.voiced]
    places = np.flatnonzero(track.voiced) * frame_seconds
    follows = track.voiced[1:] & track.voiced[:-1]
    # A jump of more than six semitones within a hop is the tracker changing the octave, not the voice.
    change = np.diff(track.pitch)[follows]
    change = change[np.abs(change) < 6]
    five = _five(pitch, *_SEMITONES)
    harmonicity = track.harmonicity[track.voiced]
    return [
        *five,
        five[4] - five[2],
        _slope(pitch, places) / 10,
        _mean(np.abs(change)) / 0.5,
        _mean((change > 0).astype(np.float64)),
        _mean(harmonicity),
        float(harmonicity.std()) * 5 if harmonicity.size else 0.0,
    ]


def _energy(track: Track, frame_seconds: float) -> list[float]:
    energy = track.energy[track.loud]
    follows = track.voiced[1:] & track.voiced[:-1]
    change = np.abs(np.diff(track.energy))
    low, high = np.percentile(track.energy, (10, 95))
    return [
        *_five(energy, *_DB),
        (high - low) / 30,
        _slope(energy, np.flatnonzero(track.loud) * frame_seconds) / 20,
        _mean(change) / 3,
        _mean(change[follows]) / 3,
    ]


def _spectrum(magnitudes: Frames, zero_crossings: Frames, loud: NDArray[np.bool_]) -> list[float]:
    """Mean, std, 20th and 80th percentile of each measure of :data:`_SPECTRAL`, over the loud frames."""
    import librosa

    frames = min(magnitudes.shape[1], len(loud))
    # Every measure describes the shape of the spectrum, not its level: the strongest bin counts as one, and anything 80
    # dB below it is rounding noise.
    peaks = magnitudes[:, :frames].max(axis=0, keepdims=True)
    form = np.maximum(magnitudes[:, :frames] / np.maximum(peaks, 1e-12), 1e-4)
    power = form**2
    hertz = np.linspace(0, SAMPLE_RATE_HZ / 2, len(form))
    unit = form / np.sqrt(power.sum(axis=0, keepdims=True))
    measures = {
        "centroid_khz": librosa.feature.spectral_centroid(S=form, sr=SAMPLE_RATE_HZ)[0] / 1000,
        "bandwidth_khz": librosa.feature.spectral_bandwidth(S=form, sr=SAMPLE_RATE_HZ)[0] / 1000,
        "rolloff_khz": librosa.feature.spectral_rolloff(S=form, sr=SAMPLE_RATE_HZ, roll_percent=0.85)[0] / 1000,
        "flatness_log10": np.log10(librosa.feature.spectral_flatness(S=form)[0]),
        "flux": np.sqrt((np.diff(unit, axis=1, prepend=unit[:, :1]) ** 2).sum(axis=0)),
        "tilt_db_per_octave": _tilt(power, hertz),
        "alpha_ratio_db": _ratio_db(power[(hertz >= 50) & (hertz < 1000)], power[(hertz >= 1000) & (hertz < 5000)]),
        "zero_crossings_khz": zero_crossings,
    }
    values: list[float] = []
    for name, (offset, scale) in _SPECTRAL.items():
        mean, std, low, _, high = _five(
            np.asarray(measures[name], dtype=np.float64)[:frames][loud[:frames]], offset, scale
        )
        values += [mean, std, low, high]
    return values


def _tilt(power: Frames, hertz: Frames) -> Frames:
    """(frames,) slope of the spectrum in dB per octave, 100 Hz to 5 kHz; bins are weighted by their share of an
    octave.
    """
    band = (hertz >= 100) & (hertz < 5000)
    octaves = np.log2(hertz[band])
    weights = 1 / hertz[band]
    weights = weights / weights.sum()
    centred = (octaves - (weights * octaves).sum())[:, None]
    decibels = 10 * np.log10(power[band])
    slopes: Frames = (weights[:, None] * centred * decibels).sum(axis=0) / (weights[:, None] * centred**2).sum()
    return slopes


def _ratio_db(upper: Frames, lower: Frames) -> Frames:
    """(frames,) 10 log10 of summed powers."""
    ratio: Frames = 10 * np.log10(upper.sum(axis=0) / lower.sum(axis=0))
    return ratio


def _rhythm(track: Track, seconds: float, frame_seconds: float) -> list[float]:
    import librosa

    # Syllables: the maximum of the smoothed energy within a tenth of a second on either side, if it is 1.5 dB above the
    # mean of a quarter of a second on either side.
    width = round(0.05 / frame_seconds) // 2 * 2 + 1
    smooth = np.convolve(np.pad(track.energy, width // 2, mode="edge"), np.full(width, 1 / width), mode="valid")
    near, around = max(1, round(0.1 / frame_seconds)), max(1, round(0.25 / frame_seconds))
    peaks = librosa.util.peak_pick(
        smooth, pre_max=near, post_max=near, pre_avg=around, post_avg=around, delta=1.5, wait=near
    )
    syllables = int(track.loud[peaks].sum())
    voiced, quiet = _runs(track.voiced), _runs(~track.loud)
    length = len(track.energy) * frame_seconds
    return [
        float(np.log(seconds)),
        float(track.voiced.mean()),
        len(voiced) / length / 3,
        float(np.log1p(_mean(voiced) * frame_seconds / 0.3)),
        syllables / length / 4,
        float(1 - track.loud.mean()),
        float(np.log1p(quiet.max() * frame_seconds)) if quiet.size else 0.0,
    ]


def _runs(mask: NDArray[np.bool_]) -> Frames:
    """Lengths of the runs of True, in frames."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.view(np.int8), [0]))))
    return (edges[1::2] - edges[::2]).astype(np.float64)
