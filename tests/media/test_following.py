"""Faces followed through generated frames, with boxes as from a detector."""

import cv2
import numpy as np
import pytest

from merc.media.config import Config
from merc.media.following import Follower, cut

WIDTH, HEIGHT = 320, 180


def room(seed):
    rng = np.random.default_rng(seed)
    return cv2.GaussianBlur(rng.integers(0, 256, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 9) * 4 - 380


def picture(faces, seed=0):
    """A room with faces: (x, y, side, brightness)."""
    grey = np.clip(room(seed), 0, 255).astype(np.uint8)
    for x, y, side, light in faces:
        cv2.rectangle(grey, (round(x), round(y)), (round(x + side), round(y + side)), light, cv2.FILLED)
    return grey


def follow(scene, count, *, every=4, config=None, times=None, seeds=lambda _: 0, lasts=None, seen=lambda _n, _i: True):
    """Follows ``scene(number)``, the faces of a frame; ``seen``: whether the detector sees face ``i`` of frame
    ``n``.
    """
    follower = Follower(config or Config(choice="active_speaker"))
    times = [number / 25 for number in range(count)] if times is None else times
    for number in range(count):
        faces = scene(number)
        follower.add(times[number], picture(faces, seeds(number)), (2 * WIDTH, 2 * HEIGHT))
        if number % every == 0:
            boxes = [
                (2 * x, 2 * y, 2 * side, 2 * side) for index, (x, y, side, _) in enumerate(faces) if seen(number, index)
            ]
            follower.search(times[number], [(box, 0.9, None) for box in boxes], [b"%d" % number] * len(boxes))
    return follower.finish(count / 25 if lasts is None else lasts)


def test_a_face_that_moves_by_half_its_width_between_two_searches_is_one_track_and_its_crops_are_where_it_is():
    followed = follow(lambda number: [(10 + 5 * number, 60, 40, 250)], 52)
    (track,) = followed.tracks
    assert (track.first, len(track.crops), len(track.spots)) == (0, 52, 13)
    assert min(crop[:70].min() for crop in track.crops) > 200  # only face


def test_no_track_goes_across_a_cut_also_where_a_face_takes_the_place_of_another():
    followed = follow(lambda _: [(100, 60, 50, 200)], 50, seeds=lambda number: number // 25)
    assert followed.shots == (0, 25)
    assert [(track.shot, track.first, len(track.crops)) for track in followed.tracks] == [(0, 0, 25), (1, 25, 25)]


def test_a_face_that_is_lost_for_three_searches_is_the_same_and_after_five_another():
    for lost, tracks in ((3, 1), (5, 2)):
        followed = follow(
            lambda _: [(100, 60, 50, 200)], 60, seen=lambda number, _, lost=lost: not 12 < number <= 12 + 4 * lost
        )
        assert len(followed.tracks) == tracks
    (first, second) = followed.tracks
    assert (first.first + len(first.crops), second.first) == (13, 36)


def test_two_faces_that_pass_each_other_keep_their_tracks():
    followed = follow(lambda number: [(20 + 4 * number, 60, 30, 60), (240 - 4 * number, 75, 30, 250)], 56, every=4)
    assert [len(track.crops) for track in followed.tracks] == [56, 56]
    left, right = followed.tracks
    assert np.median(left.crops[-1][10:60, 20:90]) < 100 < np.median(right.crops[-1][10:60, 20:90])


def test_a_shot_of_three_frames_has_a_track_if_one_of_them_was_searched():
    followed = follow(lambda _: [(100, 60, 50, 200)], 43, seeds=lambda number: 1 if 19 <= number < 22 else 0)
    assert followed.shots == (0, 19, 22)
    assert [(track.shot, len(track.crops)) for track in followed.tracks] == [(0, 19), (1, 3), (2, 21)]
    unsearched = follow(lambda _: [(100, 60, 50, 200)], 43, seeds=lambda number: 1 if 17 <= number < 20 else 0)
    assert [track.shot for track in unsearched.tracks] == [0, 2]


def test_of_thirty_faces_a_few_are_candidates_and_the_crops_do_not_grow_with_their_number():
    faces = [(10 * index, 5 + 5 * index, 8 + index, 100 + 5 * index) for index in range(30)]
    config = Config(choice="active_speaker", max_speaker_candidates=3)
    held = []

    class Watched(Follower):
        def _bound(self):
            super()._bound()
            held.append(sum(len(track.crops or ()) for track in self._of_shot))

    follower = Watched(config)
    for number in range(200):
        follower.add(number / 25, picture(faces[:3]), (2 * WIDTH, 2 * HEIGHT))
        if number % 4 == 0:
            follower.search(
                number / 25,
                [((2.0 * x, 2.0 * y, 2.0 * side, 2.0 * side), 0.9, None) for x, y, side, _ in reversed(faces)],
                [],
            )
    followed = follower.finish(8.0)
    assert len(followed.tracks) == 30
    assert [track.width for track in followed.tracks if track.crops] == [74.0, 72.0, 70.0]
    assert max(held) <= 2 * 3 * 200 + 250
    assert len(follower._held) == 0


def test_a_face_seen_in_too_few_searches_of_its_shot_is_none():
    followed = follow(lambda _: [(100, 60, 50, 200)], 60, seen=lambda number, _: number < 8)
    assert followed.tracks == []
    assert (followed.faces_seen, len(followed.searched)) == (2, 15)


@pytest.mark.parametrize("rate", [10.0, 15.0, 24.0, 25.0, 30.0])
def test_crops_come_at_25_a_second_regardless_of_the_rate_of_the_video(rate):
    count = round(2 * rate)
    followed = follow(
        lambda _: [(100, 60, 50, 200)], count, times=[number / rate for number in range(count)], lasts=2.0
    )
    first, faces_THW = followed.steady(followed.tracks[0])
    assert (first, faces_THW.shape) == (0, (50, 112, 112))


def test_a_variable_rate_repeats_what_stays_on_the_screen():
    times = [0.0, 0.04, 0.08, 0.6, 0.64, 1.2]
    followed = follow(lambda number: [(100, 60, 50, 40 * number + 20)], 6, times=times, every=1, lasts=1.24)
    first, faces_THW = followed.steady(followed.tracks[0])
    lights = [round((int(face[60, 50]) - 20) / 40) for face in faces_THW]
    assert first == 0
    assert lights[:16] == [0, 1] + [2] * 13 + [3]
    assert lights.count(4) == 14


def test_one_frame_is_one_crop():
    followed = follow(lambda _: [(100, 60, 50, 200)], 1, lasts=3.0)
    assert followed.steady(followed.tracks[0])[1].shape == (1, 112, 112)


@pytest.mark.parametrize("x", [-60, 20, 290, 400])
@pytest.mark.parametrize("side", [20, 150, 400])
def test_a_crop_reaches_over_the_edge_where_there_is_nothing(x, side):
    grey = np.full((HEIGHT, WIDTH), 250, np.uint8)
    crop = cut(grey, x, 40.0, side)
    assert (crop.shape, crop.dtype) == ((112, 112), np.uint8)
    inside = max(0, min(WIDTH, x + side) - max(0, x)) * max(0, min(HEIGHT, 40 + side) - 40) / side**2
    assert (crop > 180).mean() == pytest.approx(inside, abs=0.06)
    if inside < 1:
        assert crop.min() == 110


def test_a_mouth_that_moves_has_motion_and_a_head_that_moves_has_none():
    def with_mouth(number):
        return [(100, 60, 80, 180), (130, 112, 14 + 8 * (number % 2), 20)]

    def seen(_number, index):
        return index == 0

    (talks,) = follow(with_mouth, 40, seen=seen).tracks
    (shakes,) = follow(lambda number: [(100 + 3 * (number % 2), 60, 80, 180)], 40).tracks
    assert talks.motion() > 0.5
    assert shakes.motion() < 0.2
