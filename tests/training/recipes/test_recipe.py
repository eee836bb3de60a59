import pytest

from merc.errors import BadSettings
from merc.params import Params
from merc.training.recipes.resolution import resolve


def test_overrides_of_a_recipe_win_over_the_blocks(tree):
    tree["recipes"]["all"]["model_settings"] = {"hidden_units": 16}
    tree["recipes"]["all"]["losses"] = {"cross_entropy": {"weight": 0.5, "class_weights": "inverse"}}
    plan = resolve(Params(tree), "all")
    assert plan.model_config.model_dump() == {
        "hidden_units": 16,
        "layers": 1,
        "dropout": 0.1,
        "speakers": "same",
        "fusion": "logits",
    }
    assert plan.losses[0].weight == 0.5
    assert plan.losses[0].config.model_dump() == {**tree["losses"]["cross_entropy"], "class_weights": "inverse"}


def test_modalities_have_one_order(tree):
    tree["recipes"]["all"]["modalities"] = ["visual", "text"]
    assert resolve(Params(tree), "all").recipe.modalities == ("text", "visual")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda recipe: recipe.update(epoch=3), r"unknown key recipes\.all\.epoch; did you mean 'epochs'"),
        (
            lambda recipe: recipe["optimizer"].update(learning_rat=3),
            r"recipes\.all\.optimizer\.learning_rat; did you mean 'learning_rate'",
        ),
        (lambda recipe: recipe.update(model="context_gu"), r"'context_gu'.*did you mean 'context_gru'"),
        (
            lambda recipe: recipe.update(losses={"cross_entropie": {}}),
            r"'cross_entropie'.*did you mean 'cross_entropy'",
        ),
        (
            lambda recipe: recipe.update(losses={"cross_entropy": {"class_weigths": "none"}}),
            r"losses\.cross_entropy\.class_weigths; did you mean 'class_weights'",
        ),
        (lambda recipe: recipe.update(losses=[]), r"recipes\.all\.losses"),
        (lambda recipe: recipe.update(model_settings={"hidden": 4}), r"models\.context_gru\.hidden; .*hidden_units"),
        (
            lambda recipe: recipe.update(model_settings={"hidden_units": 5}),
            r"models\.context_gru\.hidden_units: .*multiple of 2",
        ),
        (lambda recipe: recipe.update(modalities=["text", "visula"]), r"no modality 'visula'.*did you mean 'visual'"),
        (lambda recipe: recipe.update(modalities=[]), r"recipes\.all\.modalities"),
        (lambda recipe: recipe.update(feature_dropout={"sound": 0.5}), "no modality 'sound'"),
        (lambda recipe: recipe.update(speaker_normalisation={"sound": 0.5}), "no modality 'sound'"),
        (
            lambda recipe: recipe.update(speaker_normalisation={"audio": 1.5}),
            r"recipes\.all\.speaker_normalisation\.audio.*given: 1.5",
        ),
        (
            lambda recipe: recipe.update(feature_dropout={"audio": 1.0}),
            r"recipes\.all\.feature_dropout\.audio.*given: 1",
        ),
        (lambda recipe: recipe.update(seeds=[1, 1]), "different whole numbers"),
        (lambda recipe: recipe.update(warmup_steps=-1), r"recipes\.all\.warmup_steps.*given: -1"),
        (
            lambda recipe: recipe["optimizer"].update(betas=[0.9, 1.0]),
            r"recipes\.all\.optimizer\.betas\.1: .*given: 1\.0",
        ),
        (lambda recipe: recipe.update(batch_dialogues=0), r"recipes\.all\.batch_dialogues.*given: 0"),
        (lambda recipe: recipe.update(schedule="step"), r"recipes\.all\.schedule.*'cosine'"),
        (lambda recipe: recipe.pop("epochs"), r"recipes\.all\.epochs: Field required"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_cure(tree, change, words):
    change(tree["recipes"]["all"])
    with pytest.raises(BadSettings, match=words):
        resolve(Params(tree), "all")


def test_an_unknown_recipe_is_named_with_the_nearest(params):
    with pytest.raises(BadSettings, match=r"no recipe 'al'; did you mean 'all'"):
        resolve(params, "al")


@pytest.mark.parametrize("name", ["../all", "all/../x", "", "a.b"])
def test_a_recipe_cannot_leave_the_folder_of_runs(params, name):
    with pytest.raises(BadSettings, match="letters, digits"):
        resolve(params, name)


def test_a_recipe_overrides_its_base_and_both_override_what_ships(tree):
    tree["recipes"]["mine"] = {"base": "all", "optimizer": {"learning_rate": 0.5}}
    tree["recipes"]["baseline"] = {"epochs": 3}
    mine = resolve(Params(tree), "mine")
    assert (mine.recipe.optimizer.name, mine.recipe.optimizer.learning_rate, mine.recipe.epochs) == ("adamw", 0.5, 5)
    assert resolve(Params(tree), "baseline_text").recipe.epochs == 3
    assert mine.origins["recipes.mine.optimizer.learning_rate"].key == "recipes.mine.optimizer.learning_rate"
    assert mine.origins["recipes.mine.epochs"].key == "recipes.all.epochs"


@pytest.mark.parametrize(
    ("recipes", "words"),
    [
        ({"a": {"base": "al"}}, r"recipes\.a\.base: no recipe 'al'; did you mean 'all'"),
        ({"a": {"base": "a"}}, r"recipes\.a\.base: a recipe is its own ancestor: a → a"),
        (
            {"a": {"base": "b"}, "b": {"base": "c"}, "c": {"base": "b"}},
            r"recipes\.b\.base: a recipe is its own ancestor: b → c → b",
        ),
        ({"a": {"base": 3}}, r"recipes\.a\.base is 3; the name of a recipe is expected"),
    ],
)
def test_a_base_that_cannot_be_is_refused(tree, recipes, words):
    tree["recipes"] |= recipes
    with pytest.raises(BadSettings, match=words):
        resolve(Params(tree), "a")
