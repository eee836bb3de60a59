"""The pages in a real browser: Debian's Chromium without a window. Where it is not installed, these tests are skipped
with a message.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .chromium import Chromium

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium here; as root: make browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = Chromium(playwright, program, tmp_path_factory.mktemp("chromium"))
        yield browser
        browser.end()


@pytest.fixture
def open_page(chromium: Chromium) -> "Iterator[Callable[..., Page]]":
    """Opens a file like a user clicking on it, and fails at the end of the test if a page reported an error or
    requested anything but files.

    ``open_page(path, width=1200, **of_context)``; ``fragment`` is the part of the address after ``#``. With ``faulty``
    none of that fails the test.
    """
    expected = False

    def opened(
        path: Path,
        *,
        fragment: str = "",
        width: int = 1200,
        color_scheme: str = "light",
        faulty: bool = False,
        **of_context: Any,
    ) -> "Page":
        nonlocal expected
        expected |= faulty
        return chromium.open(
            path.resolve().as_uri() + (f"#{fragment}" if fragment else ""), width, color_scheme, of_context
        )

    with chromium.test():
        yield opened
    assert expected or not chromium.faults
