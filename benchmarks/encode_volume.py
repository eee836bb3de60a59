"""A corpus of MELD's volume through the extraction stage, from decoded media to feature tables: seconds per modality,
and peak memory.

    python benchmarks/encode_volume.py --share 0.02 --share 0.04 --shape tiny     # anywhere: does the peak grow with the corpus?
    python benchmarks/encode_volume.py --share 0.6 --shape tiny --modality audio  # the same for audio only
    python benchmarks/encode_volume.py --share 1 --shape large --dtype bfloat16   # on a GPU

13,708 utterances in 1,432 dialogues, lengths of speech and text drawn from log-normal distributions with MELD's means
(3.1 s, 11 words) and maxima (cut at 60 s and 90 words), eight face crops of 112 pixels each. Models have the shape of
RoBERTa, wav2vec2 and ViT-B/16 with random weights; text comes with three earlier turns. Each share runs in a separate
process. Next to the peak of the process is its resident size after each part: where that stays level, the peak is due
to the largest batch, and with more clips the longest clip is longer.
"""  # noqa: E501

import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import click

ROOT = Path(__file__).resolve().parents[1]
UTTERANCES = 13_708
TURNS = 10
SHAPES = {
    "tiny": {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 128},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
}
MODALITIES = ("text", "audio", "visual")
WORDS = [f"word{number}" for number in range(2000)]


def save_checkpoints(folder: Path, shape: str) -> dict[str, Path]:
    """Models with random weights in folders, as a user would have them."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        PreTrainedTokenizerFast,
        RobertaConfig,
        RobertaModel,
        ViTConfig,
        ViTImageProcessor,
        ViTModel,
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2Model,
    )  # fmt: skip

    torch.manual_seed(0)
    sizes = SHAPES[shape]
    words = {word: number for number, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", ":", *WORDS])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))  # noqa: S106
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    names = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
    }
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=512, **names)
    tokenizer.save_pretrained(folder / "text")
    RobertaModel(
        RobertaConfig(vocab_size=50_265, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1, **sizes)
    ).save_pretrained(folder / "text")
    # wav2vec2-base normalises its first convolution over time ("group"); the large models over channels ("layer").
    norm = (
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
        if shape == "large"
        else {"feat_extract_norm": "group"}
    )
    narrow = {"conv_dim": (64,) * 7, "num_conv_pos_embedding_groups": 4} if shape == "tiny" else {}
    Wav2Vec2Model(Wav2Vec2Config(**sizes, **norm, **narrow)).save_pretrained(folder / "audio")
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder / "audio")
    ViTModel(ViTConfig(**(SHAPES["base"] if shape == "large" else sizes))).save_pretrained(folder / "visual")
    ViTImageProcessor().save_pretrained(folder / "visual")
    return {modality: folder / modality for modality in ("text", "audio", "visual")}


def write_corpus(layout: Any, utterances: int) -> None:
    """Manifest and decoded media as the stages before extraction leave them."""
    import cv2
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    import soundfile

    from merc.corpora.engine import building
    from merc.corpora.engine.labels import label_set
    from merc.job import Fingerprint, Job
    from merc.media import pack
    from merc.media.tables import SCHEMA
    from merc.records import failures, manifest
    from merc.records.dialogue import Dialogue, Utterance

    rng = np.random.default_rng(0)
    seconds = np.clip(rng.lognormal(np.log(3.1) - 0.32, 0.8, utterances), 0.1, 60).round(1)
    words = np.clip(rng.lognormal(np.log(11) - 0.28, 0.75, utterances), 1, 90).astype(int)
    texts = [" ".join(rng.choice(WORDS, count)) for count in words]
    records = []
    for first in range(0, utterances, TURNS):
        turns = tuple(
            Utterance(
                source_utterance_id=f"u{row}",
                speaker="AB"[row % 2],
                text=texts[row],
                emotion="joy",
                start_seconds=float(row),
                end_seconds=row + float(seconds[row]),
            )
            for row in range(first, min(first + TURNS, utterances))
        )
        records.append(Dialogue(split="train", source_dialogue_id=f"d{first}", utterances=turns))
    table = building.build(layout.dataset, records, label_set("meld7"))
    manifest.write(layout.manifest, table)

    def flac(length: float) -> bytes:
        buffer = io.BytesIO()
        envelope = np.abs(np.sin(np.arange(round(length * 16_000)) / 2500))
        soundfile.write(
            buffer,
            (0.1 * envelope * rng.standard_normal(len(envelope))).astype(np.float32),
            16_000,
            format="FLAC",
            subtype="PCM_16",
        )
        return buffer.getvalue()

    sounds = {length: flac(length) for length in np.unique(seconds).tolist()}
    faces = [
        bytes(
            cv2.imencode(
                ".jpg",
                cv2.resize(
                    rng.integers(0, 256, (14, 14, 3), dtype=np.uint8), (112, 112), interpolation=cv2.INTER_CUBIC
                ),
            )[1]
        )
        for _ in range(64)
    ]
    empty = {
        field.name: [] if pa.types.is_list(field.type) else "" if pa.types.is_string(field.type) else 0
        for field in SCHEMA
    }
    job = Job("media", layout.media, layout.scratch, Fingerprint({}, {"streams": {"audio": 0, "visual": 0}}))
    job.start()
    ids, dialogues = table["utterance_id"].to_pylist(), table["dialogue_id"].to_pylist()
    for index, (start, stop) in enumerate(manifest.cut_into_parts(table, 256)):
        rows = [
            {
                **empty, "utterance_id": ids[row], "dialogue_id": dialogues[row], "truncated": False,
                "audio": sounds[float(seconds[row])], "audio_status": "ok", "duration_seconds": float(seconds[row]),
                "faces": [faces[(row + frame) % 64] for frame in range(8)], "visual_status": "ok",
                "face_seconds": [frame / 8 for frame in range(8)], "face_scores": [0.9] * 8,
            }
            for row in range(start, stop)
        ]  # fmt: skip
        pack.write_part(job.part(index), rows)
        job.mark_done(index, [])
    pq.write_table(failures.table([]), job.folder / "failures.parquet")
    job.finish({})


def blocks(checkpoints: dict[str, Path], dtype: str) -> dict[str, dict[str, Any]]:
    """Settings of the encoders: the shipped ones, with these checkpoints."""
    models = {"text": "roberta_large", "audio": "wav2vec2_base", "visual": "dinov2_base"}
    more: dict[str, dict[str, Any]] = {
        "text": {"history_turns": 3, "speaker_names": True, "tokens_per_batch": "auto"},
        "audio": {},
        "visual": {},
    }
    return {
        modality: {
            "bench": {"base": name, "repo": str(checkpoints[modality]), "dtype": dtype, "dim": None, **more[modality]}
        }
        for modality, name in models.items()
    }


def resident_megabytes() -> int:
    """Resident size of this process, including mapped files."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 2**20


def run_one(share: float, shape: str, dtype: str, device: str, modalities: tuple[str, ...]) -> dict[str, Any]:
    """One share, in this process."""
    from merc.compute import memory
    from merc.encoders.engine.registry import choose
    from merc.extraction.config import Config
    from merc.extraction.stage import extract
    from merc.job import RunOptions
    from merc.layout import Layout
    from merc.params import Params

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        layout = Layout(folder / "raw", folder / "features", "volume")
        write = (
            f"import sys; sys.path[:0] = {sys.path!r}; import encode_volume as v; from pathlib import Path; from"
            " merc.layout import Layout"
        )
        layout_words = f"Layout(Path({str(layout.raw)!r}), Path({str(layout.out)!r}), 'volume')"
        subprocess.run(
            [sys.executable, "-c", f"{write}; v.write_corpus({layout_words}, {round(share * UTTERANCES)})"], check=True
        )
        subprocess.run(
            [sys.executable, "-c", f"{write}; v.save_checkpoints(Path({str(folder)!r}) / 'models', {shape!r})"],
            check=True,
        )
        checkpoints = {modality: folder / "models" / modality for modality in MODALITIES}
        params = Params({"encoders": blocks(checkpoints, dtype)})
        found: dict[str, Any] = {"share": share, "utterances": round(share * UTTERANCES)}
        trim = memory.trim  # the last thing that is done for a part
        for modality in modalities:
            began = time.perf_counter()
            after_parts: list[int] = []
            with mock.patch.object(
                memory, "trim", lambda after=after_parts: (trim(), after.append(resident_megabytes()))
            ):
                extract(choose(params, modality, "bench"), Config(), layout, RunOptions(device=device))
            found[modality] = round(time.perf_counter() - began, 1)
            found[f"{modality}_megabytes_after_parts"] = after_parts
        found["seconds"] = round(sum(found[modality] for modality in modalities), 1)
        found["peak_megabytes"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return found


@click.command()
@click.option(
    "--share",
    "shares",
    type=float,
    multiple=True,
    default=(0.02, 0.04),
    show_default=True,
    help="Of MELD's volume; repeatable.",
)
@click.option("--shape", type=click.Choice(list(SHAPES)), default="tiny", show_default=True)
@click.option("--dtype", default="float32", show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option(
    "--modality", "modalities", type=click.Choice(MODALITIES), multiple=True, default=MODALITIES, show_default=True
)
@click.option("--inside", is_flag=True, hidden=True)
def main(
    shares: tuple[float, ...], shape: str, dtype: str, device: str, modalities: tuple[str, ...], inside: bool
) -> None:
    if inside:
        print(json.dumps(run_one(shares[0], shape, dtype, device, modalities)))
        return
    print(
        f"{shape} models in {dtype} on {device}, {os.cpu_count()} cores; seconds from decoded media to tables, models"
        " loaded once per modality"
    )
    for share in shares:
        command = [
            sys.executable,
            __file__,
            "--share",
            str(share),
            "--shape",
            shape,
            "--dtype",
            dtype,
            "--device",
            device,
            "--inside",
        ]
        command += [part for modality in modalities for part in ("--modality", modality)]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'pipeline'}:{os.environ.get('PYTHONPATH', '')}"}
        print(
            subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout.strip(),
            flush=True,
        )


if __name__ == "__main__":
    main()
