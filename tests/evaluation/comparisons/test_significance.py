"""Significance within a table: what is compared, with what, and what is claimed."""

import dataclasses
import logging
from typing import Any

import numpy as np
import pytest
from scipy import stats

from merc.errors import BadSettings, BadTable
from merc.evaluation.comparisons.significance import ONE_SEED, Significance
from merc.evaluation.engine.runs import Facts, Predicted
from merc.training.metrics.significance import cluster_bootstrap, seeds_needed
from merc.training.metrics.weighted_f1 import weighted_f1

from ..conftest import Place

LENGTHS = np.full(40, 10)
LABELS = np.random.default_rng(0).integers(0, 3, 400)


class Said:
    """A run with a given accuracy for each of its seeds."""

    def __init__(self, recipe: str, rates: dict[int, float], **facts: Any) -> None:
        given = {
            "dataset": "tiny",
            "label_set": "three",
            "classes": ("a", "b", "c"),
            "modalities": ("text",),
            "encoders": {},
            "causal": False,
            **facts,
        }
        self.shards = given.pop("shards", "one")
        self.facts = Facts(recipe=recipe, seeds=dict.fromkeys(rates), **given)
        self.recipe, self.classes, self.folder = recipe, self.facts.classes, recipe
        rng = np.random.default_rng(len(recipe))
        said = [np.where(rng.random(400) < rate, LABELS, (LABELS + 1) % 3) for rate in rates.values()]
        self.said = Predicted(
            seeds=tuple(rates),
            utterance_ids=tuple(map(str, range(400))),
            dialogue_ids=tuple(map(str, range(40))),
            lengths=LENGTHS,
            labels=LABELS,
            probabilities=np.eye(3, dtype=np.float32)[np.array(said)],
        )

    def predictions(self, split: str) -> Predicted:
        assert split == "test"
        return self.said


def _compared(*runs: Any, **settings: Any) -> list[dict[str, Any]]:
    found = Significance(Significance.Config(resamples=200, **settings)).compare(runs)
    rows = found.tables["pairs"].to_pylist()
    assert [{key: value for key, value in row.items() if key != "table"} for row in rows] == [
        pair for table in found.scores["tables"] for pair in table["pairs"]
    ]
    tables: list[dict[str, Any]] = found.scores["tables"]
    return tables


GOOD = Said("good", {0: 0.8, 1: 0.81, 2: 0.79})
POOR = Said("poor!", {0: 0.4, 1: 0.42, 2: 0.41})
ALIKE = Said("alike!!", {0: 0.8, 1: 0.8, 2: 0.8})


def test_a_pair_has_both_tests_over_the_same_seeds() -> None:
    ((pair,),) = (table["pairs"] for table in _compared(GOOD, POOR))
    f1 = [[weighted_f1(LABELS, said, 3) for said in run.said.classes] for run in (GOOD, POOR)]
    expected = stats.ttest_rel(*f1)
    assert (pair["first"], pair["second"], pair["seeds"], pair["note"]) == ("good", "poor!", 3, "")
    assert (pair["t"], pair["p"]) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
    assert pair["difference"] == pytest.approx(np.mean(f1[0]) - np.mean(f1[1]))
    interval = cluster_bootstrap(
        LABELS, GOOD.said.classes, POOR.said.classes, LENGTHS, 3, resamples=200, confidence=0.95, seed=0
    )
    assert (pair["low"], pair["high"]) == (interval["low"], interval["high"])
    assert pair["significant"] is True
    assert pair["seeds_needed"] == seeds_needed(np.subtract(*f1), level=0.05, power=0.8)


def test_the_correction_holds_within_the_table() -> None:
    ((one, two, three),) = (table["pairs"] for table in _compared(GOOD, POOR, ALIKE))
    assert [(pair["first"], pair["second"]) for pair in (one, two, three)] == [
        ("good", "poor!"),
        ("good", "alike!!"),
        ("poor!", "alike!!"),
    ]
    least, second, most = sorted((one, two, three), key=lambda pair: pair["p"])
    assert least["p_holm"] == pytest.approx(3 * least["p"])
    assert second["p_holm"] == pytest.approx(max(2 * second["p"], 3 * least["p"]))
    assert most["p_holm"] == pytest.approx(max(most["p"], 2 * second["p"]))
    assert two["significant"] is False
    ((only, other),) = (table["pairs"] for table in _compared(GOOD, POOR, ALIKE, reference="alike!!"))
    assert [(pair["first"], pair["second"]) for pair in (only, other)] == [("good", "alike!!"), ("poor!", "alike!!")]


def test_a_table_without_the_reference_has_no_pairs() -> None:
    first, second = _compared(
        GOOD, POOR, Said("apart", {0: 0.9}, shards="two"), Said("further", {0: 0.9}, shards="two"), reference="good"
    )
    assert [(pair["first"], pair["second"]) for pair in first["pairs"]] == [("poor!", "good")]
    assert second["pairs"] == []


def test_what_one_of_the_tests_does_not_confirm_is_not_significant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "merc.training.metrics.significance.bootstrap_interval",
        lambda *_, **__: {"difference": 0.4, "low": -0.01, "high": 0.5},
    )
    ((pair,),) = (table["pairs"] for table in _compared(GOOD, POOR))
    assert pair["p_holm"] < 0.05
    assert pair["significant"] is False


@pytest.mark.parametrize("rates", [{0: 0.9}, {2: 0.9, 3: 0.9}, {7: 0.9, 8: 0.9}])
def test_with_fewer_than_two_seeds_in_common_nothing_is_claimed(rates: dict[int, float]) -> None:
    ((pair,),) = (table["pairs"] for table in _compared(GOOD, Said("other", rates)))
    assert pair["seeds"] == len({*GOOD.said.seeds} & {*rates})
    assert pair["note"] == ONE_SEED
    assert {
        pair[name] for name in ("difference", "t", "p", "p_holm", "low", "high", "significant", "seeds_needed")
    } == {None}


def test_a_pair_without_a_claim_costs_the_others_no_correction() -> None:
    ((pair, *_),) = (table["pairs"] for table in _compared(GOOD, POOR, Said("other", {0: 0.9})))
    assert pair["p_holm"] == pair["p"]


@pytest.mark.parametrize(
    "facts", [{"label_set": "others"}, {"classes": ("a", "b", "d")}, {"shards": "two"}, {"tag": "adapted"}]
)
def test_other_labels_shards_and_kinds_of_encoder_have_a_table_of_their_own(
    facts: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        tables = _compared(GOOD, POOR, Said("apart", {0: 0.9, 1: 0.9}, **facts))
    assert [(table["recipes"], len(table["pairs"])) for table in tables] == [(["good", "poor!"], 1), (["apart"], 0)]
    assert "good, poor!; apart" in caplog.text


def test_runs_that_say_that_they_are_of_the_same_shards_and_are_not_are_refused() -> None:
    other = Said("other", {0: 0.5, 1: 0.5})
    other.said = dataclasses.replace(other.said, labels=(LABELS + 1) % 3)
    with pytest.raises(BadTable, match="not those of good"):
        _compared(GOOD, other)


def test_the_settings_say_which_recipes_and_a_wrong_name_is_answered_with_the_nearest() -> None:
    assert [table["recipes"] for table in _compared(GOOD, POOR, ALIKE, recipes=("good", "poor!"))] == [
        ["good", "poor!"]
    ]
    with pytest.raises(BadSettings, match=r"names 'god', which has no finished run; did you mean 'good'"):
        _compared(GOOD, POOR, recipes=("god",))
    with pytest.raises(BadSettings, match="names 'god'"):
        _compared(GOOD, POOR, reference="god")


def test_trained_runs_are_compared_by_the_seeds_that_they_share(place: Place) -> None:
    (table,) = _compared(*(place.run(recipe) for recipe in ("all", "once", "text")))
    assert {(pair["first"], pair["second"]): pair["seeds"] for pair in table["pairs"]} == {
        ("all", "once"): 1,
        ("all", "text"): 2,
        ("once", "text"): 1,
    }
    (_, pair, _) = table["pairs"]
    assert pair["p"] is not None
