"""The page ``dialogues.html`` of a dataset: every dialogue of a dataset with what the recipes predict."""

from merc.reports.pages.base import Report, folder_of, links_of
from merc.reports.pages.dataset import DatasetReport


def write(report: Report, dataset: DatasetReport) -> None:
    """Writes the page.

    Args:
        report: what it belongs to.
        dataset: what it is about.
    """
    report.write(
        f"{folder_of(dataset.name)}/dialogues.html",
        "dialogues.html.j2",
        f"{dataset.name}: every dialogue of a dataset with what the recipes predict",
        links=links_of(dataset.name),
    )
