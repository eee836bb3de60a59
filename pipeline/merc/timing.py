"""How long the epochs of a training took. It is recorded next to the runs, whose bytes are the same on every machine
and after every kill.

runs/.times/<dataset>/<recipe>/seed-<n>.json

Neither Git nor DVC sees it, and nothing needs it: a run that was copied or checked out has none, and the report says
so.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

FOLDER = ".times"


class Times(BaseModel):
    """How long an epoch of a seed took: training on the train split, and scoring dev and test.

    Attributes:
        fingerprint: of the run, since the file outlives a run that is replaced.
        device: ``cpu``, or the name of the GPU.
        threads: of torch, on the CPU.
        epochs: that were timed; of a seed that was killed and resumed the later phases' alone.
        wall_seconds, cpu_seconds: medians over these epochs, on the clock, and of all cores together.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    fingerprint: str
    device: str
    threads: int = Field(ge=1)
    epochs: int = Field(ge=1)
    wall_seconds: float = Field(ge=0, allow_inf_nan=False)
    cpu_seconds: float = Field(ge=0, allow_inf_nan=False)


@dataclass
class Stopwatch:
    """Notes what blocks take, on the clock and of this process's cores.

    Attributes:
        wall_seconds, cpu_seconds: one value a block.
    """

    wall_seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    @contextmanager
    def lap(self) -> Iterator[None]:
        """Times a block that ends without an error."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall_seconds.append(time.perf_counter() - wall)
        self.cpu_seconds.append(time.process_time() - cpu)

    def times(self, fingerprint: str, device: str, threads: int) -> Times | None:
        """The medians; None if nothing was timed."""
        if not self.wall_seconds:
            return None
        medians = {"wall_seconds": _median(self.wall_seconds), "cpu_seconds": _median(self.cpu_seconds)}
        return Times(fingerprint=fingerprint, device=device, threads=threads, epochs=len(self.wall_seconds), **medians)


def path_of(runs: Path, dataset: str, recipe: str, seed: int | str) -> Path:
    """Where the times of a seed lie."""
    return runs / FOLDER / dataset / recipe / f"seed-{seed}.json"


def _median(seconds: Sequence[float]) -> float:
    return round(statistics.median(seconds), 6)
