"""Figures as inline SVG: transparent, text in the page's own colour, and the same bytes for the same numbers."""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from merc.reports.colours import SPARE_COLOURS
from merc.reports.results import Epoch, Recipe
from merc.shown import visible

# Okabe & Ito's palette, distinguishable with every kind of colour blindness (Okabe & Ito 2008, "Color Universal
# Design").
SPLIT_COLOURS = {"train": "#0072B2", "dev": "#E69F00", "test": "#009E73"}
SEED_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
# Stand-in for the page's text colour, so that a figure is readable on a light and on a dark page.
_INK = "#010203"
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "merc-pipeline",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.18,
    "grid.linewidth": 0.8,
    **dict.fromkeys(
        (
            "text.color",
            "axes.edgecolor",
            "axes.labelcolor",
            "axes.titlecolor",
            "xtick.color",
            "ytick.color",
            "grid.color",
        ),
        _INK,
    ),
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "legend.frameon": False,
}


def labels(shares: Mapping[str, Mapping[str, tuple[int, float]]]) -> str:
    """Bars: the share of each split's utterances with each label, with the number of utterances above.

    Args:
        shares: split → emotion → (utterances, share); all splits with the same emotions.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(3.3)
        names = list(next(iter(shares.values())))
        width = 0.82 / len(shares)
        for at, (split, of_split) in enumerate(shares.items()):
            offsets = [index + (at - (len(shares) - 1) / 2) * width for index in range(len(names))]
            bars = axes.bar(
                offsets,
                [share for _, share in of_split.values()],
                width * 0.92,
                label=split,
                color=SPLIT_COLOURS.get(split, SPARE_COLOURS[-1]),
            )
            axes.bar_label(bars, [str(count) for count, _ in of_split.values()], fontsize=7.5, padding=2)
        axes.set_xticks(range(len(names)), names)
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylabel("share of the split's utterances")
        axes.legend(ncols=len(shares), loc="lower right", bbox_to_anchor=(1.0, 0.97))
        axes.margins(x=0.01, y=0.12)
        return _svg(figure)


def scores(recipes: Sequence[Recipe]) -> str:
    """Points: test weighted F1 of every seed of every recipe, their mean, and the majority class's score as a line."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(0.95 + 0.38 * len(recipes))
        for row, recipe in enumerate(recipes):
            spread = recipe.over_seeds(lambda seed: seed.test.weighted_f1)
            axes.plot(
                spread.values,
                [row] * len(spread.values),
                "o",
                color=SPLIT_COLOURS["train"],
                alpha=0.55,
                markersize=6,
                label="a seed" if not row else None,
            )
            axes.plot(
                [spread.mean],
                [row],
                "|",
                color=_INK,
                markersize=17,
                markeredgewidth=2,
                label="mean" if not row else None,
            )
        majority = recipes[0].majority["test"].weighted_f1
        axes.axvline(majority, color=SPLIT_COLOURS["dev"], linestyle="--", linewidth=1.4, label="majority class")
        axes.set_yticks(range(len(recipes)), [_short(recipe.recipe) for recipe in recipes])
        axes.set_ylim(len(recipes) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("weighted F1 on the test split")
        axes.margins(x=0.06)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return _svg(figure)


def history(epochs: Sequence[Epoch], chosen: Mapping[str, int]) -> str:
    """Curves over the epochs, one line per seed: training loss left, dev weighted F1 right, the chosen epoch dotted.

    Args:
        epochs: all seeds.
        chosen: seed → epoch.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2)
        for at, (seed, of_seed) in enumerate(_by_seed(epochs).items()):
            colour = SEED_COLOURS[at % len(SEED_COLOURS)]
            numbers = [one.epoch for one in of_seed]
            for axes, values in (
                (left, [one.train_loss for one in of_seed]),
                (right, [one.dev_weighted_f1 for one in of_seed]),
            ):
                axes.plot(numbers, values, color=colour, linewidth=1.5, label=f"seed {seed}")
                points = [
                    (number, value) for number, value in zip(numbers, values, strict=True) if number == chosen.get(seed)
                ]
                axes.plot([x for x, _ in points], [y for _, y in points], "o", color=colour, markersize=6)
        for axes, title in ((left, "Training loss"), (right, "Weighted F1 on dev")):
            axes.set_title(title)
            axes.set_xlabel("epoch (the dot is the chosen one)")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        left.legend()
        return _svg(figure)


def _short(name: str) -> str:
    """A name shortened to the space in a figure.

    >>> _short("mmgcn" + "+weighted" * 6)
    'mmgcn+weighted+weig…ted+weighted+weighted'
    """
    name = visible(name)
    return name if len(name) <= _NAME_LETTERS else f"{name[: _NAME_LETTERS // 2 - 1]}…{name[-_NAME_LETTERS // 2 - 1 :]}"


_NAME_LETTERS = 40
_WIDTH = 10.0  # inches; the SVG fills the column's width


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _by_seed(epochs: Sequence[Epoch]) -> dict[str, list[Epoch]]:
    groups: dict[str, list[Epoch]] = {}
    for one in epochs:
        groups.setdefault(one.seed, []).append(one)
    return groups


def _svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element without a date, and without numbered ids, which would repeat on a page with
    many figures.

    The remaining ids are hashes of their objects (markers, clipping frames): equal ids mean equal objects.
    """
    buffer = io.StringIO()
    nothing: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Glyph .* missing from font"
        )  # only for measuring; the browser draws the text in its own fonts
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text)
    return text.replace(_INK, "currentColor")
