"""Scenes composed of heads from real clips, or drawn ones, one of whom speaks, or no one.

KINDS
    together      one shot of two or three people, one of whom speaks
    off_screen    one shot of one to three people who listen; the speaker is not seen
    reverse       a shot of the speaker, alone or with a listener, and a shot of another listener, who hears the
                  speaker go on; in either order
    moved         two shots of the speaker and a listener, with other places and sizes in the second; in half of the
                  scenes they roughly swap places
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import soundfile
from numpy.typing import NDArray

from merc.corpora.demo import faces as drawn

WIDTH, HEIGHT, FPS = 640, 360, 25
RATE_HZ = 16_000
KINDS = ("together", "off_screen", "reverse", "moved")
LISTENERS = ("still", "nod", "blink", "chew")
_CLIPS = ("single_face.mp4", "WolfgangLanger_Pexels.mp4", "many_faces_1080p.mp4")
# Width and height of a head's crop in face widths, around the midpoint between eyes and mouth.
_WINDOW = 2.4
_WINDOW_PIXELS = 240
_FACE_PIXELS = _WINDOW_PIXELS / _WINDOW
# The share of the room's width that a second shot of it shows.
_CLOSER = 0.7
# A face within this many face widths of a person is that person.
_SAME_PLACE = 0.6


@dataclass(frozen=True, eq=False)
class Head:
    """A real head in its clip, its face about ``_FACE_PIXELS`` wide.

    Attributes:
        frames: (frames, ``_WINDOW_PIXELS``, ``_WINDOW_PIXELS``, 3) uint8 RGB, ``FPS`` a second.
        landmarks: (frames, 5, 2) x, y in a frame: eyes, nose, corners of the mouth, from the left of the frame.
    """

    frames: NDArray[np.uint8]
    landmarks: NDArray[np.float64]


def real_heads(real_data: Path, least_frames: int = 50, most_frames: int = 400) -> list[Head]:
    """Heads that are seen without a gap; the window follows a head's slow motion, so its quick motion remains."""
    heads = []
    for name in _CLIPS:
        frames, faces = _observed(real_data / "media" / name, real_data / "models" / "face_detection_yunet.onnx")
        for times, rows in _unbroken(faces):
            if len(times) >= least_frames and not _crowded(faces, times, rows):
                heads += _cut_out(frames, times[:most_frames], rows[:most_frames])
    return [head for head in heads if len(head.frames) >= least_frames]


def _observed(path: Path, model: Path) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.float64]]]:
    """Frames at ``FPS``, and YuNet's rows for each, (faces, 15)."""
    network = cv2.FaceDetectorYN.create(str(model), "", (320, 320), 0.6, 0.3, 5000)
    frames, faces, due = [], [], 0.0
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if frame.time is None or frame.time < due:
                continue
            due += 1 / FPS
            picture = frame.to_ndarray(format="rgb24")
            scale = min(1.0, 960 / picture.shape[1])
            small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            network.setInputSize((small.shape[1], small.shape[0]))
            _, rows = network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
            rows = np.zeros((0, 15)) if rows is None else rows.astype(np.float64)
            rows[:, :14] /= scale
            frames.append(picture)
            faces.append(rows[rows[:, 2] >= 45])
    return frames, faces


def _unbroken(faces: Sequence[NDArray[np.float64]]) -> Iterator[tuple[list[int], NDArray[np.float64]]]:
    """Runs of frames in which a face is seen near its last place; gaps of up to three frames are interpolated."""
    runs: list[list[tuple[int, NDArray[np.float64]]]] = []
    for number, rows in enumerate(faces):
        for row in rows:
            near = [
                run
                for run in runs
                if 0 < number - run[-1][0] <= 4
                and np.hypot(*(row[:2] + row[2:4] / 2 - run[-1][1][:2] - run[-1][1][2:4] / 2)) < 0.4 * row[2]
            ]
            if near:
                near[-1].append((number, row))
            else:
                runs.append([(number, row)])
    for run in runs:
        seen = np.array([number for number, _ in run])
        times = list(range(seen[0], seen[-1] + 1))
        rows = np.stack([row for _, row in run])
        yield times, np.stack([np.interp(times, seen, rows[:, column]) for column in range(rows.shape[1])], axis=1)


def _crowded(faces: Sequence[NDArray[np.float64]], times: Sequence[int], rows: NDArray[np.float64]) -> bool:
    """Whether another face is so near that it would be in this one's crop."""
    near = 0
    for number, row in zip(times, rows, strict=True):
        away = np.abs(faces[number][:, :2] + faces[number][:, 2:4] / 2 - row[:2] - row[2:4] / 2) / row[2]
        near += bool(((away[:, 0] > 0.3) & (away < 0.9).all(axis=1)).any())
    return near > 0.2 * len(times)


def _smooth(values_TN: NDArray[np.float64], frames: float) -> NDArray[np.float64]:
    return np.asarray(
        cv2.GaussianBlur(values_TN, (1, 0), sigmaX=1e-3, sigmaY=frames, borderType=cv2.BORDER_REPLICATE)
    ).reshape(values_TN.shape)


def _frontal(points: NDArray[np.float64]) -> slice:
    """The longest stretch of frames in which the nose is between the eyes: the mouth of a profile cannot be warped like
    one seen from the front.
    """
    away = np.abs(points[:, 2, 0] - points[:, :2, 0].mean(axis=1)) / np.maximum(1e-6, points[:, 1, 0] - points[:, 0, 0])
    turned = np.flatnonzero(np.concatenate([[True], away > 0.3, [True]]))
    longest = int(np.diff(turned).argmax())
    return slice(int(turned[longest]), int(turned[longest + 1]) - 1)


def _cut_out(frames: Sequence[NDArray[np.uint8]], times: Sequence[int], rows: NDArray[np.float64]) -> list[Head]:
    points = rows[:, 4:14].reshape(-1, 5, 2)
    for pair in ((0, 1), (3, 4)):
        order = np.argsort(points[:, pair, 0], axis=1)
        points[:, pair] = np.take_along_axis(points[:, pair], order[:, :, None], axis=1)
    points = _smooth(points.reshape(-1, 10), 1.5).reshape(-1, 5, 2)
    kept = _frontal(points)
    times, rows, points = times[kept], rows[kept], points[kept]
    middles = _smooth(points[:, [0, 1, 3, 4]].mean(axis=1), 12.0)
    scale = _FACE_PIXELS / np.median(rows[:, 2])
    pictures, landmarks = [], []
    for time_, middle, face in zip(times, middles, points, strict=True):
        shift = np.full(2, _WINDOW_PIXELS / 2) - scale * middle
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        pictures.append(
            cv2.warpAffine(
                frames[time_],
                matrix,
                (_WINDOW_PIXELS, _WINDOW_PIXELS),
                flags=cv2.INTER_LINEAR if scale > 0.7 else cv2.INTER_AREA,
                borderMode=cv2.BORDER_REPLICATE,
            )
        )
        landmarks.append(scale * face + shift)
    return [Head(np.stack(pictures).astype(np.uint8), np.stack(landmarks))]


def open_mouth(picture_HWC: NDArray[np.uint8], landmarks: NDArray[np.float64], opening: float) -> NDArray[np.uint8]:
    """Parts the lips and lowers the jaw.

    Args:
        picture_HWC: a head.
        landmarks: (5, 2) as in ``Head``.
        opening: distance of the lips as a share of the mouth's width.
    """
    left, right = landmarks[3], landmarks[4]
    half = float(np.hypot(*(right - left))) / 2
    along = (right - left) / (2 * half)
    down = np.array([-along[1], along[0]])
    y, x = np.mgrid[: picture_HWC.shape[0], : picture_HWC.shape[1]].astype(np.float32)
    middle = (left + right) / 2
    a = ((x - middle[0]) * along[0] + (y - middle[1]) * along[1]) / half
    b = ((x - middle[0]) * down[0] + (y - middle[1]) * down[1]) / half
    arch = np.clip(1 - a**2, 0, None)
    top, bottom = -0.6 * opening * arch, 1.4 * opening * arch
    # Far below the lips the whole jaw moves with the lower lip, down to the chin; above the lips little moves.
    jaw = np.clip(b / 1.5, 0, 1)
    lowered = ((1 - jaw) * bottom + jaw * 1.4 * opening * np.exp(-((a / 1.6) ** 2))) * np.clip((2.8 - b) / 1.6, 0, 1)
    raised = top * np.clip(1 + b / 0.9, 0, 1)
    moved = np.where(b > (top + bottom) / 2, -lowered, -raised) * half
    source_x, source_y = x + (moved * down[0]).astype(np.float32), y + (moved * down[1]).astype(np.float32)
    warped = cv2.remap(picture_HWC, source_x, source_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = np.clip(np.minimum(b - top, bottom - b) * half + 0.5, 0, 1) * (arch > 0)
    dark = 0.3 * picture_HWC[tuple(np.clip(np.rint(middle[::-1]).astype(int), 0, _WINDOW_PIXELS - 1))]
    return np.asarray(warped + inside[:, :, None] * (dark - warped), dtype=np.uint8)


def shut_eyes(picture_HWC: NDArray[np.uint8], landmarks: NDArray[np.float64], shut: float) -> NDArray[np.uint8]:
    """Draws the skin above the eyes down over them; ``shut`` from 0 to 1."""
    y, x = np.mgrid[: picture_HWC.shape[0], : picture_HWC.shape[1]].astype(np.float32)
    unit = float(np.hypot(*(landmarks[1] - landmarks[0])))
    shift = np.zeros_like(y)
    for eye in landmarks[:2]:
        shift += (
            0.16 * unit * shut * np.exp(-(((x - eye[0]) / (0.28 * unit)) ** 2) - ((y - eye[1]) / (0.12 * unit)) ** 2)
        )
    return np.asarray(
        cv2.remap(picture_HWC, x, y - shift, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8
    )


def speech(real_data: Path, rng: np.random.Generator, seconds: float) -> NDArray[np.float32]:
    """16 kHz mono: sentences from a random one on, with short pauses between them, room noise, and a random level."""
    parts: list[NDArray[np.float32]] = []
    wanted = round(seconds * RATE_HZ)
    while sum(map(len, parts)) < wanted:
        sound, rate = soundfile.read(real_data / "media" / f"spk1_snt{rng.integers(1, 3)}.wav", dtype="float32")
        if rate != RATE_HZ:
            raise ValueError(f"spoken sentences have {rate} Hz instead of {RATE_HZ}")
        parts += [
            sound[0 if parts else rng.integers(0, len(sound) // 2) :],
            np.zeros(rng.integers(RATE_HZ // 10, RATE_HZ // 2), np.float32),
        ]
    sound = np.concatenate(parts)[:wanted]
    sound = sound / np.abs(sound).max() * rng.uniform(0.1, 0.9)
    return np.asarray(
        sound + rng.normal(0, 10 ** rng.uniform(-3.5, -2.3) * np.abs(sound).max(), wanted), dtype=np.float32
    )


def _loudness(sound_S: NDArray[np.float32], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Loudness at given times, 0 to 1: the root of the RMS over 60 ms, which follows the opening of a jaw better than
    the RMS itself.
    """
    rms = np.sqrt(np.convolve(sound_S**2, np.ones(RATE_HZ * 6 // 100) / (RATE_HZ * 6 // 100), mode="same"))
    return np.asarray(np.sqrt(np.interp(seconds * RATE_HZ, np.arange(len(rms)), rms / rms.max())))


def _wander(rng: np.random.Generator, frames: int, low_hz: float, high_hz: float) -> NDArray[np.float64]:
    """Random motion within a band of frequencies, standard deviation 1."""
    spectrum = rng.normal(size=frames // 2 + 1) + 1j * rng.normal(size=frames // 2 + 1)
    hz = np.fft.rfftfreq(frames, 1 / FPS)
    values = np.fft.irfft(np.where((hz >= low_hz) & (hz <= high_hz), spectrum, 0), frames)
    return np.asarray(values / max(float(values.std()), 1e-9))


def speaking_mouth(sound_S: NDArray[np.float32], rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """How far a speaker's mouth is open in every frame, 0 to 1.

    Its correlation with the RMS of the audio is 0.69 on average over 200 draws, standard deviation 0.11.
    """
    ahead = rng.uniform(0.0, 0.12)
    loud = _loudness(sound_S, np.arange(frames) / FPS + ahead)
    own = np.clip(0.5 + 0.35 * _wander(rng, frames, 1.0, 6.0), 0, 1)
    return np.asarray(_smooth(np.clip(loud * (0.1 + 1.1 * own), 0, 1)[:, None], 0.8)[:, 0])


def chewing_mouth(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Opening and closing 1.2 to 2.2 times a second, as far as a speaker does, independently of the audio."""
    phase = (
        2
        * np.pi
        * (rng.uniform() + np.cumsum(rng.uniform(1.2, 2.2) * (1 + 0.15 * _wander(rng, frames, 0.3, 2.0))) / FPS)
    )
    return np.asarray(np.clip(0.4 + 0.35 * np.sin(phase), 0, 1))


@dataclass(frozen=True, eq=False)
class Person:
    """Who is in a shot, where, and what they do; arrays have one value per frame of the shot.

    Attributes:
        name: number of the person, unique within the scene and kept across its shots.
        kind: ``speaker`` or one of ``LISTENERS``.
        x, y: middle of the face in pixels of the scene.
        width: of the face in pixels.
        mouth: openness, 0 to 1.
        nod: how far the head is lowered, as a share of the face's width.
        tilt: in degrees.
        shut: eyes, 0 to 1.
    """

    name: int
    kind: str
    x: float
    y: float
    width: float
    mouth: NDArray[np.float64]
    nod: NDArray[np.float64]
    tilt: NDArray[np.float64]
    shut: NDArray[np.float64]

    def at(self, place: tuple[float, float, float], frames: slice) -> "Person":
        """The same person in another shot: ``place`` is x, y, width."""
        x, y, width = place
        return replace(
            self,
            x=x,
            y=y,
            width=width,
            mouth=self.mouth[frames],
            nod=self.nod[frames],
            tilt=self.tilt[frames],
            shut=self.shut[frames],
        )


@dataclass(frozen=True, eq=False)
class Shot:
    """Attributes:
    first: number of its first frame.
    persons: who is in it.
    """

    first: int
    persons: tuple[Person, ...]


@dataclass(frozen=True, eq=False)
class Scene:
    """A composed scene.

    Attributes:
        seed: determines the whole scene.
        heads: ``real`` or ``drawn``.
        kind: one of ``KINDS``.
        shots: in time order.
        speaker: name; -1: off screen.
        frames: (frames, HEIGHT, WIDTH, 3) uint8 RGB.
        sound: (samples,) float32, 16 kHz mono.
    """

    seed: int
    heads: str
    kind: str
    shots: tuple[Shot, ...]
    speaker: int
    frames: NDArray[np.uint8]
    sound: NDArray[np.float32]

    @property
    def seconds(self) -> float:
        """Length of the scene."""
        return len(self.frames) / FPS

    @property
    def persons(self) -> list[Person]:
        """Each person as in their first shot, by name."""
        first = {person.name: person for shot in reversed(self.shots) for person in shot.persons}
        return [first[name] for name in sorted(first)]

    def name_at(self, frame: int, box: tuple[float, float, float, float]) -> int:
        """Who is seen in a box (left, top, width, height) of a frame; -1: no one."""
        shot = [one for one in self.shots if one.first <= frame][-1]
        x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
        away, name = min((float(np.hypot(one.x - x, one.y - y)) / one.width, one.name) for one in shot.persons)
        return name if away < _SAME_PLACE else -1

    @property
    def rows(self) -> list[str]:
        """The rows of the tables that count it."""
        listeners = {one.kind for one in self.persons} - {"speaker"}
        rows = ["all", f"{len(self.persons)} person{'s' if len(self.persons) > 1 else ''}"]
        rows += [f"a listener {kind}s" if kind != "still" else "a listener is still" for kind in sorted(listeners)]
        if self.kind == "together":
            largest = max(self.persons, key=lambda one: one.width).kind == "speaker"
            return [*rows, "speaker is largest" if largest else "speaker is not largest"]
        if self.kind in ("reverse", "moved"):
            return [*rows, "the listener has a shot" if self.kind == "reverse" else "both are in both shots"]
        return rows


def compose(seed: int, real_data: Path, heads: Sequence[Head], kind: str = "together") -> Scene:
    """Composes scene number ``seed`` of a kind: of real heads, but ``together`` with odd numbers of drawn ones."""
    rng = np.random.default_rng(seed if kind == "together" else (seed, KINDS.index(kind)))
    art = "drawn" if kind == "together" and seed % 2 else "real"
    if kind in ("together", "off_screen"):
        shots, sound, frames = _one_shot(rng, real_data, someone_speaks=kind == "together")
    else:
        shots, sound, frames = _two_shots(rng, real_data, reverse=kind == "reverse")
    pictures = (
        _of_real_heads(rng, shots, frames, heads) if art == "real" else _of_drawn_heads(rng, shots[0].persons, frames)
    )
    noise = rng.normal(0, rng.uniform(1.0, 4.0), (8, HEIGHT, WIDTH, 1))
    for picture in pictures:
        grain = np.roll(noise[rng.integers(8)], (int(rng.integers(HEIGHT)), int(rng.integers(WIDTH))), axis=(0, 1))
        picture[...] = np.clip(picture + grain, 0, 255)
    speaker = [one.name for shot in shots for one in shot.persons if one.kind == "speaker"]
    return Scene(seed, art, kind, shots, speaker[0] if speaker else -1, pictures, sound)


Composed = tuple[tuple[Shot, ...], NDArray[np.float32], int]
"""Shots, sound, number of frames."""


def _one_shot(rng: np.random.Generator, real_data: Path, *, someone_speaks: bool) -> Composed:
    count = int(rng.integers(2 if someone_speaks else 1, 4))
    frames = round(float(rng.uniform(2.0, 3.5)) * FPS)
    sound = speech(real_data, rng, frames / FPS)
    talking = int(rng.integers(count)) if someone_speaks else -1
    people = []
    for number in range(count):
        place = _place(rng, number, count)
        role = "speaker" if number == talking else str(rng.choice(LISTENERS))
        people.append(_acting(rng, number, role, place, frames, sound))
    return (Shot(0, tuple(people)),), sound, frames


def _two_shots(rng: np.random.Generator, real_data: Path, *, reverse: bool) -> Composed:
    frames = round(float(rng.uniform(3.0, 5.0)) * FPS)
    sound = speech(real_data, rng, frames / FPS)
    count = int(rng.integers(2, 4)) if reverse else 2
    roles = ["speaker", *rng.choice(LISTENERS, count - 1)]
    people = [_acting(rng, name, str(role), (0.0, 0.0, 0.0), frames, sound) for name, role in enumerate(roles)]
    cut = round(float(rng.uniform(0.35, 0.65)) * frames)
    # The last person has a shot alone, or both are in both shots.
    casts: list[list[int]] = [list(range(count - 1)), [count - 1]] if reverse else [[0, 1], [0, 1]]
    for cast in casts:
        rng.shuffle(cast)
    if reverse and rng.random() < 0.5:
        casts.reverse()
    elif not reverse:
        casts[1] = casts[0][::-1] if rng.random() < 0.5 else casts[0]
    shots = []
    for cast, during in zip(casts, (slice(0, cut), slice(cut, frames)), strict=True):
        shots.append(
            Shot(
                during.start,
                tuple(people[name].at(_place(rng, slot, len(cast)), during) for slot, name in enumerate(cast)),
            )
        )
    return tuple(shots), sound, frames


def _place(rng: np.random.Generator, slot: int, slots: int) -> tuple[float, float, float]:
    """x, y and width of a face in one of this many equal parts of the frame."""
    across = WIDTH / slots
    width = float(rng.uniform(45, min(140, 0.62 * across)))
    x = across * (slot + 0.5) + rng.uniform(-0.5, 0.5) * max(0.0, across - 1.5 * width)
    return float(x), float(rng.uniform(0.75 * width + 10, HEIGHT - 0.85 * width - 10)), width


def _acting(
    rng: np.random.Generator,
    name: int,
    role: str,
    place: tuple[float, float, float],
    frames: int,
    sound: NDArray[np.float32],
) -> Person:
    nods = role == "nod" or (role == "speaker" and rng.random() < 0.5)
    blinks = role == "blink" or (role == "speaker" and rng.random() < 0.5)
    mouth = np.zeros(frames)
    if role == "speaker":
        mouth = speaking_mouth(sound, rng, frames) * rng.uniform(0.6, 1.2)
    elif role == "chew":
        mouth = chewing_mouth(rng, frames) * rng.uniform(0.6, 1.2)
    nod = 0.015 * _wander(rng, frames, 0.2, 1.0)
    tilt = 1.0 * _wander(rng, frames, 0.2, 1.0)
    if nods:
        steady = np.sin(2 * np.pi * (rng.uniform() + rng.uniform(0.7, 2.0) * np.arange(frames) / FPS))
        nod, tilt = nod + rng.uniform(0.04, 0.1) * steady, tilt + rng.uniform(-2.5, 2.5) * steady
    shut = np.zeros(frames)
    if blinks:
        for begin in np.arange(rng.uniform(0.1, 0.6), frames / FPS, rng.uniform(0.5, 1.2)):
            shut = np.maximum(shut, np.clip(1.6 - np.abs(np.arange(frames) / FPS - begin) / 0.06, 0, 1))
    return Person(name, role, *place, mouth, nod, tilt, shut)


def _of_real_heads(
    rng: np.random.Generator, shots: Sequence[Shot], frames: int, heads: Sequence[Head]
) -> NDArray[np.uint8]:
    pictures = np.repeat(drawn.room(rng, WIDTH, HEIGHT)[None], frames, axis=0)
    for shot in shots[1:]:
        pictures[shot.first :] = drawn.room(rng, WIDTH, HEIGHT) if rng.random() < 0.5 else _closer(rng, pictures[0])
    names = sorted({person.name for shot in shots for person in shot.persons})
    cast = {
        name: _dressed(rng, heads[which], frames)
        for name, which in zip(names, rng.permutation(len(heads)), strict=False)
    }
    across = np.linspace(-1, 1, _WINDOW_PIXELS)
    far = np.sqrt((across[None, :] / 0.72) ** 2 + (across[:, None] / 0.92) ** 2)
    cover = np.clip((1 - far) / 0.15, 0, 1).astype(np.float32)
    for shot in shots:
        for person in shot.persons:
            for number in range(len(person.mouth)):
                window = cast[person.name].window(
                    shot.first + number, float(person.mouth[number]), float(person.shut[number])
                )
                _lay(pictures[shot.first + number], window, cover, person, number, person.width / _FACE_PIXELS)
    return pictures


def _closer(rng: np.random.Generator, room: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same room from closer, mirrored."""
    width, height = round(_CLOSER * WIDTH), round(_CLOSER * HEIGHT)
    left, top = int(rng.integers(WIDTH - width)), int(rng.integers(HEIGHT - height))
    return np.asarray(
        cv2.resize(room[top : top + height, left : left + width][:, ::-1], (WIDTH, HEIGHT)), dtype=np.uint8
    )


@dataclass(frozen=True, eq=False)
class _Role:
    """A head as it appears in a scene.

    Attributes:
        head: the head.
        there: for each frame of the scene, the number of the head's frame.
        mirrored: whether left and right are swapped.
        tone: factor of its brightness.
    """

    head: Head
    there: NDArray[np.intp]
    mirrored: bool
    tone: float

    def window(self, frame: int, opening: float, shut: float) -> NDArray[Any]:
        picture, landmarks = self.head.frames[self.there[frame]], self.head.landmarks[self.there[frame]]
        if opening > 0.02:
            picture = open_mouth(picture, landmarks, 0.5 * opening)
        if shut > 0.02:
            picture = shut_eyes(picture, landmarks, shut)
        return (picture[:, ::-1] if self.mirrored else picture) * self.tone


def _dressed(rng: np.random.Generator, head: Head, frames: int) -> _Role:
    spare = len(head.frames) - frames
    first = int(rng.integers(0, spare + 1)) if spare > 0 else 0
    # A clip that is too short is played forwards and backwards, several times if need be.
    period = 2 * len(head.frames) - 2
    there = (
        np.arange(first, first + frames)
        if spare >= 0
        else np.abs((np.arange(frames) + len(head.frames) - 1) % period - (len(head.frames) - 1))
    )
    return _Role(head, there, bool(rng.random() < 0.5), float(rng.uniform(0.8, 1.1)))


def _lay(
    picture: NDArray[np.uint8],
    window: NDArray[Any],
    cover: NDArray[np.float32],
    person: Person,
    number: int,
    scale: float,
) -> None:
    """Draws a head into the frame, in place; scaled down with a proper filter, since half of its pixels may have to
    go.
    """
    if scale < 0.7:
        smaller = round(_WINDOW_PIXELS * max(scale, 0.25))
        window = cv2.resize(window.astype(np.float32), (smaller, smaller), interpolation=cv2.INTER_AREA)
        cover = cv2.resize(cover, (smaller, smaller), interpolation=cv2.INTER_AREA)
        scale *= _WINDOW_PIXELS / smaller
    side = window.shape[0]
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), float(person.tilt[number]), scale)
    turn[:, 2] += np.array([person.x, person.y + person.nod[number] * person.width]) - side / 2
    reach = 0.75 * side * scale
    left, top = max(0, int(person.x - reach)), max(0, int(person.y - reach))
    right, bottom = min(WIDTH, int(person.x + reach)), min(HEIGHT, int(person.y + reach))
    turn[:, 2] -= (left, top)
    share = cv2.warpAffine(cover, turn, (right - left, bottom - top))[:, :, None]
    paint = cv2.warpAffine(
        window.astype(np.float32), turn, (right - left, bottom - top), borderMode=cv2.BORDER_REPLICATE
    )
    region = picture[top:bottom, left:right]
    region[...] = np.clip(region + share * (paint - region), 0, 255).astype(np.uint8)


def _of_drawn_heads(rng: np.random.Generator, people: Sequence[Person], frames: int) -> NDArray[np.uint8]:
    pictures = np.repeat(drawn.room(rng, WIDTH, HEIGHT)[None], frames, axis=0)
    names = sorted(drawn.EXPRESSIONS)
    for person in people:
        who = drawn.look(rng, female=bool(rng.random() < 0.5))
        # Fear and surprise hold the mouth wide open; no one speaks like that for three seconds.
        shown = drawn.EXPRESSIONS["neutral"].mixed(
            drawn.EXPRESSIONS[str(rng.choice(names))], float(rng.uniform(0, 0.4))
        )
        scale = person.width / (2 * drawn.FACE_AXES[0])
        motion = drawn.Motion.drawn(rng, frames / FPS)
        for number in range(frames):
            pose = drawn.Pose(
                person.x, person.y + float(person.nod[number]) * person.width, scale, float(person.tilt[number])
            )
            moved = motion.moved(pose, replace(shown, motion=0.4), number / FPS)
            drawn.draw(
                pictures[number],
                who,
                replace(shown, eye_open=shown.eye_open * (1 - 0.9 * float(person.shut[number]))),
                moved,
                float(person.mouth[number]),
            )
    return pictures


def encode(scene: Scene, path: Path, crf: int = 26) -> None:
    """Writes a scene as MP4: H.264 and AAC."""
    with av.open(str(path), "w") as container:
        pictures: Any = container.add_stream("libx264", rate=FPS, options={"crf": str(crf), "preset": "veryfast"})
        pictures.width, pictures.height, pictures.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound: Any = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        for picture in scene.frames:
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(pictures.encode(None))
        for begin in range(0, len(scene.sound), 1024):
            frame = av.AudioFrame.from_ndarray(scene.sound[None, begin : begin + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, begin, Fraction(1, RATE_HZ)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
