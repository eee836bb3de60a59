"""Finished runs on small shards, trained once and copied for each test."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from merc.evaluation.engine.runs import Run
from merc.job import RunOptions
from merc.layout import Layout
from merc.params import Params
from merc.training.recipes.resolution import resolve
from merc.training.stage import train

from ..training.conftest import make_shards, make_split, params, tree  # noqa: F401 - fixtures

OPTIONS = RunOptions(device="cpu")


@dataclass(frozen=True)
class Place:
    """Shards of the dataset ``tiny``, and its runs ``all`` (three modalities, seeds 0 and 1), ``text`` (the same seeds)
    and ``once`` (text, seed 0).
    """

    layout: Layout
    runs: Path
    evaluations: Path

    def run(self, recipe: str) -> Run:
        return Run.read(self.runs / "tiny" / recipe, self.layout)

    @property
    def arguments(self) -> list[str]:
        """Options of the command that point to all of this."""
        return [
            f"--{name}={path}"
            for name, path in (("out", self.layout.out), ("runs", self.runs), ("evaluations", self.evaluations))
        ]


@pytest.fixture
def place(
    made_once: Callable[..., Path], make_shards: Callable[..., Layout], tree: dict, params: Params, tmp_path: Path
) -> Place:
    tree["recipes"]["once"] = {**tree["recipes"]["text"], "seeds": [0]}
    layout = make_shards(labels=lambda label: label)

    def make(folder: Path) -> None:
        for recipe in ("all", "text", "once"):
            train(resolve(params, recipe), layout, OPTIONS, runs=folder)

    shutil.copytree(made_once("evaluated-runs", make), tmp_path / "runs")
    return Place(layout, tmp_path / "runs", tmp_path / "evaluations")
