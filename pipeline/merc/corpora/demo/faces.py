"""Drawn faces whose expression follows an emotion, for the demonstration corpus.

A head is a patch of 200 x 260 pixels: a still base per actor (skin, shading, hair) onto which brows, eyes and mouth are
drawn for every frame, then rotated, scaled and placed over the room. The shading is what a Haar cascade looks for: eye
sockets darker than forehead and cheeks, a bright ridge of the nose, a dark mouth.
"""

import math
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Plane = NDArray[np.float32]

PATCH_WIDTH, PATCH_HEIGHT = 200, 260
# Positions of the parts of the face in the patch, in pixels.
_MIDDLE_X, _EYE_Y, _BROW_Y, _MOUTH_Y = 100.0, 122.0, 101.0, 190.0
_EYE_X = (_MIDDLE_X - 30.0, _MIDDLE_X + 30.0)
FACE_CENTRE, FACE_AXES = (_MIDDLE_X, 140.0), (66.0, 92.0)
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Expression:
    """The state of brows, eyes and mouth; lengths in pixels of the patch, positive upwards.

    Attributes:
        brow_inner, brow_outer: how far the ends of the brows are raised.
        brow_gap: how far the inner ends move apart.
        eye_open: height of the eye relative to rest.
        mouth_curve: how far the corners are raised over the middle.
        mouth_width: relative to rest.
        mouth_open: parting of the lips at rest, before speech adds to it.
        lip_raise: how far one side of the upper lip is drawn up.
        lips: thickness relative to rest.
        creases: depth of the lines next to the nose, 0 to 1.
        nod: how far the head hangs, in pixels.
        tilt: of the head, in degrees.
        motion: of head and mouth, relative to rest.
    """

    brow_inner: float = 0.0
    brow_outer: float = 0.0
    brow_gap: float = 0.0
    eye_open: float = 1.0
    mouth_curve: float = 0.0
    mouth_width: float = 1.0
    mouth_open: float = 0.0
    lip_raise: float = 0.0
    lips: float = 1.0
    creases: float = 0.0
    nod: float = 0.0
    tilt: float = 0.0
    motion: float = 1.0

    def mixed(self, other: "Expression", share: float) -> "Expression":
        """This expression with ``share`` (0 to 1) of another."""
        return Expression(
            **{
                part.name: (1 - share) * getattr(self, part.name) + share * getattr(other, part.name)
                for part in fields(self)
            }
        )


# After the textbook descriptions of facial action: raised brows and open mouth for surprise, lowered ones for anger,
# and so on.
EXPRESSIONS = {
    "neutral": Expression(),
    "joy": Expression(2, 3, 0, 0.72, 14, 1.4, 7, 0, 1.0, 0.7, 0, 0, 1.2),
    "surprise": Expression(13, 14, 0, 1.45, 0, 0.72, 20, 0, 1.0, 0, -2, 0, 0.8),
    "fear": Expression(13, 1, -4, 1.35, -5, 1.35, 8, 0, 0.8, 0, 2, 0, 1.8),
    "sadness": Expression(9, -8, 0, 0.55, -13, 0.9, 0, 0, 1.0, 0.3, 7, 4, 0.5),
    "anger": Expression(-12, 5, -7, 0.8, -8, 1.05, 0, 0, 0.6, 0.4, 1, 0, 1.5),
    "disgust": Expression(-7, -4, -5, 0.42, -8, 0.95, 2, 11, 1.2, 1.0, -3, -5, 0.7),
    "excited": Expression(9, 9, 0, 1.25, 13, 1.3, 16, 0, 1.0, 0.6, -2, 0, 1.9),
    "frustrated": Expression(-7, -1, -6, 0.65, -4, 0.75, 0, 4, 1.3, 0.5, 3, 6, 0.9),
}


@dataclass(frozen=True)
class Look:
    """An actor's looks: RGB colours from 0 to 255, and proportions."""

    skin: tuple[int, int, int]
    hair: tuple[int, int, int]
    shirt: tuple[int, int, int]
    long_hair: bool
    width: float
    brow_thickness: float


@dataclass(frozen=True)
class Pose:
    """Position of a head in the frame: centre of its face in pixels, scale relative to the patch, and rotation in
    degrees.
    """

    x: float
    y: float
    scale: float
    degrees: float


@dataclass(frozen=True)
class Motion:
    """Slight movement of a head: slow swings, and a blink.

    Attributes:
        phases: phases of the swings sideways, upwards, and in rotation, in radians.
        blink_seconds: when the eyes start to close; negative for never.
    """

    phases: tuple[float, float, float]
    blink_seconds: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, seconds: float) -> "Motion":
        """Draws a movement for a recording of this many seconds."""
        across, up, turn = rng.uniform(0, 2 * np.pi, 3)
        return cls(
            (float(across), float(up), float(turn)), float(rng.uniform(0, seconds)) if rng.random() < 0.5 else -1.0
        )

    def blinks(self, seconds: float) -> bool:
        """Whether the eyes are closed at a time; a blink takes one or two tenths of a second."""
        return 0 <= seconds - self.blink_seconds < 0.12 and self.blink_seconds >= 0

    def moved(self, pose: Pose, shown: Expression, seconds: float) -> Pose:
        """Position of the head at a time: its place, the expression's nod and tilt, and a swing as lively as the
        expression.
        """
        across, up, turn = self.phases
        size = pose.scale * shown.motion
        return Pose(
            pose.x + 4 * size * math.sin(2 * math.pi * 0.5 * seconds + across),
            pose.y + shown.nod * pose.scale + 3 * size * math.sin(2 * math.pi * 0.8 * seconds + up),
            pose.scale,
            pose.degrees + shown.tilt + 1.5 * shown.motion * math.sin(2 * math.pi * 0.4 * seconds + turn),
        )


# Pairs of skin and hair: the cascade misses wide-eyed faces whose hair is lighter than the skin.
_COMPLEXIONS = (
    ((236, 196, 170), (150, 112, 62)),
    ((224, 178, 148), (96, 62, 34)),
    ((205, 156, 122), (52, 38, 28)),
    ((178, 128, 94), (28, 24, 24)),
    ((232, 190, 164), (120, 54, 30)),
    ((160, 112, 82), (30, 24, 22)),
)
_SHIRTS = ((70, 88, 140), (122, 58, 62), (62, 110, 86), (110, 96, 128), (92, 96, 100), (140, 116, 70))


def look(rng: np.random.Generator, *, female: bool) -> Look:
    """Draws an actor's looks."""
    skin, hair = _COMPLEXIONS[rng.integers(len(_COMPLEXIONS))]
    return Look(
        skin=skin,
        hair=hair,
        shirt=_SHIRTS[rng.integers(len(_SHIRTS))],
        long_hair=female,
        width=float(rng.uniform(0.93, 1.05)) * (0.96 if female else 1.0),
        brow_thickness=4.5 if female else 6.0,
    )


def _blob(x: float, y: float, sigma_x: float, sigma_y: float) -> Plane:
    """A Gaussian hill of height 1 in the patch."""
    across = np.exp(-0.5 * ((np.arange(PATCH_WIDTH) - x) / sigma_x) ** 2)
    down = np.exp(-0.5 * ((np.arange(PATCH_HEIGHT) - y) / sigma_y) ** 2)
    return np.outer(down, across).astype(np.float32)


def _shading() -> Plane:
    """Shading of the face, 1 = the skin's own colour; the numbers were tuned on the cascade and by eye."""
    (x, y), (half_width, half_height) = FACE_CENTRE, FACE_AXES
    across, down = (np.arange(PATCH_WIDTH) - x) / half_width, (np.arange(PATCH_HEIGHT) - y) / half_height
    light = 1.08 - 0.30 * (across[None, :] ** 2) - 0.10 * np.clip(down[:, None], 0, None) ** 2
    for eye_x in _EYE_X:
        light = light - 0.30 * _blob(eye_x, _EYE_Y - 6, 19, 11)
        light = light + 0.10 * _blob(eye_x + 6 * np.sign(eye_x - x), 158, 15, 12)
    light = light + 0.16 * _blob(x, 138, 6, 26) - 0.30 * _blob(x, 168, 11, 3.5)
    light = light + 0.06 * _blob(x, 84, 34, 13) - 0.12 * _blob(x, 207, 18, 5) + 0.06 * _blob(x, 221, 15, 7)
    return np.asarray(light, dtype=np.float32)


def _filled_ellipse(centre: tuple[float, float], axes: tuple[float, float]) -> Plane:
    mask = np.zeros((PATCH_HEIGHT, PATCH_WIDTH), np.uint8)
    cv2.ellipse(mask, _fixed(*centre), _fixed(*axes), 0, 0, 360, 255, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    return np.asarray(mask / 255, dtype=np.float32)


def _fixed(x: float, y: float) -> tuple[int, int]:
    """A point in OpenCV's fixed-point coordinates."""
    return round(x * 2**_SUBPIXEL_BITS), round(y * 2**_SUBPIXEL_BITS)


@lru_cache(maxsize=64)
def _base(who: Look) -> tuple[Image, Plane]:
    """The still part of a head: (260, 200, 3) colours and (260, 200, 1) opacity from 0 to 1."""
    (x, y), (half_width, half_height) = FACE_CENTRE, (FACE_AXES[0] * who.width, FACE_AXES[1])
    skin, hair = np.array(who.skin, np.float32), np.array(who.hair, np.float32)
    strands = 1 + 0.10 * np.sin(np.arange(PATCH_WIDTH) * 0.9)[None, :, None] * np.ones((PATCH_HEIGHT, 1, 1))
    face = _filled_ellipse((x, y), (half_width, half_height))
    back = _filled_ellipse((x, y - 22), (half_width + 11, half_height + 3))
    if who.long_hair:
        back = np.maximum(back, _filled_ellipse((x, y + 20), (half_width + 19, half_height + 8)))
    else:
        back = back * (np.arange(PATCH_HEIGHT) < y - 4)[:, None]
    fringe = face * (1 - _filled_ellipse((x, y + 26), (half_width + 4, half_height + 2)))
    neck = np.zeros_like(face)
    neck[200:, 72:129] = 1
    ears = np.maximum(
        _filled_ellipse((x - half_width - 2, y - 4), (7, 16)), _filled_ellipse((x + half_width + 2, y - 4), (7, 16))
    )
    colours = np.zeros((PATCH_HEIGHT, PATCH_WIDTH, 3), np.float32)
    for mask, paint in (
        (back, hair * strands),
        (neck, skin * 0.68),
        (ears * (0.0 if who.long_hair else 1.0), skin * 0.82),
        (face, skin * _shading()[:, :, None]),
        (fringe, hair * strands),
    ):
        colours += mask[:, :, None] * (paint - colours)
    opacity = np.asarray(cv2.GaussianBlur(np.max([back, neck, ears, face], axis=0), (5, 5), 0), dtype=np.float32)
    return np.asarray(np.clip(cv2.GaussianBlur(colours, (3, 3), 0), 0, 255), dtype=np.uint8), opacity[:, :, None]


def _tint(colour: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    red, green, blue = (round(value * share) for value in colour)
    return red, green, blue


def _draw_brows_and_eyes(patch: Image, who: Look, shown: Expression) -> None:
    dark, thickness = _tint(who.hair, 0.6), round(who.brow_thickness)
    for eye_x in _EYE_X:
        side = math.copysign(1.0, eye_x - _MIDDLE_X)
        inner = (eye_x - side * (19 - shown.brow_gap * 0.5), _BROW_Y + 3 - shown.brow_inner)
        middle = (eye_x + side * 2, _BROW_Y - 3 - 0.5 * (shown.brow_inner + shown.brow_outer))
        outer = (eye_x + side * 20, _BROW_Y + 2 - shown.brow_outer)
        cv2.polylines(
            patch,
            [np.array([_fixed(*inner), _fixed(*middle), _fixed(*outer)])],
            False,
            dark,
            thickness,
            cv2.LINE_AA,
            _SUBPIXEL_BITS,
        )
        height = max(1.0, 8.0 * shown.eye_open)
        centre = _fixed(eye_x, _EYE_Y)
        cv2.ellipse(
            patch, centre, _fixed(15, height), 0, 0, 360, _tint(who.skin, 0.92), -1, cv2.LINE_AA, _SUBPIXEL_BITS
        )
        cv2.ellipse(
            patch, centre, _fixed(7, min(7.0, height)), 0, 0, 360, (70, 52, 40), -1, cv2.LINE_AA, _SUBPIXEL_BITS
        )
        cv2.ellipse(
            patch, centre, _fixed(3, min(3.0, height)), 0, 0, 360, (12, 10, 10), -1, cv2.LINE_AA, _SUBPIXEL_BITS
        )
        cv2.ellipse(patch, centre, _fixed(16, height + 1), 0, 180, 360, (36, 26, 22), 3, cv2.LINE_AA, _SUBPIXEL_BITS)
        cv2.ellipse(
            patch, centre, _fixed(15, height + 0.5), 0, 0, 180, _tint(who.skin, 0.5), 1, cv2.LINE_AA, _SUBPIXEL_BITS
        )


def _draw_creases(patch: Image, who: Look, depth: float) -> None:
    """The lines from the nose to the corners of the mouth."""
    if depth < 0.1:
        return
    colour = _tint(who.skin, 0.95 - 0.35 * depth)
    for side in (-1.0, 1.0):
        points = [_fixed(_MIDDLE_X + side * across, down) for across, down in ((15, 160), (26, 169), (34, 183))]
        cv2.polylines(patch, [np.array(points)], False, colour, 2, cv2.LINE_AA, _SUBPIXEL_BITS)
        if depth > 0.8:  # a wrinkled nose
            cv2.line(
                patch,
                _fixed(_MIDDLE_X + side * 3, 128),
                _fixed(_MIDDLE_X + side * 9, 136),
                colour,
                2,
                cv2.LINE_AA,
                _SUBPIXEL_BITS,
            )


def _draw_mouth(patch: Image, who: Look, shown: Expression, speech: float) -> None:
    along = np.linspace(-1, 1, 17)
    arch = 1 - along**2
    opening = max(0.0, shown.mouth_open + 9 * speech)
    xs = _MIDDLE_X + 27 * shown.mouth_width * along
    middle = _MOUTH_Y + 0.4 * shown.mouth_curve - shown.mouth_curve * along**2
    raised = shown.lip_raise * np.exp(-(((along - 0.35) / 0.4) ** 2))
    inner_top, inner_bottom = middle - 0.35 * opening * arch - raised * 0.7, middle + 0.65 * opening * arch
    outer_top, outer_bottom = (
        inner_top - 4.5 * shown.lips * arch - 0.8 - raised * 0.3,
        inner_bottom + 6 * shown.lips * arch + 0.8,
    )
    lips = (round(who.skin[0] * 0.66), round(who.skin[1] * 0.45), round(who.skin[2] * 0.45))

    def outline(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> NDArray[np.int32]:
        points = np.concatenate([np.stack([xs, top], 1), np.stack([xs, bottom], 1)[::-1]])
        return np.asarray(np.rint(points * 2**_SUBPIXEL_BITS), dtype=np.int32)

    cv2.fillPoly(patch, [outline(outer_top, outer_bottom)], lips, cv2.LINE_AA, _SUBPIXEL_BITS)
    if opening > 1.5 or shown.lip_raise > 2:
        cv2.fillPoly(patch, [outline(inner_top, inner_bottom)], (48, 20, 22), cv2.LINE_AA, _SUBPIXEL_BITS)
        if opening > 4 and shown.mouth_width > 1.1:  # a wide mouth shows its upper teeth
            cv2.fillPoly(
                patch,
                [outline(inner_top + 0.8, np.minimum(inner_top + 5.5, inner_bottom))],
                (224, 220, 212),
                cv2.LINE_AA,
                _SUBPIXEL_BITS,
            )
    else:
        line = np.rint(np.stack([xs, middle], 1) * 2**_SUBPIXEL_BITS).astype(np.int32)
        cv2.polylines(patch, [line], False, (74, 34, 34), 2, cv2.LINE_AA, _SUBPIXEL_BITS)


def draw(picture: Image, who: Look, shown: Expression, pose: Pose, speech: float = 0.0, *, blink: bool = False) -> None:
    """Draws a head into a frame, in place.

    Args:
        picture: (height, width, 3) uint8 RGB.
        who: the actor.
        shown: the expression.
        pose: its position; the head must not be entirely outside the frame.
        speech: how far speech opens the mouth, 0 to 1.
        blink: whether the eyes are closed.
    """
    base, opacity = _base(who)
    patch = base.copy()
    _draw_creases(patch, who, shown.creases)
    _draw_brows_and_eyes(patch, who, replace(shown, eye_open=0.1) if blink else shown)
    _draw_mouth(patch, who, shown, speech)
    soft = cv2.GaussianBlur(patch, (3, 3), 0)
    turn = cv2.getRotationMatrix2D(FACE_CENTRE, pose.degrees, pose.scale)
    turn[:, 2] += np.array([pose.x - FACE_CENTRE[0], pose.y - FACE_CENTRE[1]])
    height, width = picture.shape[:2]
    corners = turn @ np.array(
        [[0, PATCH_WIDTH, 0, PATCH_WIDTH], [0, 0, PATCH_HEIGHT, PATCH_HEIGHT], [1, 1, 1, 1]], dtype=np.float64
    )
    left, top = np.maximum(np.floor(corners.min(1)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(corners.max(1)).astype(int), (width, height))
    turn[:, 2] -= np.array([left, top])
    size = (int(right - left), int(bottom - top))
    cover = cv2.warpAffine(opacity, turn, size, flags=cv2.INTER_LINEAR)[:, :, None]
    paint = cv2.warpAffine(soft, turn, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    region = picture[top:bottom, left:right]
    region[...] = (region + cover * (paint.astype(np.float32) - region)).astype(np.uint8)


def draw_shoulders(picture: Image, who: Look, pose: Pose) -> None:
    """Draws the still upper body below a head, in place; once per clip, before the heads."""
    height = picture.shape[0]
    top, bottom = pose.y + 92 * pose.scale, float(height)
    half = 96 * pose.scale
    points = [(-0.32, 0.0), (0.32, 0.0), (0.8, 0.22), (1.05, 1.0), (-1.05, 1.0), (-0.8, 0.22)]
    shape = np.array([[pose.x + x * half, top + y * (bottom - top)] for x, y in points])
    cv2.fillPoly(picture, [np.rint(shape).astype(np.int32)], who.shirt, cv2.LINE_AA)


def room(rng: np.random.Generator, width: int, height: int) -> Image:
    """A background without a face: a wall in soft light, a few blurred objects, and camera noise.

    Args:
        rng: determines everything.
        width, height: in pixels.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    colour = rng.uniform(100, 160) * rng.uniform(0.82, 1.12, 3)
    light = (
        np.linspace(rng.uniform(0.85, 1.1), rng.uniform(0.6, 0.85), height)[:, None]
        * np.linspace(1.0, rng.uniform(0.8, 1.1), width)[None, :]
    )
    wall = (light[:, :, None] * colour).astype(np.float32)
    for _ in range(int(rng.integers(3, 6))):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        wide, high = int(rng.integers(40, 150)), int(rng.integers(40, 180))
        cv2.rectangle(
            wall,
            (x, y),
            (x + wide, y + high),
            tuple(float(value) for value in colour * rng.uniform(0.6, 1.2) * rng.uniform(0.9, 1.1, 3)),
            -1,
        )
    grain = rng.normal(0, 2.5, (height, width, 1))
    return np.asarray(np.clip(cv2.GaussianBlur(wall, (0, 0), 7) + grain, 0, 255), dtype=np.uint8)
