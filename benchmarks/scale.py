"""How the time and memory of every step that sees the whole corpus grow with its size: a table of utterances becomes a
manifest, features and shards, and these are read.

    python benchmarks/scale.py --scratch /big/disk [--thousands 3 10 30 100] [--dim 16]

Dialogues of ten utterances, with short texts and one small file per utterance instead of its clip; decoding and
encoding, whose parts are independent of each other, are left out: vectors are random numbers. Each step runs in a
separate process; the table gives its CPU seconds, the peak resident size of the process, and the exponent, the slope of
log CPU seconds over log size.
"""

import csv
import datetime
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from _tables import put_dated
from merc.corpora.stage import build_manifest, choose
from merc.encoders.engine.registry import choose as choose_encoder
from merc.extraction import stage as extraction
from merc.extraction.config import Config as ExtractionConfig
from merc.extraction.inputs import text_source
from merc.job import RunOptions
from merc.layout import MODALITIES, Layout
from merc.media import stage as media
from merc.media.config import of_dataset as media_of
from merc.params import Params
from merc.records import manifest
from merc.shards.card.writing import write_card
from merc.shards.config import Config as ShardsConfig
from merc.shards.merge import merge
from merc.shards.select import select
from merc.shards.stage import build_shards
from merc.shards.validate import validate
from merc.trajectories.config import Config as TrajectoriesConfig
from merc.trajectories.stage import build_trajectories
from shards import write_features

TURNS = 10
DATASET = "table"
EMOTIONS = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
SHARES = (0.47, 0.12, 0.03, 0.07, 0.17, 0.03, 0.11)  # MELD's
ENCODERS = dict.fromkeys(MODALITIES, "random")
RUN = RunOptions()
_FORK = multiprocessing.get_context("fork")


def _params() -> Params:
    return Params.load(Path(__file__).resolve().parents[1] / "params.yaml")


def write_raw(layout: Layout, dialogues: int) -> None:
    """The table, with eight of ten dialogues in train, and the files."""
    folder = layout.raw / DATASET
    emotions_DT = np.random.default_rng(0).choice(len(EMOTIONS), (dialogues, TURNS), p=SHARES)
    (folder / "media").mkdir(parents=True)
    with (folder / "utterances.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["dialogue", "speaker", "text", "emotion", "split", "video"])
        for number, emotions_T in enumerate(emotions_DT.tolist()):
            split = {0: "dev", 1: "test"}.get(number % 10, "train")
            (folder / "media" / f"d{number}").mkdir()
            for turn, emotion in enumerate(emotions_T):
                video = f"d{number}/{turn}.mp4"
                (folder / "media" / video).write_bytes(f"{number} {turn}".encode())
                text = f"What was said in turn {turn} of the dialogue {number}, eleven words."
                rows.writerow([f"d{number}", ("Ross", "Rachel")[turn % 2], text, EMOTIONS[emotion], split, video])


def make_manifest(layout: Layout) -> None:
    build_manifest(choose(_params(), DATASET), layout, RUN)


def read_manifest(layout: Layout) -> None:
    table = manifest.read(layout.manifest)
    manifest.cut_into_parts(table, ExtractionConfig().utterances_per_part)
    manifest.annotated_seconds(table)


def plan_media(layout: Layout) -> None:
    """What the media stage does before its first clip, including a look at every file."""
    media.dry_run(media_of(_params(), DATASET, "embedded"), layout, RUN, streams=frozenset({"audio", "visual"}))


def plan_text(layout: Layout) -> None:
    extraction.dry_run(choose_encoder(_params(), "text", "ngrams"), ExtractionConfig(), layout, RUN)


def read_texts(layout: Layout) -> None:
    """The texts of the parts, as the workers read them; one part in ten, since parts are independent."""
    source = text_source(layout.manifest, manifest.read(layout.manifest), ExtractionConfig().utterances_per_part)
    for index in range(0, len(source.sizes), 10):
        source.read(index, history_turns=0)


def join(layout: Layout) -> None:
    write_card(build_shards(ShardsConfig(), layout, RUN, encoders=ENCODERS))


def check(layout: Layout) -> None:
    if validate(layout.shards).problems.listed:
        raise ValueError("the shards do not keep their contract")


def compare(layout: Layout) -> None:
    build_trajectories(TrajectoriesConfig(similarities=("histogram", "path")), layout, RUN)


def select_train(layout: Layout) -> None:
    select(layout.shards, layout.folder / "selected", ShardsConfig(), splits=["train"])


def merge_splits(layout: Layout) -> None:
    select(layout.shards, layout.folder / "others", ShardsConfig(), splits=["dev", "test"])
    merge([layout.folder / "selected", layout.folder / "others"], layout.folder / "merged", ShardsConfig())


def load_training(layout: Layout) -> None:
    """Everything that a training holds in memory before its first epoch."""
    from merc.shards.format import reader
    from merc.training.data.splits import load_data
    from merc.training.recipes.resolution import resolve

    load_data(resolve(_params(), "baseline"), reader.info(layout.shards), layout)


def report(layout: Layout) -> None:
    from merc.reports.config import Config
    from merc.reports.stage import write_report

    write_report(Config(validate_shards=False), layout.out, layout.out / "no runs", layout.folder / "report")


STEPS: dict[str, tuple[str, Callable[[Layout], None]]] = {
    "manifest": ("table to manifest", make_manifest),
    "read": ("read and check the manifest, cut it into parts", read_manifest),
    "media": ("plan the media: a look at every file, hashes", plan_media),
    "plan": ("plan the text vectors", plan_text),
    "texts": ("read the texts of every tenth part", read_texts),
    "join": ("join, write the shards and their card", join),
    "validate": ("`merc-shards validate`", check),
    "trajectories": ("trajectories by histogram and path", compare),
    "select": ("`merc-shards select --split train`", select_train),
    "merge": ("`merc-shards select` of dev and test, merge", merge_splits),
    "training": ("load the data of a training", load_training),
    "report": ("report without runs and validation", report),
}


def _alone(work: Callable[[], None]) -> tuple[float, float]:
    """CPU seconds and megabytes of a function in a separate process, forked so that imports are not counted."""
    receiver, sender = _FORK.Pipe(duplex=False)

    def child() -> None:
        before = time.process_time()
        work()
        sender.send((time.process_time() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3))

    process = _FORK.Process(target=child)
    process.start()
    sender.close()
    found: tuple[float, float] = receiver.recv()
    process.join()
    return found


def _measured(dialogues: int, dim: int, scratch: Path) -> dict[str, tuple[float, float]]:
    """Step → CPU seconds and megabytes."""
    folder, found = Path(tempfile.mkdtemp(dir=scratch)), {}
    layout = Layout(folder / "raw", folder / "features", DATASET)
    try:
        write_raw(layout, dialogues)
        for name, (_, work) in STEPS.items():
            if name == "join":
                _alone(lambda: write_features(layout, dim))
            found[name] = _alone(lambda work=work: work(layout))  # type: ignore[misc]
            print(f"{dialogues} dialogues, {name}: {found[name][0]:.2f} s, {found[name][1]:.0f} MB", flush=True)
    finally:
        shutil.rmtree(folder)
    return found


def lines_of(thousands: tuple[int, ...], found: list[dict[str, tuple[float, float]]], dim: int) -> list[str]:
    sizes = [f"{10 * number:,},000" for number in thousands]
    lines = [
        f"# Growth with the corpus ({datetime.date.today()})",
        "",
        f"    python benchmarks/scale.py --dim {dim} {' '.join(f'--thousands {number}' for number in thousands)}",
        "",
        (
            f"Dialogues of {TURNS} utterances, three modalities of {dim} numbers; load {os.getloadavg()[0]:.1f} on"
            f" {os.cpu_count()} cores."
        ),
        "CPU seconds and peak memory in MB of a process of its own, by the number of utterances.",
        "",
        f"| step | {' | '.join(f'{size}: s | MB' for size in sizes)} | exponent |",
        "| --- |" + " ---: |" * (2 * len(sizes) + 1),
    ]
    for name, (words, _) in STEPS.items():
        seconds, megabytes = zip(*(one[name] for one in found), strict=True)
        exponent = f"{np.polyfit(np.log(thousands), np.log(seconds), 1)[0]:.2f}" if len(thousands) > 1 else "-"
        lines.append(
            f"| {words} |"
            f" {' | '.join(f'{one:.1f} | {size:,.0f}' for one, size in zip(seconds, megabytes, strict=True))} |"
            f" {exponent} |"
        )
    return lines


@click.command(help=__doc__)
@click.option("--scratch", type=click.Path(path_type=Path, exists=True), default=Path(tempfile.gettempdir()))
@click.option(
    "--thousands", type=int, multiple=True, default=(3, 10, 30, 100), show_default=True, help="Dialogues; repeatable."
)
@click.option("--dim", type=int, default=16, show_default=True, help="Length of the vectors of each modality.")
@click.option("--out", type=click.Path(path_type=Path), help="Default: scale_<date>.md beside this file.")
def main(scratch: Path, thousands: tuple[int, ...], dim: int, out: Path | None) -> None:
    put_dated(__file__, lines_of(thousands, [_measured(1000 * number, dim, scratch) for number in thousands], dim), out)


if __name__ == "__main__":
    main()
