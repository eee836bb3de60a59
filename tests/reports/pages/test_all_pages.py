"""What holds for every page, seen in a browser."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from merc.layout import Layout
from merc.reports.config import Config
from merc.reports.stage import write_report


@pytest.mark.parametrize("width", [390, 1200])
def test_every_page_opens_without_an_error_and_is_no_wider_than_the_window(
    write_shards: Callable[..., Layout], write_run: Callable[..., Path], open_page: Callable[..., Any], tmp_path: Path, width: int
) -> None:
    write_shards()
    write_run()
    write_report(Config(), tmp_path / "features", tmp_path / "runs", tmp_path / "reports")
    for path in (tmp_path / "reports").rglob("*.html"):
        page = open_page(path, width=width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.locator("h1").count() == 1
        assert page.evaluate("getComputedStyle(document.body).fontSize") == "16px", "the styles of the folder were not loaded"
