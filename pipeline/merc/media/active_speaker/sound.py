"""Mel-frequency cepstral coefficients as Light-ASD was trained on them: those of the package python_speech_features
with its defaults.

They differ in details from librosa's and torchaudio's: no window function, triangles between whole bins of the
spectrum, samples on the scale of 16 bits, and the frame's logarithmic energy instead of the first coefficient.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

SAMPLE_RATE_HZ = 16_000
COEFFICIENTS = 13
WINDOW_SAMPLES = 400
STEP_SAMPLES = 160
_FFT_SAMPLES = 512
_FILTERS = 26
_PRE_EMPHASIS = 0.97
_LIFTER = 22
_FULL_SCALE = 2**15
_EPSILON = np.finfo(np.float64).eps


def mfcc(waveform_S: NDArray[np.float32]) -> NDArray[np.float32]:
    """Coefficients (frames, 13), 100 frames per second; the first is the logarithm of the frame's energy.

    A frame has 25 ms, and the last one is padded with zeros. So there is one frame for up to 400 samples (even for
    none), and one more for every further 160 samples or part of them. Digital silence has finite values, too: energies
    of zero count as 2.2e-16.

    Args:
        waveform_S: (samples,) at 16 kHz, full scale 1, finite. It is rounded to 16 bits, and limited to full scale.
    """
    sound_S = np.clip(np.round(waveform_S.astype(np.float64) * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1)
    sound_S[1:] -= _PRE_EMPHASIS * sound_S[:-1].copy()
    frames = 1 + max(0, -(-(len(sound_S) - WINDOW_SAMPLES) // STEP_SAMPLES))
    padded_S = np.zeros(WINDOW_SAMPLES + (frames - 1) * STEP_SAMPLES)
    padded_S[: len(sound_S)] = sound_S
    windows_FS = np.lib.stride_tricks.sliding_window_view(padded_S, WINDOW_SAMPLES)[::STEP_SAMPLES]
    power_FB = np.abs(np.fft.rfft(windows_FS, _FFT_SAMPLES)) ** 2 / _FFT_SAMPLES
    loudness_FM = np.log(_above_zero(power_FB @ _triangles().T))
    coefficients_FK = dct(loudness_FM, type=2, norm="ortho")[:, :COEFFICIENTS]
    coefficients_FK *= 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / _LIFTER)
    coefficients_FK[:, 0] = np.log(_above_zero(power_FB.sum(1)))
    return np.asarray(coefficients_FK, np.float32)


def _above_zero(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(energies == 0, _EPSILON, energies)


@cache
def _triangles() -> NDArray[np.float64]:
    """(26, 257): how much of each bin of the spectrum belongs to each filter; their corners are evenly spaced in mel
    from 0 to 8 kHz, on whole bins.
    """
    corners_mel = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE_HZ / 2 / 700), _FILTERS + 2)
    corners = np.floor((_FFT_SAMPLES + 1) * 700 * (10 ** (corners_mel / 2595) - 1) / SAMPLE_RATE_HZ)
    bins = np.arange(_FFT_SAMPLES // 2 + 1)
    low, middle, high = (corners[first : first + _FILTERS, None] for first in range(3))
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return np.where((low <= bins) & (bins < middle), rising, np.where((middle <= bins) & (bins < high), falling, 0.0))
