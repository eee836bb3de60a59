"""The page of a dataset: the scores of recipes trained on it, then its content, what could not be used, and the
provenance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from merc.job import flat
from merc.layout import Layout
from merc.reports import figures
from merc.reports.colours import emotion_colours, ink_on
from merc.reports.evaluations import Evaluations
from merc.reports.examples import Example, abbreviations
from merc.reports.pace import NOTHING, Pace
from merc.reports.pages import score_tables
from merc.reports.pages.base import ASSETS, Link, Report, dialogues_where, folder_of, links_of
from merc.reports.published import TagGroup
from merc.reports.results import Epoch, Recipe, Spread
from merc.reports.scoreboard import Scoreboard
from merc.reports.tables import Contents, CoverageRow
from merc.shards.checks.problems import KINDS
from merc.shards.validate import Report as Validation

# Facts of an encoder in the order of the page; whatever else its provenance contains comes after them. # Lists, such as
# the names of features, are left to meta/info.json.
_ENCODER_FACTS = (
    "name",
    "encoder",
    "tag",
    "revision",
    "dim",
    "layer",
    "pooling",
    "sample_rate_hz",
    "licence",
    "training_data_overlap",
)
# These are among the settings, and at the foot of the page.
_ELSEWHERE = ("settings", "settings_sha256", "fingerprint", "versions")
_CONTENTS = {
    "results": "Results",
    "evaluations": "Evaluations",
    "published": "Published scores",
    "data": "Data",
    "trajectories": "Trajectories",
    "encoders": "Encoders",
    "provenance": "Provenance",
}
SCRIPTS = (f"{ASSETS}/sort.js", f"{ASSETS}/reveal.js")


@dataclass(frozen=True, kw_only=True)
class DatasetReport:
    """The content of the page of one dataset.

    Attributes:
        name: the dataset's.
        layout: paths of the dataset.
        runs: the folder of all runs.
        evaluations: the folder of all evaluations; may be missing, None for none.
        source: paper, licence and origin of the corpus, as stated by its reader; empty if unknown.
        label_set: its name.
        classes: its emotions.
        deviations: deviations from expectations; None if there is nothing to report and counts are not compared.
        contents: counts from the shards.
        encoders: modality → provenance.
        recipes: what was trained on it.
        boards: the same, grouped by comparability.
        states: recipe → hash of its results when they were read.
        trained_on_others: those whose shards have been rebuilt since.
        best: the best recipe, by dev score.
        epochs: history of the best recipe.
        evaluated: existing evaluations.
        published: scores from papers, for its corpus and label set.
        examples: train dialogues with their neighbours.
        similarity: similarity of these neighbours.
        validation: problems of the shards; None if they were not validated.
        made_of: what the shards' record says about them, such as their fingerprint and the versions of libraries.
        settings: recorded settings of shards and trajectories.
        records: recipe → record of its training; empty if there is none.
        paces: recipe → duration of an epoch.
    """

    name: str
    layout: Layout
    runs: Path
    evaluations: Path | None
    source: str
    label_set: str
    classes: Sequence[str]
    deviations: Sequence[str] | None
    contents: Contents
    encoders: Mapping[str, Mapping[str, Any]]
    recipes: Sequence[Recipe]
    boards: Sequence[Scoreboard]
    states: Mapping[str, str]
    trained_on_others: Sequence[str]
    best: Recipe | None
    epochs: Sequence[Epoch]
    evaluated: Evaluations
    published: Sequence[TagGroup]
    examples: Sequence[Example]
    similarity: str
    validation: Validation | None
    made_of: Mapping[str, Any]
    settings: Mapping[str, Any]
    records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    paces: Mapping[str, Pace] = field(default_factory=dict)

    @property
    def utterances(self) -> int:
        return sum(row.utterances for row in self.contents.splits)

    @property
    def dialogues(self) -> int:
        return sum(row.dialogues for row in self.contents.splits)


def write(report: Report, dataset: DatasetReport) -> None:
    """Writes ``index.html`` of a dataset.

    Args:
        report: report that it belongs to.
        dataset: its content.
    """
    target = f"{folder_of(dataset.name)}/index.html"
    contents = [Link(words, f"#{key}") for key, words in _CONTENTS.items() if key != "published" or dataset.published]
    report.write(
        target,
        "dataset.html.j2",
        dataset.name,
        links=links_of(dataset.name),
        scripts=SCRIPTS,
        contents=contents,
        d=_view(dataset),
    )


def _view(report: DatasetReport) -> dict[str, Any]:
    """The values for the template, including figures."""
    contents = report.contents
    colours = emotion_colours(report.classes)
    short = abbreviations(report.classes)
    label_grid = _label_grid(contents)
    return {
        "report": report,
        "boards": [score_tables.board_view(board, report.paces) for board in report.boards],
        "confusion": _confusion(report.best) if report.best else None,
        "per_class": _per_class(report.best) if report.best else None,
        "history_figure": _history_figure(report),
        "blocks": [score_tables.block_view(block, report.recipes) for block in report.evaluated.blocks],
        "pairs": score_tables.pair_rows(report.evaluated),
        "published_evaluations": any(
            row.eccs or row.eics or row.shift or row.no_shift for group in report.published for row in group.rows
        ),
        "coverage": _coverage_grid(contents.coverage),
        "emotions": list(dict.fromkeys(row.emotion for row in contents.labels)),
        "label_grid": label_grid,
        "labels_figure": figures.labels(label_grid) if label_grid else None,
        "failures": [(row, dialogues_where(failure=row.reason)) for row in contents.failures],
        "problems": _problems(report.validation),
        "legend": [(name, short[name], colours[name], ink_on(colours[name])) for name in report.classes],
        "encoder_facts": _encoder_facts(report.encoders),
        "runs": [_run(report, recipe) for recipe in report.recipes],
        "made_of": [(name.replace("_", " "), _words(value)) for name, value in report.made_of.items()],
        "settings": _yaml(report.settings),
    }


def _coverage_grid(rows: Sequence[CoverageRow]) -> dict[str, dict[str, CoverageRow]]:
    """Modality → split → row."""
    grid: dict[str, dict[str, CoverageRow]] = {}
    for row in rows:
        grid.setdefault(row.modality, {})[row.split] = row
    return grid


def _label_grid(contents: Contents) -> dict[str, dict[str, tuple[int, float]]]:
    """Split → emotion → (utterances, share); every split has every emotion."""
    emotions = list(dict.fromkeys(row.emotion for row in contents.labels))
    found = {(row.split, row.emotion): (row.utterances, row.share) for row in contents.labels}
    return {
        split.split: {emotion: found.get((split.split, emotion), (0, 0.0)) for emotion in emotions}
        for split in contents.splits
    }


def _problems(validation: Validation | None) -> list[tuple[str, str, int, list[str]]]:
    """Per kind of problem: its name, what it means, the number, and descriptions of the first ones."""
    if validation is None:
        return []
    counts, listed = validation.problems.counts, validation.problems.listed
    return [
        (kind, meaning, counts[kind], [str(one) for one in listed if one.kind == kind])
        for kind, meaning in KINDS.items()
        if counts[kind]
    ]


def _run(report: DatasetReport, recipe: Recipe) -> dict[str, Any]:
    """What made the scores of a recipe."""
    record, pace = report.records.get(recipe.recipe, {}), report.paces.get(recipe.recipe, NOTHING)
    facts = {
        "folder": (report.runs / recipe.dataset / recipe.recipe).as_posix(),
        "model": recipe.model,
        **{f"features, {modality}": recipe.encoders[modality] for modality in recipe.modalities},
        "encoders": recipe.tag,
        "label set": recipe.protocol,
        "parameters": f"{recipe.parameters:,}",
        "causal": "yes, it sees no later utterance" if recipe.causal else "no",
        "epoch selected by": recipe.selection,
        "seconds per epoch": f"{pace}, {pace.words}" if pace.seconds is not None else pace.words,
        "fingerprint": record.get("fingerprint", "not recorded"),
        **{f"input, {key}": _words(value) for key, value in flat(record.get("inputs", {})).items()},
    }
    settings = record.get("settings", {})
    return {
        "recipe": recipe,
        "anchor": score_tables.anchor(recipe.recipe),
        "facts": list(facts.items()),
        "seeds": _seed_rows(recipe),
        "settings": _yaml(settings) if settings else "",
    }


def _seed_rows(recipe: Recipe) -> list[list[str]]:
    """Seed, chosen epoch, dev and test scores, and the score if the epoch had been chosen on test."""
    rows = []
    for name, seed in recipe.seeds.items():
        scores = (seed.dev.weighted_f1, seed.test.weighted_f1, seed.test.accuracy)
        best = seed.best_test_epoch
        rows.append(
            [
                name,
                str(seed.epoch),
                *(f"{100 * score:.2f}" for score in scores),
                f"{100 * best.weighted_f1:.2f} (epoch {best.epoch})" if best else "–",
            ]
        )
    return rows


@dataclass(frozen=True)
class _Confused:
    """A cell of a confusion matrix; ``target`` is the link to its utterances."""

    count: int
    share: float
    target: str


def _confusion(recipe: Recipe) -> list[tuple[str, list[_Confused], int]]:
    """Per true class: a cell for each predicted class, with its share of the row, and the row's sum; over all seeds."""
    rows = []
    for name, counts in zip(recipe.classes, recipe.confusion, strict=True):
        total = sum(counts)
        targets = [
            dialogues_where(recipe=recipe.recipe, split="test", emotion=name, predicted=other)
            for other in recipe.classes
        ]
        rows.append(
            (
                name,
                [
                    _Confused(count, count / total if total else 0.0, target)
                    for count, target in zip(counts, targets, strict=True)
                ],
                total,
            )
        )
    return rows


def _per_class(recipe: Recipe) -> list[tuple[str, list[score_tables.Cell], int]]:
    """Per class: precision, recall and F1 over the seeds, and its number of test utterances."""
    rows = []
    for name in recipe.classes:
        of_seeds = [seed.test.per_class[name] for seed in recipe.seeds.values()]
        spreads = [Spread([getattr(one, score) for one in of_seeds]) for score in ("precision", "recall", "f1")]
        rows.append((name, [score_tables.cell(spread) for spread in spreads], of_seeds[0].support))
    return rows


def _history_figure(report: DatasetReport) -> str | None:
    if report.best is None or not report.epochs:
        return None
    return figures.history(report.epochs, {name: seed.epoch for name, seed in report.best.seeds.items()})


def _encoder_facts(encoders: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """For each fact, its value for each encoder; facts that no encoder has are left out."""
    there = {
        name
        for provenance in encoders.values()
        for name, value in provenance.items()
        if value is not None and not isinstance(value, list | dict)
    }
    names = [*(name for name in _ENCODER_FACTS if name in there), *sorted(there - {*_ENCODER_FACTS, *_ELSEWHERE})]
    return [
        (name.replace("_", " "), [_words(provenance.get(name)) for provenance in encoders.values()]) for name in names
    ]


def _words(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_words(one)}" for key, one in value.items())
    return ", ".join(map(_words, value)) if isinstance(value, list) else str(value)


def _yaml(tree: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(tree), sort_keys=True, allow_unicode=True, width=120))
