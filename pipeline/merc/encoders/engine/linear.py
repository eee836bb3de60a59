"""Which library computes the linear layers of an encoder on a CPU in float32: the one that torch takes by itself, MKL,
or oneDNN, which the same torch holds.

Linear layers take most of an encoder's time. MKL uses AVX-512 on Intel's processors alone: on one AMD core it reached
101 GFLOP/s, and oneDNN 224. On an Intel core MKL is the faster of the two by a few percent, and where there is no
AVX-512 it leaves nothing idle. So ``auto`` takes oneDNN where the processor has AVX-512 and is not Intel's.
``benchmarks/encode_linear_2026-11-29.md`` and ``…_2026-11-30.md`` have what was measured on Intel and on AMD, with ONNX
Runtime for comparison.

That is a rule about the kind of processor, and no race at load. The two libraries round differently (cosine 0.9999999),
and a race may end otherwise the next time: a resumed run would then not give the bytes of an undisturbed one, nor would
``dvc repro`` give those that are locked. How fast the two are is measured only after oneDNN was taken, for the log; it
decides nothing.

What a run took is noted next to its unfinished parts (:meth:`merc.job.Job.note`), so that a resumed run uses the same,
and is in the provenance. Like the device, it is not part of the fingerprint: what was made on another machine stays
valid.

torch's own way stays in trainings (oneDNN's operator has no gradients), on a GPU and in 16 bits. Convolutions go to
oneDNN in any case.
"""

import time
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from merc.log import logger

Library = Literal["torch", "onednn"]
_PROCESSOR = Path("/proc/cpuinfo")
_ROWS = (1, 128)  # the libraries have other kernels for few rows
_TOLERANCE = 1e-5  # of the length of a result; rounding makes about 3e-7 of it
_ROUNDS = 5


class OneDnnLinear(nn.Module):
    """A linear layer that oneDNN computes, with the weight in the order in which it reads it."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.bias = layer.bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())

    @property
    def weight(self) -> Tensor:
        """(outputs, inputs) as torch has it, a copy; for models that also read it by themselves, such as WavLM."""
        dense: Tensor = self._packed.to_dense()
        return dense

    def forward(self, given: Tensor) -> Tensor:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(given, self._packed, self.bias, "none", [], "")
        return found


def choose(wanted: Literal["auto", "torch", "onednn"]) -> Library:
    """What is wanted; ``auto`` becomes what is faster on this kind of processor, the same every time on one machine."""
    if wanted != "auto":
        return wanted
    vendor, features = _processor()
    return "onednn" if "avx512f" in features and vendor != "GenuineIntel" else "torch"


def _processor() -> tuple[str, frozenset[str]]:
    """Vendor and features of the first processor; nothing where the system does not tell them as Linux does of x86."""
    try:
        first = _PROCESSOR.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return "", frozenset()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    return facts.get("vendor_id", ""), frozenset(facts.get("flags", "").split())


def hand_over(model: nn.Module, name: str) -> Library:
    """Has oneDNN compute a model's linear layers, if this torch holds it and it gives what torch gives; if not, the log
    says why.

    Args:
        model: on the CPU, in float32, not to be trained; changed in place.
        name: for the log.

    Returns:
        What computes them from now on.
    """
    places: dict[nn.Linear, list[tuple[nn.Module, str]]] = {}
    for parent in model.modules():
        for key, child in parent.named_children():
            if type(child) is nn.Linear:
                places.setdefault(child, []).append((parent, key))
    if objection := _objection(list(places)):
        logger.warning(
            "%s: oneDNN cannot be used for its linear layers: %s", name, objection, extra={"linear_layers": "torch"}
        )
        return "torch"
    ratio = _times_as_fast(max(places, key=lambda layer: layer.weight.numel()))
    logger.info(
        "%s: linear layers by oneDNN, %.2f times as fast as by torch",
        name,
        ratio,
        extra={"linear_layers": "onednn", "times_as_fast": round(ratio, 2)},
    )
    while places:  # one by one, so that no more than one is in memory twice
        layer, found = places.popitem()
        packed = OneDnnLinear(layer)
        for parent, key in found:
            setattr(parent, key, packed)
    return "onednn"


@torch.inference_mode()
def _objection(layers: list[nn.Linear]) -> str:
    """Why oneDNN must not compute the layers; empty if nothing speaks against it. One layer of each shape is tried:
    shapes choose the kernel.
    """
    if not layers:
        return "it has none"
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):  # type: ignore[no-untyped-call]
        return "this torch does not hold it"
    generator = torch.Generator().manual_seed(0)
    for layer in {(*layer.weight.shape, layer.bias is None): layer for layer in layers}.values():
        for rows in _ROWS:
            given = torch.randn(rows, layer.in_features, generator=generator)
            try:
                found = OneDnnLinear(layer)(given)
            except RuntimeError as error:  # its operators are torch's own affair, and may change with it
                return str(error)
            expected = layer(given)
            if not torch.linalg.vector_norm(found - expected) <= _TOLERANCE * torch.linalg.vector_norm(expected):
                return f"it gives other numbers for {layer.in_features} inputs and {layer.out_features} outputs"
    return ""


@torch.inference_mode()
def _times_as_fast(layer: nn.Linear) -> float:
    """How many times as fast oneDNN computes a layer as torch. Of this thread's seconds, so that other work on the
    machine changes little.
    """
    given = torch.ones(max(_ROWS), layer.in_features)
    ways = (layer, OneDnnLinear(layer))
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(_ROUNDS):
        for way, took in zip(ways, seconds, strict=True):
            began = time.thread_time()
            way(given)
            took.append(time.thread_time() - began)
    return min(seconds[0]) / min(seconds[1])
