"""DVC stage ``report``: shards, runs and evaluations → pages, tables for papers, and the data of ``dvc metrics`` and
``dvc plots``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from merc import files, lock, log, provenance
from merc.command_line import EVALUATIONS, OUT, PARAMS, RUNS, exiting
from merc.errors import BadSettings, BadTable, RawDataMissing, nearest
from merc.layout import Layout, with_shards
from merc.log import logger
from merc.params import Params
from merc.reports import place, results, tables, written
from merc.reports.colours import emotion_colours
from merc.reports.config import Config
from merc.reports.evaluations import Evaluations, read_evaluations
from merc.reports.examples import Example, read_examples
from merc.reports.pace import read_pace
from merc.reports.pages import compare, dataset, dialogues, overview
from merc.reports.pages.base import Report
from merc.reports.pages.dataset import DatasetReport
from merc.reports.published import Published, by_features, read_published
from merc.reports.scoreboard import best_of, scoreboards
from merc.shards.format import reader
from merc.shards.validate import validate
from merc.shown import visible
from merc.trajectories import stage as trajectories


def write_report(
    config: Config,
    out: Path,
    runs: Path,
    reports: Path,
    datasets: list[str] | None = None,
    evaluations: Path | None = None,
) -> Path:
    """Writes ``index.html``, ``pages/``, ``results.md``, ``results.tex``, ``coverage.csv``, ``labels.csv``,
    ``coverage.json`` and ``scores.json``.

    Everything is made in a separate folder, so that an existing report stays intact until the new one is complete.

    Args:
        config: what is shown.
        out: the folder of all features.
        runs: the folder of the trained runs; may be missing.
        reports: where to write.
        datasets: names of datasets; None for all that have shards.
        evaluations: the folder of all evaluations; may be missing, None for none.

    Returns:
        The overview.

    Raises:
        RawDataMissing: if there are no shards at all.
        BadSettings: if a dataset has no shards, the trajectories lack the similarity to be drawn, or the file of
            published scores is invalid.
        BadTable: if shards, runs or evaluations are invalid, or are rebuilt or removed in the meantime.
        SettingsDiffer: if ``reports`` contains something else.
    """
    names = _chosen(out, datasets)
    place.check(reports)
    published = read_published(config.published)
    found = [_dataset_report(config, Layout(Path("raw"), out, name), runs, evaluations, published) for name in names]
    with place.making(reports) as folder:
        _write_pages(found, Report(folder, provenance.versions() | provenance.commit(Path.cwd())), config, evaluations)
        _write_tables(found, folder)
        for one in found:
            _check_there(one)
        target = place.put(folder, reports)
    logger.info(
        "report: %s",
        target,
        extra={
            "stage": "report",
            "datasets": [one.name for one in found],
            "recipes": sum(len(one.recipes) for one in found),
        },
    )
    return target


def _write_pages(found: list[DatasetReport], report: Report, config: Config, evaluations: Path | None) -> None:
    report.write_assets()
    for one in found:
        dataset.write(report, one)
        compare.write(report, one, runs=one.runs, evaluations=evaluations)
        dialogues.write(report, one, config, one.layout, one.runs, evaluations)
    overview.write(report, found)


def _write_tables(found: list[DatasetReport], folder: Path) -> None:
    """Writes :data:`merc.reports.place.TABLES`."""
    coverage = [row for one in found for row in one.contents.coverage]
    labels = [row for one in found for row in one.contents.labels]
    scores = [written.Results(one.name, one.boards, one.published, one.paces) for one in found]
    files.write_text(folder / "results.md", written.markdown(scores))
    files.write_text(folder / "results.tex", written.latex(scores))
    files.write_json(folder / "scores.json", tables.score_metrics({one.name: list(one.recipes) for one in found}))
    files.write_text(folder / "coverage.csv", tables.coverage_csv(coverage))
    files.write_text(folder / "labels.csv", tables.labels_csv(labels))
    files.write_json(folder / "coverage.json", tables.coverage_metrics(coverage))


def _check_there(one: DatasetReport) -> None:
    """Raises ``BadTable`` if the shards or a run of a dataset have been removed or rebuilt since they were read."""
    if reader.info(one.layout.shards)["fingerprint"] != one.made_of["fingerprint"]:
        raise BadTable(f"{one.layout.shards}: remade while the report was made; run merc-report again")
    for recipe in one.recipes:
        if results.state(one.runs, recipe) != one.states[recipe.recipe]:
            raise BadTable(
                f"{one.runs / recipe.dataset / recipe.recipe}: retrained while the report was made; run merc-report"
                " again"
            )


def _chosen(out: Path, datasets: list[str] | None) -> list[str]:
    there = with_shards(out)
    if not there:
        raise RawDataMissing(
            f"there are no shards in {out}; either of these makes some:\n  merc-extract --dataset NAME\n  dvc repro"
        )
    if datasets is None:
        return there
    for name in datasets:
        if name not in there:
            raise BadSettings(f"no shards of {name!r} in {out}; {nearest(name, there)}")
    return list(dict.fromkeys(datasets))


def _dataset_report(
    config: Config, layout: Layout, runs: Path, evaluations: Path | None, published: list[Published]
) -> DatasetReport:
    info = reader.info(layout.shards)
    recipes = results.read_recipes(runs, layout.dataset)
    states = {recipe.recipe: results.state(runs, recipe) for recipe in recipes}
    records = {recipe.recipe: results.read_record(runs, recipe) for recipe in recipes}
    evaluated = _evaluated(evaluations, layout.dataset, records)
    boards = scoreboards(recipes, evaluated.significance)
    best = best_of(boards, info["label_set"])
    classes = [visible(one) for one in info["classes"]]  # they occur in figures, too
    return DatasetReport(
        name=layout.dataset,
        layout=layout,
        runs=runs,
        evaluations=evaluations,
        source=info.get("source", ""),
        label_set=info["label_set"],
        classes=classes,
        deviations=info.get("deviations") or ([] if info.get("counts_compared", True) else None),
        contents=tables.read_contents(layout.dataset, layout.shards, classes),
        encoders={modality: info["encoders"][modality] for modality in info["modalities"]},
        recipes=recipes,
        boards=boards,
        states=states,
        trained_on_others=[
            name for name, record in records.items() if record and record["inputs"].get("shards") != info["fingerprint"]
        ],
        best=best,
        epochs=results.read_history(runs, best) if best else [],
        evaluated=evaluated,
        published=by_features(published, info["corpus"], info["label_set"]),
        examples=_examples(config, layout, classes),
        similarity=config.similarity,
        validation=validate(layout.shards) if config.validate_shards else None,
        made_of={key: info[key] for key in ("fingerprint", "schema_version", "versions") if key in info},
        settings=_settings(layout, info),
        records=records,
        paces={recipe.recipe: read_pace(runs, recipe, records[recipe.recipe]) for recipe in recipes},
    )


def _evaluated(evaluations: Path | None, dataset: str, records: Mapping[str, Mapping[str, Any]]) -> Evaluations:
    """The fingerprints of the runs with a record, which identify the evaluations' trainings."""
    if evaluations is None:
        return Evaluations()
    return read_evaluations(
        evaluations, dataset, {recipe: record["fingerprint"] for recipe, record in records.items() if record}
    )


def _examples(config: Config, layout: Layout, classes: list[str]) -> list[Example]:
    return read_examples(
        layout.shards / "trajectories",
        config.similarity,
        classes=classes,
        colours=emotion_colours(classes),
        number=config.example_dialogues,
        neighbours=config.neighbours_drawn,
    )


def _settings(layout: Layout, info: dict[str, Any]) -> dict[str, Any]:
    """The settings of the shards and trajectories, from their records; params.yaml may have changed since."""
    made = {
        "corpora": {layout.dataset: info.get("corpus_settings", {})},
        "encoders": {
            modality: {facts.get("name", "encoder"): facts.get("settings", {})}
            for modality, facts in info["encoders"].items()
        },
        "shards": info.get("settings", {}).get("shards", {}),
    }
    record = layout.shards / "trajectories" / trajectories.RECORD
    return made | (files.read_json(record)["settings"] if record.is_file() else {})


@click.command()
@OUT
@RUNS
@EVALUATIONS
@click.option(
    "--reports", type=click.Path(path_type=Path), default="reports", show_default=True, help="Folder of the report."
)
@click.option(
    "--dataset", "datasets", multiple=True, help="Only this dataset; repeatable. Default: all that have shards."
)
@PARAMS
def main(
    out: Path, runs: Path, evaluations: Path, reports: Path, datasets: tuple[str, ...], params_file: Path | None
) -> None:
    """Writes the report of shards, runs and evaluations."""
    log.set_up()
    with exiting():
        params = Params.load(params_file)
        with lock.held(reports):
            write_report(params.fill("report", Config), out, runs, reports, list(datasets) or None, evaluations)


if __name__ == "__main__":
    main()
