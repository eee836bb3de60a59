"""Which runs are points of a sweep: their names say so, and their settings agree."""

import pytest

from merc.params import Params
from merc.reports.comparison import sweeps
from merc.reports.results import read_recipes
from merc.training.sweep import points as grid_points


@pytest.fixture
def swept(write_run, tmp_path):
    """Writes a run for each name with settings and a dev score; returns the sweeps found among them."""

    def write(*runs):
        records = {}
        for name, settings, dev in runs:
            write_run(recipe=name, scores=[(dev, dev - 0.1), (dev + 0.02, dev)])
            records[name] = {"settings": {"recipes": {name: settings.get("recipe", {})}, **settings}}
        return sweeps.read(read_recipes(tmp_path / "runs", "tiny"), records)

    return write


def window(value):
    return {"losses": {"context_aware": {"window": value}}}


def test_points_over_the_same_setting_are_one_sweep_in_the_order_of_its_values(swept):
    (found,) = swept(
        *(
            (f"mmgcn+dclf+context_aware-window-{value}", window(value), dev)
            for value, dev in ((16, 0.4), (2, 0.6), (4, 0.5))
        )
    )
    assert (found.recipe, found.keys, found.axes) == ("mmgcn+dclf", ("context_aware.window",), ((2.0, 4.0, 16.0),))
    assert [point.values for point in found.points] == [(2.0,), (4.0,), (16.0,)]
    assert found.best.recipe == "mmgcn+dclf+context_aware-window-2"
    assert [round(found.depth(point, "dev"), 2) for point in found.points] == [1.0, 0.5, 0.0]


def test_two_settings_make_a_grid_whose_gaps_stay_empty(swept):
    runs = [
        (
            f"a+optimizer-learning_rate-{word}+epochs-{epochs}@text",
            {"recipe": {"optimizer": {"learning_rate": rate}, "epochs": epochs}},
            0.5,
        )
        for word, rate, epochs in (("0_1", 0.1, 2), ("0_1", 0.1, 4), ("1e-05", 1e-05, 2))
    ]
    (found,) = swept(*runs)
    assert (found.recipe, found.axes) == ("a@text", ((1e-05, 0.1), (2.0, 4.0)))
    assert found.at(1e-05, 4.0) is None
    assert found.at(0.1, 4.0).recipe == "a+optimizer-learning_rate-0_1+epochs-4@text"


def test_a_name_that_the_settings_do_not_bear_out_is_a_recipe_like_any_other(swept):
    runs = [(f"mmgcn+context_aware-window-{value}", window(8), 0.5) for value in (2, 4)]
    assert swept(*runs, ("mmgcn+pretrained-demo", {}, 0.5), ("mmgcn", {}, 0.5)) == []


def test_one_point_alone_is_not_a_sweep(swept):
    assert swept(("mmgcn+context_aware-window-8", window(8), 0.5)) == []


def test_names_and_settings_are_those_that_a_sweep_gives_its_points(swept):
    grid = {
        "context_aware.window": (2, 4),
        "context_aware.weight": (0.1, 1),
        "schedule": ("linear", "cosine"),
        "mmgcn.causal": (True,),
    }
    made = grid_points(Params({}), "mmgcn+dclf@text-audio", grid)
    (found,) = swept(*((point.resolved.name, point.resolved.settings(), 0.5) for point in made))
    assert (found.recipe, found.keys) == ("mmgcn+dclf@text-audio", tuple(grid))
    assert found.axes == ((2.0, 4.0), (0.1, 1.0), ("cosine", "linear"), ("true",))
    assert len(found.points) == 8
