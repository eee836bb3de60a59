"""What every recipe and every addition promises; a new file in ``pipeline/merc/training/recipes`` is tested here
automatically.

``tests/training/test_steps_of_recipes.py`` checks that a step can be trained, ``tests/test_settings_files.py`` how the
files are written.
"""

import json
import re

import pytest

from merc.errors import BadSettings
from merc.job import flat
from merc.params import Params
from merc.training.models.engine.base import FUSION
from merc.training.recipes.composition import ADDITIONS, RECIPES, RecipeName
from merc.training.recipes.recipe import Recipe
from merc.training.recipes.resolution import resolve

PARAMS = Params({})
every_recipe = pytest.mark.parametrize("name", RECIPES.shipped())
every_addition = pytest.mark.parametrize("name", ADDITIONS.shipped())
every_file = pytest.mark.parametrize(
    ("shelf", "name"),
    [pytest.param(shelf, name, id=f"{shelf.key}.{name}") for shelf in (RECIPES, ADDITIONS) for name in shelf.shipped()],
)


@every_file
def test_it_says_in_one_line_what_it_is(shelf, name):
    about = shelf._load(name)["about"]
    assert about.strip() == about
    assert "\n" not in about
    assert not about.endswith(".")
    assert len(about.split()) > 1


@pytest.mark.parametrize("shelf", [RECIPES, ADDITIONS], ids=["recipes", "additions"])
def test_no_two_say_the_same(shelf):
    told = [shelf._load(name)["about"] for name in shelf.shipped()]
    assert len(set(told)) == len(told)


@every_recipe
def test_it_resolves_by_itself_with_its_base_among_those_that_ship(name):
    assert set(RECIPES.lineage(PARAMS, name)) <= set(RECIPES.shipped())
    resolved = resolve(PARAMS, name)
    assert json.loads(json.dumps(resolved.settings())) == resolved.settings()
    assert len(resolved.phases) == len(resolved.recipe.phases or [None])
    assert FUSION in resolved.phases[-1].trains


@every_recipe
def test_all_that_it_sets_is_in_force(name):
    origins = resolve(PARAMS, name).origins
    unused = [
        key
        for key in flat(RECIPES._load(name))
        if key not in ("base", "about") and f"recipes.{name}.{key}" not in origins
    ]
    assert unused == []


@every_recipe
def test_it_can_be_put_on_one_modality_or_two_unless_it_has_fewer(name):
    for modalities in ("text", "audio", "visual", "text-audio", "audio-visual"):
        resolved = resolve(PARAMS, f"{name}@{modalities}")
        assert resolved.recipe.modalities == tuple(modalities.split("-"))


@every_addition
def test_an_addition_has_the_keys_of_a_recipe_and_ones_of_its_own(name):
    assert set(ADDITIONS.lineage(PARAMS, name)) <= set(ADDITIONS.shipped())
    assert set(ADDITIONS._load(name)) - {"base"} <= Recipe.model_fields.keys()
    assert set(ADDITIONS._load(name)) - {"base", "about"}


@every_addition
def test_an_addition_fits_a_recipe_and_those_that_it_says_it_is_of(name):
    about = ADDITIONS._load(name)["about"]
    said = re.match(r"of (\w+(?: and \w+)*)[:,]|after (\w+):", about)
    if said is None:
        assert any(fits(recipe, name) for recipe in RECIPES.shipped())
    elif said[1]:
        assert [recipe for recipe in said[1].split(" and ") if not fits(recipe, name)] == []
    else:
        assert any(fits(f"{recipe}+{said[2]}", name) for recipe in RECIPES.shipped())


def fits(recipe, addition):
    """Whether a recipe can be resolved with an addition, every part of which has an effect: what it removes exists, as
    does any loss that it names without a weight, and a framework if it has settings for one.
    """
    over = f"{recipe}+{addition}"
    try:
        before, after = resolve(PARAMS, recipe), resolve(PARAMS, over)
    except BadSettings:
        return False
    tree = ADDITIONS._load(addition)
    there = {term.name for term in before.losses}
    needed = {loss for loss, term in tree.get("losses", {}).items() if term is None or "weight" not in term}
    if (
        not needed <= there
        or ("phases" in tree and before.recipe.phases is None)
        or ("framework_settings" in tree and after.framework is None)
    ):
        return False
    assert not {loss for loss, term in tree.get("losses", {}).items() if term is None} & {
        term.name for term in after.losses
    }
    keys = [key for key in flat(tree) if key not in ("about", "base")]
    return all(after.origins[f"recipes.{over}.{key}"].words == ADDITIONS.path(addition) for key in keys)


def test_the_names_in_this_folder_can_be_put_together():
    assert all(
        RecipeName.parse(f"{recipe}+{'+'.join(ADDITIONS.shipped())}").base == recipe for recipe in RECIPES.shipped()
    )
