"""How long the epochs of a training took. It is recorded next to the runs, whose bytes are the same on every machine
and after every interruption.

runs/.times/<dataset>/<recipe>/seed-<n>.json

It is in neither Git nor DVC, and nothing needs it: a run that was copied or checked out has none, and the report says
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
        fingerprint: of the run, since the file outlives a replaced run.
        device: ``cpu``, or the name of the GPU.
        threads: of torch, on the CPU.
        epochs: number of timed epochs; if a seed was killed and resumed, only those of the later phases.
        wall_seconds, cpu_seconds: medians over these epochs, of elapsed time and of the CPU time of all cores together.
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
    """Records the elapsed time and this process's CPU time of blocks.

    Attributes:
        wall_seconds, cpu_seconds: one value per block.
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
    """The file with the times of a seed."""
    return runs / FOLDER / dataset / recipe / f"seed-{seed}.json"


def _median(seconds: Sequence[float]) -> float:
    return round(statistics.median(seconds), 6)
