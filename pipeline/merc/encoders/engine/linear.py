"""Which library computes the linear layers of an encoder on a CPU in float32: MKL, torch's default, or oneDNN, which
torch includes as well.

Linear layers take most of an encoder's time. MKL uses AVX-512 only on Intel's processors: on one AMD core it reached
101 GFLOP/s, and oneDNN 224. On an Intel core MKL is faster by a few percent, and without AVX-512 it already uses
everything the processor has. So ``auto`` selects oneDNN if the processor has AVX-512 and is not made by Intel.
``benchmarks/encode_linear_2026-11-29.md`` and ``…_2026-11-30.md`` contain measurements on Intel and on AMD, with ONNX
Runtime for comparison.

This is a rule about the kind of processor, not a timing at load. The two libraries round differently (cosine
0.9999999), and a timing may come out differently the next time: a resumed run would then not give the bytes of an
uninterrupted one, nor ``dvc repro`` the locked ones. The speed of the two is measured only after oneDNN has been
selected, for the log; it decides nothing.

A run's choice is recorded next to its unfinished parts (:meth:`merc.job.Job.note`), so that a resumed run uses the same
library, and is in the provenance. Like the device, it is not part of the fingerprint: results from another machine stay
valid.

torch's default is kept in trainings (oneDNN's operator has no gradients), on a GPU and with 16 bits. Convolutions use
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
_TOLERANCE = 1e-5  # relative to the norm of a result; rounding causes about 3e-7
_ROUNDS = 5


class OneDnnLinear(nn.Module):
    """A linear layer computed by oneDNN, with the weight in oneDNN's memory layout."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.bias = layer.bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())

    @property
    def weight(self) -> Tensor:
        """(outputs, inputs) in torch's layout, a copy; for models that also read the weight directly, such as WavLM."""
        dense: Tensor = self._packed.to_dense()
        return dense

    def forward(self, given: Tensor) -> Tensor:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(given, self._packed, self.bias, "none", [], "")
        return found


def choose(wanted: Literal["auto", "torch", "onednn"]) -> Library:
    """The requested library; ``auto`` becomes the faster one on this kind of processor, always the same on one
    machine.
    """
    if wanted != "auto":
        return wanted
    vendor, features = _processor()
    return "onednn" if "avx512f" in features and vendor != "GenuineIntel" else "torch"


def _processor() -> tuple[str, frozenset[str]]:
    """Vendor and features of the first processor; empty if the system does not report them, as Linux on x86 does."""
    try:
        first = _PROCESSOR.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return "", frozenset()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    return facts.get("vendor_id", ""), frozenset(facts.get("flags", "").split())


def hand_over(model: nn.Module, name: str) -> Library:
    """Makes oneDNN compute a model's linear layers if this build of torch includes it and the results agree with
    torch's; if not, the log says why.

    Args:
        model: on the CPU, in float32, not to be trained; modified in place.
        name: its name in the log.

    Returns:
        The library that computes them from now on.
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
    """Why oneDNN must not compute the layers; empty if it may. One layer of each shape is tried, since the kernel
    depends on the shape.
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
            except RuntimeError as error:  # its operators are internal to torch, and may change between versions
                return str(error)
            expected = layer(given)
            if not torch.linalg.vector_norm(found - expected) <= _TOLERANCE * torch.linalg.vector_norm(expected):
                return f"it gives other numbers for {layer.in_features} inputs and {layer.out_features} outputs"
    return ""


@torch.inference_mode()
def _times_as_fast(layer: nn.Linear) -> float:
    """How many times faster than torch oneDNN computes a layer. Measured in this thread's CPU time, so that other work
    on the machine has little influence.
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
