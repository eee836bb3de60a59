"""The image of an utterance: frames with boxes, crops, audio, and text; as one PNG, or in pieces for the page."""

import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
import soundfile
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from numpy.typing import NDArray

from merc import files
from merc.commands.inspection import words
from merc.commands.inspection.seen import NO_TRACK, Look, Seen
from merc.media import speaker
from merc.records.media import SAMPLE_RATE_HZ

Image = NDArray[np.uint8]
"""(height, width, 3) RGB."""

_WIDTH, _MARGIN, _GAP = 1200, 24, 12
_COLUMNS = 4
# A portrait video must not make the image several screens high.
_MAX_FRAME_ASPECT = 1.0
_MAX_FRAMES = 32
_CAPTION = 62
_DPI = 100
_SOUND_HEIGHT = 180
_SCORES_HEIGHT = 150
_LINE_BREAK_SECONDS = 0.1
_ENVELOPE_POINTS = 1000
_LOUDNESS_STEP_SECONDS = 0.02
_INK, _SOFT, _WARN, _WAVE, _LOUD = "#1c1d20", "#5d6068", "#B24A00", "#9AA3B2", "#D55E00"
_STYLE: dict[Any, Any] = {
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": _SOFT,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "axes.labelcolor": _SOFT,
    "xtick.labelsize": 9,
    "ytick.labelsize": 8,
}


def shown(looks: Sequence[Look], most: int = _MAX_FRAMES) -> list[Look]:
    """All looks, or ``most`` of them, evenly spread."""
    if len(looks) <= most:
        return list(looks)
    return [looks[(2 * index + 1) * len(looks) // (2 * most)] for index in range(most)]


def frame_with_boxes(look: Look, chosen: int, width_pixels: int) -> Image:
    """A frame with a given width and a box around every face, thick for the chosen person, with the person's number at
    each.
    """
    frame_HWC = decoded(look.frame)
    height = max(1, round(frame_HWC.shape[0] * width_pixels / frame_HWC.shape[1]))
    shrinks = width_pixels < frame_HWC.shape[1]
    canvas_HWC = cv2.resize(
        frame_HWC, (width_pixels, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    for face in sorted(look.found, key=lambda one: one.track == chosen):  # the chosen one on top
        colour = _rgb(words.colour_of(face.track, chosen))
        is_chosen = face.track == chosen != NO_TRACK
        thickness = 3 if is_chosen else 1
        outline = _around(face.box, width_pixels, height, thickness)
        _frame_in(
            canvas_HWC, _around(face.box, width_pixels, height, thickness + 1), (0, 0, 0), 1
        )  # visible on any background
        _frame_in(canvas_HWC, outline, colour, thickness)
        if face.track != NO_TRACK:
            _tag(canvas_HWC, str(face.track), outline[0], outline[1], colour)
    return np.asarray(canvas_HWC, dtype=np.uint8)


def _around(box: tuple[float, float, float, float], width: int, height: int, by: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom in pixels, enlarged by some pixels on each side, so that a line drawn inside hides
    nothing of a small face.
    """
    x, y, w, h = box
    return round(x * width) - by, round(y * height) - by, round((x + w) * width) + by, round((y + h) * height) + by


def _frame_in(canvas_HWC: Any, edges: tuple[int, int, int, int], colour: tuple[int, int, int], thickness: int) -> None:
    left, top, right, bottom = edges
    for inset in range(thickness):
        cv2.rectangle(canvas_HWC, (left + inset, top + inset), (right - 1 - inset, bottom - 1 - inset), colour, 1)


def _tag(canvas_HWC: Any, text: str, left: int, bottom: int, colour: tuple[int, int, int]) -> None:
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)
    left, top = max(0, left), max(0, bottom - height - 6)
    cv2.rectangle(canvas_HWC, (left, top), (left + width + 6, top + height + 6), colour, cv2.FILLED)
    cv2.putText(
        canvas_HWC, text, (left + 3, top + height + 2), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA
    )


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue


def decoded(jpeg: bytes) -> Image:
    """An RGB image from a JPEG made by this program."""
    bgr_HWC: Any = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(bgr_HWC, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def sound_png(seen: Seen, width_pixels: int, height_pixels: int) -> bytes:
    """The waveform with its loudness and the positions of the frames, as PNG."""
    with mpl.rc_context(_STYLE):
        figure = _figure(width_pixels, height_pixels)
        _draw_sound(figure.add_axes(_inside(0, 0, width_pixels, height_pixels, width_pixels, height_pixels)), seen)
        return _png(figure)


def _inside(
    left: int, top: int, width: int, tall: int, whole_width: int, whole_height: int
) -> tuple[float, float, float, float]:
    """Position of axes in a figure so that they have, with their labels, this many pixels: left, bottom, width, height
    as shares of the figure.
    """
    beside, above, below = 52, 18, 24
    return (
        (left + beside) / whole_width,
        1 - (top + tall - below) / whole_height,
        (width - 2 * beside) / whole_width,
        (tall - above - below) / whole_height,
    )


def _draw_sound(axes: Axes, seen: Seen) -> None:
    """The waveform; over it the loudness, as used for choosing the speaker; below it a mark for each frame, filled if
    it shows the chosen face.

    Without audio, the reason is shown.
    """
    waveform_S = _waveform(seen)
    peak = float(np.abs(waveform_S).max()) if len(waveform_S) else 1.0
    axes.set_xlim(0, _end(seen))
    axes.set_ylim(-1.3 * peak, 1.1 * peak)
    axes.set_yticks(
        [-peak, 0, peak] if len(waveform_S) else [], [f"{-peak:.2g}", "0", f"{peak:.2g}"] if len(waveform_S) else []
    )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} s")
    if len(waveform_S):
        edges = np.linspace(0, len(waveform_S), min(_ENVELOPE_POINTS, len(waveform_S)) + 1).astype(np.intp)[:-1]
        axes.fill_between(
            edges / SAMPLE_RATE_HZ,
            np.minimum.reduceat(waveform_S, edges),
            np.maximum.reduceat(waveform_S, edges),
            color=_WAVE,
            linewidth=0.5,
        )
        seconds = np.arange(0, len(waveform_S) / SAMPLE_RATE_HZ, _LOUDNESS_STEP_SECONDS)
        loud: Any = axes.twinx()
        loudness = speaker.loudness(waveform_S, seconds)
        most = float(loudness.max()) or 1.0
        loud.plot(seconds, loudness, color=_LOUD, linewidth=1.6)
        loud.set_ylim(-0.35 * most, 1.2 * most)
        loud.set_yticks([0, most], ["0", f"{most:.2g}"])
        loud.tick_params(axis="y", colors=_LOUD)
        loud.spines[["top", "right"]].set_visible(False)
        axes.text(0.004, 1.02, "waveform", color=_SOFT, fontsize=9, transform=axes.transAxes)
        axes.text(
            0.996, 1.02, "loudness (root of the RMS)", color=_LOUD, fontsize=9, ha="right", transform=axes.transAxes
        )
    else:
        axes.text(
            0.5,
            0.55,
            f"no audio: {seen.columns['audio_status']}",
            color=_WARN,
            fontsize=12,
            ha="center",
            va="center",
            transform=axes.transAxes,
        )
    for filled in (True, False):
        marks = [look.seconds for look in seen.looks if bool(look.crop) == filled]
        colour = words.CHOSEN_COLOUR if filled else "none"
        axes.plot(
            marks,
            [-1.18 * peak] * len(marks),
            "^",
            markersize=8,
            markerfacecolor=colour,
            markeredgecolor=_INK,
            markeredgewidth=0.7,
            clip_on=False,
        )


def scores_png(seen: Seen, width_pixels: int, height_pixels: int) -> bytes:
    """Who speaks when, as PNG; for an utterance that :func:`has_scores`."""
    with mpl.rc_context(_STYLE):
        figure = _figure(width_pixels, height_pixels)
        _draw_scores(figure.add_axes(_inside(0, 0, width_pixels, height_pixels, width_pixels, height_pixels)), seen)
        return _png(figure)


def _draw_scores(axes: Axes, seen: Seen) -> None:
    """A line per judged person, thick for the chosen one; the time in which that one speaks, and the cuts."""
    chosen = int(seen.columns["face_track"])
    axes.set_xlim(0, _end(seen))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} s")
    axes.axhline(0, color=_SOFT, linewidth=0.6)
    for number in sorted(range(len(seen.persons)), key=lambda one: one == chosen):
        person = seen.persons[number]
        seconds, logits = np.array(person.seconds), np.array(person.logits)
        breaks = np.flatnonzero(np.diff(seconds) > _LINE_BREAK_SECONDS) + 1  # another track of the same person
        colour = words.colour_of(number, chosen)
        for times, values in zip(np.split(seconds, breaks), np.split(logits, breaks), strict=True):
            if number == chosen and len(times):
                axes.fill_between(times, 0, np.maximum(values, 0), step="mid", color=colour, alpha=0.25, linewidth=0)
            axes.plot(times, values, color=colour, linewidth=2.2 if number == chosen else 1.3)
            if len(times):
                axes.text(times[0], values[0], f" {number}", color=_INK, fontsize=8, ha="left", va="bottom")
    for cut in seen.cuts:
        axes.axvline(cut, color=_WARN, linewidth=1.2, linestyle="--")
    axes.text(
        0.004,
        1.02,
        "who speaks (logits; above 0: speaks; filled: the chosen one does)",
        color=_SOFT,
        fontsize=9,
        transform=axes.transAxes,
    )
    if seen.cuts:
        axes.text(0.996, 1.02, "cuts", color=_WARN, fontsize=9, ha="right", transform=axes.transAxes)


def has_scores(seen: Seen) -> bool:
    """Whether anyone was judged."""
    return any(person.logits for person in seen.persons)


def _end(seen: Seen) -> float:
    """Seconds at which the time axis ends."""
    return max([len(_waveform(seen)) / SAMPLE_RATE_HZ, *(look.seconds for look in seen.looks)], default=0.0) or 1.0


def has_time(seen: Seen) -> bool:
    """Whether there is anything to draw along the time axis."""
    return bool(seen.columns["audio"] or seen.looks)


def _waveform(seen: Seen) -> NDArray[np.float32]:
    """(samples,) at 16 kHz, as stored; empty if there is none."""
    audio = seen.columns["audio"]
    return np.asarray(soundfile.read(io.BytesIO(audio), dtype="float32")[0]) if audio else np.zeros(0, np.float32)


def write_picture(path: Path, seen: Seen, utterance: Mapping[str, Any], choice: str, notes: Sequence[str] = ()) -> None:
    """Writes the image of an utterance as PNG, 1200 pixels wide.

    Args:
        path: path of the file; its folder is created if missing.
        seen: result of decoding.
        utterance: its row of the manifest.
        choice: how the person was chosen, ``media.choice``.
        notes: further warnings.
    """
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # Scripts that the font does not support are drawn as boxes; the page shows them in the browser's fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        drawing = _Drawing(_WIDTH)
        drawing.write(words.heading(utterance), 20, _INK, weight="bold")
        drawing.write(f"{utterance['utterance_id']} · {utterance['split']} · {words.origin(utterance)}", 11, _SOFT)
        drawing.write(
            f"“{words.on_one_line(utterance['text'])}”" if utterance["text"].strip() else "(no text)", 15, _INK
        )
        drawing.space(8)
        _draw_looks(drawing, seen)
        if has_time(seen):
            drawing.along_time(seen, _SOUND_HEIGHT, _draw_sound)
        if has_scores(seen):
            drawing.along_time(seen, _SCORES_HEIGHT, _draw_scores)
        for line in (words.face_facts(seen, choice), words.sound_facts(seen)):
            drawing.write(line, 12, _INK)
        for colour, line in words.person_facts(seen):
            drawing.write(line, 11, _INK, swatch=colour)
        for remark in words.remarks(seen):
            drawing.write(remark.text, 11, _WARN if remark.broken else _SOFT)
        for note in notes:
            drawing.write(words.on_one_line(note), 11, _WARN)
        with files.replacing(path) as temporary:
            temporary.write_bytes(drawing.png())


def _draw_looks(drawing: "_Drawing", seen: Seen) -> None:
    if not seen.looks:
        drawing.write(f"no video: {seen.columns['visual_status']}", 15, _WARN)
        drawing.space(6)
        return
    looks, chosen = shown(seen.looks), int(seen.columns["face_track"])
    width = (_WIDTH - 2 * _MARGIN - (_COLUMNS - 1) * _GAP) // _COLUMNS
    for first in range(0, len(looks), _COLUMNS):
        row = looks[first : first + _COLUMNS]
        frames = [
            _fitted(frame_with_boxes(look, chosen, width), width, round(width * _MAX_FRAME_ASPECT)) for look in row
        ]
        crops = [decoded(look.crop) if look.crop else None for look in row]
        drawing.row(frames, [f"{look.seconds:.2f} s" for look in row], crops, width)
    if len(looks) < len(seen.looks):
        drawing.write(f"{len(looks)} of {len(seen.looks)} frames are shown", 11, _SOFT)


def _fitted(image_HWC: Image, width: int, most_height: int) -> Image:
    """The image, reduced if it is higher than allowed."""
    if image_HWC.shape[0] <= most_height:
        return image_HWC
    narrow = max(1, round(width * most_height / image_HWC.shape[0]))
    return np.asarray(cv2.resize(image_HWC, (narrow, most_height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


class _Drawing:
    """Pieces laid out from top to bottom, in pixels; the height is known at the end."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._y = _MARGIN
        self._images: list[tuple[int, int, Image]] = []
        self._texts: list[tuple[int, int, str, float, str, str]] = []
        self._swatches: list[tuple[int, int, str]] = []
        self._charts: list[tuple[int, int, Seen, Callable[[Axes, Seen], None]]] = []

    def space(self, pixels: int) -> None:
        self._y += pixels

    def write(self, text: str, pixels: float, colour: str, *, weight: str = "normal", swatch: str = "") -> None:
        """Text with a given height in pixels, wrapped to the width."""
        left = _MARGIN + (24 if swatch else 0)
        for number, line in enumerate(_wrapped(text, pixels, weight, self._width - _MARGIN - left) or [""]):
            if swatch and not number:
                self._swatches.append((_MARGIN, self._y, swatch))
            self._texts.append((left, self._y, line, pixels, colour, weight))
            self._y += math.ceil(1.45 * pixels)
        self._y += 3

    def row(self, frames: Sequence[Image], captions: Sequence[str], crops: Sequence[Image | None], width: int) -> None:
        """Frames side by side, with their captions and crops below."""
        below = self._y + max(frame.shape[0] for frame in frames) + 6
        heights = [0]
        for column, (frame, caption, crop) in enumerate(zip(frames, captions, crops, strict=True)):
            left = _MARGIN + column * (width + _GAP)
            self._images.append((left, self._y, frame))
            self._texts.append((left, below, caption, 12, _SOFT, "normal"))
            if crop is not None:
                crop = _fitted(crop, crop.shape[1], width - _CAPTION)
                self._images.append((left + _CAPTION, below, crop))
                heights.append(crop.shape[0])
        self._y = below + max(18, *heights) + _GAP

    def along_time(self, seen: Seen, height: int, draw: Callable[[Axes, Seen], None]) -> None:
        self._charts.append((self._y, height, seen, draw))
        self._y += height + 8

    def png(self) -> bytes:
        height = self._y + _MARGIN
        figure = _figure(self._width, height)
        for left, top, image in self._images:
            figure.figimage(image, left, height - top - image.shape[0])
        for left, top, text, pixels, colour, weight in self._texts:
            figure.text(
                left / self._width,
                1 - top / height,
                text,
                fontsize=pixels * 72 / _DPI,
                color=colour,
                weight=weight,
                va="top",
            )
        for left, top, colour in self._swatches:
            figure.text(
                left / self._width, 1 - (top - 2) / height, "■", fontsize=15 * 72 / _DPI, color=colour, va="top"
            )
        for top, tall, seen, draw in self._charts:
            draw(figure.add_axes(_inside(_MARGIN, top, self._width - 2 * _MARGIN, tall, self._width, height)), seen)
        return _png(figure)


def _figure(width: int, height: int) -> Figure:
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi, metadata={"Software": None})
    return buffer.getvalue()


def _wrapped(text: str, pixels: float, weight: str, width: int) -> list[str]:
    """Lines that fit into a width in pixels; longer words are broken."""
    lines: list[str] = []
    for word in text.split():
        together = f"{lines[-1]} {word}" if lines else word
        if lines and _text_width(together, pixels, weight) <= width:
            lines[-1] = together
        else:
            lines += _broken(word, pixels, weight, width)
    return lines


def _broken(word: str, pixels: float, weight: str, width: int) -> list[str]:
    whole = _text_width(word, pixels, weight)
    if len(word) < 2 or whole <= width:
        return [word]
    at = max(1, int(0.95 * len(word) * width / whole))
    return [*_broken(word[:at], pixels, weight, width), *_broken(word[at:], pixels, weight, width)]


def _text_width(text: str, pixels: float, weight: str) -> float:
    font = FontProperties(size=pixels * 72 / _DPI, weight=weight)
    return float(_measuring().get_text_width_height_descent(text, font, ismath=False)[0])


@lru_cache(maxsize=1)
def _measuring() -> Any:
    canvas: Any = FigureCanvasAgg(Figure(dpi=_DPI))
    return canvas.get_renderer()
