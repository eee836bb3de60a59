"""Whose face an utterance gets if several people are visible: the one whose mouth moves with the audio.

Faces are searched for in a few frames only; between them, small grey frames ("glimpses") are taken, about twelve per
second. Each person's face is cut out of these along its track, upright and in one size, and aligned with its other
crops by the part above the mouth, so that what remains is the motion of the face, not of the head. From that, four
numbers from 0 to 1 are computed, and their weighted mean is the score:

    motion       how much more the mouth changes from glimpse to glimpse than the rest of the face, while something is heard; a nodding or blinking
                 head changes all over
    sync         how much of the ups and downs of the loudness can be inferred from the mouth, beyond chance
    size         width of the face relative to the widest
    persistence  share of the frames in which it is seen

Mouth opening and loudness correlate in natural speech (Chandrasekaran et al., PLoS Computational Biology 5(7), 2009),
and the mouth is from 40 ms behind to 200 ms ahead of the audio (Schwartz and Savariaux, PLoS Computational Biology
10(7), 2014). Over two seconds both numbers are weak, so neither decides alone. How often the choice is right in
composed scenes is measured in ``benchmarks/speaking_face.py``; for real dialogues it is unknown.
"""  # noqa: E501

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from merc.media.config import Config
from merc.media.faces import FRONTAL_FACE, Sighting, similarity, typical_eyes
from merc.media.shots import numbers, thumbnail
from merc.media.tracks import Track, largest, persistent
from merc.records.media import SAMPLE_RATE_HZ

Points = NDArray[np.float64]
Faces = NDArray[np.float32]
"""(glimpses, height, width): one face, upright and in one size."""

# A face is followed in a crop with this many pixels per eye distance; coordinates are in eye distances from the middle
# between the eyes.
_PIXELS = 16
_LEFT, _TOP, _RIGHT, _BOTTOM = -1.1, -0.75, 1.1, 1.85
_ORIGIN = np.array([-_LEFT, -_TOP]) * _PIXELS
_WIDTH, _HEIGHT = round((_RIGHT - _LEFT) * _PIXELS) + 1, round((_BOTTOM - _TOP) * _PIXELS) + 1
_X, _Y = np.meshgrid((np.arange(_WIDTH) - _ORIGIN[0]) / _PIXELS, (np.arange(_HEIGHT) - _ORIGIN[1]) / _PIXELS)
# Brows to nose align the faces; the mouth is an ellipse around its average place, chin excluded.
_UPPER = (np.abs(_X) < 0.85) & (_Y > -0.5) & (_Y < 0.72)
_MOUTH = (_X / 0.62) ** 2 + ((_Y - 1.12) / 0.46) ** 2 < 1
_UPPER_ROWS = slice(int(np.flatnonzero(_UPPER.any(axis=1))[0]), int(np.flatnonzero(_UPPER.any(axis=1))[-1]) + 1)
_UPPER_COLUMNS = slice(int(np.flatnonzero(_UPPER.any(axis=0))[0]), int(np.flatnonzero(_UPPER.any(axis=0))[-1]) + 1)
_SAME_TIME_SECONDS = 0.05
# A head is searched for within this distance of its track, interpolated between two looks; in pixels. The limits of the
# last adjustment: shift in pixels, scale as a share, and rotation in radians.
_SEARCH = 10
_FAR_COST = 0.0015
_LAST_SHIFT, _LAST_SCALE, _LAST_TURN = 2.5, 0.12, 0.15
_LAST_STEPS = 2
# A face below this correlation does not contribute to the model of the others; one that differs from the model by this
# much (1: as much as from a flat grey) is hidden.
_LEAST_CORRELATION = 0.6
_MOST_DIFFERENCE = 0.9
_BLUR_PIXELS = 1.0
# Added to the contrast by which a face's light is normalised, in grey levels: the noise of a flat grey region must not
# become a face.
_CONTRAST_FLOOR = 3.0
# Nothing is concluded from fewer glimpses.
_LEAST_GLIMPSES = 7
# Loudness is the RMS in windows of this length; its square root follows mouths better than the RMS or decibels.
_WINDOW_SECONDS = 0.08
_LEAST_SWING = 0.02
# Changes slower than this are trends (a smile, a turning head), not articulation.
_TREND_SECONDS = 0.5
# Changes of the mouth with less than about this share of the energy of the main one are weighted down, as noise.
_NOISE_SHARE = 0.5
# At this excess of motion, in standard deviations of the upper face's grey levels, the number is 1/2; speakers in
# composed scenes have 0.1 to 0.4.
_HALF_MOTION = 0.2
# This share of the loudness's variance, explained beyond chance, counts as 1; speakers in composed scenes have 0.1 to
# 0.35, listeners 0 to 0.16.
_FULL_SYNC = 0.5
_STEP_SECONDS = 0.04


@dataclass(frozen=True, eq=False)
class Glimpse:
    """A small grey frame in which mouths are followed.

    Attributes:
        seconds: from the utterance's start.
        grey: (height, width) uint8.
        scale: pixels of ``grey`` per pixel of the (region of the) frame in which faces were found.
    """

    seconds: float
    grey: NDArray[np.uint8]
    scale: float


@dataclass(frozen=True)
class Choice:
    """Whose face an utterance gets.

    Attributes:
        track: index into the tracks; -1 if there is none.
        score: score of that track, 0 to 1; see ``choose``.
        margin: score minus that of the runner-up; None if there is no other track.
    """

    track: int
    score: float
    margin: float | None


@dataclass(frozen=True)
class Evidence:
    """The evidence for a track, each number from 0 to 1; see the head of this file."""

    motion: float
    sync: float
    size: float
    persistence: float


def choose(
    tracks: Sequence[Track],
    looks: Sequence[tuple[float, Sequence[Sighting]]],
    glimpses: Sequence[Glimpse],
    waveform_S: NDArray[np.float32] | None,
    config: Config,
) -> Choice:
    """Chooses one of the tracks, as ``config.choice`` says.

    With ``speaking``, the score is the mean of the four numbers of ``Evidence``, weighted by the settings; of size and
    persistence only, if there is no usable audio, no glimpse, or only one track. With ``largest`` it is the track's
    share of the area of all tracks, with ``persistent`` the share of the frames in which it is seen.

    Args:
        tracks: of the utterance; members index into ``looks``.
        looks: the frames that were searched for faces, in time order: seconds from the utterance's start, and the
            sightings.
        glimpses: in time order; used only with ``speaking`` and several tracks.
        waveform_S: (samples,) 16 kHz mono audio of the utterance; None if it has none.
        config: settings of the stage.
    """
    if not tracks:
        return Choice(-1, 0.0, None)
    if config.choice == "largest":
        whole = sum(track.area for track in tracks)
        return _choice(largest(tracks), [track.area / whole for track in tracks])
    if config.choice == "persistent":
        return _choice(persistent(tracks), [len(track.members) / len(looks) for track in tracks])
    heard = waveform_S is not None and bool(np.any(waveform_S))
    followed = heard and len(tracks) > 1 and len(glimpses) >= _LEAST_GLIMPSES
    found = evidence(tracks, looks, glimpses if followed else [], waveform_S, config)
    weights = np.array(
        [config.mouth_motion_weight, config.mouth_sync_weight, config.face_size_weight, config.face_persistence_weight]
    )
    if not followed:
        weights[:2] = 0.0
    scores = [float(weights @ [one.motion, one.sync, one.size, one.persistence] / weights.sum()) for one in found]
    return _choice(max(range(len(scores)), key=lambda index: (scores[index], -index)), scores)


def _choice(chosen: int, scores: Sequence[float]) -> Choice:
    others = [score for index, score in enumerate(scores) if index != chosen]
    return Choice(chosen, scores[chosen], scores[chosen] - max(others) if others else None)


def evidence(
    tracks: Sequence[Track],
    looks: Sequence[tuple[float, Sequence[Sighting]]],
    glimpses: Sequence[Glimpse],
    waveform_S: NDArray[np.float32] | None,
    config: Config,
) -> list[Evidence]:
    """The evidence for each track; arguments as in ``choose``. Without glimpses or audio, motion and sync are 0."""
    widths = [float(np.median([looks[frame][1][index].box[2] for frame, index in track.members])) for track in tracks]
    shots = numbers([thumbnail(one.grey) for one in glimpses])
    found = []
    for track, width in zip(tracks, widths, strict=True):
        motion = sync = 0.0
        if glimpses and waveform_S is not None:
            faces_NHW, kept = _followed(track, looks, glimpses)
            if len(kept) >= _LEAST_GLIMPSES:
                seconds = np.array([glimpses[index].seconds for index in kept])
                motion = _motion(faces_NHW, seconds, shots[kept], waveform_S)
                sync = _sync(faces_NHW, seconds, shots[kept], waveform_S, config)
        found.append(Evidence(motion, sync, width / max(widths), len(track.members) / len(looks)))
    return found


def loudness(waveform_S: NDArray[np.float32], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Square root of the RMS around given times, in a window of 80 ms; beyond the ends of the audio, that at the end.

    Args:
        waveform_S: (samples,) 16 kHz, at least one.
        seconds: of any shape.

    Returns:
        Values of the same shape, 0 to 1 for audio from -1 to 1.
    """
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform_S, dtype=np.float64))])
    half = round(_WINDOW_SECONDS * SAMPLE_RATE_HZ / 2)
    middle = np.clip(np.rint(seconds * SAMPLE_RATE_HZ), 0, len(waveform_S) - 1).astype(np.intp)
    begin, end = np.maximum(middle - half, 0), np.minimum(middle + half + 1, len(waveform_S))
    return np.asarray(np.sqrt(np.sqrt(np.maximum(energy[end] - energy[begin], 0.0) / (end - begin))))


def _places(track: Track, looks: Sequence[tuple[float, Sequence[Sighting]]]) -> tuple[Points, Points]:
    """When and where a track's face was seen.

    Returns:
        Seconds (members,), and the terms a, b, x, y (members, 4) of the matrix (a, -b, x; b, a, y) from eye distances
        to pixels of the frame.
    """
    seconds, places = [], []
    for frame, index in track.members:
        sighting = looks[frame][1][index]
        # An eye cascade would cost more than everything else, and faces are aligned below anyway.
        points = typical_eyes(sighting.box) if sighting.landmarks is None else sighting.landmarks
        matrix = similarity(FRONTAL_FACE[: len(points)], points)
        seconds.append(looks[frame][0])
        places.append([matrix[0, 0], matrix[1, 0], matrix[0, 2], matrix[1, 2]])
    return np.array(seconds), np.array(places)


def _followed(
    track: Track, looks: Sequence[tuple[float, Sequence[Sighting]]], glimpses: Sequence[Glimpse]
) -> tuple[Faces, NDArray[np.intp]]:
    """The track's face in all glimpses in which it can be followed, and the numbers of these glimpses.

    A glimpse counts if the face was seen in a look before or after it, and is not hidden in it.
    """
    seen_seconds, places = _places(track, looks)
    look_seconds = np.array([seconds for seconds, _ in looks])
    reach = 1.01 * float(np.diff(look_seconds).max()) if len(looks) > 1 else np.inf
    seconds = np.array([one.seconds for one in glimpses])
    away = np.abs(seconds[:, None] - seen_seconds[None]).min(axis=1)
    near = np.flatnonzero(away <= reach)
    if len(near) < _LEAST_GLIMPSES:
        return np.zeros((0, _HEIGHT, _WIDTH), np.float32), near[:0]
    there = np.stack([np.interp(seconds[near], seen_seconds, places[:, term]) for term in range(4)], axis=1)
    wide = [_cut_out(glimpses[index], place) for index, place in zip(near.tolist(), there, strict=True)]
    # If a look and a glimpse nearly coincide, the face is where the detector found it.
    sure = away[near] <= max(_SAME_TIME_SECONDS, float(away[near].min()))
    faces_NHW, difference = _aligned(wide, sure)
    clear = difference < _MOST_DIFFERENCE
    return faces_NHW[clear], near[clear]


def _cut_out(glimpse: Glimpse, place: Points) -> NDArray[np.float32]:
    """The face with ``_SEARCH`` pixels around it, upright and in its size; beyond the border of the frame, the border
    pixels are repeated.
    """
    a, b, x, y = place * glimpse.scale
    step_x, step_y = a / _PIXELS, b / _PIXELS
    left, top = _ORIGIN + _SEARCH
    matrix = np.array(
        [[step_x, -step_y, x - step_x * left + step_y * top], [step_y, step_x, y - step_y * left - step_x * top]]
    )
    size = (_WIDTH + 2 * _SEARCH, _HEIGHT + 2 * _SEARCH)
    cut = cv2.warpAffine(
        glimpse.grey, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(cv2.GaussianBlur(cut.astype(np.float32), (0, 0), _BLUR_PIXELS), dtype=np.float32)


def _aligned(wide: Sequence[NDArray[np.float32]], sure: NDArray[np.bool_]) -> tuple[Faces, Points]:
    """Aligns faces by their upper parts: a search for the best correlation, then Gauss-Newton steps in shift, scale and
    rotation.

    Args:
        wide: faces with a margin.
        sure: (faces,) bool: faces that are already in place.

    Returns:
        The faces with normalised light (upper part with mean 0 and standard deviation about 1), and by how much the
        upper part of each differs from the model of all, as a mean square.
    """
    moves = np.zeros((len(wide), 4))
    model = np.median(
        _evened([_moved(one, move) for one, move, here in zip(wide, moves, sure, strict=True) if here]), axis=0
    )
    away = np.arange(-_SEARCH, _SEARCH + 1)
    cost = _FAR_COST * (away[None, :] ** 2 + away[:, None] ** 2)
    rows = slice(_UPPER_ROWS.start, _UPPER_ROWS.stop + 2 * _SEARCH)
    columns = slice(_UPPER_COLUMNS.start, _UPPER_COLUMNS.stop + 2 * _SEARCH)
    pattern = np.ascontiguousarray(model[_UPPER_ROWS, _UPPER_COLUMNS])
    maps = np.stack(
        [cv2.matchTemplate(np.ascontiguousarray(one[rows, columns]), pattern, cv2.TM_CCOEFF_NORMED) for one in wide]
    ).reshape(len(wide), -1)
    # Of equally good places, the one nearer to the track.
    best = (maps - cost.ravel()).argmax(axis=1)
    moves[:, 1], moves[:, 0] = away[best // len(away)], away[best % len(away)]
    faces_NHW = _evened([_moved(one, move) for one, move in zip(wide, moves, strict=True)])
    good = maps[np.arange(len(wide)), best] > _LEAST_CORRELATION
    if good.sum() >= 3:
        model = np.median(faces_NHW[good], axis=0)
    return _adjusted(wide, faces_NHW, moves, model)


def _adjusted(
    wide: Sequence[NDArray[np.float32]], faces_NHW: Faces, moves: Points, model: NDArray[np.float32]
) -> tuple[Faces, Points]:
    """The Gauss-Newton steps; a step that makes a face less similar to the model is not taken."""
    down, across = np.gradient(model)
    x, y = _X * _PIXELS, _Y * _PIXELS
    slopes = np.stack([across, down, across * x + down * y, down * x - across * y], axis=-1)[_UPPER].astype(np.float64)
    normal = slopes.T @ slopes
    # A little damping: a model without texture in some direction must not shift a face that way.
    solver = np.linalg.solve(normal + np.diag(np.array([0.02, 0.02, 0.05, 0.05]) * np.diag(normal) + 1e-9), slopes.T)
    limit = np.array([_LAST_SHIFT, _LAST_SHIFT, _LAST_SCALE, _LAST_TURN])
    best_NHW, tried_NHW, change = faces_NHW.copy(), faces_NHW, np.zeros_like(moves)
    best = np.square(faces_NHW[:, _UPPER] - model[_UPPER]).mean(axis=1)
    for _ in range(_LAST_STEPS):
        change = np.clip(change - (tried_NHW[:, _UPPER] - model[_UPPER]) @ solver.T, -limit, limit)
        tried_NHW = _evened([_moved(one, move) for one, move in zip(wide, moves + change, strict=True)])
        difference = np.square(tried_NHW[:, _UPPER] - model[_UPPER]).mean(axis=1)
        better = difference < best
        best_NHW[better], best = tried_NHW[better], np.minimum(difference, best)
    return best_NHW, best


def _moved(wide: NDArray[np.float32], move: Points) -> NDArray[np.float32]:
    """(height, width) the face without its margin after a move: shift across and down, change of scale, and rotation
    around the middle between the eyes.
    """
    across, down, scale, turn = move
    x, y = _ORIGIN
    matrix = np.array(
        [
            [1 + scale, -turn, _SEARCH + x + across - (1 + scale) * x + turn * y],
            [turn, 1 + scale, _SEARCH + y + down - turn * x - (1 + scale) * y],
        ]
    )
    moved = cv2.warpAffine(
        wide, matrix, (_WIDTH, _HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, dtype=np.float32)


def _evened(faces: Sequence[NDArray[np.float32]]) -> Faces:
    """Faces with normalised light: the upper part has mean 0 and standard deviation about 1."""
    faces_NHW = np.stack(faces)
    upper = faces_NHW[:, _UPPER]
    mean, spread = upper.mean(axis=1), upper.std(axis=1) + _CONTRAST_FLOOR
    return np.asarray((faces_NHW - mean[:, None, None]) / spread[:, None, None], dtype=np.float32)


def _motion(faces_NHW: Faces, seconds: Points, shots: NDArray[np.intp], waveform_S: NDArray[np.float32]) -> float:
    """How much more the mouth changes than the upper face, 0 to 1.

    Medians over pairs of neighbouring glimpses, so that a blink or a hidden moment does not count; only over pairs with
    at least half the mean loudness, since a mouth that moves during the pauses belongs to someone else.
    """
    loud = loudness(waveform_S, (seconds[1:] + seconds[:-1]) / 2)
    steps = np.diff(seconds)
    pairs = (shots[1:] == shots[:-1]) & (steps < 1.6 * np.median(steps)) & (loud >= loud.mean() / 2)
    if not pairs.any():
        return 0.0
    changes_NHW = np.square(np.diff(faces_NHW, axis=0)[pairs])
    excess = np.median(changes_NHW[:, _MOUTH].mean(axis=1)) - np.median(changes_NHW[:, _UPPER].mean(axis=1))
    more = float(np.sqrt(max(0.0, float(excess))))
    return more / (more + _HALF_MOTION)


def _sync(
    faces_NHW: Faces, seconds: Points, shots: NDArray[np.intp], waveform_S: NDArray[np.float32], config: Config
) -> float:
    """How much of the loudness can be inferred from the mouth, 0 to 1, at the best lead of the mouth over the audio.

    Mouth pixels and loudness, both without their trends, are regressed on each other: with u_k the unit time courses of
    the mouth's principal changes, s_k their sizes and y the loudness, the explained share is the sum over k of w_k (u_k
    y)² / y², where w_k = s_k² / (s_k² + _NOISE_SHARE s_1²) shrinks small changes as in ridge regression. From that, the
    share that as many changes explain by chance is subtracted, the sum of w_k / (n - 1).
    """
    same_shot = shots[:, None] == shots[None, :]
    kernel = np.exp(-0.5 * ((seconds[:, None] - seconds[None, :]) / _TREND_SECONDS) ** 2) * same_shot
    without_trend = np.eye(len(seconds)) - kernel / kernel.sum(axis=1, keepdims=True)
    mouth = without_trend @ faces_NHW[:, _MOUTH].astype(np.float64)
    energies, courses = np.linalg.eigh(mouth @ mouth.T)
    if energies[-1] <= 1e-9:
        return 0.0
    weights = np.clip(energies, 0, None) / (np.clip(energies, 0, None) + _NOISE_SHARE * energies[-1])
    leads = np.arange(-config.max_mouth_lag_seconds, config.max_mouth_lead_seconds + 1e-9, _STEP_SECONDS)
    loud = loudness(waveform_S, seconds[None, :] + leads[:, None])
    swings = loud @ without_trend.T
    power = np.square(swings).sum(axis=1)
    # A steady tone allows no inference.
    steady = np.sqrt(power / len(seconds)) < _LEAST_SWING * loud.mean(axis=1)
    shares = np.square(swings @ courses) @ weights / np.where(steady, np.inf, power)
    beyond_chance = float(shares.max()) - float(weights.sum()) / (len(seconds) - 1)
    return min(1.0, max(0.0, beyond_chance) / _FULL_SYNC)
