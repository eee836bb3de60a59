"""A step of every model, alone and in the contrastive frameworks, on unusual folds that a corpus may have."""

import math

import pytest

from merc.params import Params
from merc.training.recipes.resolution import resolve

from .conftest import STEP_EMOTIONS
from .test_steps_of_recipes import first_of_each_model

MODELS = list(first_of_each_model())
NAMES = [*MODELS, *(f"{name}+dclf+idcl@text-audio" for name in MODELS)]


def _check(steps):
    for step in steps:
        assert all(map(math.isfinite, step.terms.values())), step.terms
        assert not step.broken
        assert step.moved


@pytest.mark.parametrize("name", NAMES)
def test_a_modality_that_no_train_utterance_has_leaves_all_finite(one_step, name):
    for modality in resolve(Params({}), name).recipe.modalities:
        _check(one_step(name, absent=modality))


@pytest.mark.parametrize("name", NAMES)
def test_a_class_that_no_train_utterance_has_leaves_all_finite(one_step, name):
    _check(one_step(name, emotions=[[min(label, 1) for label in one] for one in STEP_EMOTIONS]))


@pytest.mark.parametrize("name", NAMES)
def test_dialogues_of_one_utterance_leave_all_finite(one_step, name):
    emotions = [[number % 3] for number in range(18)]
    if resolve(Params({}), name).recipe.curriculum is not None:  # refused if all dialogues are equally difficult
        emotions += STEP_EMOTIONS
    _check(one_step(name, emotions=emotions))
