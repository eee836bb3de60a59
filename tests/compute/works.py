"""Work for the tests of executors; workers on other nodes import this module by name."""

import os
import signal
import time
from collections import deque
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from merc import files
from merc.compute.executors.base import Advance, Needs, Opened, Parts, Share
from merc.errors import BadSettings, ModelUnavailable
from merc.log import logger

NEEDS = Needs(accelerated=False, cores="one", memory_bytes=50_000_000, parts_at_once=2)


@dataclass(frozen=True)
class Squaring:
    """Part 3 writes a file ``3`` that says 9, and says so.

    Attributes:
        home: where the files go.
        errands: what else happens in a part: ``wait``, ``die``, ``settings``, ``unexpected``, ``full`` (the disk, on
            the node called poor).
        opening: likewise, when it is opened.
        model: whether it needs one that the node called poor does not have.
    """

    home: Path
    errands: Mapping[int, str] = field(default_factory=dict)
    opening: str = ""
    model: bool = False
    name: str = "squares/small"
    needs: Needs = NEEDS

    def is_done(self, index: int) -> bool:
        return (self.home / str(index)).is_file()

    def check(self) -> None:
        if self.model and _poor():
            raise ModelUnavailable(
                "its model is not on this machine; to download it:\n  merc-extract models --download squares"
            )

    def open(self, share: Share) -> Opened[int]:
        assert (share.device, share.processes) == ("cpu", 1)
        self._do(self.opening)
        return self._make

    def _make(self, parts: Parts, advance: Advance) -> Generator[tuple[int, int], None, None]:
        held: deque[int] = deque()  # parts are taken ahead, as by all real work
        while True:
            while len(held) < self.needs.parts_at_once and (index := parts.take(wait=not held)) is not None:
                held.append(index)
            if not held:
                logger.info("nothing is left", extra={"stage": self.name})
                return
            index = held.popleft()
            self._do(self.errands.get(index, ""))
            (self.home / str(index)).write_text(str(index**2))
            logger.info("part %d is squared", index, extra={"stage": self.name})
            advance(10)
            yield index, index**2

    def _do(self, errand: str) -> None:
        if errand == "wait":
            time.sleep(60)
        if errand == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if errand == "settings":
            raise BadSettings("squares.small: clip 3 cannot be squared")
        if errand == "unexpected":
            raise LookupError("no such square")
        if errand == "full" and not _poor():
            time.sleep(0.5)  # so that some parts are left for that node
        elif errand == "full":
            with files.writing(self.home / "7"):
                Path("/dev/full").write_text("49")


def _poor() -> bool:
    return os.environ.get("TEST_NODE") == "poor"
