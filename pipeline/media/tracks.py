"""Which detections are the same person, and which person the utterance is about.

frame      0     1     2     3     4
track 0    A     A     A           A      largest sum of areas: chosen
track 1          b     b     b
(dropped)                          x      one frame of five: below min_track_share
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.media.config import MediaConfig

Box = tuple[float, float, float, float]
"""Left, top, width, height."""


@dataclass(frozen=True)
class Track:
    """One person.

    Attributes:
        members: (frame, index of the box in that frame), in time order, at most one per frame.
        area: sum of the boxes' areas, thus size times persistence.
    """

    members: tuple[tuple[int, int], ...]
    area: float


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes.

    >>> overlap((0, 0, 2, 2), (1, 0, 2, 2))
    0.3333333333333333
    """
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def likeness(one: Box, other: Box, config: MediaConfig) -> float:
    """How sure it is that two boxes of different frames are one person's; 0: they are not.

    Above 1 by their overlap, where that is large enough; else from 0 to 1 by nearness, where the larger is less than twice
    as wide as the smaller.
    """
    shared = overlap(one, other)
    if shared >= config.track_min_overlap:
        return 1 + shared
    small, large = sorted((one[2], other[2]))
    distance = math.hypot(one[0] + one[2] / 2 - other[0] - other[2] / 2, one[1] + one[3] / 2 - other[1] - other[3] / 2)
    reach = config.track_max_distance * (small + large) / 2
    if large >= 2 * small or distance >= reach:
        return 0.0
    return 1 - distance / reach


def link(frames: Sequence[Sequence[Box]], config: MediaConfig) -> list[Track]:
    """Links boxes to tracks: frame by frame, the likeliest pair of a track's last box and a new box first.

    Args:
        frames: the boxes of each frame, in time order.
        config: what counts as the same person, and how often a person must be seen.

    Returns:
        The tracks that are seen often enough, by their first appearance.
    """
    tracks: list[list[tuple[int, int]]] = []
    for number, boxes in enumerate(frames):
        pairs = [(-likeness(frames[track[-1][0]][track[-1][1]], box, config), at, index) for at, track in enumerate(tracks) for index, box in enumerate(boxes)]
        taken_tracks: set[int] = set()
        taken_boxes: set[int] = set()
        for minus_likeness, at, index in sorted(pairs):
            if minus_likeness < 0 and at not in taken_tracks and index not in taken_boxes:
                tracks[at].append((number, index))
                taken_tracks.add(at)
                taken_boxes.add(index)
        tracks.extend([(number, index)] for index in range(len(boxes)) if index not in taken_boxes)
    least = max(1, math.ceil(config.min_track_share * len(frames)))
    return [
        Track(tuple(members), sum(frames[frame][index][2] * frames[frame][index][3] for frame, index in members)) for members in tracks if len(members) >= least
    ]


def largest(tracks: Sequence[Track]) -> int:
    """Index of the track with the largest area, the first of equals; -1 if there is none."""
    return max(range(len(tracks)), key=lambda index: (tracks[index].area, -index), default=-1)
