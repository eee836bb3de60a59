"""The overview: all datasets, and where their pages are."""

from collections.abc import Sequence

from merc.reports.pages.base import OVERVIEW, Report, folder_of
from merc.reports.pages.dataset import DatasetReport


def write(report: Report, datasets: Sequence[DatasetReport]) -> None:
    """Writes ``index.html``.

    Args:
        report: what it belongs to.
        datasets: in their order.
    """
    rows = [(f"{folder_of(one.name)}/index.html", one) for one in datasets]
    report.write(OVERVIEW, "overview.html.j2", "Emotion recognition in conversations", rows=rows)
