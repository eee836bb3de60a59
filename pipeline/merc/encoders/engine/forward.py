"""Items through a model on one device: batches by length, prepared ahead in threads, and smaller ones when the memory
runs out.

    threads        prepare 3 │ prepare 4 │ prepare 5 │ …         decode, pad, pin
    main thread    compute 1 │ compute 2 │ compute 3 │ …         copies to the device and back are asynchronous
                             │ take 1    │ take 2    │ …         results, in the order of the batches

torch is imported inside the functions: ``--dry-run`` imports the encoders and must not wait for it.
"""

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from merc.compute.device import exact
from merc.encoders.engine.batching import by_length
from merc.errors import PipelineError
from merc.log import logger

if TYPE_CHECKING:
    import torch

Prepare = Callable[[NDArray[np.int64]], Mapping[str, Any]]
"""Indices of a batch's items → its inputs by name: numpy arrays or CPU tensors become tensors on the device, all else
stays as it is.
"""
Compute = Callable[[Mapping[str, Any]], "torch.Tensor | tuple[torch.Tensor, ...]"]
"""A batch's inputs on the device → one tensor or several, first dimension the batch's items."""
Take = Callable[..., None]
"""Indices and results, ``take(indices, *tensors)`` with tensors on the CPU; called in the order of the batches, once
for every item.
"""

_THREADS = min(4, os.cpu_count() or 1)
_BATCHES_AHEAD = _THREADS + 2
# Words of errors that torch raises as a bare RuntimeError: the CPU's allocator, pinning, and libraries that allocate
# past torch's own allocator.
_NO_MEMORY = (
    "DefaultCPUAllocator",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


class Budget:
    """How many units (tokens, samples, images) a batch may hold; it shrinks when the device's memory runs out.

    Args:
        units: to begin with.
        unit: the plural word for messages.
    """

    def __init__(self, units: int, unit: str) -> None:
        self.units = units
        self.unit = unit

    def shrink(self, failed: int, items: int, device: str, cause: BaseException) -> None:
        """Halves the budget, or the size of the batch that failed, whichever is less.

        Args:
            failed: units of the batch that did not fit, padding included.
            items: how many items it held.
            device: for the messages.
            cause: the library's error.

        Raises:
            PipelineError: if that batch held one item alone.
        """
        if items == 1:
            raise PipelineError(
                f"one item of {failed} {self.unit} does not fit into the memory of {device}; free some, choose a"
                " smaller model or --device cpu"
            ) from cause
        self.units = max(1, min(self.units, failed) // 2)
        logger.warning(
            "%s: out of memory with %d %s in a batch; continuing with %d", device, failed, self.unit, self.units,
            extra={"device": device, "failed": failed, "budget": self.units, "unit": self.unit},
        )  # fmt: skip


def in_batches(
    lengths: Sequence[int] | NDArray[np.int64],
    budget: Budget,
    device: str,
    prepare: Prepare,
    compute: Compute,
    take: Take,
) -> None:
    """Computes all items in batches of like length.

    When the device's memory runs out, the budget halves and the same items are tried again; it stays so for what
    follows. An error of ``prepare``, ``compute`` or ``take`` is raised here as it is; what was not taken by then is
    lost.

    Args:
        lengths: units per item; items of one batch are padded to the longest of it.
        budget: see :class:`Budget`; shrunk in place.
        device: ``cpu``, ``cuda:0``, …
        prepare: called in threads, ahead of the device by a few batches; a batch may be prepared again, smaller, after
            a lack of memory.
        compute: called in this thread.
        take: called in this thread; all three run under ``torch.inference_mode``.

    Raises:
        PipelineError: if a single item does not fit the memory.
    """
    import torch

    sizes = np.asarray(lengths, dtype=np.int64)
    left = by_length(sizes, budget.units)
    with ThreadPoolExecutor(_THREADS) as threads, torch.inference_mode(), exact(device):
        while left:
            done, error = _until_memory_runs_out(left, device, prepare, compute, take, threads)
            left = left[done:]
            if error is None:
                continue
            failed = left[0]
            # The frames of the failed call hold its tensors; without them its memory is free again.
            budget.shrink(len(failed) * int(sizes[failed].max()), len(failed), device, error.with_traceback(None))
            del error
            if device != "cpu":
                torch.cuda.empty_cache()
            rest = np.concatenate(left)  # sorted by length, and stays so
            left = [rest[batch] for batch in by_length(sizes[rest], budget.units)]


def _until_memory_runs_out(
    batches: Sequence[NDArray[np.int64]],
    device: str,
    prepare: Prepare,
    compute: Compute,
    take: Take,
    threads: ThreadPoolExecutor,
) -> tuple[int, BaseException | None]:
    """How many batches were computed and taken, and the error if it was not all of them."""
    rest = iter(batches)
    waiting: deque[Future[Mapping[str, Any]]] = deque()
    on_their_way: deque[tuple[NDArray[np.int64], tuple[torch.Tensor, ...], Any]] = deque()
    lacking: BaseException | None = None
    done = 0
    try:
        for batch in batches:
            while len(waiting) < _BATCHES_AHEAD and (following := next(rest, None)) is not None:
                waiting.append(threads.submit(_prepared, prepare, following, device))
            try:
                on_their_way.append((batch, *_computed(waiting.popleft().result(), device, compute)))
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                lacking = error
                break
            done += 1
            if len(on_their_way) > 1:  # the device has the next batch before this thread waits for the last one
                _hand_over(on_their_way, take)
    finally:
        for future in waiting:
            future.cancel()
    while on_their_way:
        _hand_over(on_their_way, take)
    return done, lacking


def _prepared(prepare: Prepare, batch: NDArray[np.int64], device: str) -> Mapping[str, Any]:
    import torch

    with torch.inference_mode():  # a setting of each thread
        inputs = {
            name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for name, value in prepare(batch).items()
        }
        if device == "cpu":
            return inputs
        return {
            name: value.pin_memory() if isinstance(value, torch.Tensor) else value for name, value in inputs.items()
        }


def _computed(inputs: Mapping[str, Any], device: str, compute: Compute) -> tuple[tuple["torch.Tensor", ...], Any]:
    """Results in the CPU's memory, there once the event has come; no event on the CPU itself."""
    import torch

    result = compute(
        {
            name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in inputs.items()
        }
    )
    results = (result,) if isinstance(result, torch.Tensor) else result
    if device == "cpu":
        return results, None
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copies = tuple(
        torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
        for tensor in results
    )
    arrived.record(torch.cuda.current_stream(torch.device(device)))
    return copies, arrived


def _hand_over(on_their_way: "deque[tuple[NDArray[np.int64], tuple[torch.Tensor, ...], Any]]", take: Take) -> None:
    batch, results, arrived = on_their_way.popleft()
    if arrived is not None:
        arrived.synchronize()
    take(batch, *results)


def _out_of_memory(error: BaseException) -> bool:
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in _NO_MEMORY)
