"""A step of every recipe that ships, of every model with what goes over any of them, and of every addition: a new file
is tested here without being named.

Every term of a loss must be there, and every weight must move. ``STAYS`` says which ones do not, and why; what it says
is checked, too.
"""

import math
import re

import pytest

from merc.errors import BadSettings
from merc.params import Params
from merc.training.recipes.composition import ADDITIONS, RECIPES, RecipeName
from merc.training.recipes.resolution import resolve

PARAMS = Params({})
# Weights that stay as they are, by patterns of their names, and losses that are 0: in recipes that come from one, with
# an addition, in a framework, or, of a model or a loss, on one modality.
STAYS = {
    "ddin": r"context\.",  # trained by losses that look at the context, such as DCLF's
    # The loss between dialogues looks at `pooled`, which is made before the modalities are fused, of utterances that
    # are there.
    "idcl_pretrain": r"(classifier|fuse)\.|projections\.\w+\.absent_H",
    "in dclf": r"model\.(.*\.)?(classifiers?|heads)\.",  # DCLF has heads of its own
    "m3net on one": r"low\.log_nodes_M",  # the share of each modality
    "multi_dag on one": r"projections\.text\.absent_H",  # begins at 0, and what is added up goes through a ReLU
    # The fusion looks at audio and faces where they are, and so does the cross-entropy of their own scores.
    "+at_once": r"branches\.(audio|visual)\.projections\.(audio|visual)\.absent_H",
}
ZERO = {"disentanglement on one", "soft_hgr on one", "distillation on one"}  # between modalities


def first_of_each_model():
    found = {}
    for name in RECIPES.shipped():
        found.setdefault(resolve(PARAMS, name).recipe.model, name)
    return found.values()


def over_a_recipe(addition):
    """One that an addition is of, or the first that it can be put on."""
    named = re.match(r"(of|after) (\w+)", ADDITIONS.read(PARAMS, addition).at("about"))
    if named:
        return f"{named[2]}+{addition}" if named[1] == "of" else f"mmgcn+{named[2]}+{addition}"
    for recipe in RECIPES.shipped():
        try:
            return resolve(PARAMS, f"{recipe}+{addition}").name
        except BadSettings:
            pass
    raise AssertionError(f"{addition} fits no recipe")


CASES = [
    *RECIPES.shipped(),
    *(f"{name}{more}" for name in first_of_each_model() for more in ("@text", "+dclf+idcl@text-audio")),
    *map(over_a_recipe, ADDITIONS.shipped()),
]


@pytest.mark.parametrize("name", CASES)
def test_every_term_counts_and_every_weight_is_trained(one_step, name):
    resolved, parts = resolve(PARAMS, name), RecipeName.parse(name)
    said = {*RECIPES.lineage(PARAMS, parts.base), *(f"+{addition}" for addition in parts.additions)}
    if resolved.framework is not None:
        said.add(f"in {resolved.framework.name}")
    if len(resolved.recipe.modalities) == 1:
        said |= {f"{one} on one" for one in (resolved.recipe.model, *(term.name for term in resolved.losses))}
    steps = one_step(name)
    assert len(steps) == len(resolved.phases)
    for step in steps:
        assert all(map(math.isfinite, step.terms.values()))
        assert {f"{term} on one" for term, value in step.terms.items() if value == 0} == ZERO & said
        assert step.moved <= step.trained
    trained = set().union(*(step.trained for step in steps))
    stays = {key for key in trained for one in said if one in STAYS and re.match(STAYS[one], key)}
    assert trained - set().union(*(step.moved for step in steps)) == stays


def test_all_that_is_said_to_stay_is_of_a_case():
    said = {f"+{name}" for name in ADDITIONS.shipped()}
    for name in CASES:
        resolved = resolve(PARAMS, name)
        said |= {
            *RECIPES.lineage(PARAMS, RecipeName.parse(name).base),
            f"{resolved.recipe.model} on one",
            *(f"{term.name} on one" for term in resolved.losses),
        }
        said |= set() if resolved.framework is None else {f"in {resolved.framework.name}"}
    assert {*STAYS, *ZERO} <= said


def test_the_forward_half_is_causal():
    found = {name: resolve(PARAMS, name) for name in ("dialogue_rnn", "dialogue_rnn_forward")}
    assert {name: one.build({"text": 3}, 2).causal for name, one in found.items()} == {
        "dialogue_rnn": False,
        "dialogue_rnn_forward": True,
    }
