"""The network compared with a reference that follows the paper: filters as loops over their output, batch norms not
folded, one window at a time.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from merc.media.active_speaker import network as network_module
from merc.media.active_speaker.network import WIDTHS, Network

Array = NDArray[np.floating[Any]]
TINY = (2, 3, 4)
SIDE = 21


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)], ids=["float32", "float64"]
)
@pytest.mark.parametrize("frames", [1, 3, 25, 37])
def test_it_computes_what_the_paper_says(
    make_tensors: Callable[..., Any], frames: int, dtype: torch.dtype, tolerance: float
) -> None:
    tensors = make_tensors(TINY, dtype, seed=frames)
    faces_THW, mfcc_FK = _seen_and_heard(frames)
    encoded_TC, network = _encoded(tensors, faces_THW, mfcc_FK)
    weights = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    wanted_TC = _faces(weights, faces_THW) + _sound(weights, mfcc_FK)
    np.testing.assert_allclose(encoded_TC.numpy(), wanted_TC, atol=tolerance * np.abs(wanted_TC).max(), rtol=0)
    np.testing.assert_allclose(
        network.logits(encoded_TC, [slice(0, frames)])[0].numpy(), _logits(weights, wanted_TC), atol=tolerance, rtol=0
    )


def test_each_window_is_judged_by_itself(make_tensors: Callable[..., Any]) -> None:
    tensors = make_tensors(TINY, torch.float64)
    weights = {name: tensor.numpy() for name, tensor in tensors.items()}
    encoded_TC = np.random.default_rng(0).normal(size=(30, 4))
    windows = [slice(0, 30), slice(29, 30), slice(3, 10), slice(0, 25), slice(10, 17)]
    found = Network.of(tensors, TINY).logits(torch.from_numpy(encoded_TC), windows)
    for window, logits in zip(windows, found, strict=True):
        np.testing.assert_allclose(logits.numpy(), _logits(weights, encoded_TC[window]), atol=1e-12, rtol=0)


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor cannot compute in bfloat16"
)
def test_filters_in_one_step_with_what_follows_give_the_same_bits(
    make_tensors: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    faces_THW = torch.from_numpy(_seen_and_heard(21)[0])
    network = Network.of(make_tensors(TINY), TINY).faces_in(torch.bfloat16)
    found = network.encode_faces(faces_THW)
    monkeypatch.setattr(network_module, "_rectified", lambda filters, x: torch.relu_(filters(x)))
    assert torch.equal(found, network.encode_faces(faces_THW))
    assert found.dtype == torch.float32


@pytest.mark.parametrize("pictures", [1, 2, 5, 16, 100])
def test_how_many_frames_go_through_at_a_time_changes_nothing(
    make_tensors: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, pictures: int
) -> None:
    tensors = make_tensors(TINY, torch.float64)
    seen_and_heard = _seen_and_heard(29)
    wanted, _ = _encoded(tensors, *seen_and_heard)
    monkeypatch.setattr(network_module, "_CHUNK_PICTURES", {"cpu": pictures})
    found, _ = _encoded(tensors, *seen_and_heard)
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-12, rtol=0)


def test_the_encoders_look_six_frames_far(make_tensors: Callable[..., Any]) -> None:
    tensors = make_tensors(TINY, torch.float64)
    faces_THW, mfcc_FK = _seen_and_heard(40)
    before, _ = _encoded(tensors, faces_THW, mfcc_FK)
    faces_THW[20], mfcc_FK[80:84] = 255 - faces_THW[20], -mfcc_FK[80:84]
    after, _ = _encoded(tensors, faces_THW, mfcc_FK)
    changed = np.flatnonzero(np.abs(before.numpy() - after.numpy()).max(1) > 1e-12)
    assert (changed.min(), changed.max()) == (14, 26)


def test_it_has_a_million_weights() -> None:
    shapes = network_module.shapes()
    counted = sum(
        math.prod(shape) for name, shape in shapes.items() if not name.endswith(("running_mean", "running_var"))
    )
    assert len(shapes) == 5 * 5 * 6 + 10
    assert round(counted / 1e6, 2) == 1.02


@pytest.mark.needs_cuda
def test_a_gpu_gives_the_same_as_the_cpu(make_tensors: Callable[..., Any]) -> None:
    from merc.compute.device import exact

    tensors = make_tensors(WIDTHS)
    faces_THW, mfcc_FK = _seen_and_heard(60, side=112)
    with torch.inference_mode(), exact("cuda:0"):
        found = []
        for device in ("cpu", "cuda:0"):
            network = Network.of(tensors).to(device)
            encoded_TC = network.encode_faces(torch.from_numpy(faces_THW).to(device)) + network.encode_sound(
                torch.from_numpy(mfcc_FK).float().to(device)
            )
            found.append(torch.cat(network.logits(encoded_TC, [slice(0, 60), slice(0, 25)])).cpu().numpy())
    np.testing.assert_allclose(found[1], found[0], atol=1e-3, rtol=0)


def _seen_and_heard(frames: int, side: int = SIDE) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    random = np.random.default_rng(frames)
    return random.integers(0, 256, (frames, side, side + 2 if side == SIDE else side), dtype=np.uint8), random.normal(
        size=(4 * frames, 13)
    )


def _encoded(
    tensors: Mapping[str, torch.Tensor], faces_THW: NDArray[np.uint8], mfcc_FK: NDArray[np.float64]
) -> tuple[torch.Tensor, Network]:
    network = Network.of(tensors, TINY)
    heard = torch.from_numpy(mfcc_FK).to(network.classifier.weight.dtype)
    return network.encode_faces(torch.from_numpy(faces_THW)) + network.encode_sound(heard), network


# The reference. Arrays are (channels, time, height, width) for faces and (channels, coefficients, time) for audio.


def _faces(weights: Mapping[str, Array], faces_THW: NDArray[np.uint8]) -> Array:
    x = (faces_THW[None] / 255.0 - 0.4161) / 0.1688
    for block in (1, 2, 3):
        x = _block(weights, f"model.visualEncoder.block{block}", x, "s", (1, 2, 2) if block == 1 else (1, 1, 1))
        x = _largest(x, (1, 3, 3), (1, 2, 2)) if block < 3 else x
    return x.max(axis=(2, 3)).T


def _sound(weights: Mapping[str, Array], mfcc_FK: Array) -> Array:
    x = mfcc_FK.T[None]
    for block in (1, 2, 3):
        x = _block(weights, f"model.audioEncoder.block{block}", x, "m", (1, 1))
        x = _largest(x, (1, 3), (1, 2)) if block < 3 else x
    return x.mean(axis=1).T


def _block(weights: Mapping[str, Array], block: str, x: Array, first: str, stride: Sequence[int]) -> Array:
    once = (1,) * len(stride)
    branches = [
        _layer(weights, block, f"t_{size}", _layer(weights, block, f"{first}_{size}", x, stride), once)
        for size in (3, 5)
    ]
    return _layer(weights, block, "last", branches[0] + branches[1], once)


def _layer(weights: Mapping[str, Array], block: str, name: str, x: Array, stride: Sequence[int]) -> Array:
    """Filter, batch norm, rectifier."""
    filtered = _filtered(x, weights[f"{block}.{name}.weight"], stride)
    scale, shift, mean, variance = (
        weights[f"{block}.bn_{name}.{one}"].reshape(-1, *[1] * (x.ndim - 1))
        for one in ("weight", "bias", "running_mean", "running_var")
    )
    return np.maximum(0, (filtered - mean) / np.sqrt(variance + 0.001) * scale + shift)


def _filtered(x: Array, weight: Array, stride: Sequence[int]) -> Array:
    extent = weight.shape[2:]
    return _slid(x, extent, stride, 0.0, lambda patch: np.tensordot(weight, patch, axes=patch.ndim))


def _largest(x: Array, extent: Sequence[int], stride: Sequence[int]) -> Array:
    return _slid(x, extent, stride, -np.inf, lambda patch: patch.reshape(len(patch), -1).max(1))


def _slid(
    x: Array, extent: Sequence[int], stride: Sequence[int], beyond: float, give: Callable[[Array], Array]
) -> Array:
    """The result of ``give`` for the patches of ``extent`` around each ``stride``-th place; values outside the edges
    are ``beyond``.
    """
    padded = np.pad(x, [(0, 0), *((size // 2, size // 2) for size in extent)], constant_values=beyond)
    places = [range(0, length, step) for length, step in zip(x.shape[1:], stride, strict=True)]
    columns = [
        give(padded[(slice(None), *(slice(at, at + size) for at, size in zip(place, extent, strict=True)))])
        for place in itertools.product(*places)
    ]
    return np.array(columns).T.reshape(-1, *map(len, places))


def _logits(weights: Mapping[str, Array], encoded_TC: Array) -> Array:
    there = _gelu(_recurrent(weights, "model.GRU.gru_forward", encoded_TC))
    back = _gelu(_recurrent(weights, "model.GRU.gru_backward", there[::-1])[::-1])
    return back @ weights["lossAV.FC.weight"][1] + weights["lossAV.FC.bias"][1]


def _recurrent(weights: Mapping[str, Array], name: str, x_TC: Array) -> Array:
    """Gated recurrent units (Cho et al. 2014); reset, update and new state are stacked in the matrices."""
    state, states = np.zeros(x_TC.shape[1]), []
    for x in x_TC:
        seen, kept = (
            weights[f"{name}.weight_{of}_l0"] @ value + weights[f"{name}.bias_{of}_l0"]
            for of, value in (("ih", x), ("hh", state))
        )
        (reset_x, update_x, new_x), (reset_h, update_h, new_h) = np.split(seen, 3), np.split(kept, 3)
        update = _sigmoid(update_x + update_h)
        state = (1 - update) * np.tanh(new_x + _sigmoid(reset_x + reset_h) * new_h) + update * state
        states.append(state)
    return np.array(states)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _gelu(x: Array) -> Array:
    return x * np.vectorize(lambda one: 0.5 * (1 + math.erf(one / math.sqrt(2))))(x)
