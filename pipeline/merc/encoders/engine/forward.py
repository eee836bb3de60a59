"""Runs items through a model on one device: batches by length, prepared ahead in threads, and smaller ones when memory
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
"""Indices of a batch's items → its inputs by name: numpy arrays and CPU tensors become tensors on the device,
everything else is unchanged.
"""
Compute = Callable[[Mapping[str, Any]], "torch.Tensor | tuple[torch.Tensor, ...]"]
"""A batch's inputs on the device → one tensor or several, first dimension the batch's items."""
Take = Callable[..., None]
"""Indices and results, ``take(indices, *tensors)`` with tensors on the CPU; called in the order of the batches, once
for every item.
"""

_THREADS = min(4, os.cpu_count() or 1)
_BATCHES_AHEAD = _THREADS + 2
# Messages that torch raises as a bare RuntimeError: from the CPU allocator, pinning, and libraries that bypass torch's
# allocator.
_NO_MEMORY = (
    "DefaultCPUAllocator",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


class Budget:
    """Number of units (tokens, samples, images) that a batch may contain; shrinks when the device's memory runs out.

    Args:
        units: initial number.
        unit: the plural word for messages.
    """

    def __init__(self, units: int, unit: str) -> None:
        self.units = units
        self.unit = unit

    def shrink(self, failed: int, items: int, device: str, cause: BaseException) -> None:
        """Halves the budget, or the size of the batch that failed, whichever is less.

        Args:
            failed: units of the batch that did not fit, including padding.
            items: number of its items.
            device: for the messages.
            cause: the library's error.

        Raises:
            PipelineError: if that batch had only one item.
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
    """Computes all items in batches of similar length.

    When the device's memory runs out, the budget is halved for the rest of the run and the same items are tried again.
    An error of ``prepare``, ``compute`` or ``take`` is raised here unchanged; results not taken by then are lost.

    Args:
        lengths: units per item; items of a batch are padded to its longest one.
        budget: see :class:`Budget`; shrunk in place.
        device: ``cpu``, ``cuda:0``, …
        prepare: called in threads, ahead of the device by a few batches; after a lack of memory, a batch may be
            prepared again in smaller parts.
        compute: called in this thread.
        take: called in this thread; all three run under ``torch.inference_mode``.

    Raises:
        PipelineError: if a single item does not fit into memory.
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
            # The traceback's frames keep the tensors alive; without them, their memory is freed.
            budget.shrink(len(failed) * int(sizes[failed].max()), len(failed), device, error.with_traceback(None))
            del error
            if device != "cpu":
                torch.cuda.empty_cache()
            rest = np.concatenate(left)  # still sorted by length
            left = [rest[batch] for batch in by_length(sizes[rest], budget.units)]


def _until_memory_runs_out(
    batches: Sequence[NDArray[np.int64]],
    device: str,
    prepare: Prepare,
    compute: Compute,
    take: Take,
    threads: ThreadPoolExecutor,
) -> tuple[int, BaseException | None]:
    """The number of batches computed and taken, and the error if there are more."""
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
            if len(on_their_way) > 1:  # queue the next batch before waiting for the previous one
                _hand_over(on_their_way, take)
    finally:
        for future in waiting:
            future.cancel()
    while on_their_way:
        _hand_over(on_their_way, take)
    return done, lacking


def _prepared(prepare: Prepare, batch: NDArray[np.int64], device: str) -> Mapping[str, Any]:
    import torch

    with torch.inference_mode():  # a per-thread setting
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
    """Results in the CPU's memory, complete after the event; no event on the CPU itself."""
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
