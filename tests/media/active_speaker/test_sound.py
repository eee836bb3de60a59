"""The coefficients compared with a reference that computes each frame, filter and sum separately."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from merc.media.active_speaker.sound import COEFFICIENTS, mfcc


@pytest.mark.parametrize("samples", [1, 399, 400, 401, 560, 561, 1500])
def test_it_is_what_the_definition_says(samples: int) -> None:
    random = np.random.default_rng(samples)
    waveform_S = (0.2 * random.normal(size=samples)).astype(np.float32)
    found, wanted = mfcc(waveform_S), _reference(waveform_S)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 1), (1, 1), (400, 1), (401, 2), (560, 2), (561, 3), (640 * 25 + 240, 100)]
)
def test_there_are_a_hundred_frames_per_second(samples: int, frames: int) -> None:
    assert mfcc(np.ones(samples, np.float32)).shape == (frames, COEFFICIENTS)


@pytest.mark.parametrize("samples", [0, 1, 5000])
def test_silence_has_finite_values(samples: int) -> None:
    found = mfcc(np.zeros(samples, np.float32))
    np.testing.assert_allclose(found[:, 0], math.log(2.0**-52), rtol=1e-6)
    np.testing.assert_allclose(found[:, 1:], 0, atol=1e-9)


def test_silence_around_audio_has_finite_values() -> None:
    waveform_S = np.zeros(8000, np.float32)
    waveform_S[4000] = 1
    assert np.isfinite(mfcc(waveform_S)).all()


def test_what_exceeds_full_scale_is_limited_to_it() -> None:
    loud_S = np.array([3, -3, 0.5, -0.5] * 200, np.float32)
    np.testing.assert_array_equal(mfcc(loud_S), mfcc(np.clip(loud_S, -1, 1)))


def test_the_waveform_stays_as_it_is() -> None:
    waveform_S = np.linspace(-1, 1, 900, dtype=np.float32)
    waveform_S.flags.writeable = False
    mfcc(waveform_S)
    assert waveform_S[-1] == 1


def test_speech_has_the_values_of_python_speech_features(real_data: Path) -> None:
    """Three frames computed for this file by version 0.6 of the package, which is not needed here."""
    waveform_S, _ = soundfile.read(real_data / "media" / "spk1_snt1.wav", dtype="float32")
    found = mfcc(waveform_S)
    assert found.shape == (286, COEFFICIENTS)
    np.testing.assert_allclose(found[[0, 100, 285]], PUBLISHED, atol=1e-3, rtol=0)


PUBLISHED = np.array(
    [
        [7.698, -19.258, -20.029, -2.236, 20.401, -8.918, -8.752, -7.234, -14.453, -5.463, 6.859, -14.381, 12.270],
        [16.356, 14.534, -22.274, -8.973, -34.974, 3.921, 7.174, -32.472, 24.304, -21.087, -12.690, -6.595, -12.073],
        [11.766, 5.770, -4.884, -0.169, 12.326, -21.577, -11.906, -19.547, 22.283, -28.377, -5.655, -30.242, 3.614],
    ]
)


def _reference(waveform_S: NDArray[np.float32]) -> NDArray[np.float64]:
    sound = [min(max(round(float(one) * 32768), -32768), 32767) for one in waveform_S]
    sound = [one - 0.97 * before for one, before in zip(sound, [0, *sound], strict=False)]
    frames = 1 if len(sound) <= 400 else 1 + math.ceil((len(sound) - 400) / 160)
    return np.array([_frame([*sound[160 * number : 160 * number + 400]]) for number in range(frames)])


def _frame(sound: list[float]) -> list[float]:
    samples = np.array(sound)
    power = [
        abs(np.sum(samples * np.exp(-2j * math.pi * bin_ * np.arange(len(samples)) / 512))) ** 2 / 512
        for bin_ in range(257)
    ]
    filters = [
        math.log(sum(_weight(bin_, number) * power[bin_] for bin_ in range(257)) or 2.0**-52) for number in range(26)
    ]
    found = []
    for number in range(13):
        total = sum(one * math.cos(math.pi * number * (place + 0.5) / 26) for place, one in enumerate(filters))
        found.append(total * math.sqrt((2 if number else 1) / 26) * (1 + 11 * math.sin(math.pi * number / 22)))
    return [math.log(sum(power) or 2.0**-52), *found[1:]]


def _weight(bin_: int, number: int) -> float:
    """Height at a bin of the triangle that rises from one corner to the next and falls to the one after."""
    low, middle, high = (_corner(number + one) for one in range(3))
    if low <= bin_ < middle:
        return (bin_ - low) / (middle - low)
    return (high - bin_) / (high - middle) if middle <= bin_ < high else 0.0


def _corner(number: int) -> int:
    mel = number / 27 * 2595 * math.log10(1 + 8000 / 700)
    return math.floor(513 * 700 * (10 ** (mel / 2595) - 1) / 16000)
