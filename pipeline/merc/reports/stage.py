"""DVC stage ``report``: shards and runs → one HTML page, a Markdown table, and the data of ``dvc metrics`` and ``dvc plots``."""

import shutil
from pathlib import Path
from typing import Any

import click

from merc import files, lock, log, provenance
from merc.command_line import OUT, PARAMS, RUNS, exiting
from merc.errors import BadSettings, RawDataMissing, nearest
from merc.layout import Layout, with_shards
from merc.log import logger
from merc.params import Params
from merc.reports import figures, tables
from merc.reports.config import Config
from merc.reports.examples import Example, read_examples
from merc.reports.pages import compare, dataset, dialogues, overview
from merc.reports.pages.base import OVERVIEW, PAGES, Report
from merc.reports.pages.dataset import DatasetReport
from merc.reports.results import best_on_dev, read_history, read_recipes, read_record
from merc.shards.format import reader
from merc.shown import visible
from merc.trajectories import stage as trajectories

SCRATCH = ".making"


def write_report(config: Config, out: Path, runs: Path, reports: Path, datasets: list[str] | None = None, *, evaluations: Path = Path("evaluations")) -> Path:
    """Writes ``index.html``, ``pages/``, ``results.md``, ``coverage.csv``, ``labels.csv``, ``coverage.json`` and ``scores.json``.

    Args:
        config: what is drawn.
        out: the folder of all features.
        runs: the folder of the trained runs; may be missing.
        reports: where to write.
        datasets: which ones; None for all that have shards.
        evaluations: the folder of all evaluations; may be missing.

    Returns:
        The page.

    Raises:
        RawDataMissing: if there are no shards at all; a report that is there stays.
        BadSettings: if a dataset has no shards, or the trajectories lack the similarity that is to be drawn.
        BadTable: if shards or runs do not hold what they should.
    """
    found = [_dataset_report(config, Layout(Path("raw"), out, name), runs) for name in _chosen(out, datasets)]
    coverage = [row for one in found for row in one.contents.coverage]
    labels = [row for one in found for row in one.contents.labels]
    results = {one.name: list(one.recipes) for one in found}
    files.write_text(reports / "results.md", tables.markdown(results))
    files.write_json(reports / "scores.json", tables.score_metrics(results))
    files.write_text(reports / "coverage.csv", tables.coverage_csv(coverage))
    files.write_text(reports / "labels.csv", tables.labels_csv(labels))
    files.write_json(reports / "coverage.json", tables.coverage_metrics(coverage))
    target = _write_pages(found, reports, runs, evaluations)
    logger.info("report: %s", target, extra={"stage": "report", "datasets": [one.name for one in found], "recipes": sum(len(one.recipes) for one in found)})
    return target


def _write_pages(found: list[DatasetReport], reports: Path, runs: Path, evaluations: Path) -> Path:
    """Makes all pages aside and puts them into their place; gives the first."""
    making = Report(reports / SCRATCH, provenance.versions())
    with files.writing(reports):
        shutil.rmtree(making.folder, ignore_errors=True)
    making.write_assets()
    for one in found:
        for page in (dataset, dialogues):
            page.write(making, one)
        compare.write(making, one, runs=runs, evaluations=evaluations)
    overview.write(making, found)
    files.replace_folder(making.folder / PAGES, reports / PAGES)
    with files.writing(reports):
        (making.folder / OVERVIEW).replace(reports / OVERVIEW)
        making.folder.rmdir()
    return reports / OVERVIEW


def _chosen(out: Path, datasets: list[str] | None) -> list[str]:
    there = with_shards(out)
    if not there:
        raise RawDataMissing(f"there are no shards in {out}; these make some:\n  merc-extract --dataset NAME\n  dvc repro")
    if datasets is None:
        return there
    for name in datasets:
        if name not in there:
            raise BadSettings(f"no shards of {name!r} in {out}; {nearest(name, there)}")
    return list(dict.fromkeys(datasets))


def _dataset_report(config: Config, layout: Layout, runs: Path) -> DatasetReport:
    info = reader.info(layout.shards)
    recipes = read_recipes(runs, layout.dataset)
    records = {recipe.recipe: read_record(runs, recipe) for recipe in recipes}
    best = best_on_dev(recipes)
    classes = [visible(one) for one in info["classes"]]  # they stand in figures, too
    return DatasetReport(
        name=layout.dataset,
        source=info.get("source", ""),
        label_set=info["label_set"],
        classes=classes,
        deviations=info.get("deviations") or ([] if info.get("counts_compared", True) else None),
        contents=tables.read_contents(layout.dataset, layout.shards, classes),
        encoders={modality: info["encoders"][modality] for modality in info["modalities"]},
        recipes=recipes,
        trained_on_others=[name for name, record in records.items() if record and record["inputs"].get("shards") != info["fingerprint"]],
        best=best,
        epochs=read_history(runs, best) if best else [],
        examples=_examples(config, layout, classes),
        similarity=config.similarity,
        settings=_settings(layout, info) | {"runs": {name: record.get("settings", {}) for name, record in records.items()}},
    )


def _examples(config: Config, layout: Layout, classes: list[str]) -> list[Example]:
    return read_examples(
        layout.shards / "trajectories",
        config.similarity,
        classes=classes,
        colours=figures.emotion_colours(classes),
        number=config.example_dialogues,
        neighbours=config.neighbours_drawn,
    )


def _settings(layout: Layout, info: dict[str, Any]) -> dict[str, Any]:
    """What the shards and trajectories were made with, from their records; params.yaml may have changed since."""
    made = {
        "corpora": {layout.dataset: info.get("corpus_settings", {})},
        "encoders": {modality: {facts.get("name", "encoder"): facts.get("settings", {})} for modality, facts in info["encoders"].items()},
        "shards": info.get("settings", {}).get("shards", {}),
    }
    record = layout.shards / "trajectories" / trajectories.RECORD
    return made | (files.read_json(record)["settings"] if record.is_file() else {})


@click.command()
@OUT
@RUNS
@click.option("--reports", type=click.Path(path_type=Path), default="reports", show_default=True, help="Folder of the report.")
@click.option("--dataset", "datasets", multiple=True, help="Only this one; repeatable. Default: all that have shards.")
@PARAMS
def main(out: Path, runs: Path, reports: Path, datasets: tuple[str, ...], params_file: Path | None) -> None:
    """Writes the report of shards and runs."""
    log.set_up()
    with exiting():
        params = Params.load(params_file)
        with lock.held(reports):
            write_report(params.fill("report", Config), out, runs, reports, list(datasets) or None)


if __name__ == "__main__":
    main()
