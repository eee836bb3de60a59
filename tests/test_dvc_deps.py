"""Every module that a DVC stage imports is among that stage's deps, or hashed in its settings file; otherwise features
become stale silently.
"""

import re
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

from merc import plugins
from merc.commands import resolve
from merc.corpora.engine.base import CorpusReader
from merc.encoders.engine.base import Encoder
from merc.layout import MODALITIES
from merc.params import Params
from merc.training.frameworks.base import Framework
from merc.training.losses.engine.base import MERCLoss
from merc.training.models.engine.base import MERCModel

ROOT = Path(__file__).resolve().parents[1]
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# These contain no numerics: settings, paths, logs, errors, fingerprints, timing.
EXEMPT = {
    f"merc.{name}"
    for name in (
        "command_line errors files hub interrupts layout lock log machines params parquet job plugins provenance shown"
        " timing extras exchange"
    ).split()
}
EXEMPT |= {"merc.training.following.engine.base"}  # followers do not change a training's bytes
# Settings that matter are in the stage's file under features/.settings, which resolves them wherever they are set.
SETTINGS = re.compile(r"\.config$|^merc\.training\.recipes\.|^merc\.training\.data\.curriculum$")
PLUGINS: dict[str, type[Any]] = {
    "merc.corpora": CorpusReader,
    **{f"merc.encoders.{modality}": Encoder for modality in MODALITIES},
    "merc.training.models": MERCModel,
    "merc.training.losses": MERCLoss,
    "merc.training.frameworks": Framework,
}
ALL_PLUGINS = {f"{package}.{name}" for package, base in PLUGINS.items() for name in plugins.names(package, base)}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("merc")


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT / "pipeline").with_suffix("").parts)


def _source_files(dep: str) -> list[Path]:
    path = ROOT / dep
    return sorted(file for file in path.rglob("*.py") if file.name != "__init__.py") if path.is_dir() else [path]


def _needed(graph: grimp.ImportGraph, start: set[str]) -> set[str]:
    """Everything imported, directly or indirectly, without following plug-ins, whose own settings files say what they
    need.
    """
    found: set[str] = set()
    left = list(start)
    while left:
        module = left.pop()
        if module in found:
            continue
        found.add(module)
        if module not in ALL_PLUGINS:
            left += graph.find_modules_directly_imported_by(module)
    return found


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_module_a_stage_imports_is_among_its_deps(stage: str, graph: grimp.ImportGraph) -> None:
    body = STAGES[stage].get("do", STAGES[stage])
    declared = {_module(file) for dep in body["deps"] if dep.startswith("pipeline/") for file in _source_files(dep)}
    started = re.search(r"PYTHONPATH=pipeline python -m ([\w.]+)", body["cmd"])
    assert started, f"{stage} runs no module of the project"
    needed = _needed(graph, {started.group(1), *declared})
    packages = {module for module in graph.modules if (ROOT / "pipeline" / Path(*module.split("."))).is_dir()}
    assert sorted(one for one in needed - declared - packages - EXEMPT - ALL_PLUGINS if not SETTINGS.search(one)) == []


@pytest.mark.parametrize("plugin", sorted(ALL_PLUGINS))
def test_all_that_a_plug_in_imports_is_hashed_with_it_or_shared_by_its_kind(
    plugin: str, graph: grimp.ImportGraph
) -> None:
    package, _, name = plugin.rpartition(".")
    hashed = set(resolve.sources(plugins.load(package, name, PLUGINS[package])))
    stages = (
        ("manifest",)
        if package == "merc.corpora"
        else ("extract_text",)
        if package.startswith("merc.encoders")
        else ("train",)
    )
    shared = {
        _module(file)
        for one in stages
        for dep in STAGES[one]["do"]["deps"]
        if dep.startswith("pipeline/")
        for file in _source_files(dep)
    }
    needed = set().union(*(graph.find_modules_directly_imported_by(one) for one in hashed))
    packages = {module for module in graph.modules if (ROOT / "pipeline" / Path(*module.split("."))).is_dir()}
    assert sorted(one for one in needed - hashed - shared - packages - EXEMPT if not SETTINGS.search(one)) == []


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_declared_source_exists(stage: str) -> None:
    body = STAGES[stage].get("do", STAGES[stage])
    assert [dep for dep in body["deps"] if dep.startswith("pipeline/") and not (ROOT / dep).exists()] == []


def test_every_file_of_settings_that_a_stage_depends_on_is_written() -> None:
    params = Params.load(ROOT / "params.yaml")
    written = {f"features/{resolve.FOLDER}/{name}.json" for name in resolve.resolve_all(params)}
    wanted: set[str] = set()
    for body in STAGES.values():
        items = params.block(body["foreach"].strip("${}")) if "foreach" in body else {"": None}
        wanted |= {
            dep.replace("${key}", key)
            for dep in body.get("do", body)["deps"]
            if f"/{resolve.FOLDER}/" in dep
            for key in items
        }
    assert sorted(wanted - written) == []


def test_source_dependencies_are_few() -> None:
    """A folder, or a single file where a folder holds more; one that has to list files is a folder too few."""
    bodies = [body.get("do", body) for body in STAGES.values()]
    assert sum(dep.startswith("pipeline/") for body in bodies for dep in body["deps"]) <= 94
