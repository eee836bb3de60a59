"""The same audio is found even if it was cut, amplified, mixed with noise or resampled; other audio is not mistaken for
it.
"""

from collections.abc import Sequence

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from merc.audit import same_sound

from .conftest import noise, voice

Sound = NDArray[np.float32]


def _nearest(sounds: Sequence[Sound], share: float = 0.5) -> list[int]:
    digests = [str(hash(sound.tobytes())) if len(sound) else "" for sound in sounds]
    return same_sound.nearest(digests, [same_sound.fingerprint(sound) for sound in sounds], share, 0.3)


VOICES = [voice(2.5, 110 + 12 * seed, seed) for seed in range(8)]


@pytest.mark.parametrize(
    "changed",
    [
        lambda sound: sound.copy(),
        lambda sound: 0.3 * sound,
        lambda sound: sound[4321:],
        lambda sound: np.concatenate([VOICES[3][:7777], sound]),
        lambda sound: (sound + noise(2.5, 0.1 * float(np.sqrt(np.mean(sound**2))))).astype(np.float32),
        lambda sound: soxr.resample(soxr.resample(sound, 16_000, 8_000), 8_000, 16_000),
    ],
    ids=["equal", "quieter", "cut", "later", "noised", "resampled"],
)
def test_the_same_audio_is_found(changed: object) -> None:
    assert callable(changed)
    assert _nearest([*VOICES[:3], changed(VOICES[1])]) == [-1, 3, -1, 1]


def test_other_voices_are_not_the_same() -> None:
    assert _nearest(VOICES) == [-1] * len(VOICES)


def test_equal_samples_go_before_a_likeness_and_of_several_the_first_is_named() -> None:
    sounds = [VOICES[0], VOICES[0][1000:], VOICES[0].copy(), VOICES[0].copy()]
    assert _nearest(sounds) == [2, 0, 0, 0]


def test_a_short_overlap_is_not_enough() -> None:
    one, other = VOICES[0], np.concatenate([VOICES[0][-12_000:], VOICES[2][:28_000]])
    assert _nearest([one, other]) == [-1, -1]
    assert _nearest([one, other], share=0.2) == [1, 0]


def test_clips_too_short_for_a_fingerprint_are_compared_by_their_samples() -> None:
    short = voice(0.2)
    assert len(same_sound.fingerprint(short)) == 0
    assert _nearest([short, short.copy(), voice(0.2, seed=5), np.zeros(0, np.float32), np.zeros(0, np.float32)]) == [
        1,
        0,
        -1,
        -1,
        -1,
    ]


def test_no_utterances_have_none() -> None:
    assert same_sound.nearest([], [], 0.5, 0.3) == []


@pytest.mark.parametrize(
    "pause", [np.zeros(32_000, np.float32), noise(2, 1e-5, seed=9)], ids=["silence", "the same faint noise"]
)
def test_other_words_in_the_same_pauses_are_not_the_same_audio(pause: Sound) -> None:
    sounds = [np.concatenate([voice(1.5, 110 + 20 * seed, seed), pause]).astype(np.float32) for seed in range(4)]
    assert _nearest(sounds) == [-1] * 4


def test_audio_that_many_utterances_share_is_found_in_all_of_them() -> None:
    assert _nearest([VOICES[0].copy() for _ in range(30)]) == [1, *[0] * 29]
