"""The overview: the best scores of all datasets, and links to their pages."""

from collections.abc import Sequence
from typing import Any

from merc.reports.pages import score_tables
from merc.reports.pages.base import OVERVIEW, Report, folder_of
from merc.reports.pages.dataset import SCRIPTS, DatasetReport
from merc.reports.scoreboard import SCORES, spread


def write(report: Report, datasets: Sequence[DatasetReport]) -> None:
    """Writes ``index.html``.

    Args:
        report: report that it belongs to.
        datasets: in order.
    """
    rows = [_row(one) for one in datasets]
    report.write(OVERVIEW, "overview.html.j2", "Emotion recognition in conversations", scripts=SCRIPTS, rows=rows)


def _row(dataset: DatasetReport) -> dict[str, Any]:
    best = dataset.best
    return {
        "dataset": dataset,
        "home": folder_of(dataset.name),
        "anchor": score_tables.anchor(best.recipe) if best else "",
        "tags": score_tables.tags(best) if best else [],
        "cells": [score_tables.cell(spread(best, score)) for score in SCORES] if best else [],
        "majority": f"{100 * best.majority['test'].weighted_f1:.2f}" if best else "–",
    }
