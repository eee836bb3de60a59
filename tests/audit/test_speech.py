"""Speech is found in a voice, whatever its loudness, but not in silence or noise."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from merc.audit import speech

from .conftest import noise, voice


def test_a_voice_between_pauses_is_found_where_it_is() -> None:
    sound = np.concatenate([noise(1, 0.0005), voice(1.5), noise(1, 0.0005)])
    frames_T = speech.is_speech(sound)
    assert frames_T[105:245].mean() > 0.9
    assert not frames_T[:90].any()
    assert not frames_T[270:].any()
    found = speech.measure(sound)
    assert found.seconds == pytest.approx(1.5, abs=0.25)
    assert found.share == pytest.approx(found.seconds / 3.5, abs=0.01)


@pytest.mark.parametrize("scale", [1.0, 0.1, 0.02])
def test_a_clip_that_is_a_voice_from_end_to_end_is_speech_at_any_loudness(scale: float) -> None:
    assert speech.measure(scale * voice(2)).share > 0.8


def test_a_voice_is_found_in_noise() -> None:
    sound = np.concatenate([np.zeros(16_000, np.float32), voice(1.5), np.zeros(16_000, np.float32)])
    level = float(np.sqrt(np.mean(voice(1.5) ** 2))) * 10 ** (-10 / 20)
    assert speech.measure(sound + noise(3.5, level)).seconds == pytest.approx(1.5, abs=0.5)


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(16_000, np.float32),
        np.zeros(0, np.float32),
        np.zeros(100, np.float32),
        np.full(16_000, 0.5, np.float32),
        noise(2),
        noise(2, 1e-5),
    ],
    ids=["silence", "nothing", "less than a frame", "a constant", "noise", "faint noise"],
)
def test_silence_and_noise_hold_no_speech(sound: np.ndarray) -> None:
    assert speech.measure(sound) == speech.Speech(0.0, 0.0)


def test_a_slammed_door_is_not_speech() -> None:
    sound = noise(2, 1e-3)
    sound[16_000:17_600] += noise(0.1, 0.5)
    assert speech.measure(sound).seconds == 0


def test_the_sentences_of_the_shared_recordings_are_speech(real_data: Path) -> None:
    for name in ("spk1_snt1.wav", "spk1_snt2.wav"):
        sound, _ = soundfile.read(real_data / "media" / name, dtype="float32")
        assert speech.measure(sound).share > 0.85
        padded = np.concatenate([noise(1, 1e-3), sound, noise(1, 1e-3)])
        assert speech.measure(padded).seconds == pytest.approx(len(sound) / 16_000, abs=0.4)
