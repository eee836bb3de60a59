"""Equal work gives equal numbers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.deterministic


@contextmanager
def repeatable(seed: int, device: torch.device, threads: int = 1) -> Iterator[None]:
    """Inside the block, equal work gives equal numbers: seeded, deterministic algorithms, a fixed number of CPU
    threads.

    Fixed, because sums are split differently for each number of threads. One, if the tensors are small: measured on two
    cores with dialogue models, a second thread gains nothing on an idle machine and makes an epoch 30 times slower when
    another process keeps a core busy. All settings are restored at the end.

    torch does not fill new memory with NaN, the default with deterministic algorithms, which takes a twentieth of a
    small model's time: the tests do, and show that no model reads uninitialised memory.

    Args:
        seed: of torch's generators.
        device: device that does the work.
        threads: number of CPU threads; more than there are cores give the same numbers, slowly.
    """
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # cuBLAS is deterministic only with it; read when CUDA starts
    new_memory: Any = torch.utils.deterministic  # its one attribute has no type
    threads_before, deterministic, warn_only, filled = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        new_memory.fill_uninitialized_memory,
    )
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
        new_memory.fill_uninitialized_memory = False
        torch.manual_seed(seed)
        try:
            yield
        finally:
            new_memory.fill_uninitialized_memory = filled
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.set_num_threads(threads_before)
