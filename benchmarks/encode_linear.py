"""Libraries that compute an encoder's linear layers on a CPU: torch's own choice (MKL) against oneDNN in the same
torch, and against ONNX Runtime where it is installed.

    OMP_NUM_THREADS=1 python benchmarks/encode_linear.py --checkpoint FOLDER_OF_ALL_MINILM_L6_V2 --annotations
    FOLDER_WITH_MELD_CSV [--whisper FOLDER]

All figures are CPU seconds of one process; the ways take turns, and a ratio is the median over the rounds of the ratios
within a round. Measured are

- single layers, in GFLOP/s, the best of the rounds;
- `Encoder.encode` with `linear_layers` torch and onednn: MiniLM with its weights on MELD's texts, the shapes of
  wav2vec2-base, WavLM-base and ViT-B/16 with random weights, and a Whisper where a folder is given; the smallest cosine
  between the vectors;
- three of the bare models on one batch, against ONNX Runtime on the same graph, one thread.

With MKL_ENABLE_INSTRUCTIONS=AVX2 in the environment, MKL on an Intel processor is restricted to what it uses on others;
oneDNN is not.
"""

import io
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import encode_audio
import encode_faces
import encode_text
from merc.encoders.audio.spectrogram import Spectrogram
from merc.encoders.audio.waveform import Waveform
from merc.encoders.engine import linear
from merc.encoders.engine.base import UtteranceInput
from merc.encoders.engine.neural import NeuralEncoder
from merc.encoders.text.transformer import Transformer
from merc.encoders.visual.image_tower import ImageTower

ROUNDS = 4
WORDS = {"licence": "none", "training_data_overlap": "none"}
# Rows, inputs and outputs: MiniLM, ViT-B, wav2vec2-base, and a single utterance.
LAYERS = (
    (1024, 384, 384),
    (1024, 384, 1536),
    (1024, 1536, 384),
    (1576, 768, 768),
    (1576, 768, 3072),
    (1576, 3072, 768),
    (16, 768, 3072),
)


def cpu_seconds(run: Callable[[], Any]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def in_turn(ways: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of every way in every round, after a warm-up round."""
    for run in ways.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways) if number % 2 else list(ways)[::-1]:
            seconds[name].append(cpu_seconds(ways[name]))
    return seconds


def times_as_fast(seconds: Mapping[str, Sequence[float]], name: str, beside: str) -> float:
    return statistics.median(one / other for one, other in zip(seconds[beside], seconds[name], strict=True))


@torch.inference_mode()
def layers() -> list[str]:
    """GFLOP/s of single layers, and the ratio."""
    lines = ["| rows, inputs, outputs | torch, GFLOP/s | oneDNN, GFLOP/s | ratio |", "| --- | ---: | ---: | ---: |"]
    for rows, inputs, outputs in LAYERS:
        layer, given = nn.Linear(inputs, outputs), torch.randn(rows, inputs)
        packed = linear.OneDnnLinear(layer)
        repeats = max(1, 1024 // rows)
        ways = {
            "torch": lambda layer=layer, given=given, repeats=repeats: [layer(given) for _ in range(repeats)],
            "onednn": lambda layer=packed, given=given, repeats=repeats: [layer(given) for _ in range(repeats)],
        }
        seconds = in_turn(ways, ROUNDS)
        rates = {name: 2e-9 * repeats * rows * inputs * outputs / min(took) for name, took in seconds.items()}
        lines.append(
            f"| {rows}, {inputs}, {outputs} | {rates['torch']:.0f} | {rates['onednn']:.0f} |"
            f" {times_as_fast(seconds, 'onednn', 'torch'):.2f} |"
        )
    return lines


def waveform_folder(kind: str, folder: Path) -> Path:
    if kind == "wav2vec2-base":
        return encode_audio.saved_model("base", folder)
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

    torch.manual_seed(0)
    WavLMModel(WavLMConfig()).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    return folder


def encoders(
    checkpoint: Path, annotations: Path, whisper: Path | None, folder: Path, size: float
) -> dict[str, tuple[NeuralEncoder, list[UtteranceInput]]]:
    """Encoders, not yet loaded, and what they encode."""
    rng = np.random.default_rng(1)
    sounds = [
        encode_audio.made_sound(seconds, rng)
        for seconds in encode_audio.clip_seconds(annotations, max(2, round(16 * size)))
    ]
    clips = [UtteranceInput(utterance_id=str(number), waveform=sound) for number, sound in enumerate(sounds)]
    text = Transformer.Config(family="transformer", repo=str(checkpoint), **WORDS)
    found: dict[str, tuple[NeuralEncoder, list[UtteranceInput]]] = {
        "MiniLM, real weights": (Transformer(text), encode_text.read_utterances(annotations, round(1500 * size))),
        "ViT-B/16": (
            ImageTower(
                ImageTower.Config(family="image_tower", repo=str(encode_faces.saved_model(folder / "vit")), **WORDS)
            ),
            encode_faces.made_clips(round(32 * size)),
        ),
    }
    for kind, attention in (("wav2vec2-base", "sdpa"), ("WavLM-base", "eager")):
        repo = str(waveform_folder(kind, folder / kind))
        found[kind] = (Waveform(Waveform.Config(family="waveform", repo=repo, attention=attention, **WORDS)), clips)
    if whisper is not None:
        found["Whisper, real weights"] = (
            Spectrogram(Spectrogram.Config(family="spectrogram", repo=str(whisper), **WORDS)),
            clips[:4],
        )
    return found


def loaded(encoder: NeuralEncoder, library: str) -> NeuralEncoder:
    """A copy of the encoder, loaded on the CPU. Raises RuntimeError if the library does not compute its layers."""
    made = type(encoder)(encoder.config.model_copy(update={"linear_layers": library}))
    made.load("cpu")
    if made.linear_layers != library:
        raise RuntimeError(
            f"{encoder.config.repo}: linear layers are computed by {made.linear_layers}, not by {library}"
        )
    return made


def whole(cases: Mapping[str, tuple[NeuralEncoder, list[UtteranceInput]]]) -> list[str]:
    """Encoders as they are used."""
    lines = [
        "| `Encoder.encode` | torch, CPU s | oneDNN, times as fast | least cosine |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, (encoder, utterances) in cases.items():
        both = {library: loaded(encoder, library) for library in ("torch", "onednn")}
        vectors = {library: made.encode(utterances).embeddings for library, made in both.items()}
        seconds = in_turn(
            {library: lambda made=made, given=utterances: made.encode(given) for library, made in both.items()}, ROUNDS
        )
        cosine = encode_text.smallest_cosine(*(one.astype(np.float64) for one in vectors.values()))
        ratio = times_as_fast(seconds, "onednn", "torch")
        lines.append(
            f"| {name}, {len(utterances)} utterances | {statistics.median(seconds['torch']):.2f} | {ratio:.2f} |"
            f" {cosine:.8f} |"
        )
    return lines


def bare_inputs(name: str) -> dict[str, torch.Tensor] | None:
    """A batch for a model that is also run in ONNX Runtime; None if it is not compared."""
    generator = torch.Generator().manual_seed(0)
    return {
        "MiniLM, real weights": {"input_ids": torch.randint(1000, 20_000, (64, 16), generator=generator)},
        "ViT-B/16": {"pixel_values": torch.randn(4, 3, 224, 224, generator=generator)},
        "wav2vec2-base": {"input_values": torch.randn(1, 10 * 16_000, generator=generator)},
    }.get(name)


class LastHidden(nn.Module):
    """A model as a function of one tensor, for the export."""

    def __init__(self, model: nn.Module, key: str) -> None:
        super().__init__()
        self.model, self.key = model, key

    def forward(self, given: torch.Tensor) -> Any:
        return self.model(**{self.key: given}).last_hidden_state


def session_of(model: LastHidden, given: torch.Tensor) -> Callable[[], NDArray[np.float32]]:
    """A function that runs the model in ONNX Runtime with one thread and all optimisations."""
    import onnxruntime

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from the exporter: traced constants, and that it is the older of two
        torch.onnx.export(
            model, (given,), buffer, input_names=["given"], output_names=["hidden"], dynamo=False, opset_version=17
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(buffer.getvalue(), options, providers=["CPUExecutionProvider"])
    array = given.numpy()

    def run() -> NDArray[np.float32]:
        hidden: NDArray[np.float32] = session.run(None, {"given": array})[0]
        return hidden

    return run


def beside_onnx_runtime(cases: Mapping[str, tuple[NeuralEncoder, list[UtteranceInput]]]) -> list[str]:
    """Bare models on one batch."""
    try:
        import onnxruntime
    except ImportError:
        return ["ONNX Runtime is not installed: not compared."]
    from transformers import AutoModel

    lines = [
        f"| bare model, one batch; ONNX Runtime {onnxruntime.__version__} | torch, CPU s | oneDNN, times as fast | ONNX"
        " Runtime, times as fast | cosine |"
    ]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    for name, (encoder, _) in cases.items():
        inputs = bare_inputs(name)
        if inputs is None:
            continue
        ((key, given),) = inputs.items()
        models = [
            LastHidden(AutoModel.from_pretrained(encoder.config.repo, attn_implementation="sdpa"), key).eval()
            for _ in range(2)
        ]
        with torch.inference_mode():
            run_onnx = session_of(models[0], given)
            linear.hand_over(models[1], name)
            ways = {
                "torch": lambda: models[0](given),  # noqa: B023
                "onednn": lambda: models[1](given),  # noqa: B023
                "onnx": run_onnx,
            }  # used in this round only
            expected, found = (
                models[0](given).flatten(0, 1).double().numpy(),
                run_onnx().reshape(-1, models[0](given).shape[-1]).astype(np.float64),
            )
            seconds = in_turn(ways, ROUNDS)
        ratios = [f"{times_as_fast(seconds, way, 'torch'):.2f}" for way in ("onednn", "onnx")]
        lines.append(
            f"| {name} | {statistics.median(seconds['torch']):.3f} | {' | '.join(ratios)} |"
            f" {encode_text.smallest_cosine(expected, found):.8f} |"
        )
    return lines


PARTS = ("layers", "encoders", "onnx")


def measure(
    checkpoint: Path, annotations: Path, whisper: Path | None, size: float = 1.0, only: Sequence[str] = PARTS
) -> list[str]:
    """Runs everything; returns lines of Markdown.

    Args:
        checkpoint: folder of all-MiniLM-L6-v2.
        annotations: folder with MELD's CSV files.
        whisper: folder of a Whisper, or None.
        size: how much is encoded; 1 takes about ten minutes on one core.
        only: which parts to run.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    vendor, features = linear._processor()
    held = os.environ.get("MKL_ENABLE_INSTRUCTIONS")
    lines = [
        f"{vendor}, {'AVX-512' if 'avx512f' in features else 'no AVX-512'}, {torch.get_num_threads()} thread; `auto`"
        f" takes {linear.choose('auto')}" + (f"; MKL is held to {held}" if held else ""),
    ]
    with tempfile.TemporaryDirectory() as made:
        cases = encoders(checkpoint, annotations, whisper, Path(made), size)
        steps = {"layers": layers, "encoders": lambda: whole(cases), "onnx": lambda: beside_onnx_runtime(cases)}
        return lines + [line for part in only for line in ("", *steps[part]())]


@click.command()
@click.option("--checkpoint", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--annotations", type=click.Path(path_type=Path, exists=True), required=True)
@click.option(
    "--whisper", type=click.Path(path_type=Path, exists=True), help="Folder of a Whisper; without it none is measured."
)
@click.option("--size", type=click.FloatRange(min=0.01), default=1.0, show_default=True)
@click.option("--only", type=click.Choice(PARTS), multiple=True, default=PARTS)
def main(checkpoint: Path, annotations: Path, whisper: Path | None, size: float, only: tuple[str, ...]) -> None:
    print("\n".join(measure(checkpoint, annotations, whisper, size, only)))


if __name__ == "__main__":
    main()
