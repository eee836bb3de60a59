"""The pages in a real browser: Debian's Chromium without a window. Where there is none, these tests are skipped and say so."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium here; as root: make browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Its own sandbox needs rights that root in a container lacks; the pages are this project's own.
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser: "Browser") -> "Iterator[Callable[..., Page]]":
    """Opens a file as a user would who clicks on it, and fails at the end of the test if a page reported an error or asked for anything but files.

    ``open_page(path, width=1200, **of_context)``; what comes after ``#`` in the address is ``fragment``.
    """
    faults: list[str] = []
    contexts = []

    def opened(path: Path, *, fragment: str = "", width: int = 1200, **of_context: Any) -> "Page":
        context = browser.new_context(viewport={"width": width, "height": 900}, **of_context)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: faults.append(f"{message.type}: {message.text}") if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(f"error: {error}"))
        page.on("request", lambda request: faults.append(f"request: {request.url}") if not request.url.startswith(("file:", "data:")) else None)
        page.on("requestfailed", lambda request: faults.append(f"not loaded: {request.url}"))
        page.goto(path.resolve().as_uri() + (f"#{fragment}" if fragment else ""))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not faults
