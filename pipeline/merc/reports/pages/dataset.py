"""The page of a dataset: what is in it, what could not be used, and what came of the trainings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from merc.reports import figures, tables
from merc.reports.examples import Example, abbreviations
from merc.reports.pages.base import Report, folder_of, links_of
from merc.reports.results import Epoch, Recipe, Spread
from merc.reports.tables import Contents, CoverageRow

# Facts of an encoder in the order of the page; whatever else its provenance holds comes after them.
# Lists, such as the names of features, are left to meta/info.json.
_ENCODER_FACTS = ("name", "encoder", "tag", "revision", "dim", "layer", "pooling", "sample_rate_hz", "licence", "training_data_overlap")
# They stand among the settings, and at the foot of the page.
_ELSEWHERE = ("settings", "settings_sha256", "fingerprint", "versions")


@dataclass(frozen=True, kw_only=True)
class DatasetReport:
    """What the page says of one dataset.

    Attributes:
        name: the dataset's.
        source: paper, licence and origin of the corpus, in the reader's words; empty if unknown.
        label_set: its name.
        classes: its emotions.
        deviations: what is not as expected; None if there is nothing to report, and counts are not compared either.
        contents: counts from the shards.
        encoders: modality → provenance.
        recipes: what was trained on it.
        trained_on_others: those whose shards were made again since.
        best: of the recipes, by dev score.
        epochs: history of the best.
        examples: train dialogues with their neighbours.
        similarity: whose neighbours those are.
        settings: what made it all, as recorded.
    """

    name: str
    source: str
    label_set: str
    classes: Sequence[str]
    deviations: Sequence[str] | None
    contents: Contents
    encoders: Mapping[str, Mapping[str, Any]]
    recipes: Sequence[Recipe]
    trained_on_others: Sequence[str]
    best: Recipe | None
    epochs: Sequence[Epoch]
    examples: Sequence[Example]
    similarity: str
    settings: Mapping[str, Any]

    @property
    def utterances(self) -> int:
        return sum(row.utterances for row in self.contents.splits)

    @property
    def dialogues(self) -> int:
        return sum(row.dialogues for row in self.contents.splits)

    @property
    def best_weighted_f1(self) -> str | None:
        """Test weighted F1 of the best recipe over its seeds, in per cent."""
        return self.best.over_seeds(lambda seed: seed.test.weighted_f1).percent() if self.best else None

    @property
    def majority_weighted_f1(self) -> str | None:
        """What the majority class alone has on test, in per cent."""
        return f"{100 * self.best.majority['test'].weighted_f1:.2f}" if self.best else None


def write(report: Report, dataset: DatasetReport) -> None:
    """Writes ``index.html`` of a dataset.

    Args:
        report: what it belongs to.
        dataset: what it says.
    """
    target = f"{folder_of(dataset.name)}/index.html"
    report.write(target, "dataset.html.j2", dataset.name, links=links_of(dataset.name), d=_view(dataset))


def _view(report: DatasetReport) -> dict[str, Any]:
    """What the template draws, figures made."""
    contents = report.contents
    colours = figures.emotion_colours(report.classes)
    short = abbreviations(report.classes)
    label_grid = _label_grid(contents)
    return {
        "report": report,
        "coverage": _coverage_grid(contents.coverage),
        "emotions": list(dict.fromkeys(row.emotion for row in contents.labels)),
        "label_grid": label_grid,
        "labels_figure": figures.labels(label_grid) if label_grid else None,
        "result_heads": tables.RESULT_HEADS,
        "result_groups": _result_groups(report.recipes),
        "confusion": _confusion(report.best) if report.best else None,
        "per_class": _per_class(report.best) if report.best else None,
        "history_figure": _history_figure(report),
        "legend": [(name, short[name], colours[name], figures.ink_on(colours[name])) for name in report.classes],
        "encoder_facts": _encoder_facts(report.encoders),
        "settings": yaml.safe_dump(dict(report.settings), sort_keys=True, allow_unicode=True, width=120),
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
    return {split.split: {emotion: found.get((split.split, emotion), (0, 0.0)) for emotion in emotions} for split in contents.splits}


def _result_groups(recipes: Sequence[Recipe]) -> list[dict[str, Any]]:
    """One table and figure for what can be compared (:func:`merc.reports.tables.comparable`)."""
    groups = []
    for (label_set, tag), of_set in tables.comparable(recipes).items():
        groups.append(
            {
                "label_set": label_set,
                "tag": tag,
                "selection": ", ".join(sorted({recipe.selection for recipe in of_set})),
                "majority": tables.majority_cells(of_set[0]),
                "rows": [(recipe, tables.result_cells(recipe)) for recipe in of_set],
                "figure": figures.scores(of_set),
                "seeds": [(recipe.recipe, _seed_rows(recipe)) for recipe in of_set],
            }
        )
    return groups


def _seed_rows(recipe: Recipe) -> list[list[str]]:
    """Seed, chosen epoch, dev and test scores, and what choosing on test would have given."""
    rows = []
    for name, seed in recipe.seeds.items():
        scores = (seed.dev.weighted_f1, seed.test.weighted_f1, seed.test.accuracy)
        best = seed.best_test_epoch
        rows.append([name, str(seed.epoch), *(f"{100 * score:.2f}" for score in scores), f"{100 * best.weighted_f1:.2f} (epoch {best.epoch})" if best else "–"])
    return rows


def _confusion(recipe: Recipe) -> list[tuple[str, list[tuple[int, float]], int]]:
    """Per true class: (count, share of the row) for each predicted class, and the row's sum; over all seeds."""
    rows = []
    for name, counts in zip(recipe.classes, recipe.confusion, strict=True):
        total = sum(counts)
        rows.append((name, [(count, count / total if total else 0.0) for count in counts], total))
    return rows


def _per_class(recipe: Recipe) -> list[tuple[str, list[str], int]]:
    """Per class: precision, recall and F1 over the seeds, and its number of test utterances."""
    rows = []
    for name in recipe.classes:
        of_seeds = [seed.test.per_class[name] for seed in recipe.seeds.values()]
        spreads = [Spread([getattr(one, score) for one in of_seeds]) for score in ("precision", "recall", "f1")]
        rows.append((name, [spread.percent() for spread in spreads], of_seeds[0].support))
    return rows


def _history_figure(report: DatasetReport) -> str | None:
    if report.best is None or not report.epochs:
        return None
    return figures.history(report.epochs, {name: seed.epoch for name, seed in report.best.seeds.items()})


def _encoder_facts(encoders: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Per fact its value for each encoder; facts that no encoder has are left out."""
    there = {name for provenance in encoders.values() for name, value in provenance.items() if value is not None and not isinstance(value, list | dict)}
    names = [*(name for name in _ENCODER_FACTS if name in there), *sorted(there - {*_ENCODER_FACTS, *_ELSEWHERE})]
    return [(name.replace("_", " "), [_words(provenance.get(name)) for provenance in encoders.values()]) for name in names]


def _words(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_words(one)}" for key, one in value.items())
    return ", ".join(map(_words, value)) if isinstance(value, list) else str(value)
