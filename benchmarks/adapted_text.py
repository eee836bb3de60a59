"""What MiniLM reaches on MELD's text once it is fine-tuned on the train labels, on its own and as the encoder of
dialogue models.

    MERC_REAL_DATA=FOLDER MERC_MINILM=FOLDER_OF_ALL_MINILM_L6_V2 python benchmarks/adapted_text.py [--seeds 0,1,2]
    [--settings full] [--recipes NAMES]

The folder of real data holds MELD's three CSV files in meld/. Every seed of the adaptation has its own folder in
--work, with its features and the trainings on them; these are kept, so a second run continues where the first stopped.
"By itself" is the linear classifier that was trained on the encoder's vector; test is scored once, at the epoch
selected on dev. For a recipe, the mean over its own seeds is given for each seed of the adaptation. Times are
wall-clock times of the adaptation, with the threads given in its settings, on a machine that may be busy. Writes a
dated file next to this one.
"""

import datetime
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import torch
import transformers

from _settings import settings_file, values_of
from _tables import put_dated, spread
from merc import files

ROOT = Path(__file__).resolve().parents[1]
SPLITS = ("dev", "test")


def _run(command: str, arguments: Sequence[str], work: Path) -> float:
    """Runs one of the package's commands; returns the seconds it took."""
    began = time.perf_counter()
    print("  " + " ".join([command, *arguments]), flush=True)
    module = {
        "merc-adapt": "merc.commands.adapt",
        "merc-extract": "merc.commands.extract",
        "merc-train": "merc.commands.train",
    }[command]
    given = [sys.executable, "-c", f"from {module} import main; main()", *arguments]
    subprocess.run(given, cwd=work, check=True, env={**os.environ, "PYTHONPATH": str(ROOT / "pipeline")})
    return time.perf_counter() - began


def _adapted(work: Path, seed: str, settings: str, params: Path) -> dict[str, Any]:
    """The record of an adaptation, which is run unless it exists; ``seconds`` is then None."""
    out = Path("features") / f"{settings}-{seed}"
    folder = work / out / "meld" / "adapted" / "text" / f"minilm-{settings}"
    there = (folder / "record.json").is_file()
    given = [
        "--dataset",
        "meld",
        "--modality",
        "text",
        "--encoder",
        "minilm",
        "--settings",
        settings,
        "--offline",
        "--device",
        "cpu",
        "--out",
        str(out),
    ]
    seconds = _run("merc-adapt", [*given, "--params", str(params)], work)
    record: dict[str, Any] = files.read_json(folder / "record.json")
    return {
        **record,
        "seconds": None if there else seconds,
        "folder": out / "meld" / "adapted" / "text" / folder.name,
        "out": out,
    }


def _trained(work: Path, record: Mapping[str, Any], recipe: str, params: Path) -> dict[str, Any]:
    """The results of a recipe on the features of an adapted encoder."""
    runs = Path("runs") / record["out"].name
    given = [
        "--dataset",
        "meld",
        "--recipe",
        recipe,
        "--device",
        "cpu",
        "--workers",
        "1",
        "--out",
        str(record["out"]),
        "--runs",
        str(runs),
    ]
    _run("merc-train", [*given, "--params", str(params)], work)
    found: dict[str, Any] = files.read_json(work / runs / "meld" / recipe / "results.json")
    return found


def _over(found: Sequence[Mapping[str, Any]], split: str, score: str) -> str:
    return spread([one[split][score] for one in found])


@click.command()
@click.option(
    "--annotations",
    type=click.Path(path_type=Path, exists=True),
    help="Folder of MELD's CSV files; default: $MERC_REAL_DATA/meld.",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, exists=True),
    envvar="MERC_MINILM",
    required=True,
    help="all-MiniLM-L6-v2; or $MERC_MINILM.",
)
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=ROOT / "runs" / "adapted_text",
    show_default=True,
    help="Encoders, features, runs; stays.",
)
@click.option("--seeds", default="0,1,2", show_default=True, help="Of the adaptation.")
@click.option("--settings", default="full", show_default=True, help="A block under adaptations.text.")
@click.option(
    "--recipes",
    default="baseline_text,dialogue_transformer@text,mmgcn@text",
    show_default=True,
    help="Trained on the features; empty: none.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Another value for a setting, as for a trial."
)
@click.option("--out", type=click.Path(path_type=Path), help="Default: adapted_text_<date>.md beside this file.")
def main(
    annotations: Path | None,
    checkpoint: Path,
    work: Path,
    seeds: str,
    settings: str,
    recipes: str,
    overrides: tuple[str, ...],
    out: Path | None,
) -> None:
    """Fine-tunes MiniLM on MELD's train labels, trains recipes on its vectors, and writes what they reach."""
    annotations = annotations or Path(os.environ["MERC_REAL_DATA"]) / "meld"
    (work / "raw").mkdir(parents=True, exist_ok=True)
    if not (work / "raw" / "meld").exists():
        (work / "raw" / "meld").symlink_to(annotations.resolve())
    shared = {**values_of(overrides), "encoders.text.minilm.repo": checkpoint.resolve()}
    records, trained = [], {recipe: [] for recipe in recipes.split(",") if recipe}  # type: ignore[var-annotated]
    for seed in seeds.split(","):
        values = {**shared, f"adaptations.text.{settings}.seed": int(seed)}
        params = settings_file(work, values)
        records.append(_adapted(work, seed, settings, params))
        if not trained:
            continue
        block = {"repo": records[-1]["folder"], **records[-1]["trained_with"]}
        params = settings_file(
            work, values | {f"encoders.text.minilm_meld.{key}": value for key, value in block.items()}
        )
        wanted = [
            "--dataset",
            "meld",
            "--modalities",
            "text",
            "--encoder",
            "text=minilm_meld",
            "--offline",
            "--device",
            "cpu",
        ]
        _run("merc-extract", [*wanted, "--out", str(records[-1]["out"]), "--params", str(params)], work)
        for recipe, found in trained.items():
            found.append(_trained(work, records[-1], recipe, params))
    lines = [
        f"# MELD, text alone, fine-tuned MiniLM ({datetime.date.today()})",
        "",
        f"    MERC_REAL_DATA=<folder> MERC_MINILM=<checkpoint> python benchmarks/adapted_text.py --seeds {seeds}"
        f" --settings {settings} --recipes {recipes}" + "".join(f" --set {one}" for one in overrides),
        "",
        (
            f"{os.cpu_count()} CPU cores, {platform.machine()}, torch {torch.__version__}, transformers"
            f" {transformers.__version__}."
        ),
        (
            "Per cent, mean ± standard deviation (n - 1) over the seeds of the adaptation. Epochs were selected by"
            " weighted F1 on dev."
        ),
        "",
        "| | dev weighted F1 | dev accuracy | test weighted F1 | test accuracy |",
        "| --- |" + " ---: |" * 4,
        (
            "| the encoder by itself |"
            f" {' | '.join(_over(records, split, score) for split in SPLITS for score in ('weighted_f1', 'accuracy'))} |"  # noqa: E501
        ),
    ]
    for recipe, found in trained.items():
        means = [one["mean"] for one in found]
        lines.append(
            f"| {recipe} on its vectors |"
            f" {' | '.join(_over(means, split, score) for split in SPLITS for score in ('weighted_f1', 'accuracy'))} |"
        )
    lines += [
        "",
        "| seed | epoch | dev weighted F1 of every epoch | test weighted F1 | seconds |",
        "| ---: | ---: | --- | ---: | ---: |",
    ]
    for record in records:
        history = ", ".join(f"{100 * row['dev_weighted_f1']:.2f}" for row in record["history"])
        seconds = "–" if record["seconds"] is None else f"{record['seconds']:.0f}"
        lines.append(
            f"| {record['seed']} | {record['epoch']} | {history} | {100 * record['test']['weighted_f1']:.2f} |"
            f" {seconds} |"
        )
    put_dated(__file__, lines, out)


if __name__ == "__main__":
    main()
