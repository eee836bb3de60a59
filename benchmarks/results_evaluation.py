"""What the papers evaluate besides the whole test split, for the five systems on MELD's text; writes tables into
results_evaluation.md next to this file.

    MERC_REAL_DATA=FOLDER MERC_MINILM=FOLDER_OF_ALL_MINILM_L6_V2 python benchmarks/results_evaluation.py
    … --recipes mmgcn_text,mmgcn_text+dclf+all_below     only these are trained, evaluated and shown
    … --finished                                         train nothing; show what is finished in --work

Features, trainings and evaluations are made by the commands that a user runs, in a folder that is kept (--work), so a
second run continues where the first stopped. Most rows have few seeds and epochs and, where a step is expensive, larger
batches than the recipe (``SETTINGS``), so that all of it takes an hour on one core: compare the rows only with each
other; scores of complete trainings are in results_meld_text.md. The papers' rows were made on other features.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch

from _tables import put_table, spread
from merc import files
from merc.layout import Layout
from merc.shards.format import reader
from merc.training.metrics.emotion_shift import DEFINITIONS
from results_meld_text import Place, Table, extracted

OWN_DENOMINATORS = {"printed": "neg", "all_below": "all"}
"""Addition → what is in the denominator of DCLF's two losses: only the negatives, as printed, or the positives as well.
"""
SETTINGS: dict[str, Any] = {
    "recipes.mmgcn_text.seeds": [0, 1, 2],
    "recipes.mmgcn_text.patience_epochs": 8,
    "recipes.dialogue_transformer_text.seeds": [0, 1],
    "recipes.dialogue_transformer_text.patience_epochs": 5,
    "recipes.merc_kdc.seeds": [0, 1],
    "recipes.merc_kdc.patience_epochs": 5,
    "recipes.joint_vector.seeds": [0, 1],
    "recipes.joint_vector.patience_epochs": 4,
    "recipes.ddin_text.seeds": [0, 1],
    "recipes.ddin_text.patience_epochs": 4,
    "recipes.df_erc.seeds": [0, 1],
    "recipes.df_erc.epochs": 8,
    "recipes.df_erc.patience_epochs": 3,
    "recipes.idcl_pretrain.epochs": 40,
    "recipes.idcl_pretrain.model_settings.hidden_units": 256,
    "additions.batch_32.batch_dialogues": 32,
    **{f"additions.{name}.seeds": [0, 1] for name in OWN_DENOMINATORS},
    **{
        f"additions.{name}.losses.{loss}.denominator": value
        for name, value in OWN_DENOMINATORS.items()
        for loss in ("context_aware", "modality_contribution")
    },
}
ALONE = {
    "dialogue_transformer_text+idcl": "dialogue_transformer_text",
    "dialogue_transformer_text+idcl+pretrained": "dialogue_transformer_text",
    "mmgcn_text+dclf+all_below": "mmgcn_text",
    "mmgcn_text+dclf+printed": "mmgcn_text",
    "ddin_text+dclf+all_below+batch_32": "ddin_text+batch_32",
}
"""Recipe → the same without the system's losses."""
RECIPES = tuple(
    dict.fromkeys(
        [
            "baseline",
            *(name for pair in ALONE.items() for name in reversed(pair)),
            "df_erc+batch_32",
            "joint_vector+batch_32",
            "merc_kdc+at_once",
        ]
    )
)
TABLE = Table("", RECIPES, "@text", "", encoder="minilm")
PROTOCOLS = ("emotion_shift", "context_substitution", "calibration", "trajectory_alignment", "significance")


@dataclass(frozen=True)
class Published:
    """Test weighted F1 on MELD in per cent, as a paper printed it; None: not available."""

    row: str
    source: str
    features: str
    whole: float
    no_shift: float | None = None
    shift: float | None = None
    eccs: float | None = None
    eics: float | None = None


_DCLF = "Xie et al., COLING 2025, tables 3, 6, 7"
_DCLF_FEATURES = "text by RoBERTa, sound, faces; five runs"
PUBLISHED = (
    Published("DDIN", _DCLF, _DCLF_FEATURES, 61.02, 68.34, 54.69, 59.15, 47.74),
    Published("DDIN + DCLF", _DCLF, _DCLF_FEATURES, 66.91, 75.83, 59.25, 65.69, 61.42),
    Published("MMGCN", _DCLF, _DCLF_FEATURES, 61.59, 68.95, 55.27, 59.96, 45.62),
    Published("MMGCN + DCLF", _DCLF, _DCLF_FEATURES, 67.11, 74.30, 60.94, 66.27, 61.29),
    Published("DF-ERC", "its paper, as others quote it", "RoBERTa trained along, sound, faces; one seed", 67.03),
    Published("TelME, of which MERC-KDC is kin", "third-party table", "text encoder fine-tuned, sound, faces", 67.37),
)
"""IDCL reports no score on MELD, on which it is only pre-trained; no numbers could be obtained for Shi et al. and
MERC-KDC.
"""


@dataclass(frozen=True)
class Found:
    """Results of a recipe: scores of every seed, as fractions of 1.

    Attributes:
        recipe: without the suffix.
        results: its ``results.json``.
        seeds: seed → score → value.
        alignment: ``scores.json`` of trajectory alignment.
    """

    recipe: str
    results: Mapping[str, Any]
    seeds: Mapping[str, Mapping[str, float]]
    alignment: Mapping[str, Any]

    def values(self, score: str) -> list[float]:
        return [one[score] for one in self.seeds.values()]

    def difference(self, first: str, second: str) -> list[float]:
        return [one[first] - one[second] for one in self.seeds.values()]

    def mean(self, score: str) -> float:
        return sum(self.values(score)) / len(self.seeds)


def _found(place: Place, recipe: str) -> Found:
    folder = place.work / "evaluations" / "runs" / place.dataset / f"{recipe}{TABLE.suffix}"
    scores = {name: files.read_json(folder / name / "scores.json") for name in PROTOCOLS[:4]}
    shift, replaced, sure = (scores[name]["seeds"] for name in PROTOCOLS[:3])
    seeds = {
        seed: {
            "whole": replaced[seed]["raw"]["weighted_f1"],
            "shift": shift[seed][DEFINITIONS[0]]["shift"]["weighted_f1"],
            "no_shift": shift[seed][DEFINITIONS[0]]["no_shift"]["weighted_f1"],
            "eccs": replaced[seed]["eccs"]["weighted_f1"],
            "eics": replaced[seed]["eics"]["weighted_f1"],
            "error": sure[seed]["raw"]["expected_calibration_error"],
            "tempered_error": sure[seed]["tempered"]["expected_calibration_error"],
            "temperature": sure[seed]["temperature"],
        }
        for seed in shift
    }
    return Found(recipe, place.results(f"{recipe}{TABLE.suffix}"), seeds, scores["trajectory_alignment"])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _head(names: Sequence[str], words: int = 1) -> list[str]:
    """Column heads, of which the first ``words`` columns hold words."""
    return [_row(names), "| --- |" + " --- |" * (words - 1) + " ---: |" * (len(names) - words)]


_SCORES = ("whole", "no_shift", "shift", "eccs", "eics")
_NAMES = ("test weighted F1", "no shift", "shift", "ECCS", "EICS")


def _ours(found: Sequence[Found]) -> list[str]:
    names = [
        "recipe",
        "causal",
        "seeds",
        "epochs selected",
        *_NAMES,
        "shift - no shift",
        "EICS - whole",
        "ECE",
        "ECE tempered",
        "temperature",
    ]
    lines = _head(names, 2)
    for one in found:
        epochs = ", ".join(str(seed["epoch"]) for seed in one.results["seeds"].values())
        scores = [spread(one.values(score)) for score in _SCORES]
        differences = [spread(one.difference("shift", "no_shift")), spread(one.difference("eics", "whole"))]
        sure = [spread(one.values("error")), spread(one.values("tempered_error")), f"{one.mean('temperature'):.2f}"]
        causal = "yes" if one.results["causal"] else "no"
        lines.append(
            _row([f"{one.recipe}{TABLE.suffix}", causal, str(len(one.seeds)), epochs, *scores, *differences, *sure])
        )
    return lines


def _theirs() -> list[str]:
    lines = _head(["row", "features", "source", *_NAMES, "shift - no shift", "EICS - whole"], 3)
    for one in PUBLISHED:
        scores = [getattr(one, score) for score in _SCORES]
        differences = [
            None if one.shift is None or one.no_shift is None else one.shift - one.no_shift,
            None if one.eics is None else one.eics - one.whole,
        ]
        cells = ["–" if value is None else f"{value:.2f}" for value in (*scores, *differences)]
        lines.append(_row([one.row, one.features, one.source, *cells]))
    return lines


def _gains(found: Sequence[Found]) -> list[str]:
    """What the losses of a system add to the same model without them, here and in the papers."""
    ours = {one.recipe: one for one in found}
    theirs = {one.row: one for one in PUBLISHED}
    lines = _head(["pair", *_NAMES])
    for base, ours_base in (("DDIN", "ddin_text"), ("MMGCN", "mmgcn_text")):
        alone, together = theirs[base], theirs[f"{base} + DCLF"]
        lines.append(
            _row(
                [
                    f"{base} + DCLF over {base}, the paper",
                    *(f"{getattr(together, score) - getattr(alone, score):+.2f}" for score in _SCORES),
                ]
            )
        )
        lines += [
            _gain(ours[name], ours[without])
            for name, without in ALONE.items()
            if name.startswith(f"{ours_base}+dclf") and {name, without} <= set(ours)
        ]
    return lines + [
        _gain(ours[name], ours[without])
        for name, without in ALONE.items()
        if "+dclf" not in name and {name, without} <= set(ours)
    ]


def _gain(one: Found, alone: Found) -> str:
    cells = []
    for score in _SCORES:
        both = [seed for seed in one.seeds if seed in alone.seeds]
        cells.append(
            f"{100 * sum(one.seeds[seed][score] - alone.seeds[seed][score] for seed in both) / len(both):+.2f}"
        )
    return _row([f"{one.recipe} over {alone.recipe}, here", *cells])


def _tests(place: Place, names: Sequence[str]) -> list[str]:
    (table,) = files.read_json(
        place.work / "evaluations" / "comparisons" / place.dataset / "significance" / "scores.json"
    )["tables"]
    wanted = {
        (f"{one}{TABLE.suffix}", f"{alone}{TABLE.suffix}") for one, alone in ALONE.items() if {one, alone} <= set(names)
    }
    lines = _head(["pair", "difference", "p", "p (Holm)", "95 % over dialogues", "significant", "seeds needed"])
    for pair in table["pairs"]:
        sign = (
            1 if (pair["first"], pair["second"]) in wanted else -1 if (pair["second"], pair["first"]) in wanted else 0
        )
        if sign and pair["p"] is not None:
            first, second = (pair["first"], pair["second"])[::sign]
            low, high = sorted((sign * pair["low"], sign * pair["high"]))
            needed = "–" if pair["seeds_needed"] is None else str(pair["seeds_needed"])
            scores = [
                f"{100 * sign * pair['difference']:+.2f}",
                f"{pair['p']:.3f}",
                f"{pair['p_holm']:.3f}",
                f"{100 * low:+.2f} to {100 * high:+.2f}",
            ]
            lines.append(_row([f"{first} over {second}", *scores, "yes" if pair["significant"] else "no", needed]))
    return lines


def _trajectories(found: Sequence[Found]) -> list[str]:
    """TA@K and RSA of what the classifier sees; the values before training are the same for all recipes."""
    columns = [
        (similarity, control) for similarity in ("path", "edit") for control in ("raw", "like_length", "order_excess")
    ]
    names = [f"{similarity}, {control.replace('_', ' ')}" for similarity, control in columns]
    lines = _head(["neighbours by", *(f"{name}: {score}" for score in ("TA", "RSA") for name in names)])

    def row(name: str, scores: Callable[[str, str], Mapping[str, float | None]]) -> str:
        cells = [scores(*column)[score] for score in ("ta", "rsa") for column in columns]
        return _row([name, *("–" if value is None else f"{value:+.3f}" for value in cells)])

    first = found[0].alignment
    lines.append(row("length alone", lambda similarity, control: first["length_alone"][similarity][control]))
    lines.append(
        row("the vectors of MiniLM", lambda similarity, control: first["mean"][similarity][control]["fusion"]["before"])
    )
    for one in found:
        lines.append(
            row(
                f"{one.recipe}{TABLE.suffix}",
                lambda similarity, control, of=one.alignment: of["mean"][similarity][control]["fusion"]["after"],
            )
        )
    return lines


def _about(place: Place) -> list[str]:
    layout = Layout(place.work / "raw", place.work / place.out, place.dataset)
    test = reader.info(layout.shards)["counts"]["test"]
    changed: dict[str, list[str]] = {}
    for key, value in SETTINGS.items():
        first, name, rest = key.split(".", 2)
        changed.setdefault(f"{'+' if first == 'additions' else ''}{name}", []).append(f"{rest} {value}")
    return [
        f"{os.cpu_count()} CPU cores, torch {torch.__version__}; MELD's text by all-MiniLM-L6-v2, frozen;",
        f"test: {test['dialogues']} dialogues, {test['utterances']:,} utterances.",
        (
            "Per cent, mean ± standard deviation (n - 1) over the seeds; every seed's epoch was chosen on dev. Shift:"
            " the same speaker's previous utterance has"
        ),
        (
            "another emotion (DAG-ERC's definition). ECCS, EICS: means over five draws. ECE: 15 bins; tempered: with"
            " one temperature chosen on dev."
        ),
        "Settings that differ from those that ship:",
        "; ".join(f"`{name}`: {', '.join(values)}" for name, values in changed.items()) + ".",
    ]


def _evaluate(place: Place, names: Sequence[str]) -> None:
    chosen = [word for name in names for word in ("--recipe", f"{name}{TABLE.suffix}")]
    protocols = [word for name in PROTOCOLS for word in ("--protocol", name)]
    place.run("merc-evaluate", *chosen, *protocols, "--runs", place.runs, "--device", "cpu")


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
    help="all-MiniLM-L6-v2; or $MERC_MINILM.",
)
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=Path("runs") / "results_evaluation",
    show_default=True,
    help="Features and runs; stays.",
)
@click.option("--recipes", help="In place of all, without the suffix @text.")
@click.option("--finished", is_flag=True, help="Train nothing; evaluate and show what is finished.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Seeds trained at once.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).with_suffix(".md"), show_default=True)
def main(
    annotations: Path | None,
    checkpoint: Path | None,
    work: Path,
    recipes: str | None,
    finished: bool,
    jobs: int,
    out: Path,
) -> None:
    """Extracts, trains, evaluates, and writes the tables of results_evaluation.md."""
    names = recipes.split(",") if recipes else list(RECIPES)
    place = extracted(TABLE, work.resolve(), annotations, checkpoint, None, SETTINGS, "evaluation")
    if not finished:
        for name in names:
            place.train(f"{name}{TABLE.suffix}", jobs)
    names = [name for name in names if (place.folder(f"{name}{TABLE.suffix}") / "results.json").is_file()]
    _evaluate(place, names)
    found = [_found(place, name) for name in names]
    command = "    python benchmarks/results_evaluation.py" + (f" --recipes {recipes}" if recipes else "")
    put_table(out, "ours", ["## Here", "", command, "", *_about(place), "", *_ours(found)])
    put_table(out, "published", ["## In the papers", "", "Weighted F1 on MELD's test split, per cent.", "", *_theirs()])
    put_table(
        out,
        "gains",
        [
            "## What the losses add",
            "",
            command,
            "",
            "Points of weighted F1, means over the seeds that both have.",
            "",
            *_gains(found),
        ],
    )
    of = found[0].alignment
    about = (
        f"TA@{of['k']} and RSA over {of['dialogues']} test dialogues, means over the seeds; like length: the shorter"
        " has 80 % of the utterances of the longer."
    )
    put_table(
        out, "trajectories", ["## Dialogues of similar trajectories", "", command, "", about, "", *_trajectories(found)]
    )
    sure = (
        "Significant: the paired t-test over seeds, corrected by Holm's method over all pairs of rows above, and the"
        " bootstrap over dialogues agree at 0.05."
    )
    put_table(out, "tests", ["## How sure that is", "", command, "", sure, "", *_tests(place, names)])
    print(out)


if __name__ == "__main__":
    main()
