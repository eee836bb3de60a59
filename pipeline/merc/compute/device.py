"""Which device ``--device`` means, and exact numbers on it. torch is imported here and only when it is requested."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from merc.errors import BadSettings
from merc.machines import DEVICES


def resolve(device: str) -> str:
    """``auto`` becomes ``cuda:0`` if it exists, else ``cpu``; ``cuda`` becomes ``cuda:0``.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        BadSettings: if it is none of these, or that CUDA device does not exist.
    """
    if device == "cpu":
        return device
    if not DEVICES.fullmatch(device):
        raise BadSettings(f"no device {device!r}; valid: auto, cpu, cuda, cuda:N")
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda:0" if there else "cpu"
    number = int(device.partition(":")[2] or 0)
    if number >= there:
        raise BadSettings(
            f"device {device!r} does not exist: {there} CUDA devices; valid: auto, cpu"
            + "".join(f", cuda:{one}" for one in range(there))
        )
    return f"cuda:{number}"


class _Exact:
    """The number of exact blocks at the moment, in all threads, and the setting before the first of them."""

    lock = threading.Lock()
    blocks = 0
    before = (True, True)


@contextmanager
def exact(device: str) -> Iterator[None]:
    """Makes float32 computations exact inside the block: by default, cuDNN rounds the factors of convolutions to TF32.

    The setting is shared by all threads; it is restored when the last of them leaves.
    """
    import torch

    if device == "cpu":
        yield
        return
    with _Exact.lock:
        if not _Exact.blocks:
            _Exact.before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
            torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = False, False
        _Exact.blocks += 1
    try:
        yield
    finally:
        with _Exact.lock:
            _Exact.blocks -= 1
            if not _Exact.blocks:
                torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = _Exact.before
