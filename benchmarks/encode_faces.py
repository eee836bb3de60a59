"""How fast face crops are encoded: a tower of ViT-B/16's shape with random weights.

    python benchmarks/encode_faces.py [--device cuda:0 --dtype bfloat16 --images 16384] [--images 64]

All figures are of one run, on the same crops (112 pixels, 8 bits, decoded) and the same weights; the ways take turns,
and medians are given:

- the encoder, from crops to one vector per clip of eight, against a bare loop of the model over batches of the same
  size that are already on the device, resized and normalised; with all clips in one call, and in parts of 256 clips, as
  in extraction;
- the difference of the vectors;
- on a GPU, floating-point operations per second, relative to what a large matrix product of the same dtype reaches.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from merc.encoders.engine.base import UtteranceInput
from merc.encoders.visual.image_tower import ImageTower

CROPS_PER_CLIP = 8  # media.frames_per_clip of params.yaml
CROP_PX = 112  # media.face_size_pixels
CLIPS_PER_PART = 256  # media.utterances_per_part
ROUNDS = 5
MATRIX = 8192


def made_clips(images: int) -> list[UtteranceInput]:
    rng = np.random.default_rng(0)
    counts = [CROPS_PER_CLIP] * (images // CROPS_PER_CLIP) + [rest for rest in [images % CROPS_PER_CLIP] if rest]
    return [
        UtteranceInput(
            utterance_id=str(number), faces=rng.integers(0, 256, (count, CROP_PX, CROP_PX, 3), dtype=np.uint8)
        )
        for number, count in enumerate(counts)
    ]


def saved_model(folder: Path) -> Path:
    """A checkpoint of ViT-B/16's shape with random weights."""
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    ViTModel(ViTConfig()).save_pretrained(folder)
    ViTImageProcessor().save_pretrained(folder)
    return folder


def encoder_of(folder: Path, device: str, dtype: str) -> ImageTower:
    words = {"licence": "none", "training_data_overlap": "none"}
    settings = {"frame_vector": "first", "pooling": "mean", "confidence_temperature": 0.1, "dtype": dtype, **words}
    encoder = ImageTower(ImageTower.Config(family="image_tower", repo=str(folder), **settings))
    encoder.load(device)
    return encoder


def ready_batches(
    folder: Path, clips: list[UtteranceInput], images_per_batch: int, device: str, dtype: str
) -> list[torch.Tensor]:
    """Batches (B, 3, 224, 224) on the device, made by transformers' own processor."""
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folder)
    crops = torch.from_numpy(np.concatenate([clip.faces for clip in clips if clip.faces is not None])).permute(
        0, 3, 1, 2
    )
    return [
        processor(images=list(batch), input_data_format="channels_first", return_tensors="pt")["pixel_values"].to(
            device, getattr(torch, dtype)
        )
        for batch in crops.split(images_per_batch)
    ]


def bare_loop(model: Any, batches: list[torch.Tensor], clips: int) -> NDArray[np.float32]:
    """(clips, D): the model over prepared batches, and the mean of each clip's class tokens."""
    with torch.inference_mode():
        first_ND = (
            torch.cat([model(pixel_values=batch).last_hidden_state[:, 0].float() for batch in batches]).cpu().numpy()
        )
    return np.stack(
        [
            part.mean(axis=0)
            for part in np.array_split(first_ND, np.arange(CROPS_PER_CLIP, len(first_ND), CROPS_PER_CLIP))[:clips]
        ]
    )


def in_parts(encoder: ImageTower, clips: list[UtteranceInput]) -> NDArray[np.float32]:
    return np.concatenate(
        [
            encoder.encode(clips[start : start + CLIPS_PER_PART]).embeddings
            for start in range(0, len(clips), CLIPS_PER_PART)
        ]
    )


def seconds_of(device: str, run: Callable[[], Any]) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def matrix_product_rate(device: str, dtype: str, size: int = MATRIX, repeats: int = 20) -> float:
    """Floating-point operations per second of a product of two square matrices; a multiply-add counts as two."""
    left, right = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))

    def run() -> None:
        for _ in range(repeats):
            left @ right

    run()
    return 2 * size**3 * repeats / median(seconds_of(device, run) for _ in range(3))


def operations_of(model: Any, batch: torch.Tensor) -> int:
    """Floating-point operations for one image, as counted by torch for products, convolutions and attention."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(pixel_values=batch[:1])
    return int(counter.get_total_flops())


def measure(device: str, dtype: str, images: int) -> list[str]:
    """Runs everything and returns the lines of a report.

    Args:
        device: ``cpu`` or ``cuda:0``.
        dtype: of the model's arithmetic.
        images: total number of crops.
    """
    from transformers import ViTModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    clips = made_clips(images)
    with tempfile.TemporaryDirectory() as made:
        folder = saved_model(Path(made))
        encoder = encoder_of(folder, device, dtype)
        size = encoder.budget.units
        model = (
            ViTModel.from_pretrained(
                folder, dtype=getattr(torch, dtype), attn_implementation="sdpa", add_pooling_layer=False
            )
            .to(device)
            .eval()
        )
        batches = ready_batches(folder, clips, size, device, dtype)
    ways: dict[str, Callable[[], NDArray[np.float32]]] = {
        "bare loop over ready tensors": lambda: bare_loop(model, batches, len(clips)),
        "encoder, one call": lambda: encoder.encode(clips).embeddings,
    }
    if len(clips) > CLIPS_PER_PART:
        ways[f"encoder, parts of {CLIPS_PER_PART} clips"] = lambda: in_parts(encoder, clips)
    vectors = {name: run() for name, run in ways.items()}  # the first round warms up kernels and memory
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, run in ways.items():
            seconds[name].append(seconds_of(device, run))
    bare, *ours = ways
    reference = vectors[bare]
    lines = [
        f"faces: {images} crops of {CROP_PX} px, ViT-B/16, {dtype} on {device}, {os.cpu_count()} cores, batches of"
        f" {encoder.budget.units}"
    ]
    lines.append(f"{bare}: {images / median(seconds[bare]):.1f} images/s")
    for name in ours:
        cosine = (
            (vectors[name] * reference).sum(axis=1)
            / np.linalg.norm(vectors[name], axis=1)
            / np.linalg.norm(reference, axis=1)
        )
        ratio = median(one / other for one, other in zip(seconds[bare], seconds[name], strict=True))
        lines.append(
            f"{name}: {images / median(seconds[name]):.1f} images/s, {ratio:.3f} of the bare loop (goal 0.95), least"
            f" cosine {cosine.min():.7f}"
        )
    if device != "cpu":
        rate = operations_of(model, batches[0]) * images / median(seconds[ours[0]])
        peak = matrix_product_rate(device, dtype)
        lines.append(
            f"{rate / 1e12:.0f} TFLOP/s, {rate / peak:.2f} of the {peak / 1e12:.0f} of a {MATRIX} x {MATRIX} product"
            " (goal 0.5)"
        )
    return lines


@click.command()
@click.option("--device", default="cpu", show_default=True)
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(["float32", "bfloat16", "float16"]))
@click.option("--images", default=64, show_default=True, type=click.IntRange(min=1))
def main(device: str, dtype: str, images: int) -> None:
    print("\n".join(measure(device, dtype, images)))


if __name__ == "__main__":
    main()
