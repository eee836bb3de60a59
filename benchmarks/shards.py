"""How fast shards are read against pickles of the same content, and in how much memory they are joined, written and read.

    python benchmarks/shards.py speed            # a train split of MELD's size: the reader against three kinds of feature pickle, in turn
    python benchmarks/shards.py memory           # the peak of reading 1, 4 and 16 times that
    python benchmarks/shards.py large --scratch /big/disk     # 100,000 dialogues of 10 utterances with three vectors of 768: 30 GB for a while

Vectors are random normal numbers, which no compression makes smaller; ``speed --vectors features/<dataset>/text/<encoder>`` takes real ones for all three
modalities instead. Peaks are the largest resident size of a process of its own, mapped pages of files included.
"""

import io
import json
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline import files
from pipeline.corpora import failures, manifest
from pipeline.corpora.failures import Failure
from pipeline.corpora.labels import label_set
from pipeline.extraction import tables
from pipeline.extraction.inputs import input_hashes
from pipeline.layout import MODALITIES, Layout
from pipeline.params import Params
from pipeline.parts import Fingerprint, RunOptions, StageWork
from pipeline.shards.card import write_card
from pipeline.shards.reader import Dialogues
from pipeline.shards.stage import build_shards

ROOT = Path(__file__).resolve().parents[1]
MELD_TRAIN = (1038, 9989)  # dialogues, utterances
DIM = 768
LABELS = label_set("meld7")
READ = ["dialogue_id", "speakers", "texts", "emotion_index", *MODALITIES, *(f"{modality}_present" for modality in MODALITIES)]


def synthetic(layout: Layout, turns: list[int], dim: int, absent_every: int = 97, real_ND: NDArray[np.float32] | None = None) -> None:
    """A train split with a manifest and with features as extraction writes them, part by part.

    The first number of a vector is its row, which shows whether what is read is what was written. One utterance in ``absent_every`` has no vector.
    """
    _write_manifest(layout, turns)
    table = manifest.read(layout.manifest)
    media = StageWork("media", layout.media, layout.scratch, Fingerprint({}, {"streams": {"audio": "1", "visual": "1"}}))
    media.start()
    tables.write(media.folder / tables.FAILURES, failures.table([]))
    media.finish({})
    ids = table["utterance_id"]
    for seed, modality in enumerate(MODALITIES):
        fingerprint = Fingerprint({"encoders": {modality: {"random": {"seed": seed}}}}, input_hashes(layout.media, table, modality))
        work = StageWork(f"{modality}/random", layout.features(modality, "random"), layout.scratch, fingerprint)
        work.start()
        failed = []
        for index, (start, stop) in enumerate(manifest.cut_into_parts(table, 512)):
            rows_N = np.arange(start, stop)
            if real_ND is None:
                values_ND = np.random.default_rng([seed, index]).standard_normal((stop - start, dim), dtype=np.float32)
            else:
                values_ND = np.take(real_ND, rows_N, axis=0, mode="wrap")
            values_ND[:, 0] = rows_N + 1
            present_N = rows_N % absent_every != absent_every - 1
            values_ND[~present_N] = 0
            names = ids.slice(start, stop - start)
            failed += [Failure(names[int(row)].as_py(), "extraction", modality, "zero_vector").row() for row in np.flatnonzero(~present_N)]
            columns = [names.combine_chunks(), tables.vectors(values_ND), pa.array(present_N), pa.array(np.where(present_N, "ok", "zero_vector"))]
            tables.write(work.part(index), pa.table(columns, schema=tables.schema(dim)))
        tables.write(work.folder / tables.FAILURES, failures.table(failed))
        work.finish({"modality": modality, "encoder": "random", "dim": dim, "provenance": {"encoder": "random"}, "counts": {}, "versions": {}})


def _write_manifest(layout: Layout, turns: list[int]) -> None:
    total = sum(turns)
    owner_N = np.repeat(np.arange(len(turns)), turns)
    position_N = np.arange(total) - np.repeat(np.cumsum(turns) - turns, turns)
    label_N = (owner_N + position_N) % len(LABELS.classes)
    filled: dict[str, Any] = {
        "corpus": pa.array(["synthetic"]).take(pa.array(np.zeros(total, dtype=np.int64))),
        "split": pa.array(["train"]).take(pa.array(np.zeros(total, dtype=np.int64))),
        "dialogue_id": [f"train/dia{number}" for number in owner_N],
        "utterance_id": [f"train/dia{number}_utt{turn}" for number, turn in zip(owner_N, position_N, strict=True)],
        "source_utterance_id": [f"dia{number}_utt{turn}" for number, turn in zip(owner_N, position_N, strict=True)],
        "position": position_N,
        "speaker": [("Ross", "Rachel")[turn % 2] for turn in position_N],
        "speaker_index": np.minimum(position_N % 2, position_N),
        "text": [f"What was said in turn {turn} of the dialogue {number}, eleven words." for number, turn in zip(owner_N, position_N, strict=True)],
        "emotion": [LABELS.classes[label] for label in label_N],
        "emotion_index": label_N,
        "start_seconds": position_N * 3.0,
        "end_seconds": position_N * 3.0 + 2.5,
    }
    columns = []
    for field in manifest.SCHEMA:
        if field.name in filled:
            columns.append(pa.array(filled[field.name], type=field.type) if not isinstance(filled[field.name], pa.Array) else filled[field.name])
        elif field.name == "video_region":
            columns.append(pa.array(["full"] * total))
        elif field.name == "audio_channel":
            columns.append(pa.array(["mix"] * total))
        elif field.nullable:
            columns.append(pa.nulls(total, field.type))
        else:
            columns.append(pa.array([""] * total) if pa.types.is_string(field.type) else pa.array(np.zeros(total), type=field.type))
    metadata = {"schema_version": manifest.SCHEMA_VERSION, "label_set": LABELS.name, "classes": ",".join(LABELS.classes)}
    manifest.write(layout.manifest, pa.table(columns, schema=manifest.SCHEMA.with_metadata(metadata)))
    record = {"settings": {"corpora": {layout.dataset: {"label_set": LABELS.name}}}, "source": "random numbers", "deviations": [], "failures": []}
    files.write_json(layout.folder / "manifest.json", record)


def join(layout: Layout) -> str:
    params = Params.load(ROOT / "params.yaml")
    write_card(build_shards(params, layout, RunOptions(), encoders=dict.fromkeys(MODALITIES, "random")))
    there = sorted((layout.shards / "dialogues").iterdir())
    return f"{len(there)} files, {sum(path.stat().st_size for path in there) / 1e9:.2f} GB, the largest {max(path.stat().st_size for path in there) / 1e6:.0f} MB"


def read(layout: Layout) -> str:
    """Reads all in order and checks that every vector is the one that was written for its row."""
    row = 0
    for dialogue in Dialogues(layout.shards, "train", READ).rows():
        expected_T = np.arange(row + 1, row + 1 + len(dialogue["texts"]), dtype=np.float32)
        for modality in MODALITIES:
            if not np.array_equal(dialogue[modality][:, 0], np.where(dialogue[f"{modality}_present"], expected_T, 0)):
                raise ValueError(f"{dialogue['dialogue_id']}: other {modality} vectors than those written")
        row += len(expected_T)
    return f"{row} utterances, as they were written"


def shuffle(layout: Layout) -> str:
    seen = sum(int(batch["mask"].sum()) for batch in Dialogues(layout.shards, "train", READ).batches(32, seed=0))
    return f"{seen} utterances in batches of 32 dialogues, shuffled"


def validate(layout: Layout) -> str:
    run = subprocess.run([sys.executable, "-m", "pipeline.commands.shards", "validate", str(layout.shards)], capture_output=True, text=True, check=False)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return f"merc-shards validate: exit code {run.returncode}, its own peak {children / 1e3:.0f} MB {run.stderr.strip().splitlines()[-1:]}"


STEPS: dict[str, Callable[[Layout], str]] = {"join": join, "read": read, "shuffle": shuffle, "validate": validate}


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@click.argument("name", type=click.Choice([*STEPS, "write"]))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--dialogues", type=int, default=0)
@click.option("--turns", type=int, default=0)
@click.option("--dim", type=int, default=DIM)
def step(name: str, folder: Path, dialogues: int, turns: int, dim: int) -> None:
    """One step by itself, of which the peak is measured."""
    layout = Layout(folder / "raw", folder / "features", "synthetic")
    begin = time.perf_counter()
    if name == "write":
        synthetic(layout, [turns] * dialogues, dim)
    said = "" if name == "write" else STEPS[name](layout)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{name}: {time.perf_counter() - begin:.1f} s, peak {peak:.0f} MB. {said}", flush=True)


if __name__ == "__main__":
    main()
