"""The data for the page's script, as JSON-able values: small for what the filters need, in parts for what is shown of
an opened dialogue.

A class is one character (:func:`signs`), a confidence two digits, so that 20 recipes on a corpus like MELD take 300 kB.
Strings from corpora and runs are passed through :func:`merc.shown.visible`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merc.records.audit import PREFIX, QUALITY
from merc.records.failures import REASONS
from merc.reports.explorer.corpus import Corpus, Failed, shown
from merc.reports.explorer.media import COLUMNS, Media
from merc.reports.explorer.predictions import NOTHING, Predicted, Said
from merc.shown import visible

PART_DIALOGUES = 50
CONFIDENT_PERCENT = 80
"""Probability from which a wrong prediction counts as confidently wrong."""
_FIRST_SIGN = ord("1")


def signs(class_N: NDArray[np.int64]) -> str:
    """One character per class.

    >>> signs(np.array([NOTHING, -1, 0, 1]))
    '/012'
    """
    return (class_N + _FIRST_SIGN).astype("<u4").tobytes().decode("utf-32-le")


def two_digits(percent_N: NDArray[np.int64]) -> str:
    """Numbers from 0 to 99.

    >>> two_digits(np.array([7, 99]))
    '0799'
    """
    return (
        np.stack([percent_N // 10, percent_N % 10], axis=1).astype(np.uint8).__add__(ord("0")).tobytes().decode("ascii")
    )


def flags(set_N: NDArray[np.bool_]) -> str:
    """1 for set flags, else 0."""
    return (set_N.astype(np.uint8) + ord("0")).tobytes().decode("ascii")


def index(corpus: Corpus, predicted: Sequence[Predicted], failed: Failed, media: Media) -> dict[str, Any]:
    """The data of all dialogues for the list and the filters.

    Returns:
        Per dialogue ``ids``, ``split`` and ``lengths``; per utterance ``labels``, ``speaker``, ``doubtful``;
        ``recipes``, each with its predictions from the utterance ``first`` on; ``failures``, reason → utterances.
    """
    return {
        "part": PART_DIALOGUES,
        "confident": CONFIDENT_PERCENT,
        "columns": COLUMNS,
        "splits": list(corpus.splits),
        "ids": shown(corpus.dialogue_ids.to_pylist()),
        "split": corpus.split_of.tolist(),
        "lengths": corpus.lengths.tolist(),
        "labels": signs(corpus.labels),
        "speakers": shown(corpus.speakers),
        "speaker": corpus.speaker_of.tolist(),
        "doubtful": flags(np.isin(np.arange(corpus.utterances), list(media.doubts))),
        "recipes": [{"name": visible(one.recipe), "seeds": one.seeds, **_trimmed(one.fused)} for one in predicted],
        "failures": {
            reason: np.unique(failed.utterance[np.array(failed.reasons) == reason]).tolist()
            for reason in dict.fromkeys(sorted(failed.reasons))
        },
        "reasons": {reason: REASONS[reason][1] for reason in dict.fromkeys(sorted(failed.reasons))},
        "quality": {name: QUALITY.get(name.removeprefix(PREFIX), "") for name in corpus.quality},
    }


def part(
    corpus: Corpus,
    predicted: Sequence[Predicted],
    failed: Failed,
    media: Media,
    neighbours: Mapping[str, Sequence[Any]],
    dialogues: slice,
    *,
    details: bool,
) -> dict[str, Any]:
    """The data of some dialogues for when they are opened.

    Args:
        corpus, predicted, failed, media: the complete data.
        neighbours: similarity → for each dialogue, its neighbours as (index, similarity).
        dialogues: range of dialogues, from ``start`` to ``stop``.
        details: include details of failures that may repeat a transcript.

    Returns:
        Per utterance of these dialogues, counted from the first of them: ``utterances``, ``cells``, ``heard``,
        ``present``, ``quality``, ``unimodal``; of some of them ``failures`` and ``doubts``; per dialogue
        ``neighbours``.
    """
    begin, end = (int(corpus.bounds[place]) for place in (dialogues.start, dialogues.stop))
    own = slice(begin, end)
    rows = range(*np.searchsorted(failed.utterance, [begin, end]).tolist())
    return {
        "first": begin,
        "utterances": shown(corpus.utterance_ids[own].to_pylist()),
        "cells": media.cells[own].tolist(),
        "heard": flags(media.heard[own]),
        "doubts": {str(place - begin): media.doubts[place] for place in range(begin, end) if place in media.doubts},
        "present": {name: flags(values[own]) for name, values in corpus.present.items()},
        "quality": {name: _rounded(values[own]) for name, values in corpus.quality.items()},
        "unimodal": [{name: _said(said, own) for name, said in one.unimodal.items()} for one in predicted],
        "failures": [_failure(failed, row, begin, details) for row in rows],
        "neighbours": {name: list(of_name[dialogues]) for name, of_name in neighbours.items()},
    }


def texts(corpus: Corpus) -> list[str]:
    """The transcript of every utterance; empty if unknown."""
    return [] if corpus.texts is None else shown(corpus.texts.to_pylist())


def _said(said: Said, own: slice) -> dict[str, str]:
    return {"classes": signs(said.classes[own]), "percent": two_digits(said.percent[own])}


def _trimmed(said: Said) -> dict[str, Any]:
    """Without leading and trailing utterances that have no prediction: runs have none on train."""
    there = np.flatnonzero(said.classes != NOTHING)
    own = slice(int(there[0]), int(there[-1]) + 1) if len(there) else slice(0, 0)
    return {"first": own.start, **_said(said, own)}


def _rounded(values_N: NDArray[np.float32]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in np.round(values_N.astype(np.float64), 3).tolist()]


def _failure(failed: Failed, row: int, begin: int, details: bool) -> list[Any]:
    """Utterance, modality, reason and detail; those of corpus readers and text encoders may contain a transcript."""
    quotes = failed.stages[row] == "manifest" or failed.modalities[row] == "text"
    return [
        int(failed.utterance[row]) - begin,
        visible(failed.modalities[row]),
        failed.reasons[row],
        "" if quotes and not details else visible(failed.details[row]),
    ]
