"""Trajectory alignment of a run: what is compared before and after training, and the controls."""

import dataclasses
from collections.abc import Callable
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
    bounds = [
        (start, start + length) for start, length in zip(split.starts.tolist(), split.lengths.tolist(), strict=True)
    ]
    vectors, present = split.features["audio"].numpy(), split.present["audio"].numpy()
    before = [
        vectors[begin:end][present[begin:end]].mean(axis=0) if present[begin:end].any() else np.zeros(5)
        for begin, end in bounds
    ]
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
        assert list(found.scores["mean"][similarity]) == ["raw", "like_length", "order_excess"]
        for control in ("raw", "like_length", "order_excess"):
            assert list(found.scores["mean"][similarity][control]) == ["text", "audio", "visual", "fusion"]
    rows = found.tables["scores"].to_pylist()
    assert len(rows) == 2 * 2 * 3 * 4 * 2
    assert [row["ta"] for row in rows if row["training"] == "before" and row["seed"] == 0] == [
        row["ta"] for row in rows if row["training"] == "before" and row["seed"] == 1
    ]


def test_vectors_that_carry_the_class_align_trajectories_better_than_length_alone_before_and_after_training(
    place: Place,
) -> None:
    found = _evaluated(place).scores
    scores, length_alone = found["mean"]["path"]["raw"]["fusion"], found["length_alone"]["path"]["raw"]["ta"]
    assert scores["before"]["ta"] > length_alone > 0
    assert scores["after"]["ta"] > length_alone


def test_dialogues_of_one_scenario_are_kept_apart_where_the_corpus_names_scenarios(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from merc.evaluation.engine.runs import Run

    read = Run.raw_split

    def with_scenarios(run: Run, name: str) -> Any:
        split = read(run, name)
        return dataclasses.replace(
            split, scenario_ids=tuple("one" if place < 3 else "" for place in range(len(split.dialogue_ids)))
        )

    monkeypatch.setattr(Run, "raw_split", with_scenarios)
    found = _evaluated(place, "once").scores["mean"]["path"]
    assert list(found) == ["raw", "like_length", "other_scenario", "order_excess"]
    assert found["raw"]["text"]["before"]["random"] != found["other_scenario"]["text"]["before"]["random"]


def test_no_more_dialogues_than_the_settings_say_are_compared(place: Place) -> None:
    assert _evaluated(place, "once", most_dialogues=4).scores["dialogues"] == 4


def test_neighbours_of_like_length_are_those_that_loops_find_and_length_alone_is_next_to_them(place: Place) -> None:
    found = _evaluated(place, "once", like_length_share=0.6).scores
    split = next(place.run("once").models()).split("test")
    starts, sizes = split.starts.tolist(), split.lengths.tolist()
    bounds = [(start, start + length) for start, length in zip(starts, sizes, strict=True)]
    means = [
        split.features["text"][begin:end][split.present["text"][begin:end]].numpy().astype(float)
        for begin, end in bounds
    ]
    vectors = [one.mean(axis=0) if len(one) else np.zeros(split.features["text"].shape[1]) for one in means]
    trajectories = [split.labels[begin:end].numpy().astype(np.int16) for begin, end in bounds]
    alike = TrajectoriesConfig().similarity("path", place.run("once").classes).matrix(trajectories, 3)

    def nearest(score: Callable[[int, int], float]) -> float:
        reached = []
        for row, size in enumerate(sizes):
            others = [
                other for other, its in enumerate(sizes) if other != row and min(size, its) >= 0.6 * max(size, its)
            ]
            if others:
                reached.append(
                    np.mean([alike[row, other] for other in sorted(others, key=lambda other: -score(row, other))[:3]])
                )
        return float(np.mean(reached))

    def cosine(row: int, other: int) -> float:
        lengths = np.linalg.norm(vectors[row]) * np.linalg.norm(vectors[other])
        return float(vectors[row] @ vectors[other] / lengths) if lengths else 0.0

    def by_length(row: int, other: int) -> float:
        return -abs(sizes[row] - sizes[other])

    assert len(set(sizes)) > 1
    assert found["mean"]["path"]["like_length"]["text"]["before"]["found"] == pytest.approx(nearest(cosine), abs=1e-6)
    assert found["length_alone"]["path"]["like_length"]["found"] == pytest.approx(nearest(by_length), abs=1e-6)
    assert found["length_alone"]["path"]["raw"]["rsa_given_length"] is None
