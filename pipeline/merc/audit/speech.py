"""When there is speech in a clip: voice activity from energy and from the periodicity of voices.

    frames of 10 ms ─► louder than the clip's own noise floor? ─► runs, short gaps closed ─► runs that hold enough voiced frames are speech

Energy alone takes a slammed door for speech, and periodicity alone loses every unvoiced consonant; so a segment counts
if it is loud as a whole and voiced in part. Singing, laughter and melodic music are voiced, too, and count: this
detects whether a voice may be heard, not whether it says words.

Legend: S samples, T frames.
"""  # noqa: E501

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from merc.records.media import SAMPLE_RATE_HZ

HOP = SAMPLE_RATE_HZ // 100
_LOUDNESS_SAMPLES = 400
_PITCH_SAMPLES = 800  # two periods of the lowest voice
_LOWEST_HZ, _HIGHEST_HZ = 70, 400
# Bands where voices are loud, and where their pitch shows: hum and rumble are below, hiss and noise above.
_BAND_HZ, _PITCH_HZ = (100, 3500), (60, 1200)
# The floor is the level that a tenth of the frames stay below. A tightly cut clip has no silence, so the threshold is
# at most a third of the way from the floor to the loud frames.
_FLOOR_SHARE, _PEAK_SHARE = 0.1, 0.95
_ABOVE_FLOOR_DB, _WAY_TO_PEAK = 9.0, 0.33
_QUIETEST_DB = -75.0  # relative to full scale; nothing below counts as speech
_VOICED = 0.6  # height of the autocorrelation's peak; below 0.35 for white noise
_LONGEST_GAP, _SHORTEST_RUN = 20, 6  # frames
_LEAST_VOICED, _LEAST_VOICED_SHARE = 4, 0.15
_TINY = 1e-10


@dataclass(frozen=True)
class Speech:
    """The amount of speech in a clip.

    Attributes:
        seconds: duration of speech. share: share of the clip, 0 to 1.
    """

    seconds: float
    share: float


def measure(waveform_S: NDArray[np.float32]) -> Speech:
    """Finds the speech of a clip.

    Args:
        waveform_S: (samples,) float32 with full scale at 1, 16 kHz mono.

    >>> measure(np.zeros(16_000, dtype=np.float32))
    Speech(seconds=0.0, share=0.0)
    """
    frames_T = is_speech(waveform_S)
    if not len(frames_T):
        return Speech(0.0, 0.0)
    share = float(frames_T.mean())
    return Speech(share * len(waveform_S) / SAMPLE_RATE_HZ, share)


def is_speech(waveform_S: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether there is speech in each frame of 10 ms. A clip shorter than a frame has none.

    Args:
        waveform_S: as for :func:`measure`.

    Returns:
        (frames,) bool.
    """
    if len(waveform_S) < HOP:
        return np.zeros(0, dtype=bool)
    level_T = _level_db(waveform_S)
    loud_T = _filled(level_T > _threshold_db(level_T))
    if not loud_T.any():
        return loud_T
    voiced_T = _periodicity(waveform_S, loud_T) > _VOICED
    speech_T = np.zeros_like(loud_T)
    for start, stop in _runs(loud_T):
        voiced = int(voiced_T[start:stop].sum())
        speech_T[start:stop] = stop - start >= _SHORTEST_RUN and voiced >= max(
            _LEAST_VOICED, _LEAST_VOICED_SHARE * (stop - start)
        )
    return speech_T


def _level_db(waveform_S: NDArray[np.float32]) -> NDArray[np.float64]:
    """(frames,) power in the voice band, in decibels relative to full scale."""
    frames_TS = _frames(waveform_S, _LOUDNESS_SAMPLES) * np.hanning(_LOUDNESS_SAMPLES).astype(np.float32)
    power_TF = np.square(np.abs(np.fft.rfft(frames_TS, axis=1))) / (_LOUDNESS_SAMPLES * _LOUDNESS_SAMPLES)
    return np.asarray(10 * np.log10(power_TF[:, _bins(_LOUDNESS_SAMPLES, *_BAND_HZ)].sum(axis=1) + _TINY))


def _bins(length: int, lowest_hz: float, highest_hz: float) -> slice:
    """The band's bins in a Fourier transform over this many samples."""
    return slice(round(lowest_hz * length / SAMPLE_RATE_HZ), round(highest_hz * length / SAMPLE_RATE_HZ) + 1)


def _threshold_db(level_T: NDArray[np.float64]) -> float:
    floor, peak = np.quantile(level_T, [_FLOOR_SHARE, _PEAK_SHARE])
    return max(float(min(floor + _ABOVE_FLOOR_DB, floor + _WAY_TO_PEAK * (peak - floor))), _QUIETEST_DB)


def _frames(sound_S: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """(frames, length), a frame per hop, each around the middle of its hop; zeros beyond the ends."""
    count = len(sound_S) // HOP
    before = (length - HOP) // 2
    padded = np.pad(sound_S, (before, length - HOP - before))
    return sliding_window_view(padded, length)[: count * HOP : HOP]


def _periodicity(waveform_S: NDArray[np.float32], wanted_T: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The maximum similarity of a frame to itself one pitch period later: -1 to 1; only where requested, else 0.

    The autocorrelation of the windowed frame divided by that of the window (Boersma 1993), since the decaying window
    would otherwise lower it.
    """
    window = np.hanning(_PITCH_SAMPLES)
    lags = slice(SAMPLE_RATE_HZ // _HIGHEST_HZ, min(SAMPLE_RATE_HZ // _LOWEST_HZ, _PITCH_SAMPLES // 2) + 1)
    of_window = _autocorrelation(window[None])[0]
    found_FL = _autocorrelation(_frames(waveform_S, _PITCH_SAMPLES)[wanted_T] * window, _PITCH_HZ)
    normal_FL = found_FL[:, lags] / np.maximum(found_FL[:, :1], _TINY) * (of_window[0] / of_window[lags])
    periodicity_T = np.zeros(len(wanted_T))
    periodicity_T[wanted_T] = normal_FL.max(axis=1)
    return periodicity_T


def _autocorrelation(frames_FS: NDArray[np.float64], band_hz: tuple[float, float] | None = None) -> NDArray[np.float64]:
    """Power spectra of the frames, for a frequency band or for all frequencies."""
    length = 2 * frames_FS.shape[1]
    power = np.square(np.abs(np.fft.rfft(frames_FS, length, axis=1)))
    if band_hz is not None:
        kept = _bins(length, *band_hz)
        power[:, : kept.start] = 0
        power[:, kept.stop :] = 0
    correlation: NDArray[np.float64] = np.fft.irfft(power, axis=1)[:, : frames_FS.shape[1]]
    return correlation


def _filled(loud_T: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The same with short gaps closed."""
    filled_T = loud_T.copy()
    for start, stop in _runs(~loud_T):
        if start > 0 and stop < len(loud_T) and stop - start <= _LONGEST_GAP:
            filled_T[start:stop] = True
    return filled_T


def _runs(flags_T: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Half-open spans in which the flags are set."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags_T, False].astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
