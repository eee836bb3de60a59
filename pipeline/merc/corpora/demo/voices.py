"""Synthetic voices whose pitch, loudness, tempo and timbre follow an emotion, for the demonstration corpus.

A source-filter model, computed as a sum of harmonics: the fundamental follows a contour, each harmonic is weighted by
the spectral tilt of the voice and by the formants of the current vowel, and breath is noise through the same formants.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from merc.records.media import SAMPLE_RATE_HZ

_STEP_SECONDS = 0.01  # control period: formants, tilt and loudness change this often; in between they are interpolated
_HIGHEST_HZ = 5_500.0

Wave = NDArray[np.float32]
Track = NDArray[np.float64]


@dataclass(frozen=True)
class Manner:
    """The manner of speaking.

    Attributes:
        pitch: fundamental relative to that of the speaker.
        range_semitones: range of the melody.
        slope_semitones: from the first to the last syllable; positive rises.
        loudness_db: relative to neutral.
        syllables_per_second: the tempo.
        tilt_db_per_octave: fall of the source's spectrum; a pressed voice is near -6, a lax one near -18.
        breath: noise relative to the voice, 0 to 1.
        roughness: irregular cycles, 0 to 1.
        tremor_semitones: a shake at 6 Hz.
    """

    pitch: float
    range_semitones: float
    slope_semitones: float
    loudness_db: float
    syllables_per_second: float
    tilt_db_per_octave: float
    breath: float
    roughness: float
    tremor_semitones: float

    def mixed(self, other: "Manner", share: float) -> "Manner":
        """This manner with ``share`` (0 to 1) of another."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Manner(*((1 - share) * mine + share * its for mine, its in pairs))


# Directions after the acoustic profiles of Banse & Scherer (1996), Juslin & Laukka (2003); the magnitudes are our own.
MANNERS = {
    "neutral": Manner(1.00, 2.5, -2, 0, 4.3, -12, 0.05, 0.05, 0.0),
    "joy": Manner(1.30, 6.0, 1, 3, 5.2, -9, 0.05, 0.02, 0.0),
    "surprise": Manner(1.50, 7.0, 9, 3, 3.8, -11, 0.12, 0.02, 0.0),
    "fear": Manner(1.45, 1.5, 1, -2, 6.5, -15, 0.35, 0.10, 0.9),
    "sadness": Manner(0.85, 1.0, -3, -9, 2.8, -17, 0.25, 0.03, 0.2),
    "anger": Manner(1.15, 4.0, -5, 8, 5.2, -5, 0.03, 0.30, 0.0),
    "disgust": Manner(0.78, 3.0, -5, 0, 2.9, -8, 0.05, 0.60, 0.0),
    "excited": Manner(1.60, 8.0, 2, 7, 6.2, -7, 0.08, 0.05, 0.0),
    "frustrated": Manner(0.97, 3.0, -4, 3, 3.5, -8, 0.30, 0.20, 0.0),
}

# First three formants in Hz of a male adult; Peterson & Barney (1952), rounded.
_VOWELS = np.array(
    [
        (730, 1090, 2440),
        (530, 1840, 2480),
        (270, 2290, 3010),
        (570, 840, 2410),
        (300, 870, 2240),
        (660, 1720, 2410),
        (500, 1500, 2500),
    ],
    float,
)
_BANDWIDTHS_HZ = np.array([80.0, 100.0, 140.0])


@dataclass(frozen=True)
class Voice:
    """An actor's voice: pitch at rest in Hz, formants relative to a male adult, loudness in dB."""

    pitch_hz: float
    formant_scale: float
    loudness_db: float


def voice(rng: np.random.Generator, *, female: bool) -> Voice:
    """Draws an actor's voice."""
    pitch = rng.uniform(185, 225) if female else rng.uniform(100, 130)
    scale = rng.uniform(1.12, 1.2) if female else rng.uniform(0.96, 1.04)
    return Voice(float(pitch), float(scale), float(rng.uniform(-1, 1)))


def _syllables(rng: np.random.Generator, manner: Manner, seconds: float) -> tuple[Track, Track, NDArray[np.float64]]:
    """Per control step, the syllable (fractional) and loudness from 0 to 1; per syllable, its vowel's formants."""
    count = max(2, round(manner.syllables_per_second * seconds))
    weights = rng.uniform(0.75, 1.25, count)
    edges = np.concatenate([[0], np.cumsum(weights)]) / weights.sum() * seconds
    steps = np.arange(0, seconds, _STEP_SECONDS)
    at = np.clip(np.searchsorted(edges, steps, side="right") - 1, 0, count - 1)
    inside = (steps - edges[at]) / (edges[at + 1] - edges[at])
    stress = rng.uniform(0.65, 1.0, count)
    loudness = stress[at] * np.sin(np.pi * np.clip(inside, 0, 1)) ** 0.6
    return at + inside, loudness, _VOWELS[rng.integers(len(_VOWELS), size=count)]


def _melody(rng: np.random.Generator, manner: Manner, position: Track, seconds: float) -> Track:
    """Semitones over the speaker's pitch, per control step."""
    count = int(position.max()) + 2
    accents = rng.uniform(-0.5, 0.5, count + 1) * manner.range_semitones
    accents[0::2] += 0.25 * manner.range_semitones
    along = position / position.max()
    semitones = np.interp(position, np.arange(count + 1), accents) + manner.slope_semitones * (along - 0.5)
    steps = np.arange(len(position)) * _STEP_SECONDS
    return np.asarray(
        semitones + manner.tremor_semitones * np.sin(2 * np.pi * 6 * steps) + 12 * np.log2(manner.pitch),
        dtype=np.float64,
    )


def _formant_gain(hertz: Track, formants: Track) -> Track:
    """(steps, frequencies) gain of a cascade of resonances; ``hertz`` (steps or 1, frequencies), ``formants`` (steps,
    3).
    """
    gain = np.ones((len(formants), hertz.shape[1]))
    for index, bandwidth in enumerate(_BANDWIDTHS_HZ):
        centre = formants[:, index : index + 1]
        gain *= centre**2 / np.sqrt((centre**2 - hertz**2) ** 2 + (bandwidth * hertz) ** 2)
    return gain


def _harmonics(rng: np.random.Generator, pitch_hz: Track, formants: Track, manner: Manner, samples: int) -> Track:
    """The voiced part: harmonics of a wandering fundamental."""
    step = SAMPLE_RATE_HZ * _STEP_SECONDS
    fine, coarse = np.arange(samples), np.arange(len(pitch_hz)) * step
    wander = 1 + 0.02 * manner.roughness * rng.standard_normal(len(pitch_hz))
    phase = 2 * np.pi * np.cumsum(np.interp(fine, coarse, pitch_hz * wander)) / SAMPLE_RATE_HZ
    number = np.arange(1, int(_HIGHEST_HZ / pitch_hz.min()) + 1, dtype=np.float64)
    hertz = pitch_hz[:, None] * number
    gain = _formant_gain(hertz, formants) * number ** (manner.tilt_db_per_octave / 6.02) * (hertz < _HIGHEST_HZ)
    sound = np.zeros(samples)
    for index, order in enumerate(number):
        sound += np.interp(fine, coarse, gain[:, index]) * np.sin(order * phase)
    # A rough voice oscillates at half its pitch: every second cycle is weaker.
    return np.asarray(sound * (1 + 0.5 * manner.roughness * np.sin(phase / 2)), dtype=np.float64)


def _breath(rng: np.random.Generator, formants: Track, samples: int) -> Track:
    """White noise through the mean formants, of unit RMS."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hertz = np.asarray(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE_HZ), dtype=np.float64)[None, :]
    shaped = np.fft.irfft(spectrum * np.sqrt(_formant_gain(hertz, formants.mean(0, keepdims=True))[0]), samples)
    return np.asarray(shaped / np.sqrt(np.mean(shaped**2)), dtype=np.float64)


def speak(rng: np.random.Generator, who: Voice, manner: Manner, seconds: float) -> Wave:
    """An utterance of babble.

    Args:
        rng: determines vowels, stresses and melody.
        who: the speaker.
        manner: how it is said.
        seconds: length of the result, with a short silence before and after.

    Returns:
        (samples,) float32 in [-1, 1], 16 kHz; neutral speech has an RMS near -26 dB of full scale.
    """
    samples = round(seconds * SAMPLE_RATE_HZ)
    margin = round(0.04 * SAMPLE_RATE_HZ)
    spoken = samples - 2 * margin
    position, loudness, vowels = _syllables(rng, manner, spoken / SAMPLE_RATE_HZ)
    middle = np.arange(len(vowels)) + 0.5
    formants = np.stack([np.interp(position, middle, vowels[:, index]) for index in range(3)], 1) * who.formant_scale
    pitch = who.pitch_hz * 2 ** (_melody(rng, manner, position, spoken / SAMPLE_RATE_HZ) / 12)
    voiced = _harmonics(rng, pitch, formants, manner, spoken)
    voiced /= np.sqrt(np.mean(voiced**2))
    sound = (1 - manner.breath) * voiced + 1.2 * manner.breath * _breath(rng, formants, spoken)
    sound *= np.interp(np.arange(spoken), np.arange(len(loudness)) * SAMPLE_RATE_HZ * _STEP_SECONDS, loudness)
    level = 10 ** ((-26 + manner.loudness_db + who.loudness_db + rng.uniform(-1, 1)) / 20)
    sound *= level / np.sqrt(np.mean(sound**2))
    whole = np.zeros(samples, np.float32)
    whole[margin : margin + spoken] = np.tanh(sound)  # soft limit, so that shouting stays below full scale
    return whole


def background(rng: np.random.Generator, samples: int, level_db: float = -58.0) -> Wave:
    """Room noise: falls 6 dB per octave above 200 Hz; ``level_db`` is its RMS relative to full scale."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hertz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE_HZ)
    noise = np.fft.irfft(spectrum / np.sqrt(1 + (hertz / 200) ** 2), samples)
    return np.asarray(noise * 10 ** (level_db / 20) / np.sqrt(np.mean(noise**2)), dtype=np.float32)


def openness(sound: Wave, instants: int, rate_hz: float) -> Track:
    """How far the mouth is open, 0 to 1, at each of ``instants`` frames of a recording with ``rate_hz`` frames per
    second.
    """
    window = SAMPLE_RATE_HZ // 20
    power = np.convolve(sound.astype(np.float64) ** 2, np.ones(window) / window, mode="same")
    at = np.minimum((np.arange(instants) / rate_hz * SAMPLE_RATE_HZ).astype(int), len(power) - 1)
    loud = np.sqrt(power[at])
    top = max(float(loud.max()), 1e-3)
    return np.asarray(np.clip(loud / top, 0, 1), dtype=np.float64)
