import math

import numpy as np
import pytest

from merc.media import tracks
from merc.media.faces import Sighting


def seen(box, alike=1.0):
    """A sighting whose appearance has this product with that of every sighting of the first person."""
    appearance = np.array([alike, math.sqrt(1 - alike**2)], np.float32)
    return Sighting(box, 1.0, np.zeros((2, 2, 3), np.uint8), 1.0, (0.0, 0.0), None, appearance)


def members(frames, config):
    return [track.members for track in tracks.link([[seen(*one) for one in frame] for frame in frames], config)]


def test_boxes_that_overlap_are_one_person_and_the_largest_sum_is_chosen(config):
    big = [
        (100.0, 100.0, 80.0, 80.0),
        (110.0, 105.0, 80.0, 80.0),
        (125.0, 100.0, 78.0, 78.0),
        (140.0, 100.0, 80.0, 80.0),
    ]
    small = [(400.0, 50.0, 30.0, 30.0), (402.0, 50.0, 30.0, 30.0), (404.0, 50.0, 30.0, 30.0), (405.0, 50.0, 30.0, 30.0)]
    linked = tracks.link(
        [[seen(small[n]), seen(big[n])] if n % 2 else [seen(big[n]), seen(small[n])] for n in range(4)], config
    )
    assert [track.members for track in linked] == [((0, 0), (1, 1), (2, 0), (3, 1)), ((0, 1), (1, 0), (2, 1), (3, 0))]
    assert tracks.largest(linked) == 0


def test_persistence_beats_size_of_a_passer_by(config):
    frames = [[seen((10.0, 10.0, 50.0, 50.0))] for _ in range(8)]
    for number in (0, 1):
        frames[number].append(seen((300.0, 10.0, 90.0, 90.0), 0.3))
    linked = tracks.link(frames, config)
    assert [len(track.members) for track in linked] == [8, 2]
    assert tracks.largest(linked) == 0


def test_the_persistent_one_is_seen_in_most_frames_and_the_largest_of_equals(config):
    frames = [[seen((10.0, 10.0, 30.0, 30.0)), seen((200.0, 10.0, 40.0, 40.0), 0.2)] for _ in range(8)]
    frames = [
        [*frame, seen((400.0, 10.0, 200.0, 200.0), 0.4)] if number < 4 else frame for number, frame in enumerate(frames)
    ]
    linked = tracks.link(frames, config)
    assert [len(track.members) for track in linked] == [8, 8, 4]
    assert tracks.largest(linked) == 2
    assert tracks.persistent(linked) == 1
    assert tracks.persistent([]) == -1


def test_a_face_in_a_single_frame_of_eight_is_none(config):
    frames = [[] for _ in range(8)]
    frames[3] = [((10.0, 10.0, 50.0, 50.0),)]
    assert members(frames, config) == []
    assert tracks.largest([]) == -1


def test_a_face_in_the_only_frame_is_one(config):
    assert members([[((10.0, 10.0, 50.0, 50.0),)]], config) == [((0, 0),)]


@pytest.mark.parametrize(
    ("box", "alike", "one_person"),
    [
        ((110.0, 100.0, 40.0, 40.0), 0.6, True),  # in place
        ((110.0, 100.0, 40.0, 40.0), 0.5, False),  # in place, but someone else
        ((240.0, 100.0, 40.0, 40.0), 0.95, True),  # three and a half face widths away
        ((240.0, 100.0, 40.0, 40.0), 0.7, False),  # a neighbour
        ((280.0, 100.0, 40.0, 40.0), 1.0, False),  # too far for anyone
        ((95.0, 60.0, 90.0, 90.0), 1.0, False),  # more than twice as large
    ],
)
def test_the_farther_a_face_has_moved_the_more_alike_it_must_be(config, box, alike, one_person):
    assert (tracks.likeness((100.0, 100.0, 40.0, 40.0), box, alike, config) > 0) is one_person


def test_a_face_that_turns_away_for_some_frames_stays_one_person(config):
    assert members([[((10.0, 10.0, 50.0, 50.0),)], [], [], [((15.0, 10.0, 50.0, 50.0),)], []], config) == [
        ((0, 0), (3, 0))
    ]


def test_two_people_who_swap_places_keep_their_tracks(config):
    left, right = (100.0, 100.0, 40.0, 40.0), (180.0, 100.0, 40.0, 40.0)
    assert members([[(left, 1.0), (right, 0.6)], [(left, 0.6), (right, 1.0)], [(left, 0.6), (right, 1.0)]], config) == [
        ((0, 0), (1, 1), (2, 1)),
        ((0, 1), (1, 0), (2, 0)),
    ]


def test_a_cut_to_another_person_in_the_same_place_begins_another_track(config):
    box = (100.0, 100.0, 40.0, 40.0)
    assert members([[(box, 1.0)], [(box, 1.0)], [(box, 0.4)], [(box, 0.4)]], config) == [
        ((0, 0), (1, 0)),
        ((2, 0), (3, 0)),
    ]


def test_a_person_who_moves_far_between_two_frames_stays_one(config):
    assert members([[((100.0 + 120 * n, 100.0, 40.0, 40.0), 1.0)] for n in range(4)], config) == [
        ((0, 0), (1, 0), (2, 0), (3, 0))
    ]


def test_people_who_look_alike_are_distinguished_by_their_places(config):
    frames = [[((100.0 + 4 * n, 100.0, 40.0, 40.0), 1.0), ((160.0 + 4 * n, 100.0, 40.0, 40.0), 0.99)] for n in range(4)]
    assert members(frames, config) == [((0, 0), (1, 0), (2, 0), (3, 0)), ((0, 1), (1, 1), (2, 1), (3, 1))]
