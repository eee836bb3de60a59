import cv2
import numpy as np
import pytest

from merc.media import shots

SIZE = (36, 64)


def texture(seed, width=256):
    rng = np.random.default_rng(seed)
    return cv2.GaussianBlur(rng.integers(0, 256, (SIZE[0], width)).astype(np.float32), (0, 0), 3) * 3 - 250


def pictures(arrays):
    return [np.clip(one, 0, 255).astype(np.uint8) for one in arrays]


def still(seed, count):
    noise = np.random.default_rng(seed + 100)
    return [texture(seed)[:, :64] + noise.normal(0, 3, SIZE) for _ in range(count)]


def begins(arrays):
    found = shots.numbers([shots.thumbnail(one) for one in pictures(arrays)])
    return np.flatnonzero(np.diff(found)) + 1


def test_a_cut_begins_a_shot_and_so_do_both_ends_of_one_of_three_frames():
    assert begins(still(0, 20) + still(1, 20)).tolist() == [20]
    assert begins(still(0, 20) + still(1, 3) + still(2, 20)).tolist() == [20, 23]


def test_two_dark_shots_are_distinguished_and_the_noise_of_two_black_frames_is_not_a_cut():
    dark = [0.15 * one + 5 for one in still(0, 20) + still(1, 20)]
    assert begins(dark).tolist() == [20]
    rng = np.random.default_rng(0)
    assert len(begins([4 + rng.normal(0, 2, SIZE) for _ in range(40)])) == 0


@pytest.mark.parametrize("speed", [1, 3, 8])
def test_a_pan_is_not_a_cut_and_a_cut_at_the_end_of_a_slow_one_is_found(speed):
    wide = texture(3, 64 + 20 * speed)
    pan = [wide[:, speed * number :][:, :64] for number in range(20)]
    assert len(begins(pan)) == 0
    if speed == 1:
        assert begins(pan + still(1, 20)).tolist() == [20]


def test_flashes_light_that_continues_and_fades_are_not_cuts():
    flash = [one * 1.3 + 40 if number in (10, 11) else one for number, one in enumerate(still(0, 30))]
    light = [one * 1.2 + 20 if number > 15 else one for number, one in enumerate(still(0, 30))]
    fade = [one * min(1.0, abs(number - 20) / 12) for number, one in enumerate(still(0, 40))]
    dissolve = [
        a * (1 - share) + b * share
        for number, (a, b) in enumerate(zip(still(0, 40), still(1, 40), strict=True))
        for share in [np.clip((number - 14) / 12, 0, 1)]
    ]
    assert [len(begins(one)) for one in (flash, light, fade, dissolve)] == [0] * 4


def test_no_frame_and_one_frame_have_no_cut():
    assert shots.numbers([]).tolist() == []
    assert begins(still(0, 1)).tolist() == []
