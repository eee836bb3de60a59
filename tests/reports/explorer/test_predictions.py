"""The predictions of recipes, joined with the shards."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from merc import files, parquet
from merc.errors import BadTable
from merc.layout import Layout
from merc.reports.explorer.corpus import Corpus, read_corpus
from merc.reports.explorer.predictions import NOTHING, Predicted, read_predictions
from merc.reports.results import read_recipes

CLASSES = ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"]
WriteRun = Callable[..., Path]
WritePredictions = Callable[..., Path]


@pytest.fixture
def corpus(layout: Layout) -> Corpus:
    return read_corpus(layout.shards, texts=False)


def _read(tmp_path: Path, corpus: Corpus) -> tuple[list[Predicted], list[str]]:
    return read_predictions(
        tmp_path / "runs", tmp_path / "evaluations", read_recipes(tmp_path / "runs", "tiny"), corpus
    )


def test_the_mean_of_the_seeds_decides(
    layout: Layout, corpus: Corpus, write_run: WriteRun, write_predictions: WritePredictions, tmp_path: Path
) -> None:
    folder = write_run()
    parts = [
        write_predictions(tmp_path / f"{seed}", layout, seeds=[seed], said={"test/dia0_utt0": said})
        for seed, said in enumerate([(4, 0.5), (6, 0.9)])
    ]
    parquet.write(folder / "predictions.parquet", parquet.read(parts))
    (found,), left_out = _read(tmp_path, corpus)
    assert not left_out
    assert (found.recipe, found.seeds) == ("baseline", 2)
    assert found.fused.classes.tolist() == [6, 0, 6, 4, 4, 0, 0, *[NOTHING] * 8]
    assert found.fused.percent.tolist()[:3] == [49, 70, 70]  # (0.9 + 0.5 / 6) / 2


def test_classes_are_those_of_the_shards_by_their_names_in_whatever_order(
    layout: Layout, corpus: Corpus, write_run: WriteRun, write_predictions: WritePredictions, tmp_path: Path
) -> None:
    folder = write_run(classes=["joy", "anger", "neutral"])
    write_predictions(
        folder / "predictions.parquet",
        layout,
        classes=3,
        said=dict.fromkeys(corpus.utterance_ids.to_pylist(), (1, 0.9)),
    )
    (found,), left_out = _read(tmp_path, corpus)
    assert not left_out
    assert set(found.fused.classes.tolist()) == {6, NOTHING}


def test_a_run_with_other_classes_and_one_without_predictions_are_left_out_with_a_sentence(
    layout: Layout, corpus: Corpus, write_run: WriteRun, write_predictions: WritePredictions, tmp_path: Path
) -> None:
    write_predictions(write_run(recipe="four", classes=["joy", "hap\x1bpy"]) / "predictions.parquet", layout, classes=2)
    write_run(recipe="none")
    found, left_out = _read(tmp_path, corpus)
    assert not found
    assert left_out == [
        f"four is not shown: it predicts hap\\x1bpy, and these shards have {', '.join(CLASSES)}.",
        "none is not shown: its run has no predictions.parquet; retrain it.",
    ]


def test_utterances_are_found_by_their_ids(
    layout: Layout, corpus: Corpus, write_run: WriteRun, write_predictions: WritePredictions, tmp_path: Path
) -> None:
    path = write_predictions(write_run() / "predictions.parquet", layout, without=["test/dia0_utt1"])
    table = parquet.read(path)
    ids = ["of other shards" if one == "test/dia1_utt0" else one for one in table["utterance_id"].to_pylist()]
    table = table.set_column(table.schema.get_field_index("utterance_id"), "utterance_id", pa.array(ids))
    parquet.write(path, table.take(np.random.default_rng(0).permutation(len(table))))
    (found,), _ = _read(tmp_path, corpus)
    assert found.fused.classes.tolist()[:7] == [4, NOTHING, 6, NOTHING, 4, 0, 0]


def test_what_single_modalities_say_is_read_from_the_evaluation_of_this_training(
    layout: Layout, corpus: Corpus, write_run: WriteRun, write_predictions: WritePredictions, tmp_path: Path
) -> None:
    write_predictions(write_run() / "predictions.parquet", layout)
    home = tmp_path / "evaluations" / "runs" / "tiny" / "baseline" / "any_modality_oracle"
    parts = [
        write_predictions(
            tmp_path / name, layout, splits=["test"], said={"test/dia0_utt0": (index, 0.9)}, more={"modality": name}
        )
        for name, index in {"text": 1, "audio": 2}.items()
    ]
    parquet.write(home / "unimodal.parquet", parquet.read(parts))
    files.write_json(home / "record.json", {"fingerprint": "9", "settings": {}, "inputs": {"run": "1"}})
    (found,), left_out = _read(tmp_path, corpus)
    assert not left_out
    assert {name: (said.classes[0], said.percent[0]) for name, said in found.unimodal.items()} == {
        "text": (1, 90),
        "audio": (2, 90),
    }
    files.write_json(home / "record.json", {"fingerprint": "9", "settings": {}, "inputs": {"run": "older"}})
    (found,), left_out = _read(tmp_path, corpus)
    assert not found.unimodal
    assert left_out[0].endswith(
        "this remakes them: merc-evaluate --dataset tiny --recipe baseline --protocol any_modality_oracle"
    )


def test_a_run_that_is_gone_while_the_report_is_made_is_reported(
    layout: Layout, corpus: Corpus, write_run: WriteRun, write_predictions: WritePredictions, tmp_path: Path
) -> None:
    write_predictions(write_run() / "predictions.parquet", layout)
    recipes = read_recipes(tmp_path / "runs", "tiny")
    shutil.rmtree(tmp_path / "runs" / "tiny" / "baseline")
    with pytest.raises(
        BadTable, match=r"baseline: the run was removed while the report was made; run merc-report again"
    ):
        read_predictions(tmp_path / "runs", None, recipes, corpus)


def test_predictions_that_are_invalid_are_reported(
    layout: Layout, corpus: Corpus, write_run: WriteRun, write_predictions: WritePredictions, tmp_path: Path
) -> None:
    path = write_run() / "predictions.parquet"
    write_predictions(path, layout, classes=6)
    with pytest.raises(BadTable, match=r"instead of 7 numbers, one for each class"):
        _read(tmp_path, corpus)
    write_predictions(path, layout, seeds=[3, 3])
    with pytest.raises(BadTable, match=r"an utterance occurs twice for one seed"):
        _read(tmp_path, corpus)
    write_predictions(path, layout, said={"test/dia0_utt0": (0, float("nan"))})
    with pytest.raises(BadTable, match=r"probabilities that are not finite"):
        _read(tmp_path, corpus)
    table = parquet.read(write_predictions(path, layout))
    parquet.write(
        path,
        table.set_column(table.schema.get_field_index("utterance_id"), "utterance_id", pa.array(range(len(table)))),
    )
    with pytest.raises(BadTable, match=r"utterance_id holds int64 and seed int64 instead of strings and integers"):
        _read(tmp_path, corpus)
    path.write_bytes(b"PAR1")
    with pytest.raises(BadTable, match=r"not a Parquet file, or a damaged one"):
        _read(tmp_path, corpus)
