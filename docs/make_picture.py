"""Draws docs/picture.png from the demonstration corpus: utterances, the row they become, and predictions.

python docs/make_picture.py [WORK]      the corpus, its features and a training are made in WORK, or reused from there
"""

import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from merc import parquet
from merc.commands import extract, train
from merc.commands.inspection import drawing, picture
from merc.job import RunOptions
from merc.layout import Layout
from merc.media.config import of_dataset
from merc.params import Params
from merc.records import manifest
from merc.shards.format import reader
from merc.shards.format.reader import Dialogues

TARGET = Path(__file__).with_name("picture.png")
DATASET, RECIPE, ROWS = "demo-meld", "baseline+demo", 3
MODALITIES = ("text", "audio", "visual")
FRAMES = 2
COLUMNS = ("frames, with the chosen face", "audio", "text", "one row of the shards", "prediction (bold: the label)")
WIDTHS = (2.4, 1.7, 2.1, 2.6, 2.2)
INK, WAVE, RIGHT, WRONG, OTHER = "#1f2937", "#3f51b5", "#2e7d32", "#c62828", "#cbd5e1"


def main(work: Path) -> None:
    """Makes what is missing in a folder, and draws the picture."""
    raw, out, runs = work / "raw", work / "features", work / "runs"
    _run(extract.main, "--dataset", DATASET, "--raw", str(raw), "--out", str(out), "--set", "demo.iemocap_dialogues=1")
    _run(train.main, "--dataset", DATASET, "--recipe", RECIPE, "--out", str(out), "--runs", str(runs))
    params = Params.load(None, ())
    layout = Layout(raw, out, DATASET)
    shown = _dialogue(layout, runs)
    ids = [str(one) for one in shown["utterance_ids"][:ROWS]]
    table = manifest.read(layout.manifest)
    table = table.filter([one in ids for one in table["utterance_id"].to_pylist()])
    options = RunOptions.of(
        params, None, None, None, workers=1, device="cpu", overwrite=False, offline=True, wait=False
    )
    seen = drawing.decode_anew(of_dataset(params, DATASET), layout, options, table)
    _draw(shown, [seen[one] for one in ids])


def _run(command: Any, *words: str) -> None:
    result = CliRunner().invoke(command, words)
    if result.exit_code:
        raise SystemExit(result.output)


def _dialogue(layout: Layout, runs: Path) -> dict[str, Any]:
    """The first test dialogue with every modality in all utterances shown, with the model's scores."""
    columns = [
        "utterance_ids",
        "speakers",
        "texts",
        "emotions",
        *MODALITIES,
        *(f"{name}_present" for name in MODALITIES),
    ]
    scores = parquet.read(runs / DATASET / RECIPE / "predictions.parquet").to_pylist()
    scores_of = {row["utterance_id"]: row["probabilities"] for row in scores}
    dialogues = Dialogues(layout.shards, "test", columns)
    for row in dialogues.rows():
        if len(row["texts"]) >= ROWS and all(np.all(row[f"{name}_present"][:ROWS]) for name in MODALITIES):
            return {
                **row,
                "scores": [scores_of[one] for one in row["utterance_ids"][:ROWS]],
                "classes": reader.info(layout.shards)["classes"],
            }
    raise SystemExit("no dialogue has all modalities in its first utterances")


def _draw(row: dict[str, Any], seen: list[Any]) -> None:
    figure = Figure(figsize=(12, 1.25 * ROWS + 0.4), dpi=100, facecolor="white")
    grid = figure.subplots(ROWS, len(COLUMNS), gridspec_kw={"width_ratios": WIDTHS}, squeeze=False)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.9, bottom=0.02, wspace=0.06, hspace=0.12)
    for axes, title in zip(grid[0], COLUMNS, strict=True):
        figure.text(axes.get_position().x0, 0.93, title, fontsize=10, color=INK)
    for number, one in enumerate(seen):
        frames, audio, text, strips, bars = grid[number]
        for axes in grid[number]:
            axes.set_axis_off()
        looks = picture.shown(one.looks, FRAMES)
        boxed = [picture.frame_with_boxes(look, one.columns["face_track"], 240) for look in looks]
        frames.imshow(np.concatenate(boxed, axis=1))
        _audio(audio, picture._waveform(one))
        words = f"{row['speakers'][number]}:\n“{_wrapped(str(row['texts'][number]))}”"
        text.text(0, 0.5, words, va="center", fontsize=9, color=INK)
        _strips(strips, [np.asarray(row[name][number]) for name in MODALITIES])
        _bars(bars, row["classes"], np.asarray(row["scores"][number]), str(row["emotions"][number]))
    figure.savefig(TARGET, metadata={"Software": None})
    with Image.open(TARGET) as drawn:  # 256 colours take half the bytes
        drawn.convert("RGB").quantize(256).save(TARGET, optimize=True)


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 26))


def _audio(axes: Axes, waveform: Any) -> None:
    step = max(1, len(waveform) // 200)
    edges = np.arange(0, len(waveform) - step, step)
    axes.fill_between(
        edges, np.minimum.reduceat(waveform, edges), np.maximum.reduceat(waveform, edges), color=WAVE, linewidth=0.4
    )


def _strips(axes: Axes, vectors: list[Any]) -> None:
    """A strip for each modality's vector: 48 means of neighbouring numbers, by rank, so that all colours are used."""
    for place, (name, vector) in enumerate(zip(MODALITIES, vectors, strict=True)):
        means = np.array([part.mean() for part in np.array_split(vector, 48)])
        ranks = means.argsort().argsort()[None]
        axes.imshow(ranks, extent=(0, 1, 2.6 - place, 3.2 - place), aspect="auto", cmap="viridis")
        axes.text(-0.02, 2.9 - place, name, ha="right", va="center", fontsize=8, color=INK)
    axes.set_xlim(-0.28, 1)
    axes.set_ylim(0.4, 3.4)


def _bars(axes: Axes, classes: list[str], scores: Any, label: str) -> None:
    best = int(scores.argmax())
    right = classes[best] == label
    colours = [(RIGHT if right else WRONG) if place == best else OTHER for place in range(len(classes))]
    axes.barh(range(len(classes)), scores, color=colours, height=0.75)
    for place, name in enumerate(classes):
        axes.text(
            -0.03,
            place,
            name,
            ha="right",
            va="center",
            fontsize=7,
            color=INK,
            fontweight="bold" if name == label else "normal",
        )
    axes.set_xlim(-0.55, 1)
    axes.invert_yaxis()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
