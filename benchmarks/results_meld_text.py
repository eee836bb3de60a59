"""What the models and losses reach on MELD's text with frozen sentence embeddings; writes results_meld_text.md beside this file.

    MERC_REAL_DATA=FOLDER MERC_MINILM=FOLDER_OF_ALL_MINILM_L6_V2 python benchmarks/results_meld_text.py

The folder of real data holds MELD's three CSV files in meld/. Features are extracted and recipes trained by the commands a user gives, in a folder that
stays (--work), so that a second run goes on where the first was: finished extractions and trainings are found again. The epoch is chosen on dev for every
seed; the column of the best test epoch decides nothing. Seconds per epoch are of one seed on this machine, scoring of dev and test included, measured
after the trainings, one recipe at a time.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq
import torch

from pipeline import files
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.shards import reader
from pipeline.training.metrics import significance
from pipeline.training.recipe import resolve
from pipeline.training.splits import load_data
from pipeline.training.trainer import train_seed

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
BASES = ("baseline", "dialogue_transformer", "dialogue_transformer+idcl", "ddin_text", "mmgcn_text")
ADDITIONS = ("", "+supcon", "+dclf")
RESAMPLES, CONFIDENCE, LEVEL = 10_000, 0.95, 0.05
TIMED_EPOCHS = 3


def _run(command: Sequence[str], work: Path, settings: Sequence[str]) -> None:
    print("  " + " ".join(command), flush=True)
    subprocess.run([str(BIN / command[0]), *command[1:], *settings], cwd=work, check=True)


def _seconds_per_epoch(params: Params, layout: Layout, recipe: str, noted: Path) -> float:
    """Of one seed; measured once and noted, by two trainings of which one is longer, so that the start is not counted."""
    known: dict[str, float] = files.read_json(noted) if noted.is_file() else {}
    if recipe not in known:
        plan = resolve(params, recipe)
        data, _ = load_data(plan, reader.info(layout.shards), layout)
        took = []
        for epochs in (1, 1 + TIMED_EPOCHS):
            short = replace(plan, recipe=plan.recipe.model_copy(update={"epochs": epochs, "patience_epochs": epochs}))
            began = time.perf_counter()
            train_seed(short, data, 0, torch.device("cpu"))
            took.append(time.perf_counter() - began)
        known[recipe] = (took[1] - took[0]) / TIMED_EPOCHS
        files.write_json(noted, known)
    return known[recipe]


def _results(work: Path, recipe: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((work / "runs" / "meld" / recipe / "results.json").read_text())
    return found


def _scores(results: dict[str, Any], *keys: str) -> list[float]:
    """A score of every seed."""
    values = []
    for seed in results["seeds"].values():
        for key in keys:
            seed = seed[key]
        values.append(float(seed))
    return values


def _spread(values: Sequence[float]) -> str:
    return f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f}" if len(values) > 1 else f"{100 * values[0]:.2f}"


def _interval(work: Path, recipe: str, alone: str, classes: int) -> dict[str, float]:
    """Of the difference in weighted F1 on test, test dialogues drawn with replacement."""
    predicted = []
    for name in (recipe, alone):
        table = pq.read_table(work / "runs" / "meld" / name / "predictions.parquet", filters=[("split", "=", "test")])
        seeds = sorted(set(table["seed"].to_pylist()))
        labels = table["label"].to_numpy().reshape(len(seeds), -1)[0]
        dialogues = np.array(table["dialogue_id"].to_pylist()).reshape(len(seeds), -1)[0]
        predicted.append(table["predicted"].to_numpy().reshape(len(seeds), -1))
    bounds = np.flatnonzero(np.r_[True, dialogues[1:] != dialogues[:-1], True])
    return significance.cluster_bootstrap(labels, *predicted, np.diff(bounds), classes, resamples=RESAMPLES, confidence=CONFIDENCE, seed=0)


def _tests(work: Path, recipes: Sequence[str]) -> dict[str, str]:
    """Recipe with an addition → its difference from the recipe alone, in words."""
    pairs = [(name, name.replace(addition, "")) for name in recipes for addition in ADDITIONS if addition and addition in name]
    pairs = [(name, alone) for name, alone in pairs if alone in recipes]
    found = {name: [_scores(_results(work, one), "test", "weighted_f1") for one in (name, alone)] for name, alone in pairs}
    tested = {name: significance.paired_t_test(*scores) for name, scores in found.items() if len(scores[0]) > 1}
    corrected = dict(zip(tested, significance.holm([test["p"] for test in tested.values()]), strict=True))
    words = {}
    for name, alone in pairs:
        if name not in tested:
            continue
        interval = _interval(work, name, alone, len(_results(work, name)["classes"]))
        sure = significance.significant(corrected[name], interval["low"], interval["high"], level=LEVEL)
        words[name] = (
            f"{100 * tested[name]['difference']:+.2f} | {tested[name]['p']:.3f} | {corrected[name]:.3f} | "
            f"{100 * interval['low']:+.2f} to {100 * interval['high']:+.2f} | {'yes' if sure else 'no'}"
        )
    return words


def _table(work: Path, recipes: Sequence[str], seconds: dict[str, float]) -> list[str]:
    tests = _tests(work, recipes)
    lines = [
        "| recipe | dev weighted F1 | test weighted F1 | test accuracy | best test epoch's F1, which decided nothing | parameters | seconds an epoch | "
        "test F1 over alone | p | p (Holm) | 95 % over dialogues | significant |",
        "| --- |" + " ---: |" * 11,
    ]
    for recipe in recipes:
        found = _results(work, recipe)
        cells = [
            recipe,
            *(_spread(_scores(found, *keys)) for keys in (("dev", "weighted_f1"), ("test", "weighted_f1"), ("test", "accuracy"))),
            _spread(_scores(found, "best_test_epoch", "weighted_f1")),
            f"{found['parameters']:,}",
            f"{seconds[recipe]:.1f}",
            tests.get(recipe, " | ".join(["–"] * 5)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


@click.command()
@click.option("--annotations", type=click.Path(path_type=Path, exists=True), help="Folder of MELD's CSV files; default: $MERC_REAL_DATA/meld.")
@click.option("--checkpoint", type=click.Path(path_type=Path, exists=True), envvar="MERC_MINILM", required=True, help="all-MiniLM-L6-v2; or $MERC_MINILM.")
@click.option("--work", type=click.Path(path_type=Path), default=ROOT / "runs" / "results_meld_text", show_default=True, help="Features and runs; stays.")
@click.option("--recipes", default=",".join(f"{base}{addition}" for base in BASES for addition in ADDITIONS), show_default=True, help="Without @text.")
@click.option("--seeds", default="0,1,2,3,4", show_default=True)
@click.option("--jobs", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default="cores", help="Seeds trained at once.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Another value for a key of params.yaml, as for a trial.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).with_suffix(".md"), show_default=True)
def main(annotations: Path | None, checkpoint: Path, work: Path, recipes: str, seeds: str, jobs: int, overrides: tuple[str, ...], out: Path) -> None:
    if annotations is None:
        annotations = Path(os.environ["MERC_REAL_DATA"]) / "meld"
    work.mkdir(parents=True, exist_ok=True)
    (work / "raw").mkdir(exist_ok=True)
    if not (work / "raw" / "meld").exists():
        (work / "raw" / "meld").symlink_to(annotations.resolve())
    names = [f"{name}@text" for name in recipes.split(",")]
    values = [f"encoders.text.minilm.repo={checkpoint.resolve()}", *overrides]
    values += [f"recipes.{base}.seeds=[{seeds}]" for base in sorted({name.partition("@")[0].partition("+")[0] for name in names})]
    settings = ["--params", str(ROOT / "params.yaml"), *(part for value in values for part in ("--set", value))]
    _run(["merc-extract", "--dataset", "meld", "--modalities", "text", "--encoder", "text=minilm", "--offline"], work, settings)
    for name in names:
        _run(["merc-train", "--dataset", "meld", "--recipe", name, "--device", "cpu", "--workers", str(jobs)], work, settings)
    params, layout = Params.load(ROOT / "params.yaml", tuple(values)), Layout(work / "raw", work / "features", "meld")
    noted = {name: _seconds_per_epoch(params, layout, name, work / "seconds_per_epoch.json") for name in names}
    counts = reader.info(layout.shards)["counts"]
    sizes = "; ".join(f"{split}: {count['dialogues']:,} dialogues, {count['utterances']:,} utterances" for split, count in counts.items())
    lines = [
        "# MELD, text alone, frozen MiniLM",
        "",
        "    MERC_REAL_DATA=<folder> MERC_MINILM=<all-MiniLM-L6-v2> python benchmarks/results_meld_text.py",
        "",
        f"{os.cpu_count()} CPU cores, torch {torch.__version__}. {sizes}. Seeds {seeds}; per cent, mean ±",
        "standard deviation (n - 1) over the seeds. Every seed's epoch was chosen by weighted F1 on dev, and test scored with its weights. Significant: the",
        f"paired t-test over seeds, corrected by Holm's method over the table, and the bootstrap over test dialogues ({RESAMPLES:,} resamples) agree",
        f"at {LEVEL}.",
        "",
        *_table(work, names, noted),
    ]
    files.write_text(out, "\n".join(lines) + "\n")
    print(out)


if __name__ == "__main__":
    main()
