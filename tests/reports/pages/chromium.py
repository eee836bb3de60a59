"""Debian's Chromium without a window, shared by all pages of a test process; if it hangs, it is ended and restarted
once.

It is started here rather than by playwright, so that the process to end is known. There is no zygote from which to fork
the process of a page, so every new process costs a start, and pages are reused by the next test. A browser that
inherits real-time priority from the tests stalls the machine: see ``ordinary_priority`` in the decoding tests.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Playwright

OPEN_SECONDS = (30.0, 30.0)
"""How long a page may take to open, including the browser's start, at the first and the second try; it takes a quarter
of a second on an idle machine.
"""
TEST_SECONDS = 90.0
"""How long a test may have pages open. Many requests to a hanging page have no time limit."""
# Chromium's sandbox needs rights that root does not have in a container; the pages are this project's own.
_FLAGS = (
    *(
        "--headless",
        "--no-sandbox",
        "--no-zygote",
        "--in-process-gpu",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-breakpad",
        "--hide-scrollbars",
    ),
    *(
        "--mute-audio",
        "--no-first-run",
        "--no-default-browser-check",
        "--disable-extensions",
        "--disable-background-networking",
        "--disable-sync",
    ),
    *(
        "--disable-component-update",
        "--disable-default-apps",
        "--force-color-profile=srgb",
        "--password-store=basic",
        "--remote-debugging-port=0",
    ),
    # Covered pages stay as fast, and may change their address as often as a test needs.
    *(
        "--disable-background-timer-throttling",
        "--disable-backgrounding-occluded-windows",
        "--disable-renderer-backgrounding",
    ),
    *("--disable-ipc-flooding-protection", "--disable-hang-monitor"),
)


class Chromium:
    """The browser, and its pages.

    Attributes:
        faults: what the pages reported or requested that they should not have, since the start of the test.
    """

    def __init__(self, playwright: "Playwright", program: str, profiles: Path) -> None:
        self.faults: list[str] = []
        self._playwright, self._program, self._profiles = playwright, program, profiles
        self._process: subprocess.Popen[bytes] | None = None
        self._browser: Browser | None = None
        self._contexts: dict[str, BrowserContext] = {}
        self._pages: dict[tuple[str, int], Page] = {}
        self._in_test = 0

    @contextmanager
    def test(self) -> Iterator[None]:
        """Wraps each test: faults of an earlier one do not count, and it ends in time."""
        self._in_test = 0
        with self._ended_after(TEST_SECONDS):
            yield

    def open(self, address: str, width: int, color_scheme: Any, of_context: dict[str, Any]) -> "Page":
        """Opens a page; if the browser hangs at the first page of a test, tries once more in a new browser."""
        from playwright.sync_api import Error

        self._in_test += 1
        try:
            return self._opened(OPEN_SECONDS[0], address, width, color_scheme, of_context)
        except (Error, TimeoutError):
            if self._in_test > 1 or self._runs():
                raise
            return self._opened(OPEN_SECONDS[1], address, width, color_scheme, of_context)

    def end(self) -> None:
        """Ends the browser, whatever it is doing."""
        if self._process is not None:
            self._kill()
            self._process.wait()

    def _opened(
        self, seconds: float, address: str, width: int, color_scheme: Any, of_context: dict[str, Any]
    ) -> "Page":
        with self._ended_after(seconds):
            if not self._runs():
                self._start()
            page = self._page(of_context)
            page.goto("about:blank", timeout=0)  # a change of only the fragment would not reload the page
            if self._in_test == 1:
                self.faults.clear()
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(media="null", color_scheme=color_scheme)
            page.goto(address, timeout=0)
            return page

    def _page(self, of_context: dict[str, Any]) -> "Page":
        assert self._browser is not None
        kind = str(sorted(of_context.items()))
        if kind not in self._contexts:
            self._contexts[kind] = self._browser.new_context(**of_context)
        if (kind, self._in_test) not in self._pages:
            self._pages[kind, self._in_test] = page = self._contexts[kind].new_page()
            self._watch(page)
        return self._pages[kind, self._in_test]

    def _watch(self, page: "Page") -> None:
        page.on(
            "console",
            lambda message: (
                self.faults.append(f"{message.type}: {message.text}") if message.type in ("error", "warning") else None
            ),
        )
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith(("file:", "data:", "about:"))
                else self.faults.append(f"request: {request.url}")
            ),
        )
        page.on("requestfailed", lambda request: self.faults.append(f"not loaded: {request.url}"))

    def _start(self) -> None:
        self.end()
        self._contexts, self._pages = {}, {}
        profile = self._profiles / str(time.monotonic_ns())
        nothing = subprocess.DEVNULL
        # The shell ends with this process, however it ends, and takes the browser with it.
        command = [
            "sh",
            "-c",
            '"$@" & read -r _; kill -9 0',
            "sh",
            self._program,
            *_FLAGS,
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        self._process = subprocess.Popen(
            command, start_new_session=True, stdin=subprocess.PIPE, stdout=nothing, stderr=nothing
        )
        self._browser = self._playwright.chromium.connect_over_cdp(
            f"http://127.0.0.1:{self._port(profile / 'DevToolsActivePort')}", timeout=0
        )

    def _port(self, told: Path) -> str:
        """Waits until the browser reports its address, or is ended."""
        while self._runs(process_alone=True):
            if told.is_file() and "\n" in (text := told.read_text()):
                return text.splitlines()[0]
            time.sleep(0.02)
        raise TimeoutError("Chromium did not listen in time")

    def _runs(self, *, process_alone: bool = False) -> bool:
        if self._process is None or self._process.poll() is not None:
            return False
        return process_alone or (self._browser is not None and self._browser.is_connected())

    @contextmanager
    def _ended_after(self, seconds: float) -> Iterator[None]:
        """Ends the browser if the block takes longer; anything waiting for it then fails."""
        timer = threading.Timer(seconds, self._kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)


def until(page: "Page", expression: str) -> None:
    """Waits until a condition can be evaluated and holds; the page's policy forbids playwright's own way to wait."""
    for _ in range(500):
        if page.evaluate(f"(() => {{ try {{ return Boolean({expression}); }} catch (error) {{ return false; }} }})()"):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"never: {expression}")
