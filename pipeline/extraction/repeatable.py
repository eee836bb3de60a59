"""Equal work gives equal numbers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def repeatable(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, equal work gives equal numbers: seeded, deterministic algorithms, one CPU thread.

    One thread, because sums are cut differently for each number of them, and because the tensors are small: measured on two
    cores, a second thread gains nothing on an idle machine and makes an epoch 30 times slower when another process keeps a core
    busy. Everything is put back at the end.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it; read when CUDA starts
    threads, deterministic, warn_only = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
        torch.manual_seed(seed)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.set_num_threads(threads)
