"""Colours of the emotions, in figures, on pages and in the terminal."""

from collections.abc import Sequence

# Okabe & Ito's palette, distinguishable with every kind of colour blindness (Okabe & Ito 2008, "Color Universal
# Design").
_EMOTION_COLOURS = {
    "neutral": "#A3A3A3",
    "joy": "#F0E442",
    "happy": "#F0E442",
    "excited": "#E69F00",
    "surprise": "#56B4E9",
    "sadness": "#0072B2",
    "sad": "#0072B2",
    "anger": "#D55E00",
    "angry": "#D55E00",
    "fear": "#CC79A7",
    "frustrated": "#CC79A7",
    "disgust": "#009E73",
}
SPARE_COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#0072B2", "#D55E00", "#F0E442", "#A3A3A3")


def emotion_colours(classes: Sequence[str]) -> dict[str, str]:
    """A colour for each class: that of the emotion, so that it is the same in every corpus; else an unused one."""
    colours = {name: _EMOTION_COLOURS[name] for name in classes if name in _EMOTION_COLOURS}
    free = [colour for colour in SPARE_COLOURS if colour not in colours.values()] or list(SPARE_COLOURS)
    others = [name for name in classes if name not in colours]
    return colours | {name: free[index % len(free)] for index, name in enumerate(others)}


def ink_on(colour: str) -> str:
    """Black or white, whichever is more readable on the colour (``#RRGGBB``); relative luminance as in WCAG 2,
    section 1.4.3.
    """
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#ffffff"
