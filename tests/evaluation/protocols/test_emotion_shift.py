"""Emotion shift of a run, compared with a loop over its predictions, and on MELD's real annotations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from merc.errors import BadTable
from merc.evaluation.engine.runs import Predicted
from merc.evaluation.protocols.emotion_shift import EmotionShift
from merc.training.metrics.weighted_f1 import weighted_f1

from ..conftest import Place


def _by_hand(place: Place, recipe: str, seed: int) -> dict[str, list[tuple[int, int]]]:
    """(label, prediction) of the utterances that shift and of those that do not; every utterance of the small corpus is
    labelled.
    """
    rows = {
        row["utterance_id"]: row
        for row in pq.read_table(place.runs / "tiny" / recipe / "predictions.parquet").to_pylist()
        if row["seed"] == seed
    }
    found: dict[str, list[tuple[int, int]]] = {"shift": [], "no_shift": []}
    for dialogue in pq.read_table(place.layout.shards / "dialogues" / "test-00000-of-00001.parquet").to_pylist():
        before: dict[str, int] = {}
        for speaker, label, utterance in zip(
            dialogue["speakers"], dialogue["emotion_index"], dialogue["utterance_ids"], strict=True
        ):
            if speaker in before:
                found["shift" if before[speaker] != label else "no_shift"].append((label, rows[utterance]["predicted"]))
            before[speaker] = label
    return found


def test_the_scores_are_those_of_a_loop_over_speakers(place: Place) -> None:
    scores = EmotionShift(EmotionShift.Config()).evaluate(place.run("all")).scores
    for seed in (0, 1):
        for part, pairs in _by_hand(place, "all", seed).items():
            labels, predicted = np.array(pairs).T
            found = scores["seeds"][str(seed)]["transcript"][part]
            assert found["weighted_f1"] == pytest.approx(weighted_f1(labels, predicted, 3))
            assert scores["support"]["transcript"][part] == len(pairs)
    means = [scores["seeds"][seed]["transcript"]["shift"]["weighted_f1"] for seed in "01"]
    assert scores["mean"]["transcript"]["shift"]["weighted_f1"] == pytest.approx(np.mean(means))
    assert scores["std"]["transcript"]["shift"]["weighted_f1"] == pytest.approx(np.std(means, ddof=1))


def test_one_seed_has_no_deviation(place: Place) -> None:
    scores = EmotionShift(EmotionShift.Config()).evaluate(place.run("once")).scores
    assert scores["std"]["labelled"]["no_shift"] == {"accuracy": None, "weighted_f1": None}


def test_predictions_of_other_utterances_are_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    run = place.run("all")
    said = run.predictions("test")
    monkeypatch.setattr(
        "merc.evaluation.engine.runs.Run.predictions",
        lambda *_: Predicted(**{**vars(said), "utterance_ids": said.utterance_ids[::-1]}),
    )
    with pytest.raises(BadTable, match="not for the test utterances"):
        EmotionShift(EmotionShift.Config()).evaluate(run)


def test_of_melds_real_test_split_1003_utterances_shift_and_861_do_not(
    real_data: Path, make_split: Callable[..., Any]
) -> None:
    """The real annotations, with the predictions of a run that always says neutral."""
    table = pd.read_csv(real_data / "meld" / "test_sent_emo.csv").sort_values(["Dialogue_ID", "Utterance_ID"])
    classes = ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"]
    dialogues = [rows for _, rows in table.groupby("Dialogue_ID")]
    emotions = [[classes.index(one) for one in rows["Emotion"]] for rows in dialogues]
    split = make_split(emotions, speakers=[pd.factorize(rows["Speaker"])[0].tolist() for rows in dialogues])
    labels = split.labels[:-1].numpy()

    class Run:
        def __init__(self) -> None:
            self.classes = tuple(classes)

        def raw_split(self, _name: str) -> Any:
            return split

        def predictions(self, _name: str) -> Predicted:
            neutral = np.tile(np.eye(7, dtype=np.float32)[0], (1, len(labels), 1))
            return Predicted(
                seeds=(0,),
                utterance_ids=split.utterance_ids,
                dialogue_ids=split.dialogue_ids,
                lengths=split.lengths.numpy(),
                labels=labels,
                probabilities=neutral,
            )

    scores = EmotionShift(EmotionShift.Config()).evaluate(Run()).scores  # type: ignore[arg-type]
    assert scores["support"] == {name: {"shift": 1003, "no_shift": 861} for name in ("transcript", "labelled")}
    assert len(labels) == 2610
