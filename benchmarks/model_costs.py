"""The cost of every model: parameters, CPU seconds per epoch and memory of its recipe at MELD's size; writes a dated
file next to this one.

    MERC_REAL_DATA=FOLDER python benchmarks/model_costs.py [--recipes mmgcn,sdt+narrow] [--threads 1]

An epoch is one pass over the train split, of 1,038 dialogues with MELD's real lengths and speakers and random vectors
of RoBERTa-large's, wav2vec2-base's and ViT-B's widths, with the recipe's batches and losses, run by the trainer itself;
dev and test are one dialogue each, so that scoring takes no time. It is timed on every fourth dialogue (--every) and
multiplied by four. Every recipe runs in a separate process: one epoch as a warm-up, one, then two; the seconds are the
difference of the last two. Memory is the peak of the process above the peak before the training, with the data loaded.
A recipe with phases is given as the sum over its phases. Times are compared with the model in the first row.

    MERC_REAL_DATA=FOLDER python benchmarks/model_costs.py --recipes graphcfc+faster --against CHECKOUT [--steps 40]

prints how long a step takes compared with another checkout of this project: two processes take the same steps, in turn,
so that other work on the machine affects both.
"""

import csv
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import click
import torch

from _tables import put_dated
from merc.compute.memory import keep_freed_blocks
from merc.compute.repeatable import repeatable
from merc.params import Params
from merc.training.data.dataset import DialogueSplit
from merc.training.loop.trainer import TrainingData, _Training, train_seed
from merc.training.recipes.resolution import resolve
from results_meld_text import OTHERS, OVER_ALL, shortened

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ("baseline", *OVER_ALL, "df_erc", *(name for name in OTHERS if "curriculum" not in name), "sdt")
DIMS = {"text": 1024, "audio": 768, "visual": 768}
CLASSES = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")


def made_split(name: str, dialogues: list[list[str]]) -> DialogueSplit:
    """A split of random vectors; a dialogue is given as the speakers of its utterances."""
    torch.manual_seed(len(name))
    lengths = torch.tensor([len(one) for one in dialogues])
    utterances = int(lengths.sum())
    speakers = [list(dict.fromkeys(one)).index(speaker) for one in dialogues for speaker in one]
    there = torch.arange(utterances + 1) < utterances
    labels = torch.multinomial(
        torch.tensor([47.0, 12, 3, 7, 17, 3, 11]), utterances, replacement=True
    )  # MELD's shares, per cent
    return DialogueSplit(
        name=name,
        features={modality: torch.randn(utterances + 1, dim) * there[:, None] for modality, dim in DIMS.items()},
        present=dict.fromkeys(DIMS, there),
        labels=torch.cat([labels, torch.tensor([-1])]),
        speakers=torch.tensor([*speakers, 0]),
        identities=torch.tensor([*speakers, 0]),
        starts=lengths.cumsum(0) - lengths,
        lengths=lengths,
        dialogue_ids=tuple(f"{name}-{number}" for number in range(len(dialogues))),
        scenario_ids=None,
        utterance_ids=tuple(f"{name}_{number}" for number in range(utterances)),
    )


def meld_dialogues(annotations: Path) -> list[list[str]]:
    dialogues: dict[str, list[str]] = defaultdict(list)
    with (annotations / "train_sent_emo.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            dialogues[row["Dialogue_ID"]].append(row["Speaker"])
    return list(dialogues.values())


def _peak() -> int:
    """Peak memory of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(recipe: str, annotations: Path, every: int) -> dict[str, Any]:
    """In this process."""
    resolved = resolve(Params.load(ROOT / "params.yaml"), recipe)
    dialogues = meld_dialogues(annotations)[::every]
    data = TrainingData(
        train=made_split("train", dialogues),
        dev=made_split("dev", dialogues[:1]),
        test=made_split("test", dialogues[:1]),
        classes=CLASSES,
    )
    held, seconds = _peak(), []
    for epochs in (1, 1, 2):  # the first loads what torch loads lazily
        began = time.process_time()
        trained = train_seed(shortened(resolved, epochs), data, 0, torch.device("cpu"))
        seconds.append(time.process_time() - began)
    parameters = sum(parameter.numel() for parameter in trained.model.parameters())
    return {
        "parameters": parameters,
        "seconds": every * (seconds[2] - seconds[1]),
        "memory": _peak() - held,
        "batch": resolved.recipe.batch_dialogues,
    }


def take_steps(recipe: str, annotations: Path, every: int) -> None:
    """Takes a step of the recipe's first phase for each line of the standard input; answers with its CPU seconds."""
    resolved = resolve(Params.load(ROOT / "params.yaml"), recipe)
    train, device = made_split("train", meld_dialogues(annotations)[::every]), torch.device("cpu")
    keep_freed_blocks()
    with repeatable(0, device, torch.get_num_threads()):
        model = resolved.build(train.dims, len(CLASSES))
        training = _Training(resolved.phases[0], model, train, CLASSES, 0, device)
        batches = list(training._batches(1))
        for number, _ in enumerate(sys.stdin):
            began = time.process_time()
            training.step(batches[number % len(batches)], 1)
            print(time.process_time() - began, flush=True)


def ratios(command: list[str], other: Path, steps: int) -> list[float]:
    """For every step, its CPU time by that in another checkout; without the first five, in which torch warms up."""
    taking = [
        subprocess.Popen(
            [*command, "--steps", str(steps)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(root / "pipeline")},
        )
        for root in (ROOT, other.resolve())
    ]
    found = []
    for _ in range(steps + 5):
        seconds = []
        for process in taking:
            print(file=process.stdin, flush=True)
            seconds.append(float(process.stdout.readline()))
        found.append(seconds[0] / seconds[1])
    for process in taking:
        process.communicate()
    return sorted(found[5:])


@click.command()
@click.option(
    "--annotations",
    type=click.Path(path_type=Path, exists=True),
    help="Folder with MELD's train_sent_emo.csv; default: $MERC_REAL_DATA/meld.",
)
@click.option("--recipes", default=",".join(RECIPES), show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Trained on is one of this many dialogues.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Default: model_costs_<date>.md beside this file.")
@click.option("--alone", is_flag=True, help="Measure the one recipe in this process and print what was found.")
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Compare steps with those of another checkout in this folder; writes no file.",
)
@click.option("--steps", type=click.IntRange(min=4), help="Number of compared steps; default: 40.")
def main(
    annotations: Path | None,
    recipes: str,
    threads: int,
    every: int,
    out: Path | None,
    alone: bool,
    against: Path | None,
    steps: int | None,
) -> None:
    """Measures recipes one after another and writes parameters, CPU seconds per epoch and memory."""
    annotations = annotations or Path(os.environ["MERC_REAL_DATA"]) / "meld"
    torch.set_num_threads(threads)
    if alone and steps is not None:
        take_steps(recipes, annotations, every)
        return
    if alone:
        print(json.dumps(measured(recipes, annotations, every)))
        return
    found = {}
    for recipe in recipes.split(","):
        command = [sys.executable, __file__, "--alone", "--recipes", recipe, "--annotations", str(annotations)]
        command += ["--threads", str(threads), "--every", str(every)]
        if against is not None:
            lower, median, upper = statistics.quantiles(ratios(command, against, steps or 40))
            print(
                f"{recipe}: {median:.2f} times the CPU time of {against}, quartiles {lower:.2f} and {upper:.2f}",
                flush=True,
            )
            continue
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
        )
        found[recipe] = json.loads(done.stdout.splitlines()[-1])
        print(recipe, found[recipe], flush=True)
    if against is not None:
        return
    first = next(iter(found.values()))["seconds"]
    counts = Counter(len(one) for one in meld_dialogues(annotations))
    lines = [
        f"# Parameters, time and memory of the models ({datetime.date.today()})",
        "",
        f"    MERC_REAL_DATA=<folder> python benchmarks/model_costs.py --threads {threads} --every {every}",
        "",
        f"{threads} thread of {os.cpu_count()} CPU cores, {platform.machine()}, torch {torch.__version__}.",
        f"MELD's train split: {sum(counts.values()):,} dialogues,",
        (
            f"{sum(length * count for length, count in counts.items()):,} utterances, three modalities of"
            f" {', '.join(map(str, DIMS.values()))} numbers;"
        ),
        f"timed on one of {every} dialogues, times {every}.",
        "",
        (
            "| recipe | dialogues per batch | parameters | CPU seconds an epoch | times the first row's | memory beside"
            " the data, MB |"
        ),
        "| --- |" + " ---: |" * 5,
    ]
    for recipe, one in found.items():
        cells = [
            recipe,
            one["batch"],
            f"{one['parameters']:,}",
            f"{one['seconds']:.1f}",
            f"{one['seconds'] / first:.1f}",
            f"{one['memory'] / 1e6:,.0f}",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    put_dated(__file__, lines, out)


if __name__ == "__main__":
    main()
