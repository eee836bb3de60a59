"""The scores of the models and losses; writes tables into results_meld_text.md next to this file and leaves the rest of
that file unchanged.

    MERC_REAL_DATA=FOLDER MERC_MINILM=FOLDER_OF_ALL_MINILM_L6_V2 python benchmarks/results_meld_text.py losses
    … frozen                            all models on MELD's text, MiniLM frozen
    … adapted --encoder FOLDER          the same on MiniLM as fine-tuned by adapted_text.py in its --work
    … trials                            parts and settings of DCLF on mmgcn_text
    … demonstration                     all models on the demonstration corpus, three modalities; needs neither variable

The folder of real data holds MELD's three CSV files in meld/. Features are extracted and recipes trained by the
commands that a user runs, in a folder that is kept (--work), so a second run continues where the first stopped:
finished extractions and trainings are reused. The epoch is chosen on dev for every seed; the column of the best test
epoch decides nothing. Seconds per epoch are for one seed on this machine, including the scoring of dev and test,
measured after the trainings, one recipe at a time; model_costs.py compares the cost of models.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from _settings import chosen, numbers, settings_file, values_of
from _tables import put_table, spread
from merc import files
from merc.errors import BadSettings
from merc.layout import Layout
from merc.params import Params
from merc.shards.format import reader
from merc.training.data.splits import load_data
from merc.training.loop.trainer import train_seed
from merc.training.metrics import significance
from merc.training.metrics.accuracy import accuracy
from merc.training.metrics.weighted_f1 import weighted_f1
from merc.training.recipes.recipe import Recipe
from merc.training.recipes.resolution import ResolvedRecipe, resolve

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
BASES = ("baseline", "dialogue_transformer_text", "dialogue_transformer_text+idcl", "ddin_text", "mmgcn_text")
ADDITIONS = ("", "+supcon", "+dclf")
# The students of merc_kdc are audio and face: on text alone it is just its teacher, trained in one phase.
OVER_TEXT = (
    "dialogue_transformer_text",
    "ddin_text",
    "mmgcn_text",
    "df_erc+batch_16",
    "joint_vector",
    "merc_kdc+at_once",
)
OVER_ALL = ("dialogue_transformer", "ddin", "mmgcn", "df_erc+batch_16", "joint_vector", "merc_kdc")
FAST = ("mm_dfn", "m3net", "multiemo")
SLOW = (
    "cogmen",
    "dialogue_gcn",
    "graphsmile",
    "dialogue_rnn",
    "multi_dag",
    "multi_dag+curriculum",
    "lsdgnn",
    "corect",
    "telme+at_once",
    "aghmn",
    "sdt+narrow+faster",
    "graphcfc+faster",
)
OTHERS = (*FAST, *SLOW)
MODELS_OVER_TEXT = ("baseline", *OVER_TEXT, *OTHERS)
RESAMPLES, CONFIDENCE, LEVEL = 10_000, 0.95, 0.05
TIMED_EPOCHS = 3


@dataclass(frozen=True)
class Table:
    """What is in a table, and how its features are made. ``suffix`` comes after every recipe.

    ``shared`` recipes are those of another table, with its seeds; ``slow`` ones are trained with the first seed only.
    """

    title: str
    recipes: tuple[str, ...]
    suffix: str
    seeds: str
    dataset: str = "meld"
    encoder: str = ""
    timed: bool = False
    shared: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()

    def seeds_of(self, recipe: str, seeds: str) -> str:
        """``seeds``, unless the recipe has its own here."""
        if recipe in self.shared:
            return TABLES["losses"].seeds
        return seeds.partition(",")[0] if recipe in self.slow else seeds


TABLES = {
    "losses": Table(
        "MELD's text, MiniLM frozen: losses",
        (*(f"{base}{addition}" for base in BASES for addition in ADDITIONS), "mmgcn_text+causal"),
        "@text",
        "0,1,2,3,4",
        encoder="minilm",
        timed=True,
    ),
    "frozen": Table(
        "MELD's text, MiniLM frozen: models",
        MODELS_OVER_TEXT,
        "@text",
        "0,1,2",
        encoder="minilm",
        shared=BASES,
        slow=("df_erc+batch_16", *SLOW),
    ),
    "adapted": Table(
        "MELD's text, MiniLM fine-tuned on the train labels",
        MODELS_OVER_TEXT,
        "@text",
        "0,1,2",
        encoder="minilm_meld",
        slow=("df_erc+batch_16", *SLOW),
    ),
    "trials": Table(
        "MELD's text, MiniLM frozen: DCLF on `mmgcn_text`",
        ("mmgcn_text",),  # with what TRIALS add to it
        "@text",
        "0,1",
        encoder="minilm",
    ),
    "demonstration": Table(
        "The demonstration corpus in MELD's layout, three modalities, embedded encoders",
        ("baseline", *OVER_ALL, *OTHERS),
        "+demo",
        "0,1,2",
        dataset="demo-meld",
    ),
}

TRIED = TABLES["trials"].recipes[0]
# DCLF is causal on models that can be, with batches of 8 dialogues: its trials are compared with the second of these.
ALONE, CAUSAL = "alone", "alone, causal, batches of 8 dialogues, as with DCLF"
CONTEXT, MODALITY = "additions.dclf.losses.context_aware", "additions.dclf.losses.modality_contribution"
LIGHT = {f"{CONTEXT}.weight": 0.1, f"{MODALITY}.weight": 0.1}
WARM = {"losses.context_aware.temperature": 0.5, "losses.modality_contribution.temperature": 0.5}
# What a trial is called in its table → what is added to the recipe, and settings.
TRIALS: dict[str, tuple[str, dict[str, Any]]] = {
    ALONE: ("", {}),
    "alone, batches of 8 dialogues": ("", {f"recipes.{TRIED}.batch_dialogues": 8}),
    CAUSAL: ("+causal", {f"recipes.{TRIED}.batch_dialogues": 8}),
    "decoder and unimodal heads": ("+dclf", {CONTEXT: None, MODALITY: None}),
    "with the modality-contribution loss": ("+dclf", {CONTEXT: None}),
    "with the context-aware loss": ("+dclf", {MODALITY: None}),
    "both: `+dclf`": ("+dclf", {}),
    "both, weights 0.1 and 0.1 in place of 0.6 and 0.4": ("+dclf", LIGHT),
    "both, temperature 0.5 in place of 0.07": ("+dclf", WARM),
    "both, weights 0.1 and 0.1, temperature 0.5": ("+dclf", LIGHT | WARM),
    "both, positives of the same emotion alone": (
        "+dclf",
        {"losses.modality_contribution.same_emotion_only": True},
    ),
    "both, heads' cross-entropy kept from the extractors": ("+dclf", {"frameworks.dclf.detach_unimodal": True}),
    "both, learning rate 0.0003": ("+dclf", {f"recipes.{TRIED}.optimizer.learning_rate": 0.0003}),
    "both, only negatives in the denominators: `+dclf+printed`": ("+dclf+printed", {}),
}


@dataclass(frozen=True)
class Place:
    """Where a table's features and runs lie: folders below ``work``; and its settings, by dotted key, written to the
    file ``settings``.
    """

    work: Path
    dataset: str
    out: str
    runs: str
    settings: Path
    values: Mapping[str, Any]

    def varied(self, name: str, values: Mapping[str, Any]) -> "Place":
        """The same features, with other settings in addition and separate runs."""
        values = {**self.values, **values}
        settings = settings_file(self.work, values)
        return replace(self, runs=f"{self.runs}-{name}", settings=settings, values=values)

    def run(self, command: str, *arguments: str) -> None:
        given = [command, *arguments, "--dataset", self.dataset, "--out", self.out, "--params", str(self.settings)]
        print("  " + " ".join(given), flush=True)
        subprocess.run([str(BIN / given[0]), *given[1:]], cwd=self.work, check=True)

    def train(self, recipe: str, jobs: int) -> None:
        """A stopped training with other settings is replaced; a finished one with the same settings is used."""
        options = ["--runs", self.runs, "--device", "cpu", "--workers", str(jobs), "--overwrite"]
        self.run("merc-train", "--recipe", recipe, *options)

    def results(self, recipe: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder(recipe) / "results.json").read_text())
        return found

    def folder(self, recipe: str) -> Path:
        return self.work / self.runs / self.dataset / recipe

    @property
    def layout(self) -> Layout:
        return Layout(self.work / "raw", self.work / self.out, self.dataset)


def shortened(resolved: ResolvedRecipe, epochs: int) -> ResolvedRecipe:
    """The recipe with this many epochs in every phase."""

    def short(recipe: Recipe) -> Recipe:
        return recipe.model_copy(update={"epochs": epochs, "patience_epochs": epochs})

    phases = tuple(replace(phase, recipe=short(phase.recipe)) for phase in resolved.phases)
    return replace(resolved, recipe=short(resolved.recipe), phases=phases)


def _seconds_per_epoch(params: Params, layout: Layout, recipe: str, noted: Path) -> float:
    """Seconds per epoch of one seed; measured once and saved, as the difference of two trainings of different length,
    so that the start-up is not counted.
    """
    known: dict[str, float] = files.read_json(noted) if noted.is_file() else {}
    if recipe not in known:
        resolved = resolve(params, recipe)
        data, _ = load_data(resolved, reader.info(layout.shards), layout)
        took = []
        for epochs in (1, 1 + TIMED_EPOCHS):
            began = time.perf_counter()
            train_seed(shortened(resolved, epochs), data, 0, torch.device("cpu"))
            took.append(time.perf_counter() - began)
        known[recipe] = (took[1] - took[0]) / TIMED_EPOCHS
        files.write_json(noted, known)
    return known[recipe]


def _scores(results: dict[str, Any], *keys: str) -> list[float]:
    """A score of every seed."""
    values = []
    for seed in results["seeds"].values():
        for key in keys:
            seed = seed[key]
        values.append(float(seed))
    return values


def _predictions(place: Place, recipe: str, split: str) -> tuple[pa.Table, int]:
    """All seeds' predictions of a split, one seed after another, and the number of seeds."""
    table = pq.read_table(place.folder(recipe) / "predictions.parquet", filters=[("split", "=", split)])
    return table, len(set(table["seed"].to_pylist()))


def _interval(place: Place, recipe: str, alone: str, classes: int) -> dict[str, float]:
    """Interval of the difference in weighted F1 on test, from test dialogues drawn with replacement."""
    predicted = []
    for name in (recipe, alone):
        table, seeds = _predictions(place, name, "test")
        labels = table["label"].to_numpy().reshape(seeds, -1)[0]
        dialogues = np.array(table["dialogue_id"].to_pylist()).reshape(seeds, -1)[0]
        predicted.append(table["predicted"].to_numpy().reshape(seeds, -1))
    bounds = np.flatnonzero(np.r_[True, dialogues[1:] != dialogues[:-1], True])
    return significance.cluster_bootstrap(
        labels, *predicted, np.diff(bounds), classes, resamples=RESAMPLES, confidence=CONFIDENCE, seed=0
    )


def _tests(place: Place, recipes: Sequence[str]) -> dict[str, str]:
    """Recipe with an addition → its difference from the plain recipe, in words; from the causal one if DCLF makes it
    causal.
    """
    pairs = []
    for name in recipes:
        for addition in ADDITIONS:
            candidates = [name.replace(addition, "+causal")] if addition == "+dclf" else []
            candidates.append(name.replace(addition, ""))
            alone = next((one for one in candidates if one in recipes), None)
            if addition and addition in name and alone:
                pairs.append((name, alone))
    found = {
        name: [_scores(place.results(one), "test", "weighted_f1") for one in (name, alone)] for name, alone in pairs
    }
    tested = {name: significance.paired_t_test(*scores) for name, scores in found.items() if len(scores[0]) > 1}
    corrected = dict(zip(tested, significance.holm([test["p"] for test in tested.values()]), strict=True))
    words = {}
    for name, alone in pairs:
        if name not in tested:
            continue
        interval = _interval(place, name, alone, len(place.results(name)["classes"]))
        sure = significance.significant(corrected[name], interval["low"], interval["high"], level=LEVEL)
        words[name] = (
            f"{100 * tested[name]['difference']:+.2f} | {tested[name]['p']:.3f} | {corrected[name]:.3f} | "
            f"{100 * interval['low']:+.2f} to {100 * interval['high']:+.2f} | {'yes' if sure else 'no'}"
        )
    return words


def _rows(place: Place, recipes: Sequence[str], seconds: dict[str, float]) -> list[str]:
    """The table; with ``seconds`` also the time of an epoch and the certainty of a gain."""
    head = [
        "recipe",
        "dev weighted F1",
        "test weighted F1",
        "test accuracy",
        "best test epoch's F1, which decided nothing",
        "epochs selected",
        "parameters",
    ]
    tests: dict[str, str] = {}
    if seconds:
        head += ["seconds an epoch", "test F1 over alone", "p", "p (Holm)", "95 % over dialogues", "significant"]
        tests = _tests(place, recipes)
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    for recipe in recipes:
        found = place.results(recipe)
        cells = [
            recipe,
            *(
                spread(_scores(found, *keys))
                for keys in (("dev", "weighted_f1"), ("test", "weighted_f1"), ("test", "accuracy"))
            ),
            spread(_scores(found, "best_test_epoch", "weighted_f1")),
            ", ".join(f"{epoch:.0f}" for epoch in _scores(found, "epoch")),
            f"{found['parameters']:,}",
        ]
        if seconds:
            cells += [f"{seconds[recipe]:.1f}", tests.get(recipe, " | ".join(["–"] * 5))]
        lines.append(f"| {' | '.join(cells)} |")
    if not seconds and len(recipes) > 1:
        dev, test = (_averaged(place, recipes, split) for split in ("dev", "test"))
        scores = [dev["weighted_f1"], test["weighted_f1"], test["accuracy"]]
        lines.append(
            f"| {' | '.join(['all rows, probabilities averaged', *(spread([score]) for score in scores), '–', '–', '–'])} |"  # noqa: E501
        )
    return lines


def _tried(place: Place, jobs: int, chosen: Sequence[str]) -> list[str]:
    """The table of the trials with these names, each trained with its own settings in its own folder of runs."""
    lines = [
        "| trial | dev weighted F1 | over its base | test weighted F1 | over its base | epochs selected |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    known: dict[str, dict[str, list[float]]] = {}
    for trial in chosen:
        added, settings = TRIALS[trial]
        where = place.varied(f"trial-{files.digest([added, settings])[:8]}", settings)
        recipe = f"{TRIED}{added}@text"
        where.train(recipe, jobs)
        found = where.results(recipe)
        known[trial] = {split: _scores(found, split, "weighted_f1") for split in ("dev", "test")}
        cells = [trial]
        for split, scores in known[trial].items():
            base = known.get(CAUSAL if "+dclf" in added else ALONE, {}).get(split)
            apart = "" if base is None else f"{100 * (statistics.fmean(scores) - statistics.fmean(base)):+.2f}"
            cells += [spread(scores), apart]
        cells.append(", ".join(f"{epoch:.0f}" for epoch in _scores(found, "epoch")))
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def _averaged(place: Place, recipes: Sequence[str], split: str) -> dict[str, float]:
    """Scores of the recipes' ensemble: the mean over recipes of the mean probabilities of their seeds."""
    probabilities = []
    for recipe in recipes:
        table, seeds = _predictions(place, recipe, split)
        labels = table["label"].to_numpy().reshape(seeds, -1)[0]
        probabilities.append(np.array(table["probabilities"].to_pylist()).reshape(seeds, len(labels), -1).mean(axis=0))
    together = np.mean(probabilities, axis=0)
    labelled, classes = labels >= 0, together.shape[1]
    known, predicted = labels[labelled], together.argmax(axis=1)[labelled]
    return {"weighted_f1": weighted_f1(known, predicted, classes), "accuracy": accuracy(known, predicted)}


def _about(place: Place, table: Table, seeds: str, chosen: Sequence[str]) -> list[str]:
    counts = reader.info(place.layout.shards)["counts"]
    sizes = "; ".join(
        f"{split}: {count['dialogues']:,} dialogues, {count['utterances']:,} utterances"
        for split, count in counts.items()
    )
    other = dict.fromkeys(given for one in chosen if (given := table.seeds_of(one, seeds)) != seeds)
    more = "".join(f"; {given} for rows with {given.count(',') + 1} in the column of epochs" for given in other)
    return [
        f"{os.cpu_count()} CPU cores, torch {torch.__version__}. {sizes}. Seeds {seeds}{more}.",
        "Per cent, mean ± standard deviation (n - 1) over the seeds.",
        "Every seed's epoch was chosen by weighted F1 on dev, and test scored with its weights.",
    ]


def _numbers(seeds: str) -> list[int]:
    try:
        return numbers(seeds)
    except argparse.ArgumentTypeError as error:
        raise click.UsageError(f"--seeds {error}") from None


def extracted(
    table: Table,
    work: Path,
    annotations: Path | None,
    checkpoint: Path | None,
    encoder: Path | None,
    values: dict[str, Any],
    name: str,
) -> Place:
    """The features of a table, made if they do not exist; ``values``: settings by dotted key."""
    (work / "raw").mkdir(parents=True, exist_ok=True)
    if table.dataset == "meld":
        if annotations is None and "MERC_REAL_DATA" not in os.environ:
            raise click.UsageError("give --annotations, the folder of MELD's CSV files, or set MERC_REAL_DATA")
        annotations = annotations or Path(os.environ["MERC_REAL_DATA"]) / "meld"
        if not (work / "raw" / "meld").exists():
            (work / "raw" / "meld").symlink_to(annotations.resolve())
    elif not (work / "raw" / table.dataset).exists():
        subprocess.run(
            [sys.executable, "-m", "merc.corpora.demo.make", "--params", str(ROOT / "params.yaml")],
            cwd=work,
            check=True,
        )
    if table.encoder == "minilm_meld":
        if encoder is None:
            raise click.UsageError("give --encoder, the folder of a fine-tuned encoder")
        if not (encoder / "record.json").is_file():
            raise click.UsageError(f"--encoder {encoder} has no record.json: it was not made by merc-adapt")
        block = {"repo": encoder.resolve(), **files.read_json(encoder / "record.json")["trained_with"]}
        values = values | {f"encoders.text.minilm_meld.{key}": value for key, value in block.items()}
    elif table.encoder:
        if checkpoint is None:
            raise click.UsageError("give --checkpoint or MERC_MINILM, all-MiniLM-L6-v2")
        values = {**values, "encoders.text.minilm.repo": checkpoint.resolve()}
    settings = settings_file(work, values)
    suffix = f"-{name}" if table.encoder == "minilm_meld" else ""
    place = Place(work, table.dataset, f"features{suffix}", f"runs{suffix}", settings, values)
    place.run(
        "merc-extract",
        *(("--modalities", "text", "--encoder", f"text={table.encoder}") if table.encoder else ()),
        "--offline",
    )
    return place


@click.command()
@click.argument("name", type=click.Choice(list(TABLES)))
@click.option(
    "--annotations",
    type=click.Path(path_type=Path, exists=True),
    help="Folder of MELD's CSV files; default: $MERC_REAL_DATA/meld.",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, exists=True),
    envvar="MERC_MINILM",
    help="all-MiniLM-L6-v2; or $MERC_MINILM.",
)
@click.option(
    "--encoder",
    type=click.Path(path_type=Path, exists=True),
    help="Of the table `adapted`: folder of the fine-tuned encoder.",
)
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=ROOT / "runs" / "results_meld_text",
    show_default=True,
    help="Features and runs; stays.",
)
@click.option("--recipes", help="In place of all of the table, without the suffix that it adds.")
@click.option("--rows", help="Of the table `trials`: the numbers of some of its rows, from 1.")
@click.option("--seeds", help="In place of the table's.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=os.cpu_count() or 1,
    show_default="cores",
    help="Seeds trained at once.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Another value for a setting, as for a trial."
)
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).with_suffix(".md"), show_default=True)
def main(
    name: str,
    annotations: Path | None,
    checkpoint: Path | None,
    encoder: Path | None,
    work: Path,
    recipes: str | None,
    rows: str | None,
    seeds: str | None,
    jobs: int,
    overrides: tuple[str, ...],
    out: Path,
) -> None:
    """Extracts, trains and writes one table of results_meld_text.md."""
    table, work = TABLES[name], work.resolve()
    seeds = seeds or table.seeds
    _numbers(seeds)
    trials = chosen("--rows", rows, [str(1 + number) for number in range(len(TRIALS))]) if rows else None
    asked = recipes.split(",") if recipes else table.recipes
    work.mkdir(parents=True, exist_ok=True)
    params = Params.load(settings_file(work, values_of(overrides)))
    for one in asked:
        try:
            resolve(params, f"{one}{table.suffix}")
        except BadSettings as error:
            raise click.UsageError(f"--recipes {one}: {error}") from None
    of_base = {one.partition("+")[0]: table.seeds_of(one, seeds) for one in asked}
    values = {f"recipes.{base}.seeds": _numbers(of_one) for base, of_one in sorted(of_base.items())} | values_of(
        overrides
    )
    if table.suffix.startswith("+"):  # the addition for the demonstration corpus has its own seeds
        values[f"additions.{table.suffix[1:]}.seeds"] = _numbers(seeds)
    place = extracted(table, work, annotations, checkpoint, encoder, values, name)
    if name == "trials":
        tried = _tried(place, jobs, [list(TRIALS)[int(one) - 1] for one in trials] if trials else list(TRIALS))
        given = {"rows": rows, "seeds": seeds if seeds != table.seeds else None, "set": " --set ".join(overrides)}
        shown = " ".join(["trials", *(f"--{key} {value}" for key, value in given.items() if value)])
        about = _about(place, table, seeds, ())
        put_table(out, name, [f"    python benchmarks/results_meld_text.py {shown}", "", *about, "", *tried])
        return
    names = [f"{one}{table.suffix}" for one in asked]
    for one in names:
        place.train(one, jobs)
    params = Params.load(place.settings)
    noted = (
        {one: _seconds_per_epoch(params, place.layout, one, work / "seconds_per_epoch.json") for one in names}
        if table.timed
        else {}
    )
    options = {
        "encoder": "<folder>" if encoder else None,
        "recipes": recipes,
        "seeds": seeds if seeds != table.seeds else None,
    }
    shown = "    python benchmarks/results_meld_text.py " + " ".join(
        [name, *(f"--{key} {value}" for key, value in options.items() if value)]
    )
    lines = [f"## {table.title}", "", shown, "", *_about(place, table, seeds, asked)]
    if table.timed:
        lines += [
            (
                "Significant: the paired t-test over seeds, corrected by Holm's method over the table, and the"
                " bootstrap over test dialogues"
            ),
            f"({RESAMPLES:,} resamples) agree at {LEVEL}. Seconds an epoch were taken beside other work.",
        ]
    put_table(out, name, [*lines, "", *_rows(place, names, noted)])
    print(out)


if __name__ == "__main__":
    main()
