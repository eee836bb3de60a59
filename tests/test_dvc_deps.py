"""Every module that a DVC stage imports is among that stage's deps; otherwise features go stale in silence."""

import re
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# They hold no numerics: settings, paths, logs, errors, fingerprints.
EXEMPT = {f"merc.{name}" for name in ("command_line", "errors", "files", "layout", "log", "params", "parts", "plugins", "provenance")}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("merc")


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT / "pipeline").with_suffix("").parts)


def _source_files(dep: str) -> list[Path]:
    path = ROOT / dep
    return sorted(file for file in path.rglob("*.py") if file.name != "__init__.py") if path.is_dir() else [path]


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_module_a_stage_imports_is_among_its_deps(stage: str, graph: grimp.ImportGraph) -> None:
    body = STAGES[stage].get("do", STAGES[stage])
    declared = {_module(file) for dep in body["deps"] if dep.startswith("pipeline/") for file in _source_files(dep)}
    started = re.search(r"python -m ([\w.]+)", body["cmd"])
    assert started, f"{stage} runs no module of the pipeline"
    # Plug-ins are loaded by name, which an import graph cannot see: whatever is declared is a start as well.
    start = {started.group(1), *declared}
    needed = start.union(*(graph.find_upstream_modules(module) for module in start))
    packages = {module for module in graph.modules if (ROOT / "pipeline" / Path(*module.split("."))).is_dir()}
    assert sorted(needed - declared - packages - EXEMPT) == []


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_declared_source_exists(stage: str) -> None:
    body = STAGES[stage].get("do", STAGES[stage])
    missing = [dep for dep in body["deps"] if dep.startswith("pipeline/") and not (ROOT / dep).exists()]
    assert missing == []
