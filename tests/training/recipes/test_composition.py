import pytest

from merc.errors import BadSettings
from merc.params import Params
from merc.training.recipes.composition import RecipeName, compose
from merc.training.recipes.recipe import Recipe
from merc.training.recipes.resolution import resolve


def composed(name, base, **additions):
    return compose(Params({"recipes": {"base": base}, "additions": additions}), name).tree


def test_an_addition_overrides_single_keys_at_any_depth():
    base = {"model": "m", "optimizer": {"name": "adam", "learning_rate": 0.1}, "modalities": ["text", "audio"]}
    made = composed("base+more", base, more={"optimizer": {"learning_rate": 0.2}, "modalities": ["text"], "framework": "f"})
    assert made == {"model": "m", "optimizer": {"name": "adam", "learning_rate": 0.2}, "modalities": ["text"], "framework": "f"}
    assert base["optimizer"]["learning_rate"] == 0.1


def test_losses_are_merged_by_name_appended_and_taken_away():
    base = {"losses": {"cross_entropy": {"weight": 1.0, "label_smoothing": 0.1}, "focal": {"weight": 2.0}}}
    more = {"losses": {"supcon": {"weight": 0.5}, "cross_entropy": {"unimodal_weight": 1.0}, "focal": {"weight": 0}}}
    for nothing in (None, {"weight": 0}):
        more["losses"]["focal"] = nothing
        made = composed("base+more", base, more=more)["losses"]
        assert {name: term for name, term in made.items() if name != "focal"} == {
            "cross_entropy": {"weight": 1.0, "label_smoothing": 0.1, "unimodal_weight": 1.0},
            "supcon": {"weight": 0.5},
        }
        assert list(recipe_of({"losses": made}).losses) == ["cross_entropy", "supcon"]


def recipe_of(block):
    return Recipe(model="m", optimizer={"name": "adam", "learning_rate": 1, "weight_decay": 0}, epochs=1, patience_epochs=1, batch_dialogues=1, **block)


def test_additions_apply_in_the_order_of_the_name():
    base = {"epochs": 1}
    assert composed("base+a+b", base, a={"epochs": 2}, b={"epochs": 3})["epochs"] == 3
    assert composed("base+b+a", base, a={"epochs": 2}, b={"epochs": 3})["epochs"] == 2


def test_modalities_of_the_name_win_over_all():
    base = {"modalities": ["text", "audio", "visual"]}
    assert composed("base+a@text-audio", base, a={"modalities": ["visual"]})["modalities"] == ["text", "audio"]


@pytest.mark.parametrize("name", ["", "+a", "a+", "a++b", "a@", "a@text@audio", "a@text+b", "a/../b", "a b", "@text", "a+b/c", "a@text/audio", "a\n"])
def test_a_name_of_another_form_is_refused(name):
    with pytest.raises(BadSettings, match="BASE\\+ADDITION"):
        RecipeName.parse(name)


@pytest.mark.parametrize(
    ("name", "additions", "words"),
    [
        ("al", {}, r"no recipe 'al'; did you mean 'all'"),
        ("all+supco", {"supcon": {}}, r"no addition 'supco'; did you mean 'supcon'"),
        ("all+more", {"more": {"epoch": 3}}, r"unknown key additions\.more\.epoch; did you mean 'epochs'"),
        ("all+more", {"more": {"optimizer": {"learning_rat": 3}}}, r"recipes\.all\+more\.optimizer\.learning_rat; did you mean 'learning_rate'"),
        ("all+more", {"more": {"framework": "nothing"}}, r"no Framework named 'nothing'"),
        ("all@smell", {}, r"no modality 'smell'"),
    ],
)
def test_an_unknown_part_is_named_with_the_nearest(tree, name, additions, words):
    tree["additions"] = additions
    with pytest.raises(BadSettings, match=words):
        resolve(Params(tree), name)


@pytest.mark.usefixtures("toy_framework")
def test_a_framework_wraps_the_model_and_its_settings_stand_in_the_plan(tree):
    tree["additions"]["louder"] = {"framework_settings": {"scale": 2.0}}
    plan = resolve(Params(tree), "all+toy+louder@text")
    model = plan.build({"text": 6}, 3)
    assert (model.modalities, model.classes, model.gives.hidden, model.causal) == (("text",), 3, 8, False)
    assert model.config.scale == 2.0
    settings = plan.settings()
    assert settings["frameworks"] == {"toy": {"scale": 2.0}}
    assert settings["recipes"]["all+toy+louder@text"]["framework"] == "toy"
