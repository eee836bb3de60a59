"""How fast shards are read compared with pickles of the same content, and how much memory it takes to join, write and
read them.

    python benchmarks/shards.py speed                        # a train split of MELD's size: the reader against three
                                                             # kinds of feature pickle, alternating
    python benchmarks/shards.py memory                       # peak memory of reading 1, 4 and 16 times that
    python benchmarks/shards.py large --scratch /big/disk    # 100,000 dialogues of 10 utterances with three vectors of
                                                             # 768 numbers: temporarily 20 GB

Vectors are random normal numbers, which cannot be compressed; ``speed --vectors
features/<dataset>/text/<encoder>`` uses real ones for all three modalities instead. Peaks are the largest resident size
of a separate process, including mapped file pages.
"""

import io
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
from typing import Any, ClassVar

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from merc import files, parquet
from merc.corpora.engine.labels import label_set
from merc.job import Fingerprint, Job, RunOptions
from merc.layout import MODALITIES, Layout
from merc.records import failures, manifest
from merc.records import features as feature_tables
from merc.records.failures import Failure
from merc.records.inputs import input_hashes
from merc.shards.card.writing import write_card
from merc.shards.config import Config
from merc.shards.format.reader import Dialogues
from merc.shards.stage import build_shards

ROOT = Path(__file__).resolve().parents[1]
MELD_TRAIN = (1038, 9989)  # dialogues, utterances
DIM = 768
LABELS = label_set("meld7")
READ = [
    "dialogue_id",
    "speakers",
    "texts",
    "emotion_index",
    *MODALITIES,
    *(f"{modality}_present" for modality in MODALITIES),
]


def synthetic(
    layout: Layout, turns: list[int], dim: int, absent_every: int = 97, real_ND: NDArray[np.float32] | None = None
) -> None:
    """A train split with a manifest and with features as extraction writes them, part by part.

    The first number of a vector is its row, so that a read can be checked. One utterance in ``absent_every`` has no
    vector.
    """
    _write_manifest(layout, turns)
    write_features(layout, dim, absent_every, real_ND)


def write_features(
    layout: Layout, dim: int, absent_every: int = 97, real_ND: NDArray[np.float32] | None = None
) -> None:
    """The features of an existing manifest, and media that consist of just the record; see :func:`synthetic`."""
    table = manifest.read(layout.manifest)
    media = Job("media", layout.media, layout.scratch, Fingerprint({}, {"streams": {"audio": "1", "visual": "1"}}))
    media.start()
    parquet.write(media.folder / feature_tables.FAILURES, failures.table([]))
    media.finish({})
    ids = table["utterance_id"]
    for seed, modality in enumerate(MODALITIES):
        fingerprint = Fingerprint(
            {"encoders": {modality: {"random": {"seed": seed}}}}, input_hashes(layout.media, table, modality)
        )
        job = Job(f"{modality}/random", layout.features(modality, "random"), layout.scratch, fingerprint)
        job.start()
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
            failed += [
                Failure(names[int(row)].as_py(), "extraction", modality, "zero_vector").row()
                for row in np.flatnonzero(~present_N)
            ]
            columns = [
                names.combine_chunks(),
                feature_tables.vectors(values_ND),
                pa.array(present_N),
                pa.array(np.where(present_N, "ok", "zero_vector")),
            ]
            parquet.write(job.part(index), pa.table(columns, schema=feature_tables.schema(dim)))
        parquet.write(job.folder / feature_tables.FAILURES, failures.table(failed))
        job.finish(
            {
                "modality": modality,
                "encoder": "random",
                "dim": dim,
                "provenance": {"encoder": "random"},
                "counts": {},
                "versions": {},
            }
        )


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
        "text": [
            f"What was said in turn {turn} of the dialogue {number}, eleven words."
            for number, turn in zip(owner_N, position_N, strict=True)
        ],
        "emotion": [LABELS.classes[label] for label in label_N],
        "emotion_index": label_N,
        "start_seconds": position_N * 3.0,
        "end_seconds": position_N * 3.0 + 2.5,
    }
    columns = []
    for field in manifest.SCHEMA:
        if field.name in filled:
            columns.append(
                pa.array(filled[field.name], type=field.type)
                if not isinstance(filled[field.name], pa.Array)
                else filled[field.name]
            )
        elif field.name == "video_region":
            columns.append(pa.array(["full"] * total))
        elif field.name == "audio_channel":
            columns.append(pa.array(["mix"] * total))
        elif field.nullable:
            columns.append(pa.nulls(total, field.type))
        else:
            columns.append(
                pa.array([""] * total) if pa.types.is_string(field.type) else pa.array(np.zeros(total), type=field.type)
            )
    metadata = {
        "schema_version": manifest.SCHEMA_VERSION,
        "label_set": LABELS.name,
        "classes": ",".join(LABELS.classes),
    }
    manifest.write(layout.manifest, pa.table(columns, schema=manifest.SCHEMA.with_metadata(metadata)))
    record = {
        "settings": {"corpora": {layout.dataset: {"label_set": LABELS.name}}},
        "source": "random numbers",
        "deviations": [],
        "failures": [],
    }
    files.write_json(layout.folder / "manifest.json", record)


def join(layout: Layout) -> str:
    write_card(build_shards(Config(), layout, RunOptions(), encoders=dict.fromkeys(MODALITIES, "random")))
    there = sorted((layout.shards / "dialogues").iterdir())
    return (
        f"{len(there)} files, {sum(path.stat().st_size for path in there) / 1e9:.2f} GB, the largest"
        f" {max(path.stat().st_size for path in there) / 1e6:.0f} MB"
    )


def read(layout: Layout) -> str:
    """Reads everything in order and checks that every vector is the one written for its row."""
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
    command = [sys.executable, "-c", "from merc.commands.shards import main; main()", "validate", str(layout.shards)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return (
        f"merc-shards validate: exit code {run.returncode}, its own peak {children / 1e3:.0f} MB."
        f" {' '.join((run.stdout + run.stderr).split()[-20:])}"
    )


STEPS: dict[str, Callable[[Layout], str]] = {"join": join, "read": read, "shuffle": shuffle, "validate": validate}


class _AsPython2(pickle._Pickler):
    """Writes what Python 2 wrote with protocol 2: raw bytes. The files in circulation are like that
    (``encoding="latin1"``).
    """

    def _bytes(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch: ClassVar[dict[type, Any]] = {**pickle._Pickler.dispatch, bytes: _bytes}


def pickles(layout: Layout, folder: Path) -> dict[str, Path]:
    """The content of the shards in the layout of MMGCN's files: dictionaries by dialogue id, in a tuple."""
    rows = list(Dialogues(layout.shards, "train", READ).rows())

    def content(vectors: Callable[[NDArray[np.float32]], Any]) -> tuple[Any, ...]:
        by_modality = [{row["dialogue_id"]: vectors(row[modality]) for row in rows} for modality in MODALITIES]
        speakers, labels, texts = (
            {row["dialogue_id"]: list(row[name]) for row in rows} for name in ("speakers", "emotion_index", "texts")
        )
        return ([row["dialogue_id"] for row in rows], speakers, labels, *by_modality, texts)

    old = io.BytesIO()
    _AsPython2(old, protocol=2).dump(content(lambda values_TD: [vector.copy() for vector in values_TD]))
    contents = {
        "pickle of Python 2, an array per utterance": old.getvalue(),
        "pickle of Python 3, an array per utterance": pickle.dumps(
            content(lambda values_TD: [vector.copy() for vector in values_TD])
        ),
        "pickle of Python 3, an array per dialogue": pickle.dumps(content(np.copy), protocol=5),
    }
    paths = {}
    for name, data in contents.items():
        paths[name] = folder / f"{len(paths)}.pkl"
        paths[name].write_bytes(data)
    return paths


def unpickle(path: Path) -> None:
    with path.open("rb") as file:
        pickle.load(file, encoding="latin1")  # noqa: S301


def use(rows: Any) -> None:
    for _ in rows:
        pass


def compare(layout: Layout, folder: Path, repetitions: int) -> None:
    """Reads the same dialogues by each way in turn, and prints a table of times."""
    shards = layout.shards
    ways: dict[str, Callable[[], None]] = {
        name: lambda path=path: unpickle(path) for name, path in pickles(layout, folder).items()
    }
    ways |= {
        "reader, all columns needed": lambda: use(Dialogues(shards, "train", READ).rows()),
        "reader, the same with one thread": lambda: use(Dialogues(shards, "train", READ, threads=1).rows()),
        "reader, shuffled batches of 32": lambda: use(Dialogues(shards, "train", READ).batches(32, seed=0)),
        "reader, text vectors and labels alone": lambda: use(
            Dialogues(shards, "train", ["text", "text_present", "emotion_index"]).rows()
        ),
        "pyarrow.parquet.read_table, the same columns as the first": lambda: pq.read_table(
            shards / "dialogues", columns=READ
        ),
    }
    walls: dict[str, list[float]] = {name: [] for name in ways}
    cpus: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repetitions):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            way()
            walls[name].append(time.perf_counter() - wall)
            cpus[name].append(time.process_time() - cpu)
    for path in [*folder.glob("*.pkl"), *(shards / "dialogues").iterdir()]:
        print(f"{path.name}: {path.stat().st_size / 1e6:.0f} MB")
    print("| way | CPU seconds, median | best | seconds, best |\n| --- | --- | --- | --- |")
    for name in ways:
        print(f"| {name} | {np.median(cpus[name]):.3f} | {min(cpus[name]):.3f} | {min(walls[name]):.3f} |")


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
    """A single step, whose peak memory is measured."""
    layout, before = Layout(folder / "raw", folder / "features", "synthetic"), time.process_time()
    if name == "write":
        synthetic(layout, [turns] * dialogues, dim)
    said = "" if name == "write" else STEPS[name](layout)
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = sum(one.ru_utime + one.ru_stime for one in (own, children)) - before
    print(f"{name}: {seconds:.1f} CPU s, peak {own.ru_maxrss / 1e3:.0f} MB. {said}", flush=True)


def _meld_size() -> list[int]:
    """Turns of each dialogue, 1 to 24: as many dialogues and utterances as MELD's train split."""
    dialogues, utterances = MELD_TRAIN
    turns_D = 1 + np.random.default_rng(0).binomial(23, (utterances / dialogues - 1) / 23, dialogues)
    while turns_D.sum() != utterances:
        one = int(np.argmin(turns_D) if turns_D.sum() < utterances else np.argmax(turns_D))
        turns_D[one] += np.sign(utterances - turns_D.sum())
    return [int(turns) for turns in turns_D]


@main.command()
@click.option(
    "--vectors",
    type=click.Path(path_type=Path, exists=True),
    help="Folder of extracted features to take real vectors from.",
)
@click.option("--repetitions", type=int, default=15)
def speed(vectors: Path | None, repetitions: int) -> None:
    """The reader against unpickling the same content."""
    real_ND = None
    if vectors:
        parts = [
            pq.read_table(path, columns=["embedding"])["embedding"].combine_chunks()
            for path in sorted(vectors.glob("part-*.parquet"))
        ]
        real_ND = np.concatenate([part.flatten().to_numpy().reshape(len(part), -1) for part in parts])
        print(f"{len(real_ND)} vectors of {real_ND.shape[1]} from {vectors}, over and over")
    with tempfile.TemporaryDirectory() as name:
        layout = Layout(Path(name) / "raw", Path(name) / "features", "synthetic")
        synthetic(layout, _meld_size(), DIM if real_ND is None else real_ND.shape[1], real_ND=real_ND)
        join(layout)
        compare(layout, Path(name), repetitions)


def _alone(*arguments: object) -> None:
    subprocess.run([sys.executable, __file__, "step", *map(str, arguments)], check=True)


@main.command()
@click.option("--scratch", type=click.Path(path_type=Path, exists=True), default=Path(tempfile.gettempdir()))
def memory(scratch: Path) -> None:
    """Peaks of joining and reading corpora of 1, 4 and 16 times MELD's train split."""
    for times in (1, 4, 16):
        folder = Path(tempfile.mkdtemp(dir=scratch))
        try:
            print(f"{times * 1000} dialogues of 10 utterances", flush=True)
            for name in ("write", *STEPS):
                _alone(name, folder, *(("--dialogues", times * 1000, "--turns", 10) if name == "write" else ()))
        finally:
            shutil.rmtree(folder)


@main.command()
@click.option("--scratch", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--dialogues", type=int, default=100_000)
def large(scratch: Path, dialogues: int) -> None:
    """A large corpus from its features to its batches."""
    needed, free = dialogues * 10 * len(MODALITIES) * DIM * 4 * 2.1, shutil.disk_usage(scratch).free
    if free < needed:
        raise click.UsageError(f"{scratch} has {free / 1e9:.0f} GB free, {needed / 1e9:.0f} are needed")
    folder = Path(tempfile.mkdtemp(dir=scratch))
    try:
        for name in ("write", *STEPS):
            _alone(name, folder, *(("--dialogues", dialogues, "--turns", 10) if name == "write" else ()))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
