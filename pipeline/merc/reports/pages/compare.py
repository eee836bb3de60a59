"""The page ``compare.html`` of a dataset: two recipes beside each other."""

from merc.reports.pages.base import Report, folder_of, links_of
from merc.reports.pages.dataset import DatasetReport


def write(report: Report, dataset: DatasetReport) -> None:
    """Writes the page.

    Args:
        report: what it belongs to.
        dataset: what it is about.
    """
    report.write(f"{folder_of(dataset.name)}/compare.html", "compare.html.j2", f"{dataset.name}: two recipes beside each other", links=links_of(dataset.name))
