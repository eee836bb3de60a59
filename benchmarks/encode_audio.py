"""How fast audio is encoded: clips of MELD's lengths through models of the shape of wav2vec2-base (CPU) or
wav2vec2-large (GPU) with random weights.

    python benchmarks/encode_audio.py --annotations FOLDER_WITH_MELD_CSV_FILES [--device cuda:0 --dtype bfloat16]
    [--clips 200]

All figures are of one run, on the same clips and the same weights:

- against transformers' feature extractor and model, one clip at a time (its feature-extraction pipeline takes text
  only);
- against batches of eight in the corpus's order, padded, with the attention mask; the difference of the vectors is
  given too;
- the cost of exactness: the same batches with torch's own group norm, which treats the padding as audio, and batches of
  only clips of equal length;
- the share of time outside matrix products, convolutions and attention, with the model's own elementwise work listed
  separately;
- on a GPU, floating-point operations per second on the real frames, relative to what a large matrix product reaches.

The audio is synthetic: bursts of harmonics of a gliding pitch, with noise. Without --annotations, or meld in the folder
that MERC_REAL_DATA names, the lengths follow a log-normal distribution fitted to MELD's (median 2.4 s).
"""

import csv
import os
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import torch
from torch import nn

from merc.encoders.audio.waveform import Waveform
from merc.encoders.engine import forward
from merc.encoders.engine.base import UtteranceInput
from merc.encoders.engine.batching import by_length, padding_share
from merc.records.media import SAMPLE_RATE_HZ

LONGEST_SECONDS = 60.0  # media.max_clip_seconds of params.yaml
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
}
SHAPES: dict[str, dict[str, Any]] = {"base": {}, "large": {**LARGE, "do_stable_layer_norm": True, "conv_bias": True}}
# What the model's arithmetic consists of; the rest is elementwise work, copies and Python.
# None of them calls another, so their inclusive times add up.
PRODUCTS = re.compile(
    r"^(aten::(addmm|mm|bmm|baddbmm|mkldnn_convolution|_slow_conv2d_forward|_scaled_dot_product_flash_attention_for_cpu)|mkldnn::_linear_pointwise)$"
)


def clip_seconds(annotations: Path | None, clips: int) -> np.ndarray:
    """(clips,) lengths, taken evenly over the corpus and in its order."""
    rng = np.random.default_rng(0)
    if annotations is None:
        return np.clip(rng.lognormal(np.log(2.4), 0.77, clips), 0.1, LONGEST_SECONDS)
    seconds = []
    for path in sorted(annotations.glob("*_sent_emo.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            seconds += [_seconds(row["EndTime"]) - _seconds(row["StartTime"]) for row in csv.DictReader(file)]
    usable = np.array([value for value in seconds if value > 0])
    return np.clip(usable[np.sort(rng.choice(len(usable), clips, replace=clips > len(usable)))], 0.1, LONGEST_SECONDS)


def _seconds(clock: str) -> float:
    hours, minutes, seconds = clock.strip().strip('"').replace(",", ".").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def made_sound(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """(samples,) float32."""
    at = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    phase = 2 * np.pi * np.cumsum(rng.uniform(100, 250) * (1 + 0.2 * np.sin(2 * np.pi * at))) / SAMPLE_RATE_HZ
    voice = sum(np.sin(number * phase) / number for number in range(1, 6)) * (0.5 - 0.5 * np.cos(2 * np.pi * 4 * at))
    return (0.2 * voice + 0.02 * rng.standard_normal(len(at))).astype(np.float32)


def saved_model(shape: str, folder: Path) -> Path:
    """A checkpoint with random weights."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    torch.manual_seed(0)
    Wav2Vec2Model(Wav2Vec2Config(**SHAPES[shape])).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    return folder


def encoder_of(folder: Path, device: str, dtype: str) -> Waveform:
    settings = {
        "window_seconds": 30,
        "overlap_seconds": 2,
        "minimum_seconds": 0.1,
        "licence": "none",
        "training_data_overlap": "none",
        "dtype": dtype,
    }
    encoder = Waveform(Waveform.Config(family="waveform", repo=str(folder), pooling="mean", **settings))
    encoder.load(device)
    return encoder


def timed(device: str, work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    _wait(device)
    began = time.perf_counter()
    result = work()
    _wait(device)
    return time.perf_counter() - began, result


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def with_transformers(model: Any, extractor: Any, sounds: Sequence[np.ndarray], together: int) -> np.ndarray:
    """(clips, D): the mean over the real frames; batches of this many clips in the given order, with the attention mask
    if there is padding.
    """
    vectors = []
    with torch.inference_mode():
        for start in range(0, len(sounds), together):
            given = extractor(
                list(sounds[start : start + together]), sampling_rate=SAMPLE_RATE_HZ, padding=True, return_tensors="pt"
            )
            waveforms, mask = (
                given["input_values"].to(model.device, model.dtype),
                given["attention_mask"].to(model.device),
            )
            hidden = model(waveforms, attention_mask=mask if together > 1 else None).last_hidden_state.float()
            real = model._get_feature_vector_attention_mask(hidden.shape[1], mask)[..., None]
            vectors.append(((hidden * real).sum(1) / real.sum(1)).cpu().numpy())
    return np.concatenate(vectors)


@contextmanager
def inexact_norms(encoder: Waveform) -> Any:
    """torch's own group norm and no masks before the positional convolution's layers."""
    norms = [
        module for module in encoder._model.modules() if isinstance(module, nn.GroupNorm) and "forward" in vars(module)
    ]
    ours = [vars(norm).pop("forward") for norm in norms]
    try:
        yield
    finally:
        for norm, own in zip(norms, ours, strict=True):
            norm.forward = own


def equal_lengths_alone() -> Any:
    return mock.patch.object(forward, "by_length", partial(by_length, max_padding=0.0))


def least_cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(((first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)).min())


class Stopwatch:
    """Sums the seconds that a function takes."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def on(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            began = time.perf_counter()
            result = function(*arguments)
            self.seconds += time.perf_counter() - began
            return result

        return watched


def shares(encoder: Waveform, utterances: Sequence[UtteranceInput]) -> tuple[dict[str, float], dict[str, float]]:
    """Shares of the time on the CPU.

    Returns:
        The shares of ``products`` (including the bias of a linear layer, which torch adds in the same call), ``model``
        (its other work), ``norm`` (our group norm) and ``rest`` (everything but the model's forward pass); and those of
        the slowest functions that are not products.
    """
    model, norm = Stopwatch(), Stopwatch()
    for module in encoder._model.modules():
        if isinstance(module, nn.GroupNorm) and "forward" in vars(module):
            module.forward = norm.on(module.forward)  # type: ignore[method-assign]
    with (
        mock.patch.object(encoder, "_hidden", model.on(encoder._hidden)),
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
    ):
        total, _ = timed("cpu", lambda: encoder.encode(utterances))
    events = profile.key_averages()
    products = sum(event.cpu_time_total for event in events if PRODUCTS.search(event.key)) / 1e6
    others = sorted(
        (event for event in events if not PRODUCTS.search(event.key)), key=lambda event: -event.self_cpu_time_total
    )[:8]
    known = {
        "products": products,
        "model": model.seconds - products - norm.seconds,
        "norm": norm.seconds,
        "rest": total - model.seconds,
    }
    longest = {event.key.removeprefix("aten::"): event.self_cpu_time_total / 1e6 / total for event in others}
    return {name: seconds / total for name, seconds in known.items()}, longest


def operations(model: Any, seconds: Sequence[float]) -> float:
    """Floating-point operations for the clips without any padding: two per multiplication in products, convolutions and
    attention.
    """
    settings = model.config
    width, inner, layers = settings.hidden_size, settings.intermediate_size, settings.num_hidden_layers
    total = 0.0
    for length in seconds:
        frames, before = round(length * SAMPLE_RATE_HZ), 1
        for channels, kernel, stride in zip(settings.conv_dim, settings.conv_kernel, settings.conv_stride, strict=True):
            frames = (frames - kernel) // stride + 1
            total += 2 * frames * before * channels * kernel
            before = channels
        positions = width // settings.num_conv_pos_embedding_groups * settings.num_conv_pos_embeddings
        total += 2 * frames * width * (before + positions + layers * (4 * width + 2 * inner + 2 * frames))
    return total


def product_rate(dtype: torch.dtype, device: str) -> float:
    """Floating-point operations per second of a product of two large square matrices."""
    size = 8192
    first, second = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        first @ second
    seconds, _ = timed(device, lambda: [first @ second for _ in range(20)])
    return 20 * 2 * size**3 / seconds


def measure(
    device: str, dtype: str, clips: int, annotations: Path | None = None, shape: str | None = None
) -> list[str]:
    """Runs everything.

    Args:
        device: ``cpu`` or ``cuda:0``.
        dtype: of the model's arithmetic.
        clips: how many.
        annotations: folder with MELD's CSV files; by default meld in the folder that MERC_REAL_DATA names, if it is
            set.
        shape: ``base`` or ``large``; by default base on the CPU and large on a GPU.

    Returns:
        Lines of a report.
    """
    from transformers import AutoFeatureExtractor, AutoModel

    if annotations is None and "MERC_REAL_DATA" in os.environ:
        annotations = Path(os.environ["MERC_REAL_DATA"]) / "meld"
    shape = shape or ("base" if device == "cpu" else "large")
    seconds = clip_seconds(annotations, clips)
    rng = np.random.default_rng(1)
    sounds = [made_sound(length, rng) for length in seconds]
    utterances = [UtteranceInput(utterance_id=str(number), waveform=sound) for number, sound in enumerate(sounds)]
    with tempfile.TemporaryDirectory() as name:
        folder = saved_model(shape, Path(name))
        encoder = encoder_of(folder, device, dtype)
        model = (
            AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="sdpa").to(device).eval()
        )
        extractor = AutoFeatureExtractor.from_pretrained(folder)
    some = slice(0, max(1, clips // 10))
    encoder.encode(utterances[some])
    with_transformers(model, extractor, sounds[some], 1)
    lengths = [sound.size for sound in sounds]
    ours, encoded = timed(device, lambda: encoder.encode(utterances))
    alone, reference = timed(device, lambda: with_transformers(model, extractor, sounds, 1))
    naive, wrong = timed(device, lambda: with_transformers(model, extractor, sounds, 8))
    with inexact_norms(encoder):
        inexact, _ = timed(device, lambda: encoder.encode(utterances))
    with equal_lengths_alone():
        equal, _ = timed(device, lambda: encoder.encode(utterances))
    batches = by_length(lengths, encoder.budget.units)
    lines = [
        (
            f"sound: {clips} clips, {sum(seconds):.0f} s ({'MELD' if annotations else 'log-normal'} lengths),"
            f" wav2vec2-{shape} shape, {device}, {dtype}"
        ),
        (
            f"  {ours:.1f} s, {sum(seconds) / ours:.0f} times real time; {len(batches)} batches, padding"
            f" {100 * padding_share(lengths, batches):.1f} %"
        ),
        (
            f"  transformers one by one: {alone / ours:.2f} times as long; least cosine to it"
            f" {least_cosine(encoded.embeddings, reference):.7f}"
        ),
        (
            f"  transformers, 8 at a time, padded, with mask: {naive / ours:.2f} times as long; least cosine to one by"
            f" one {least_cosine(wrong, reference):.4f}"
        ),
        f"  the same batches with torch's group norm (not exact): {inexact / ours:.2f} times as long",
        f"  batches of equal lengths alone: {equal / ours:.2f} times as long",
    ]
    if device == "cpu":
        share, longest = shares(encoder, utterances)
        lines += [
            (
                f"  matrix products, convolutions and attention {100 * share['products']:.1f} % of the time, the"
                f" model's other work {100 * share['model']:.1f} %, the exact group norm {100 * share['norm']:.1f} %,"
                f" outside the model {100 * share['rest']:.1f} %"
            ),
            (
                "  longest of the others, in %:"
                f" {', '.join(f'{name} {100 * value:.1f}' for name, value in longest.items())}"
            ),
        ]
    else:
        rate, peak = operations(model, seconds) / ours, product_rate(getattr(torch, dtype), device)
        lines.append(
            f"  {rate / 1e12:.0f} TFLOP/s of {peak / 1e12:.0f} that a matrix product of 8,192 reaches:"
            f" {rate / peak:.2f}"
        )
    return lines


@click.command()
@click.option("--device", default="cpu", show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True)
@click.option("--clips", type=click.IntRange(min=1), default=200, show_default=True)
@click.option(
    "--annotations",
    type=click.Path(path_type=Path, exists=True),
    help="Folder with MELD's CSV files; by default $MERC_REAL_DATA/meld.",
)
@click.option("--shape", type=click.Choice(list(SHAPES)), help="By default base on the CPU, large on a GPU.")
def main(device: str, dtype: str, clips: int, annotations: Path | None, shape: str | None) -> None:
    print("\n".join(measure(device, dtype, clips, annotations, shape)))


if __name__ == "__main__":
    main()
