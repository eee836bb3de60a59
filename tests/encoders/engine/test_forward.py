import gc
import itertools
import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from merc.encoders.engine.forward import Budget, in_batches
from merc.errors import PipelineError
from merc.log import logger

LENGTHS = np.random.default_rng(4).integers(5, 9, size=200)


class Doubler:
    """Items are their own lengths; each is doubled, so an item used twice or never is noticed.

    Args:
        room: units of padded input beyond which the device is out of memory.
        error: its message then.
    """

    def __init__(
        self,
        room: int | None = None,
        error: Callable[[], BaseException] = lambda: torch.OutOfMemoryError("CUDA out of memory"),
    ) -> None:
        self.room, self.error = room, error
        self.taken: list[int] = []
        self.results: dict[int, float] = {}
        self.tried: list[int] = []

    def prepare(self, batch: np.ndarray) -> dict[str, Any]:
        lengths = LENGTHS[batch]
        return {"values_BT": np.repeat(lengths[:, None], lengths.max(), axis=1), "note": "stays as it is"}

    def compute(self, inputs: Any) -> torch.Tensor:
        assert inputs["note"] == "stays as it is"
        assert torch.is_inference_mode_enabled()
        values_BT = inputs["values_BT"]
        self.tried.append(values_BT.numel())
        if self.room is not None and values_BT.numel() > self.room:
            raise self.error()
        return values_BT.float().mean(dim=1) * 2

    def take(self, batch: np.ndarray, doubled_B: torch.Tensor) -> None:
        assert doubled_B.device.type == "cpu"
        self.taken += batch.tolist()
        self.results |= dict(zip(batch.tolist(), doubled_B.tolist(), strict=True))

    def run(self, budget: Budget, device: str = "cpu") -> None:
        in_batches(LENGTHS, budget, device, self.prepare, self.compute, self.take)

    def check(self) -> None:
        assert sorted(self.taken) == list(range(200))
        assert [self.results[at] for at in range(200)] == (2.0 * LENGTHS).tolist()


def test_every_item_is_taken_once_longest_first(device: str) -> None:
    doubler = Doubler()
    doubler.run(Budget(64, "tokens"), device)
    doubler.check()
    lengths = [int(LENGTHS[at]) for at in doubler.taken]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory"),
        lambda: MemoryError("Unable to allocate 5.00 GiB for an array"),
        lambda: RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
            " bytes"
        ),
        lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["GPU", "numpy", "CPU", "cuBLAS"],
)
def test_out_of_memory_halves_the_budget_and_tries_the_same_items_again(
    error: Callable[[], BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    logger.propagate = True
    doubler, budget = Doubler(room=100, error=error), Budget(1000, "tokens")
    with caplog.at_level(logging.WARNING):
        doubler.run(budget)
    doubler.check()
    # halved from the size that failed until every batch fits
    failed = [units for units in doubler.tried if units > 100]
    assert doubler.tried[: len(failed)] == failed
    assert failed[0] <= 1000
    assert all(later <= earlier / 2 for earlier, later in itertools.pairwise(failed))
    assert budget.units == failed[-1] // 2
    assert [record.getMessage() for record in caplog.records] == [
        f"cpu: out of memory with {units} tokens in a batch; continuing with {units // 2}" for units in failed
    ]


def test_memory_that_runs_out_in_the_middle_loses_and_repeats_nothing() -> None:
    doubler = Doubler()
    compute, calls = doubler.compute, 0

    def sometimes(inputs: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls in (4, 9):
            raise torch.OutOfMemoryError
        return compute(inputs)

    doubler.compute = sometimes  # type: ignore[method-assign]
    budget = Budget(64, "tokens")
    doubler.run(budget)
    doubler.check()
    assert budget.units <= 16
    lengths = [int(LENGTHS[at]) for at in doubler.taken]
    assert lengths == sorted(lengths, reverse=True)


def test_the_smaller_budget_stays_for_the_next_run() -> None:
    budget = Budget(1000, "tokens")
    Doubler(room=100).run(budget)
    again = Doubler(room=100)
    again.run(budget)
    again.check()
    assert max(again.tried) <= 100


def test_an_item_too_large_for_the_memory_alone_is_an_error_that_says_so() -> None:
    longest = int(LENGTHS.max())
    doubler = Doubler(room=longest - 1)
    with pytest.raises(
        PipelineError, match=rf"one item of {longest} tokens does not fit into the memory of cpu; .*--device cpu"
    ) as caught:
        doubler.run(Budget(1000, "tokens"))
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


def test_a_failed_batch_holds_no_memory_while_it_is_tried_again() -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    alive_at_retry: list[bool] = []

    def compute(inputs: Any) -> torch.Tensor:
        if held:
            alive_at_retry.append(held[0]() is not None)
            return inputs["values"]
        large = inputs["values"] + 1
        held.append(weakref.ref(large))
        raise torch.OutOfMemoryError

    gc.disable()  # the tensors must be freed without the collector's help: it may run late
    try:
        in_batches(
            [1] * 8, Budget(8, "tokens"), "cpu", lambda batch: {"values": batch}, compute, lambda _batch, _values: None
        )
    finally:
        gc.enable()
    assert alive_at_retry[0] is False


def test_several_tensors_are_taken_side_by_side(device: str) -> None:
    taken: dict[int, tuple[float, list[float]]] = {}

    def compute(inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return inputs["values"] * 2.0, torch.stack([inputs["values"], inputs["values"] + 1], dim=1).half()

    def take(batch: np.ndarray, double_B: torch.Tensor, pair_B2: torch.Tensor) -> None:
        taken.update({int(at): (double_B[row].item(), pair_B2[row].tolist()) for row, at in enumerate(batch)})

    in_batches([1] * 7, Budget(2, "images"), device, lambda batch: {"values": batch.astype(np.float32)}, compute, take)
    assert taken == {at: (at * 2.0, [at, at + 1.0]) for at in range(7)}


@pytest.mark.parametrize("step", ["prepare", "compute", "take"])
def test_an_error_of_a_step_is_raised_as_it_is(step: str) -> None:
    doubler = Doubler()

    def broken(*_: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    setattr(doubler, step, broken)
    budget = Budget(64, "tokens")
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        doubler.run(budget)
    assert budget.units == 64
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


def test_after_an_error_nothing_more_is_prepared() -> None:
    prepared: list[int] = []

    def prepare(batch: np.ndarray) -> dict[str, Any]:
        prepared.append(len(batch))
        return {"values": batch}

    def compute(_: Any) -> torch.Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_batches([1] * 100, Budget(1, "tokens"), "cpu", prepare, compute, lambda _batch, _values: None)
    assert len(prepared) <= 8


def test_batches_are_prepared_ahead_but_only_a_few() -> None:
    prepared, computed, ahead = 0, 0, []
    lock = threading.Lock()

    def prepare(batch: np.ndarray) -> dict[str, Any]:
        nonlocal prepared
        with lock:
            prepared += 1
            ahead.append(prepared - computed)
        return {"values": batch}

    def compute(inputs: Any) -> torch.Tensor:
        nonlocal computed
        time.sleep(0.005)
        computed += 1
        return inputs["values"]

    in_batches([1] * 60, Budget(1, "tokens"), "cpu", prepare, compute, lambda _batch, _values: None)
    assert prepared == 60
    assert 2 <= max(ahead) <= 8


def test_results_do_not_wait_for_the_end() -> None:
    events: list[str] = []

    def compute(inputs: Any) -> torch.Tensor:
        events.append("compute")
        return inputs["values"]

    in_batches(
        [1] * 5,
        Budget(1, "tokens"),
        "cpu",
        lambda batch: {"values": batch},
        compute,
        lambda _batch, _values: events.append("take"),
    )
    assert events == ["compute", "compute", "take", "compute", "take", "compute", "take", "compute", "take", "take"]


def test_no_items_call_nothing() -> None:
    def never(*_: Any) -> Any:
        raise AssertionError

    in_batches([], Budget(8, "tokens"), "cpu", never, never, never)


@pytest.mark.needs_cuda
def test_float32_is_not_rounded_to_tf32_on_the_gpu_and_the_settings_come_back() -> None:
    torch.manual_seed(0)
    image, kernel = torch.randn(4, 64, 16, 16), torch.randn(64, 64, 3, 3)
    exact = torch.nn.functional.conv2d(image.double(), kernel.double())
    kernel_there = kernel.to("cuda:0")
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    found: list[torch.Tensor] = []
    in_batches(
        [1] * 4, Budget(4, "images"), "cuda:0", lambda batch: {"image": image[batch]},
        lambda inputs: torch.nn.functional.conv2d(inputs["image"], kernel_there), lambda _batch,
        result: found.append(result),
    )  # fmt: skip
    # TF32 keeps 10 bits of the factors: errors near 1e-2 for sums of 576 products
    assert (found[0].double() - exact).abs().max() < 1e-3
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before


@pytest.mark.needs_cuda
def test_real_lack_of_gpu_memory_is_survived() -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(512 * 2**20 / total, 0)
    try:
        taken: list[int] = []
        budget = Budget(4096, "tokens")  # 4096 MiB, of which 512 are allowed
        in_batches(
            [1] * 4096, budget, "cuda:0", lambda batch: {"values": batch}, lambda inputs: inputs["values"][:,
            None].expand(-1, 2**17).double().sum(dim=1),
            lambda batch, _values: taken.extend(batch.tolist()),
        )  # fmt: skip
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)
    assert sorted(taken) == list(range(4096))
    assert budget.units < 512
