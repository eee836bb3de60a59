"""The browser of the tests is restarted when it hangs."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from . import chromium as module
from .chromium import Chromium


def test_a_browser_that_hangs_is_begun_anew_once(
    chromium: Chromium, open_page: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.html").write_text("<h1>there</h1>")
    open_page(tmp_path / "a.html")
    hanging = chromium._process
    assert hanging is not None
    os.killpg(hanging.pid, signal.SIGSTOP)
    monkeypatch.setattr(module, "OPEN_SECONDS", (0.3, 30.0))
    with chromium.test():  # a page before it is lost
        page = open_page(tmp_path / "a.html")
    assert page.locator("h1").inner_text() == "there"
    assert hanging.poll() is not None
    assert chromium._process is not hanging
