"""What holds for every page, seen in a browser."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from merc.layout import Layout
from merc.reports.config import Config
from merc.reports.stage import write_report


def test_every_page_opens_without_an_error_and_is_no_wider_than_the_window(
    write_shards: Callable[..., Layout], write_run: Callable[..., Path], open_page: Callable[..., Any], tmp_path: Path
) -> None:
    write_shards()
    write_run()
    write_report(Config(), tmp_path / "features", tmp_path / "runs", tmp_path / "reports")
    pages = sorted((tmp_path / "reports").rglob("*.html"))
    assert len(pages) == 4
    for path in pages:
        page = open_page(path)
        assert page.locator("h1").count() == 1
        assert page.evaluate("getComputedStyle(document.body).fontSize") == "16px", (
            "the styles of the folder were not loaded"
        )
        for width in (390, 1200):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
