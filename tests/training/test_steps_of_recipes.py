"""A training step of every shipped recipe, of every model with the additions that fit any model, and of every addition;
a new file is tested here automatically.

Every term of a loss must be present, and every weight must move. ``STAYS`` lists those that do not, and why; the list
itself is checked too.
"""

import math
import re

import pytest

from merc.errors import BadSettings
from merc.params import Params
from merc.training.recipes.composition import ADDITIONS, RECIPES, RecipeName
from merc.training.recipes.resolution import resolve

PARAMS = Params({})
# Weights that do not change, by patterns of their names, and losses that are 0: in recipes derived from one, with an
# addition, in a framework, or for a model or loss on one modality.
STAYS = {
    "ddin": r"context\.",  # trained by losses on the context, such as DCLF's
    # The loss between dialogues uses `pooled`, which is computed before fusion, from utterances that are present.
    "idcl_pretrain": r"(classifier|fuse)\.|projections\.\w+\.absent_H",
    "in dclf": r"model\.(.*\.)?(classifiers?|heads)\.",  # DCLF has its own heads
    "m3net on one": r"low\.log_nodes_M",  # the share of each modality
    "multi_dag on one": r"projections\.text\.absent_H",  # starts at 0, and the sum goes through a ReLU
    # The fusion uses audio and faces where they are present, and so does the cross-entropy of their own scores.
    "+at_once": r"branches\.(audio|visual)\.projections\.(audio|visual)\.absent_H",
}
ZERO = {"disentanglement on one", "soft_hgr on one", "distillation on one"}  # between modalities


def first_of_each_model():
    found = {}
    for name in RECIPES.shipped():
        found.setdefault(resolve(PARAMS, name).recipe.model, name)
    return found.values()


def over_a_recipe(addition):
    """The recipe that an addition belongs to, or the first one that it fits."""
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
