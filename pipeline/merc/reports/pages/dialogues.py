"""The page ``dialogues.html`` of a dataset: every dialogue with what the recipes predict, and beside it ``dialogues/`` with what the page loads.

dialogues/index.js          for the list and the filters, at once
dialogues/texts.js          what is said, when it is searched or a dialogue is opened
dialogues/part-<n>.js       the rest about some dialogues, when one of them is opened
dialogues/faces/<n>.jpg     the chosen faces of a dialogue, likewise
dialogues/sound/<n>.flac    of an utterance, when it is asked for

The state of the page is behind the ``#`` of its address (:func:`address`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from merc.layout import Layout
from merc.records.failures import REASONS
from merc.reports import figures
from merc.reports.config import Config
from merc.reports.examples import abbreviations
from merc.reports.explorer import data
from merc.reports.explorer.corpus import Corpus, Failed, read_corpus, read_failed, read_neighbours
from merc.reports.explorer.media import copy_media
from merc.reports.explorer.predictions import Predicted, read_predictions
from merc.reports.pages.base import ASSETS, Report, folder_of, links_of
from merc.reports.pages.dataset import DatasetReport
from merc.shown import visible

STATE = ("q", "split", "emotion", "predicted", "speaker", "recipe", "wrong", "confident", "disagree", "doubtful", "failure", "dialogue")
UNLABELLED = "(unlabelled)"


def address(**state: str) -> str:
    """What stands in a link from another page of the dataset, such as a cell of a confusion matrix.

    Args:
        state: keys of :data:`STATE`; ``wrong``, ``confident``, ``disagree`` and ``doubtful`` are set by ``"1"``.

    >>> address(recipe="mmgcn+dclf", emotion="joy", predicted="anger", split="test")
    'dialogues.html#recipe=mmgcn%2Bdclf&emotion=joy&predicted=anger&split=test'
    """
    strange = [key for key in state if key not in STATE]
    if strange:
        raise ValueError(f"the page of all dialogues knows no {strange[0]!r}; it knows {', '.join(STATE)}")
    return "dialogues.html#" + "&".join(f"{key}={quote(visible(value), safe='')}" for key, value in state.items())


def write(report: Report, dataset: DatasetReport, config: Config, layout: Layout, runs: Path, evaluations: Path | None) -> None:
    """Writes the page.

    Args:
        report: what it belongs to.
        dataset: what it is about.
        config: whether texts, faces and sound may be in it.
        layout: where the shards and the media of the dataset are.
        runs: the folder of the trained runs.
        evaluations: the folder of the evaluations; None, or without what is looked for: nothing of single modalities is shown.

    Raises:
        BadTable: if shards, media or runs do not hold what they should, or a run was removed since ``dataset`` was read.
    """
    corpus = read_corpus(layout.shards, texts=config.text)
    predicted, left_out = read_predictions(runs, evaluations, dataset.recipes, corpus)
    failed = read_failed(layout.shards, corpus)
    home = f"{folder_of(dataset.name)}/dialogues"
    media = copy_media(layout, corpus, report.folder / home, faces=config.media, sounds=config.media and config.sound)
    report.write_data(f"{home}/index.js", "dialogues/index", data.index(corpus, predicted, failed, media) | {"classes": _classes(dataset.classes)})
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


def _classes(names: Sequence[str]) -> list[dict[str, str]]:
    colours, short = figures.emotion_colours(names), abbreviations(names)
    return [{"name": name, "letters": short[name], "colour": colours[name], "ink": figures.ink_on(colours[name])} for name in names]


def _view(dataset: DatasetReport, config: Config, corpus: Corpus, predicted: Sequence[Predicted], failed: Failed) -> dict[str, Any]:
    """What the filters offer."""
    return {
        "name": dataset.name,
        "classes": _classes(dataset.classes),
        "unlabelled": UNLABELLED,
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
