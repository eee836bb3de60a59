"""DVC stage ``settings``: every setting of params.yaml looked up and checked before anything is made, in
``features/.settings/``.

    demo.json, extraction.json, shards.json, trajectories.json, evaluation.json, report.json    settings of these stages
    datasets/<dataset>/corpus.json, media.json, text.json, …                   of what ``build`` names
    adaptations/<run>.json, trainings/<name>.json                              of ``adapt_text``, ``adapt_audio``, ``train``

Each file contains the resolved settings, and the hashes of the plug-ins that they name and of the modules that those
import from their own folder. A stage depends on its own file, so an edit makes only the affected stages stale: a new
corpus, encoder, model, loss or recipe changes no existing file.
"""  # noqa: E501

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from merc import files, log
from merc.adaptation import stage as adaptation
from merc.adaptation.listing import MODALITIES as ADAPTED
from merc.audit.config import Config as AuditConfig
from merc.command_line import OUT, PARAMS, exiting
from merc.commands.extract import Order
from merc.corpora.demo.config import Config as DemoConfig
from merc.corpora.engine.labels import LABEL_SETS
from merc.corpora.stage import Corpus
from merc.encoders.engine.registry import ChosenEncoder
from merc.errors import BadSettings, nearest
from merc.evaluation import choice as evaluation
from merc.job import RunConfig
from merc.layout import MODALITIES
from merc.params import Params
from merc.reports.config import Config as ReportConfig
from merc.training.recipes.resolution import ResolvedRecipe, resolve, training_entry

FOLDER = ".settings"


def resolve_all(params: Params) -> dict[str, Any]:
    """Everything that ``dvc repro`` will use, by the name of its file.

    Raises:
        BadSettings: for an unknown name or key, an invalid value, or a value that something else overrides.
    """
    params.fill("run", RunConfig)
    params.fill("audit", AuditConfig)
    demo = params.fill("demo", DemoConfig).model_dump(mode="json")
    found: dict[str, Any] = {"demo": {"settings": demo, "classes": LABEL_SETS["meld7"].classes}}
    found["evaluation"] = evaluation.choose(params).settings()
    if found["evaluation"].get("cross_corpus", {}).get("datasets"):
        raise BadSettings(
            "evaluation.cross_corpus.datasets: no DVC stage depends on a second dataset; use merc-evaluate --set for"
            " such an evaluation"
        )
    found["report"] = params.fill("report", ReportConfig).model_dump(mode="json")
    for dataset, encoders in params.read("build").tree.items():
        order = Order.of(params, dataset, _known_modalities(dataset, encoders))
        if order.shards.quality:
            raise BadSettings(
                "shards.quality: no DVC stage makes an audit; merc-extract audit does, and merc-extract --quality uses"
                " its columns"
            )
        found |= {
            stage: getattr(order, stage).model_dump(mode="json") for stage in ("extraction", "shards", "trajectories")
        }
        found[f"datasets/{dataset}/media"] = order.media.model_dump(mode="json")
        found[f"datasets/{dataset}/corpus"] = _corpus(order.corpus)
        found |= {f"datasets/{dataset}/{one.modality}": _encoder(one) for one in order.encoders}
    for modality in ADAPTED:
        for name, run in params.read(f"adapt_{modality}").tree.items():
            chosen = adaptation.choose(params, modality=modality, encoder=run["encoder"], settings=run["settings"])
            found[f"adaptations/{name}"] = {
                "encoder": _encoder(chosen.encoder),
                "settings": chosen.config.model_dump(mode="json"),
            }
    for name, training in params.read("train").tree.items():
        found[f"trainings/{name}"] = _training(params, name, training)
    params.check_overrides()
    return found


def _known_modalities(dataset: str, encoders: Mapping[str, str]) -> Mapping[str, str]:
    for modality in encoders:
        if modality not in MODALITIES:
            raise BadSettings(f"build.{dataset}: no modality {modality!r}; {nearest(modality, list(MODALITIES))}")
    return encoders


def _corpus(corpus: Corpus) -> dict[str, Any]:
    config = corpus.reader.config
    labels = LABEL_SETS.get(config.label_set)
    return {
        "settings": config.model_dump(mode="json"),
        "labels": None if labels is None else {"classes": labels.classes, "merge": dict(labels.merge)},
        "sources": sources(type(corpus.reader)),
    }


def _encoder(chosen: ChosenEncoder) -> dict[str, Any]:
    return {"settings": chosen.config.model_dump(mode="json"), "sources": sources(chosen.kind)}


def _training(params: Params, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of ``train``; DVC needs some keys of it that follow from the recipe, which are checked here."""
    missing = [key for key in ("dataset", "recipe", "base", "also_reads") if key not in given]
    if missing:
        raise BadSettings(f"train.{name} has no key {missing[0]}")
    built = params.block("build")
    for key in ("dataset", "also_reads"):
        if given[key] not in built:
            raise BadSettings(
                f"train.{name}.{key}: {given[key]!r} is not under build; {nearest(str(given[key]), list(built))}"
            )
    resolved = resolve(params, given["recipe"])
    for key, wanted in training_entry(params, resolved, given["dataset"]).items():
        if given[key] != wanted:
            raise BadSettings(
                f"train.{name}.{key} is {given[key]!r}, and has to be {wanted!r}, which is what {given['recipe']} is"
                " made of"
            )
    return {"settings": resolved.settings(), "sources": _sources_of(resolved)}


def _sources_of(resolved: ResolvedRecipe) -> dict[str, str]:
    kinds: list[type] = [resolved.model, *(term.kind for term in resolved.losses)]
    kinds += [term.kind for phase in resolved.phases for term in phase.losses]
    if resolved.framework is not None:
        kinds.append(resolved.framework.kind)
    found = {name: digest for kind in kinds for name, digest in sources(kind).items()}
    return found if resolved.pretraining is None else found | _sources_of(resolved.pretraining.resolved)


def sources(kind: type) -> dict[str, str]:
    """The module of a plug-in, and those that it imports from its own folder: dotted name → sha256 of the file."""
    package = kind.__module__.rpartition(".")[
        0
    ]  # empty for a top-level module, whose folder contains everything that is installed
    found: dict[str, str] = {}
    left = [kind.__module__]
    while left:
        name = left.pop()
        path = _file_of(name)
        if name in found or path is None:
            continue
        found[name] = files.sha256(path)
        left += [one for one in _imported(path, package) if package and one.rpartition(".")[0] == package]
    return dict(sorted(found.items()))


def _imported(path: Path, package: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (package or not node.level):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _file_of(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # the name of something in a module
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


@click.command()
@OUT
@PARAMS
def main(out: Path, params_file: Path | None) -> None:
    """Looks up and checks every setting that `dvc repro` will use."""
    log.set_up()
    with exiting():
        found = resolve_all(Params.load(params_file))
        for name, content in found.items():
            files.write_json(out / FOLDER / f"{name}.json", content)
        log.logger.info("settings: %d files in %s", len(found), out / FOLDER, extra={"stage": "settings"})


if __name__ == "__main__":
    main()
