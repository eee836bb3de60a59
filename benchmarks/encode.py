"""How fast the neural encoders are, as ratios within one run; prints Markdown for the dated file next to this one.

    python benchmarks/encode.py --checkpoint FOLDER_OF_ALL_MINILM_L6_V2 --annotations FOLDER_WITH_MELD_CSV [--only text]
    [--device cuda:0 --dtype bfloat16]

Each modality has its own file (`encode_text.py`, `encode_audio.py`, `encode_faces.py`), which says what is compared
with what; on a GPU the text benchmark also uses a model of RoBERTa-large's shape. `linear`, run only on a CPU and only
on request, compares the libraries that can compute the linear layers, ONNX Runtime among them (`encode_linear.py`).
`encode_volume.py` runs a whole corpus of MELD's size through the extraction stage.
"""

import os
import platform
from collections.abc import Callable
from pathlib import Path

import click
import torch
import transformers

import encode_audio
import encode_faces
import encode_linear
import encode_text


@click.command()
@click.option("--checkpoint", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--annotations", type=click.Path(path_type=Path, exists=True), required=True)
@click.option(
    "--only", type=click.Choice(["text", "audio", "faces", "linear"]), multiple=True, default=("text", "audio", "faces")
)
@click.option("--device", default="cpu", show_default=True)
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(["float32", "bfloat16", "float16"]))
@click.option("--limit", type=int, help="Utterances of text; all without it.")
@click.option("--clips", default=200, show_default=True)
@click.option("--images", default=128, show_default=True)
def main(
    checkpoint: Path,
    annotations: Path,
    only: tuple[str, ...],
    device: str,
    dtype: str,
    limit: int | None,
    clips: int,
    images: int,
) -> None:
    """Measures the encoders of text, audio and faces, and prints their tables."""
    where = torch.cuda.get_device_name(device) if device != "cpu" else f"{os.cpu_count()} cores, {platform.machine()}"
    print(
        f"{where}; {dtype}; torch {torch.__version__}, transformers {transformers.__version__}, Python"
        f" {platform.python_version()}\n"
    )
    steps: dict[str, list[Callable[[], list[str]]]] = {
        "text": [lambda: encode_text.measure(checkpoint, annotations, device, dtype, limit)],
        "audio": [lambda: encode_audio.measure(device, dtype, clips, annotations)],
        "faces": [lambda: encode_faces.measure(device, dtype, images)],
        "linear": [lambda: encode_linear.measure(checkpoint, annotations, None)],
    }
    if device != "cpu":
        steps["linear"] = []
        steps["text"].append(lambda: encode_text.measure_large(checkpoint, annotations, device, dtype, limit))
    for name in only:
        for measure in steps[name]:
            print(f"## {name}\n", *measure(), sep="\n", flush=True)
            print()


if __name__ == "__main__":
    main()
