"""What is read from a finished run, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from merc import files
from merc.errors import BadTable, RawDataMissing
from merc.evaluation.engine.runs import chosen, finished
from merc.training.loop.trainer import predict

from ..conftest import Place


def test_predictions_are_those_of_the_file_by_seed_and_dialogue(place: Place) -> None:
    said = place.run("all").predictions("test")
    rows = [
        row
        for row in pq.read_table(place.runs / "tiny" / "all" / "predictions.parquet").to_pylist()
        if row["split"] == "test"
    ]
    assert said.seeds == (0, 1)
    for seed in said.seeds:
        own = [row for row in rows if row["seed"] == seed]
        assert said.utterance_ids == tuple(row["utterance_id"] for row in own)
        assert said.labels.tolist() == [row["label"] for row in own]
        assert said.classes[seed].tolist() == [row["predicted"] for row in own]
        np.testing.assert_array_equal(said.of(seed), np.array([row["probabilities"] for row in own], dtype=np.float32))
    lengths = {one: sum(row["dialogue_id"] == one for row in rows) / 2 for one in said.dialogue_ids}
    assert said.lengths.tolist() == list(lengths.values())


def test_models_give_the_predictions_that_were_kept(place: Place) -> None:
    run = place.run("all")
    said = run.predictions("test")
    for one in run.models():
        split = one.split("test")
        assert split.utterance_ids == said.utterance_ids
        np.testing.assert_allclose(predict(one.model, split).softmax(dim=1).numpy(), said.of(one.seed), atol=1e-6)


def test_a_run_without_predictions_is_told_how_to_get_some(place: Place) -> None:
    (place.runs / "tiny" / "all" / "predictions.parquet").unlink()
    with pytest.raises(
        BadTable, match=r"predictions\.parquet: no such file.*\n  merc-train --dataset tiny --recipe all"
    ):
        place.run("all").predictions("test")


def test_predictions_that_lack_a_seed_or_an_utterance_are_refused(place: Place) -> None:
    path = place.runs / "tiny" / "all" / "predictions.parquet"
    whole = pq.read_table(path)
    for part in (whole.slice(1), whole.filter(whole["seed"].to_numpy() == 0)):
        pq.write_table(part, path)
        with pytest.raises(BadTable, match="each of the seeds 0, 1 and each utterance of the split dev"):
            place.run("all").predictions("dev")


def test_classes_that_do_not_fit_the_predictions_or_the_models_are_refused(place: Place) -> None:
    path = place.runs / "tiny" / "all" / "results.json"
    results = json.loads(path.read_text())
    path.write_text(json.dumps({**results, "classes": [*results["classes"], "more"]}))
    run = place.run("all")
    with pytest.raises(BadTable, match=r"probabilities are .* names 4 classes"):
        run.predictions("test")
    with pytest.raises(BadTable, match="of the classes neutral, joy, anger, and"):
        next(run.models())


def test_shards_that_were_made_again_are_refused(place: Place) -> None:
    path = place.layout.shards / "meta" / "info.json"
    files.write_json(path, files.read_json(path) | {"fingerprint": "another"})
    with pytest.raises(BadTable, match=r"remade since all on tiny was trained; retrain it"):
        place.run("all").raw_split("test")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("results.json", "[]", "not the results of a run"), ("record.json", "{}", "not the record of a training")],
)
def test_what_is_not_a_run_is_refused(place: Place, name: str, content: str, words: str) -> None:
    (place.runs / "tiny" / "all" / name).write_text(content)
    with pytest.raises(BadTable, match=words):
        place.run("all")


def test_a_run_under_another_name_is_refused(place: Place) -> None:
    shutil.copytree(place.runs / "tiny" / "all", place.runs / "tiny" / "moved")
    with pytest.raises(BadTable, match="of all on tiny, not of moved on tiny"):
        place.run("moved")


def test_a_run_that_went_or_was_trained_again_is_noticed(place: Place) -> None:
    run = place.run("all")
    run.check_there()
    record = place.runs / "tiny" / "all" / "record.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "fingerprint": "another"}))
    with pytest.raises(BadTable, match="removed or retrained while it was evaluated"):
        run.check_there()
    record.unlink()
    with pytest.raises(BadTable, match="removed or retrained"):
        run.check_there()


def test_finished_runs_are_found_by_name_and_a_wrong_one_answered_with_the_nearest(
    place: Place, tmp_path: Path
) -> None:
    (place.runs / "tiny" / "unfinished").mkdir()
    assert finished(place.runs, "tiny") == ["all", "once", "text"]
    assert chosen(place.runs, "tiny", ("text", "text")) == ["text"]
    with pytest.raises(RawDataMissing, match=r"no finished run of 'txt'; did you mean 'text'"):
        chosen(place.runs, "tiny", ("txt",))
    with pytest.raises(
        RawDataMissing, match=r"no finished run on 'meld'; this makes one:\n  merc-train --dataset meld"
    ):
        chosen(place.runs, "meld")
