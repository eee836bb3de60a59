"""What every metric promises; a new file in ``pipeline/merc/training/metrics`` is tested here automatically.

The tables only extend the arguments of a metric. A metric with an argument of a new name fails here until ``ARGUMENTS``
says what to pass.
"""

import dataclasses
import importlib
import inspect
import json
from typing import Any

import numpy as np
import pytest
import torch

from merc import plugins
from merc.training.data.dataset import DialogueSplit

PACKAGE = "merc.training.metrics"
MODULES = plugins.names(PACKAGE)
CLASSES = ("neutral", "joy", "anger")
LABELS = np.array([0, 1, 1, 2, 0, 0, 2, 1, 0, 2])
OTHER = np.array([0, 0, 1, 2, 1, 0, 2, 1, 2, 2])
LENGTHS = np.array([4, 1, 5])
SPEAKERS = np.array([0, 1, 0, 1, 0, 0, 0, 1, 0, 1])


def split():
    return DialogueSplit(
        name="test",
        features={"text": torch.arange(22.0).reshape(11, 2)},
        present={"text": torch.arange(11) < 10},
        labels=torch.tensor([*LABELS, -1]),
        speakers=torch.tensor([*SPEAKERS, 0]),
        identities=torch.tensor([*SPEAKERS, 0]),
        starts=torch.tensor(np.cumsum(LENGTHS) - LENGTHS),
        lengths=torch.tensor(LENGTHS),
        dialogue_ids=("a", "b", "c"),
        scenario_ids=None,
        utterance_ids=tuple("0123456789"),
    )


# The value of an argument by its name, or by function and name where a function means something else by it.
ARGUMENTS: dict[str, Any] = {
    "labels": LABELS,
    "predicted": OTHER,
    "by_modality": {"text": OTHER, "audio": np.zeros(10, dtype=np.int64)},
    "otherwise": OTHER,
    "train_labels": LABELS[:4],
    "classes": 3,
    "per_class.classes": CLASSES,
    "speakers": SPEAKERS,
    "lengths": LENGTHS,
    "definition": "transcript",
    "first": np.stack([OTHER, LABELS]),
    "second": np.stack([OTHER, OTHER]),
    "paired_t_test.first": [0.6, 0.7],
    "paired_t_test.second": [0.5, 0.65],
    "p_values": [0.01, 0.2],
    "adjusted_p": 0.01,
    "low": 0.1,
    "high": 0.2,
    "level": 0.05,
    "resamples": 20,
    "confidence": 0.9,
    "seed": 3,
    "split": split(),
    "predict": lambda split: torch.nn.functional.one_hot(split.labels[:-1].clamp(min=0), 3).float(),
    "kind": "eccs",
    "probabilities": np.eye(3)[OTHER] * 0.7 + 0.1,
    "temperature": 2.0,
    "bins": 5,
    "rates": {"text": 0.5},
    "bootstrap_interval.first": np.linspace(0.5, 0.7, 20),
    "bootstrap_interval.second": np.linspace(0.4, 0.5, 20),
    "of_seeds": np.stack([OTHER, LABELS]),
    "differences": [0.01, 0.02, 0.03],
    "power": 0.8,
    "most": 100,
    "causal": False,
}
# Arguments that hold a model's predictions → how they are made from a class for each utterance.
PREDICTIONS = {
    "predicted": lambda guess: guess,
    "by_modality": lambda guess: {"text": guess, "audio": guess},
    "otherwise": lambda guess: guess,
}


def functions():
    for module in MODULES:
        for name, value in vars(importlib.import_module(f"{PACKAGE}.{module}")).items():
            if inspect.isfunction(value) and value.__module__ == f"{PACKAGE}.{module}" and not name.startswith("_"):
                yield value


EVERY = [pytest.param(one, id=one.__name__) for one in functions()]
SCORES = [param for param in EVERY if PREDICTIONS.keys() & inspect.signature(param.values[0]).parameters.keys()]
every_function = pytest.mark.parametrize("function", EVERY)
every_score = pytest.mark.parametrize("function", SCORES)


def arguments(function, **given):
    names = inspect.signature(function).parameters
    return {
        name: given[name] if name in given else ARGUMENTS.get(f"{function.__name__}.{name}", ARGUMENTS.get(name, name))
        for name in names
    }


def scored(function, labels, guess, **given):
    """All scores (floats) and all counts (integers) of a prediction."""
    made = function(
        **arguments(function, labels=labels, **{name: make(guess) for name, make in PREDICTIONS.items()}, **given)
    )
    leaves = list(_leaves(json.loads(json.dumps(made))))
    return [leaf for leaf in leaves if isinstance(leaf, float)], [leaf for leaf in leaves if isinstance(leaf, int)]


def _leaves(made):
    if isinstance(made, dict | list):
        for one in made.values() if isinstance(made, dict) else made:
            yield from _leaves(one)
    else:
        yield made


def plain(value):
    """A copy that can be compared."""
    if dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value.tolist() if isinstance(value, np.ndarray | torch.Tensor) else value


@pytest.mark.parametrize("module", MODULES)
def test_every_file_is_described_and_has_a_function(module):
    assert importlib.import_module(f"{PACKAGE}.{module}").__doc__
    assert [one for one in functions() if one.__module__ == f"{PACKAGE}.{module}"]


@every_function
def test_every_function_is_described_and_its_arguments_are_known_here(function):
    assert function.__doc__
    assert [
        name
        for name in inspect.signature(function).parameters
        if name not in ARGUMENTS and f"{function.__name__}.{name}" not in ARGUMENTS
    ] == []


@every_function
def test_it_changes_nothing_that_it_is_given_and_gives_the_same_again_whatever_was_drawn_before(function):
    given, found = arguments(function), []
    before = plain(given)
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        state = plain((np.random.get_state(), torch.get_rng_state()))  # noqa: NPY002
        made = function(**given)
        found.append(plain(list(made) if inspect.isgenerator(made) else made))
        assert plain((np.random.get_state(), torch.get_rng_state())) == state  # noqa: NPY002
    assert found[0] == found[1]
    assert plain(given) == before


@every_score
def test_the_truth_scores_1(function):
    values, _ = scored(function, LABELS, LABELS)
    assert set(values) <= {1.0}


@every_score
def test_one_class_for_all_scores_less_and_no_prediction_leaves_0_to_1(function):
    for guess in (*(np.full(10, one) for one in range(3)), OTHER):
        values, counts = scored(function, LABELS, guess)
        assert all(0 <= value <= 1 for value in values)
        assert not values or min(values) < 1
        assert sum(counts) == sum(scored(function, LABELS, LABELS)[1])


@every_score
def test_the_order_of_utterances_changes_nothing_where_there_are_no_dialogues(function):
    if "lengths" in inspect.signature(function).parameters:
        return
    order = np.random.default_rng(0).permutation(len(LABELS))
    assert scored(function, LABELS[order], OTHER[order]) == scored(function, LABELS, OTHER)


@every_score
def test_nothing_to_score_has_no_score(function):
    nothing = np.array([], dtype=np.int64)
    try:
        values, counts = scored(function, nothing, nothing, speakers=nothing, lengths=nothing)
    except ValueError:
        return
    assert values == []
    assert sum(counts) == 0


@every_score
def test_a_prediction_of_another_length_is_refused(function):
    with pytest.raises(ValueError, match=r"10\D+9|inconsistent numbers of samples"):
        scored(function, LABELS, OTHER[:9])
