"""Trajectory alignment of a run: what is compared before and after training, and the controls."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from merc.evaluation.engine.alignment import alignment_at_k, cosines
from merc.evaluation.protocols.trajectory_alignment import TrajectoryAlignment
from merc.training.loop.trainer import outputs
from merc.trajectories.config import Config as TrajectoriesConfig

from ..conftest import Place


def _evaluated(place: Place, recipe: str = "all", **settings: Any) -> Any:
    config = TrajectoryAlignment.Config(**{"k": 3, "similarities": ("path",), "order_permutations": 3, **settings})
    return TrajectoryAlignment(config).evaluate(place.run(recipe))


def test_a_modality_is_compared_before_and_after_training(place: Place) -> None:
    found = _evaluated(place)
    run = place.run("all")
    one = list(run.models())[1]
    split = one.split("test")
    bounds = [(start, start + length) for start, length in zip(split.starts.tolist(), split.lengths.tolist(), strict=True)]
    vectors, present = split.features["audio"].numpy(), split.present["audio"].numpy()
    before = [vectors[begin:end][present[begin:end]].mean(axis=0) if present[begin:end].any() else np.zeros(5) for begin, end in bounds]
    unimodal = outputs(one.model, split, lambda output: output.unimodal)["audio"].numpy()
    after = [unimodal[begin:end].mean(axis=0) for begin, end in bounds]
    trajectories = [split.labels[begin:end].numpy().astype(np.int16) for begin, end in bounds]
    alike = TrajectoriesConfig().similarity("path", run.classes).matrix(trajectories, 3)
    different = ~np.eye(len(bounds), dtype=bool)
    for training, means in (("before", before), ("after", after)):
        expected = alignment_at_k(cosines(np.array(means)), alike, different, 3)
        scores = found.scores["seeds"]["1"]["path"]["raw"]["audio"][training]
        assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert found.scores["dialogues"] == len(bounds)


def test_every_modality_and_the_fusion_has_both_for_every_control(place: Place) -> None:
    found = _evaluated(place, similarities=("path", "edit"))
    for similarity in ("path", "edit"):
        assert list(found.scores["mean"][similarity]) == ["raw", "order_excess"]
        for control in ("raw", "order_excess"):
            assert list(found.scores["mean"][similarity][control]) == ["text", "audio", "visual", "fusion"]
    rows = found.tables["scores"].to_pylist()
    assert len(rows) == 2 * 2 * 2 * 4 * 2
    assert [row["ta"] for row in rows if row["training"] == "before" and row["seed"] == 0] == [
        row["ta"] for row in rows if row["training"] == "before" and row["seed"] == 1
    ]


def test_training_on_vectors_that_carry_the_class_brings_trajectories_no_further_apart_than_chance(place: Place) -> None:
    scores = _evaluated(place).scores["mean"]["path"]["raw"]["fusion"]
    assert scores["before"]["ta"] > 0.3
    assert scores["after"]["ta"] > 0.3


def test_dialogues_of_one_scenario_are_kept_apart_where_the_corpus_names_scenarios(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from merc.evaluation.engine.runs import Run

    read = Run.raw_split

    def with_scenarios(run: Run, name: str) -> Any:
        split = read(run, name)
        return dataclasses.replace(split, scenario_ids=tuple("one" if place < 3 else "" for place in range(len(split.dialogue_ids))))

    monkeypatch.setattr(Run, "raw_split", with_scenarios)
    found = _evaluated(place, "once").scores["mean"]["path"]
    assert list(found) == ["raw", "other_scenario", "order_excess"]
    assert found["raw"]["text"]["before"]["random"] != found["other_scenario"]["text"]["before"]["random"]


def test_no_more_dialogues_than_the_settings_say_are_compared(place: Place) -> None:
    assert _evaluated(place, "once", most_dialogues=4).scores["dialogues"] == 4
