"""The page ``dialogues.html`` of a dataset: every dialogue with the recipes' predictions, and next to it ``dialogues/``
with the data that the page loads.

dialogues/index.js          for the list and the filters, at once
dialogues/texts.js          transcripts, when they are searched or a dialogue is opened
dialogues/part-<n>.js       the rest about some dialogues, when one of them is opened
dialogues/faces/<n>.jpg     the chosen faces of a dialogue, likewise
dialogues/sound/<n>.flac    of an utterance, when it is requested

The state of the page is after the ``#`` of its address, so that other pages can link to specific dialogues:
``recipe=mmgcn%2Bdclf&emotion=joy&predicted=anger`` (a cell of a confusion matrix), ``failure=no_face``,
``dialogue=test%2Fdia0``. The keys are ``q``, ``split``, ``emotion``, ``predicted``, ``speaker``, ``recipe``,
``failure``, ``dialogue``, and ``wrong``, ``confident``, ``disagree`` and ``doubtful``, which ``1`` sets.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from merc.layout import Layout
from merc.records.failures import REASONS
from merc.reports.colours import emotion_colours, ink_on
from merc.reports.config import Config
from merc.reports.examples import abbreviations
from merc.reports.explorer import data
from merc.reports.explorer.corpus import Corpus, Failed, read_corpus, read_failed, read_neighbours
from merc.reports.explorer.media import copy_media
from merc.reports.explorer.predictions import Predicted, read_predictions
from merc.reports.pages.base import ASSETS, Report, folder_of, links_of
from merc.reports.pages.dataset import DatasetReport
from merc.reports.tables import UNLABELLED


def write(
    report: Report, dataset: DatasetReport, config: Config, layout: Layout, runs: Path, evaluations: Path | None
) -> None:
    """Writes the page.

    Args:
        report: report that it belongs to.
        dataset: its dataset.
        config: whether texts, faces and audio may be in it.
        layout: paths of the dataset.
        runs: the folder of the trained runs.
        evaluations: the folder of the evaluations; if None, or if there are none of single modalities, these are not
            shown.

    Raises:
        BadTable: if shards, media or runs are invalid, or a run has been removed since ``dataset`` was read.
    """
    corpus = read_corpus(layout.shards, texts=config.text)
    predicted, left_out = read_predictions(runs, evaluations, dataset.recipes, corpus)
    failed = read_failed(layout.shards, corpus)
    home = f"{folder_of(dataset.name)}/dialogues"
    media = copy_media(layout, corpus, report.folder / home, faces=config.media, sounds=config.media and config.sound)
    report.write_data(
        f"{home}/index.js", "dialogues/index", data.index(corpus, predicted, failed, media) | _labels(dataset.classes)
    )
    if corpus.texts is not None:
        report.write_data(f"{home}/texts.js", "dialogues/texts", data.texts(corpus))
    neighbours = read_neighbours(layout.shards, corpus)
    for number, start in enumerate(range(0, len(corpus.dialogue_ids), data.PART_DIALOGUES)):
        these = slice(start, min(start + data.PART_DIALOGUES, len(corpus.dialogue_ids)))
        of_part = data.part(corpus, predicted, failed, media, neighbours, these, details=config.text)
        report.write_data(f"{home}/part-{number}.js", f"dialogues/part-{number}", of_part)
    report.write(
        f"{folder_of(dataset.name)}/dialogues.html",
        "dialogues.html.j2",
        f"{dataset.name}: dialogues",
        links=links_of(dataset.name),
        styles=["dialogues.css"],
        scripts=[f"{home}/index.js", f"{ASSETS}/dialogues.js"],
        d=_view(dataset, config, corpus, predicted, failed) | {"left_out": left_out, "doubtful": bool(media.doubts)},
    )


def _labels(classes: Sequence[str]) -> dict[str, Any]:
    return {"classes": _classes(classes), "unlabelled": UNLABELLED}


def _classes(names: Sequence[str]) -> list[dict[str, str]]:
    colours, short = emotion_colours(names), abbreviations(names)
    return [
        {"name": name, "letters": short[name], "colour": colours[name], "ink": ink_on(colours[name])} for name in names
    ]


def _view(
    dataset: DatasetReport, config: Config, corpus: Corpus, predicted: Sequence[Predicted], failed: Failed
) -> dict[str, Any]:
    """The options of the filters."""
    return {
        "name": dataset.name,
        **_labels(dataset.classes),
        "splits": corpus.splits,
        "speakers": sorted(corpus.speakers),
        "recipes": [one.recipe for one in predicted],
        "trained": bool(dataset.recipes),
        "reasons": [(reason, REASONS[reason][1]) for reason in sorted(set(failed.reasons))],
        "confident": data.CONFIDENT_PERCENT,
        "texts": corpus.texts is not None,
        "why_no_texts": "the shards hold none" if config.text else "this report was made without texts",
        "utterances": corpus.utterances,
        "dialogues": len(corpus.dialogue_ids),
    }
