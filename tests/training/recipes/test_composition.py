import pytest

from merc.errors import BadSettings
from merc.params import Params
from merc.training.recipes.composition import RecipeName, compose
from merc.training.recipes.recipe import Recipe
from merc.training.recipes.resolution import resolve

PARAMS = Params({})


def composed(name, base, **additions):
    return compose(Params({"recipes": {"base": base}, "additions": additions}), name).tree


def test_an_addition_overrides_single_keys_at_any_depth():
    base = {"model": "m", "optimizer": {"name": "adam", "learning_rate": 0.1}, "modalities": ["text", "audio"]}
    made = composed(
        "base+more", base, more={"optimizer": {"learning_rate": 0.2}, "modalities": ["text"], "framework": "f"}
    )
    assert made == {
        "model": "m",
        "optimizer": {"name": "adam", "learning_rate": 0.2},
        "modalities": ["text"],
        "framework": "f",
    }
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
    return Recipe(
        model="m",
        optimizer={"name": "adam", "learning_rate": 1, "weight_decay": 0},
        epochs=1,
        patience_epochs=1,
        batch_dialogues=1,
        **block,
    )


def test_additions_apply_in_the_order_of_the_name():
    base = {"epochs": 1}
    assert composed("base+a+b", base, a={"epochs": 2}, b={"epochs": 3})["epochs"] == 3
    assert composed("base+b+a", base, a={"epochs": 2}, b={"epochs": 3})["epochs"] == 2


def test_modalities_of_the_name_win_over_all():
    base = {"modalities": ["text", "audio", "visual"]}
    assert composed("base+a@text-audio", base, a={"modalities": ["visual"]})["modalities"] == ["text", "audio"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "+a",
        "a+",
        "a++b",
        "a@",
        "a@text@audio",
        "a@text+b",
        "a/../b",
        "a b",
        "@text",
        "a+b/c",
        "a@text/audio",
        "a\n",
    ],
)
def test_a_name_of_another_form_is_refused(name):
    with pytest.raises(BadSettings, match="BASE\\+ADDITION"):
        RecipeName.parse(name)


@pytest.mark.parametrize(
    ("name", "additions", "words"),
    [
        ("al", {}, r"no recipe 'al'; did you mean 'all'"),
        ("all+supco", {"supcon": {}}, r"no addition 'supco'; did you mean 'supcon'"),
        ("all+more", {"more": {"epoch": 3}}, r"unknown key additions\.more\.epoch; did you mean 'epochs'"),
        (
            "all+more",
            {"more": {"optimizer": {"learning_rat": 3}}},
            r"recipes\.all\+more\.optimizer\.learning_rat; did you mean 'learning_rate'",
        ),
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


@pytest.mark.parametrize(
    ("name", "causal"),
    [
        ("mmgcn", False),
        ("mmgcn+causal", True),
        ("dialogue_gcn+causal", True),
        ("graphsmile+causal", True),
        ("telme+causal", True),
        ("mmgcn_text+dclf_iemocap", True),
        ("ddin+dclf", True),
        ("biddin+dclf", False),  # its recipe says which it is
        ("biddin+causal", True),
        ("dialogue_rnn_iemocap+causal", True),
        ("multi_dag+causal", True),
        ("sdt+dclf", False),
    ],
)
def test_a_model_that_can_be_causal_is_so_where_a_recipe_wants_it(name, causal):
    assert resolve(PARAMS, name).build({"text": 4}, 3).causal is causal


def test_a_model_that_cannot_be_causal_is_refused_where_that_is_required():
    with pytest.raises(BadSettings, match=r"recipes\.sdt\+causal\.causal: sdt sees the whole dialogue"):
        resolve(PARAMS, "sdt+causal")


@pytest.mark.parametrize("name", ["mmgcn+causal", "mmgcn+dclf", "ddin"])
def test_a_causal_model_is_refused_what_its_speakers_say_later(name):
    base = name.partition("+")[0]
    shares = (f"recipes.{base}.speaker_normalisation.audio=0.5",)
    with pytest.raises(BadSettings, match=r"the model is causal, and speaker_normalisation would show"):
        resolve(Params.load(None, shares), name)
    assert resolve(Params.load(None, (f"recipes.{base}.speaker_normalisation.audio=0.0",)), name).name == name
    assert resolve(Params.load(None, shares), f"{name}@text").name == f"{name}@text"  # a modality that it doesn't read


def test_a_model_that_sees_the_whole_dialogue_may_know_its_speakers():
    params = Params.load(None, ("recipes.mmgcn.speaker_normalisation.audio=0.5",))
    assert resolve(params, "mmgcn").settings()["recipes"]["mmgcn"]["speaker_normalisation"] == {"audio": 0.5}
    assert "speaker_normalisation" not in resolve(PARAMS, "mmgcn").settings()["recipes"]["mmgcn"]


def test_what_a_user_lays_below_a_causal_recipe_is_told_to_have_no_effect():
    assert not resolve(Params.load(None, ("additions.dclf.causal=as_set",)), "mmgcn+dclf").build({"text": 4}, 3).causal
    params = Params.load(None, ("models.mmgcn.causal=false",))
    resolve(params, "mmgcn+dclf")
    with pytest.raises(BadSettings, match="no effect"):
        params.check_overrides()


def test_only_versions_above_the_first_are_part_of_what_a_run_is_made_of():
    assert resolve(PARAMS, "graphcfc").versions() == {}
    assert resolve(PARAMS, "ddin+dclf").versions() == {
        "ddin": 2,
        "context_aware": 2,
        "modality_contribution": 2,
        "dclf": 2,
    }


def test_ddin_on_iemocap_has_class_weights_under_dclf_as_well():
    (term,) = (term for term in resolve(PARAMS, "ddin_iemocap+dclf_iemocap").losses if term.name == "cross_entropy")
    assert (term.config.class_weights, term.config.unimodal_weight) == ("inverse", 1.0)


@pytest.mark.parametrize("name", ["mmgcn+official_code", "m3net+official_code_m3net"])
def test_the_published_code_trains_with_its_own_loss_on_meld(name):
    (term,) = resolve(PARAMS, name).losses
    assert (term.name, term.config.gamma, term.config.legacy_focal, term.config.class_weights) == (
        "focal",
        2.5,
        True,
        "none",
    )
