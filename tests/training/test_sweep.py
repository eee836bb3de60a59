"""Sweeps: a run for every point, kept when another fails, and refused before any training if a setting does not
exist.
"""

import csv
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from dvc.utils.hydra import apply_overrides

from merc.commands.resolve import resolve_all
from merc.commands.train import main
from merc.errors import BadSettings
from merc.params import Params
from merc.training import sweep
from merc.training.loop.ledger import LossNotFinite
from merc.training.recipes.composition import RECIPES
from merc.training.recipes.resolution import resolve
from merc.training.recipes.shelves import SWEEPS
from merc.training.sweep import Sweep, points

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def swept(make_shards, tree, tmp_path):
    """Calls ``merc-train sweep`` on small shards and recipes of one epoch."""
    for recipe in tree["recipes"].values():
        recipe |= {"epochs": 1, "seeds": [0]}
    layout = make_shards()
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    where = [
        f"--params={tmp_path / 'params.yaml'}",
        f"--out={layout.out}",
        f"--runs={tmp_path / 'runs'}",
        "--device=cpu",
        "--dataset=tiny",
    ]

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["sweep", *arguments, *where])

    return call


def test_every_combination_is_a_recipe_of_its_own(params):
    grid = {"context_gru.hidden_units": (4, 8), "optimizer.learning_rate": (0.1, 0.01), "cross_entropy.weight": (2,)}
    made = points(params, "text", grid)
    assert [point.resolved.name for point in made] == [
        f"text+context_gru-hidden_units-{units}+optimizer-learning_rate-{rate}+cross_entropy-weight-2"
        for units in (4, 8)
        for rate in ("0_1", "0_01")
    ]
    assert [(point.resolved.model_config.hidden_units,
    point.resolved.recipe.optimizer.learning_rate) for point in made] == [
        (4, 0.1), (4, 0.01), (8, 0.1), (8, 0.01)
    ]  # fmt: skip
    assert made[0].resolved.losses[0].weight == 2.0
    assert made[0].values == {"context_gru.hidden_units": 4, "optimizer.learning_rate": 0.1, "cross_entropy.weight": 2}
    whole = {
        point.resolved.recipe.model_copy(
            update={"optimizer": None, "model_settings": {}, "losses": {}}
        ).model_dump_json()
        for point in made
    }
    assert len(whole) == 1


def test_modalities_stay_behind_the_additions():
    (point,) = points(Params({}), "mmgcn+supcon@text-audio", {"epochs": (2,)})
    assert point.resolved.name == "mmgcn+supcon+epochs-2@text-audio"
    assert point.resolved.recipe.modalities == ("text", "audio")


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"context_gru.hidden_unit": (4,)}, "did you mean 'hidden_units'"),
        ({"gru.layers": (1,)}, "has no setting 'gru.layers'; .*valid: context_gru, cross_entropy"),
        ({"context_gru": (1,)}, "has no setting 'context_gru'"),
        ({"epochs": (0,)}, "epochs: Input should be greater than or equal to 1"),
        ({"modalities": ("text audio",)}, "modalities=text audio: numbers, true, false and words"),
        ({"epochs": (1, 1)}, "two points that would have the same name, all[+]epochs-1"),
    ],
)
def test_what_cannot_be_swept_is_named(params, grid, words):
    with pytest.raises(BadSettings, match=words):
        points(params, "all", grid)


def test_a_value_of_the_users_that_the_sweep_overrides_is_reported(params):
    laid = Params(params._tree).with_overrides(recipes__all__epochs=7)
    with pytest.raises(BadSettings, match=r"recipes\.all\.epochs has no effect"):
        points(laid, "all", {"epochs": (2, 3)})


@pytest.mark.parametrize("name", SWEEPS.shipped())
def test_every_sweep_that_ships_fits_a_recipe_that_ships(name):
    params = Params({})
    block = params.filled(SWEEPS.read(params, name), Sweep, name)
    assert block.about
    over = {"dclf": "mmgcn+dclf", "idcl": "dialogue_transformer+idcl", "join": "joint_vector"}[name[:4]]
    made = points(params, over, block.grid)
    assert len(made) == len({point.resolved.name for point in made}) >= 4
    assert resolve(params, over).settings() not in [point.resolved.settings() for point in made]
    assert over.split("+")[0] in RECIPES.shipped()


def test_points_are_trained_and_told_and_a_second_time_nothing_is_trained(swept, tmp_path, monkeypatch):
    first = swept(
        "text", "--grid", "epochs=1,2", "--grid", "context_gru.hidden_units=4,8", "--table", str(tmp_path / "table.csv")
    )
    assert first.exit_code == 0, first.stderr
    names = [f"text+epochs-{epochs}+context_gru-hidden_units-{units}" for epochs in (1, 2) for units in (4, 8)]
    assert [line.split()[0] for line in first.stdout.splitlines()] == names
    assert all((tmp_path / "runs" / "tiny" / name / "results.json").is_file() for name in names)
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [
        (row["recipe"], row["epochs"], row["context_gru.hidden_units"], row["seeds"], row["dev_std"]) for row in rows
    ] == [(name, name[12], name[-1], "1", "") for name in names]
    again = swept("text", "--grid", "epochs=1,2", "--grid", "context_gru.hidden_units=4,8")
    assert again.stdout == first.stdout
    assert again.stderr.count("already done") == 4


def test_a_point_that_fails_stops_no_other_and_is_tried_again(swept, tmp_path, monkeypatch):
    train = sweep.train

    def failing(resolved: Any, *given: Any, **how: Any) -> Path:
        if resolved.recipe.epochs == 2:
            raise LossNotFinite("seed 0, epoch 1: the loss is not finite")
        made: Path = train(resolved, *given, **how)
        return made

    monkeypatch.setattr(sweep, "train", failing)
    first = swept("text", "--grid", "epochs=1,2,3")
    assert first.exit_code == 1
    assert [line.split()[0] for line in first.stdout.splitlines()] == ["text+epochs-1", "text+epochs-3"]
    assert "text+epochs-2 is left out: seed 0, epoch 1: the loss is not finite" in first.stderr
    monkeypatch.undo()
    second = swept("text", "--grid", "epochs=1,2,3")
    assert (second.exit_code, len(second.stdout.splitlines()), second.stderr.count("already done")) == (0, 3, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give --grid or --sweep"),
        (["--grid", "epochs"], "expected KEY=VALUE,VALUE"),
        (["--grid", "epochs=1", "--grid", "epochs=2"], "each key once"),
        (["--grid", "epochs=[1"], "not a list of values"),
        (["--grid", "epochs={a: 1}"], "--grid.grid.epochs"),
        (["--grid", "epochs=1,zero"], "epochs"),
        (["--sweep", "dclf_windows"], "no sweep 'dclf_windows'; did you mean 'dclf_window'"),
        (["--sweep", "dclf_window"], "has no setting 'context_aware.window'"),
    ],
)
def test_a_wrong_grid_ends_with_exit_code_2_before_anything_is_trained(swept, tmp_path, arguments, words):
    done = swept("text", *arguments)
    assert (done.exit_code, words in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_named_grids_are_listed():
    listed = CliRunner().invoke(main, ["sweeps", f"--params={ROOT / 'params.yaml'}"])
    assert [line.split()[0] for line in listed.stdout.splitlines()] == SWEEPS.shipped()


def test_as_experiments_of_dvc_the_points_train_what_the_sweep_would(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    how = [
        "--dataset=demo-meld",
        "--grid=context_aware.window=2,8",
        "--grid=optimizer.learning_rate=0.01",
        "--set=additions.demo.epochs=3",
    ]
    printed = CliRunner().invoke(main, ["sweep", "mmgcn+dclf+demo@text-audio", *how, "--dvc"])
    assert printed.exit_code == 0, printed.stderr
    expected = points(
        Params.load(None, ("additions.demo.epochs=3",)),
        "mmgcn+dclf+demo@text-audio",
        {"context_aware.window": (2, 8), "optimizer.learning_rate": (0.01,)},
    )
    lines = [shlex.split(line) for line in printed.stdout.splitlines()]
    assert len(lines) == len(expected) == len({line[line.index("--name") + 1] for line in lines})
    for line, point in zip(lines, expected, strict=True):
        assert (line[:4], line[-1]) == (["dvc", "exp", "run", "--queue"], "train@sweep")
        shutil.copy(ROOT / "params.yaml", tmp_path / "swept.yaml")
        apply_overrides(tmp_path / "swept.yaml", [line[at + 1] for at, word in enumerate(line) if word == "-S"])
        params = Params.load(tmp_path / "swept.yaml")
        assert params.get("train.sweep") == {
            "dataset": "demo-meld",
            "recipe": point.resolved.name,
            "base": "mmgcn",
            "also_reads": "demo-meld",
        }
        resolved = resolve(params, point.resolved.name)
        assert resolved.settings() == point.resolved.settings()
        assert resolved.recipe.epochs == 3
    assert "trainings/sweep" in resolve_all(params)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("option", ["--params=params.yaml", "--table=table.csv"])
def test_what_dvc_would_not_see_is_refused(option):
    done = CliRunner().invoke(main, ["sweep", "mmgcn", "--dataset=demo-meld", "--grid=epochs=1", "--dvc", option])
    assert (done.exit_code, "--dvc cannot be combined with" in done.stderr) == (2, True)
