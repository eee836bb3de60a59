"""Equal work gives equal numbers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def repeatable(seed: int, device: torch.device, threads: int = 1) -> Iterator[None]:
    """Inside, equal work gives equal numbers: seeded, deterministic algorithms, a fixed number of CPU threads.

    Fixed, because sums are cut differently for each number of them. One, where the tensors are small: measured on two
    cores with models of the dialogue, a second thread gains nothing on an idle machine and makes an epoch 30 times
    slower when another process keeps a core busy. Everything is put back at the end.

    Args:
        seed: of torch's generators.
        device: that the work is done on.
        threads: of the CPU; more than it has cores give the same numbers, slowly.
    """
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # cuBLAS is deterministic only with it; read when CUDA starts
    threads_before, deterministic, warn_only = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
        torch.manual_seed(seed)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.set_num_threads(threads_before)
