"""The stage on small shards: columns, the leak rule, reproducible bytes, resuming, readers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from scipy import stats

from merc.errors import BadSettings, RawDataMissing, SettingsDiffer
from merc.job import RunOptions
from merc.layout import Layout
from merc.params import Params
from merc.shards.card.writing import write_card
from merc.trajectories.config import Config
from merc.trajectories.stage import build_trajectories, dry_run, main

NAMES = ["histogram", "transition", "edit", "path", "path_speakers", "dtw"]  # those from labels
DIALOGUES: dict[str, list[tuple[str, str, list[int]]]] = {
    "train": [
        ("train/dia0", "ABA", [0, 4, 0]),
        ("train/dia1", "ABA", [0, 4, 0]),
        ("train/dia2", "A", [6]),
        ("train/dia3", "AB", [-1, -1]),
        ("train/dia4", "AAB", [0, -1, 4]),
    ],
    "dev": [("dev/dia0", "ABA", [0, 4, 0])],
    "test": [("test/dia0", "ABA", [0, 4, 0]), ("test/dia1", "AB", [3, 3])],
}
Write = Callable[..., Layout]


def _block(**changes: Any) -> dict[str, Any]:
    return {"neighbours": 2, "similarities": [*NAMES, "pooled"], "order_permutations": 4, **changes}


def _config(**changes: Any) -> Config:
    return Params({"trajectories": _block(**changes)}).fill("trajectories", Config)


def _rows(layout: Layout, split: str) -> dict[str, dict[str, Any]]:
    table = pq.read_table(layout.shards / "trajectories" / f"{split}-00000-of-00001.parquet")
    return {row["dialogue_id"]: row for row in table.to_pylist()}


@pytest.fixture
def built(write_shards: Write) -> Layout:
    layout = write_shards(DIALOGUES)
    assert build_trajectories(_config(), layout, RunOptions()) == layout.shards / "trajectories"
    return layout


def test_trajectories_shifts_and_speakers_of_every_dialogue(built: Layout) -> None:
    rows = _rows(built, "train")
    assert list(rows) == ["train/dia0", "train/dia1", "train/dia2", "train/dia3", "train/dia4"]
    last = rows["train/dia4"]
    assert (last["split"], last["n_utterances"], last["trajectory"]) == ("train", 3, [0, -1, 4])
    assert (last["speaker_names"], last["speaker_trajectories"]) == (["A", "B"], [[0, -1], [4]])
    assert [(row["shifts"], row["shift_pairs"]) for row in rows.values()] == [(0, 1), (0, 1), (0, 0), (0, 0), (0, 0)]
    assert [(row["labelled_shifts"], row["labelled_shift_pairs"]) for row in rows.values()] == [
        (0, 1),
        (0, 1),
        (0, 0),
        (0, 0),
        (0, 0),
    ]
    assert _rows(built, "test")["test/dia1"]["trajectory"] == [3, 3]


def test_neighbours_by_edit_distance(built: Layout) -> None:
    rows = _rows(built, "train")
    found = {name: (row["neighbours_edit"], row["similarity_edit"]) for name, row in rows.items()}
    third = float(np.float32(0.666667))
    assert found == {
        "train/dia0": (["train/dia1", "train/dia4"], [1.0, third]),
        "train/dia1": (["train/dia0", "train/dia4"], [1.0, third]),
        "train/dia2": (["train/dia0", "train/dia1"], [0.0, 0.0]),
        "train/dia3": ([], []),
        "train/dia4": (["train/dia0", "train/dia1"], [third, third]),
    }


@pytest.mark.parametrize("name", NAMES)
def test_neighbours_never_cross_splits(name: str, built: Layout) -> None:
    train = _rows(built, "train")
    for row in train.values():
        assert set(row[f"neighbours_{name}"]) <= set(train) - {row["dialogue_id"], "train/dia3"}
        assert (
            len(row[f"neighbours_{name}"])
            == len(row[f"similarity_{name}"])
            == (0 if row["dialogue_id"] == "train/dia3" else 2)
        )
    for split in ("dev", "test"):
        assert all(row[f"neighbours_{name}"] == row[f"similarity_{name}"] == [] for row in _rows(built, split).values())


def test_labels_of_dev_and_test_change_nothing_in_train(write_shards: Write, tmp_path: Path) -> None:
    layout = write_shards(DIALOGUES)
    train = build_trajectories(_config(), layout, RunOptions()) / "train-00000-of-00001.parquet"
    before = train.read_bytes()
    others = {
        split: [(name, speakers, [6] * len(labels)) for name, speakers, labels in DIALOGUES[split]]
        for split in ("dev", "test")
    }
    write_shards({**DIALOGUES, **others})
    build_trajectories(_config(), layout, RunOptions())
    assert _rows(layout, "test")["test/dia0"]["trajectory"] == [6, 6, 6]
    assert train.read_bytes() == before


def test_neighbours_by_features_are_found_in_every_split_and_stay_in_it(built: Layout) -> None:
    for split in DIALOGUES:
        rows = _rows(built, split)
        for name, row in rows.items():
            assert set(row["neighbours_pooled"]) <= set(rows) - {name, "train/dia3"}
            assert len(row["neighbours_pooled"]) == len(row["similarity_pooled"]) == len(row["same_scenario_pooled"])
    # dia3 has no text at all, and the dev split a single dialogue.
    assert (
        _rows(built, "train")["train/dia3"]["neighbours_pooled"]
        == _rows(built, "dev")["dev/dia0"]["neighbours_pooled"]
        == []
    )
    assert _rows(built, "train")["train/dia0"]["neighbours_pooled"][0] == "train/dia1"
    assert _rows(built, "test")["test/dia0"]["neighbours_pooled"] == ["test/dia1"]
    assert "order_excess_pooled" not in _rows(built, "train")["train/dia0"]


def test_features_of_dev_and_test_change_nothing_in_train(write_shards: Write) -> None:
    layout = write_shards({"train": DIALOGUES["train"]})
    train = build_trajectories(_config(), layout, RunOptions()) / "train-00000-of-00001.parquet"
    before = train.read_bytes()
    write_shards(DIALOGUES)
    build_trajectories(_config(), layout, RunOptions())
    assert train.read_bytes() == before


def test_every_neighbour_has_its_order_excess_and_none_where_no_shuffles_are_asked_for(built: Layout) -> None:
    rows = _rows(built, "train")
    for name in NAMES[1:]:
        assert all(len(row[f"order_excess_{name}"]) == len(row[f"neighbours_{name}"]) for row in rows.values())
        assert all(row[f"order_excess_{name}"] == [] for row in _rows(built, "test").values())
    # Twins of three utterances; dia2 has one utterance, so shuffling does not change it.
    assert rows["train/dia0"]["order_excess_edit"][0] == 1
    assert rows["train/dia2"]["order_excess_edit"] == [0, 0]
    assert "order_excess_histogram" not in rows["train/dia0"]
    build_trajectories(_config(order_permutations=0), built, RunOptions(overwrite=True))
    assert not [name for name in _rows(built, "train")["train/dia0"] if name.startswith("order_excess")]


def test_dialogues_of_one_scenario_are_marked_and_can_be_kept_apart(write_shards: Write) -> None:
    scenarios = {"train/dia0": "script01", "train/dia1": "script01", "train/dia2": "impro02"}
    layout = write_shards(DIALOGUES, scenarios)
    build_trajectories(_config(), layout, RunOptions())
    rows = _rows(layout, "train")
    assert (rows["train/dia0"]["neighbours_path"], rows["train/dia0"]["same_scenario_path"]) == (
        ["train/dia1", "train/dia4"],
        [True, False],
    )
    assert rows["train/dia4"]["same_scenario_edit"] == [False, False]
    build_trajectories(_config(exclude_same_scenario=True), layout, RunOptions(overwrite=True))
    rows = _rows(layout, "train")
    for name in (*NAMES, "pooled"):
        assert (
            sorted(rows["train/dia0"][f"neighbours_{name}"])
            == sorted(rows["train/dia1"][f"neighbours_{name}"])
            == ["train/dia2", "train/dia4"]
        )
        assert rows["train/dia0"][f"same_scenario_{name}"] == [False, False]


def test_the_controls_are_next_to_the_tables_and_no_reader_takes_them_for_data(write_shards: Write) -> None:
    layout = write_shards(DIALOGUES, {"train/dia0": "script01", "train/dia1": "script01"})
    folder = build_trajectories(_config(), layout, RunOptions())
    controls = json.loads((folder / "_controls.json").read_text())
    assert controls["pairs"] == 6  # of the four labelled dialogues
    assert list(controls["with_length"]) == sorted([*NAMES, "pooled", "pooled_with_length"])
    assert controls["scenarios"]["same_pairs"] == 1
    assert controls["scenarios"]["means"]["edit"]["same"] == 1
    # One of dia0, dia1 (three labels), dia4 (two) and dia2 (one): 1, 1, ⅔, 0, 0, 0 at |ΔL| 0 1 2 1 2 1.
    assert controls["with_length"]["edit"] == pytest.approx(
        stats.spearmanr([1, 2 / 3, 0, 2 / 3, 0, 0], [0, -1, -2, -1, -2, -1]).statistic, abs=1e-6
    )
    assert pq.read_table(folder, columns=["dialogue_id"]).num_rows == 8


@pytest.mark.parametrize("labels", [[-1, -1], [2]])
def test_a_split_of_a_single_dialogue_or_without_labels_has_no_neighbours(
    labels: list[int], write_shards: Write
) -> None:
    layout = write_shards({"train": [("train/dia0", "AA"[: len(labels)], labels)]})
    folder = build_trajectories(_config(), layout, RunOptions())
    row = _rows(layout, "train")["train/dia0"]
    assert [row[f"neighbours_{name}"] for name in (*NAMES, "pooled")] == [[]] * 7
    assert json.loads((folder / "_controls.json").read_text())["with_length"]["edit"] is None


def test_the_same_labels_give_the_same_bytes_and_the_second_run_writes_nothing(
    built: Layout, caplog: pytest.LogCaptureFixture
) -> None:
    folder = built.shards / "trajectories"
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert dry_run(_config(), built, RunOptions())["cached"]
    build_trajectories(_config(), built, RunOptions())
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before
    for path in folder.iterdir():
        path.unlink()
    assert not dry_run(_config(), built, RunOptions())["cached"]
    build_trajectories(_config(), built, RunOptions(workers=7))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: content for name, (content, _) in before.items()
    }


def test_another_setting_is_refused_by_name_and_replaced_when_told_to(built: Layout) -> None:
    with pytest.raises(SettingsDiffer, match=r"trajectories\.neighbours: 2 there, 1 wanted"):
        build_trajectories(_config(neighbours=1), built, RunOptions())
    build_trajectories(_config(neighbours=1, similarities=["path"]), built, RunOptions(overwrite=True))
    row = _rows(built, "train")["train/dia0"]
    assert row["neighbours_path"] == ["train/dia1"]
    assert "neighbours_edit" not in row


def test_changed_shards_are_done_again(built: Layout, write_shards: Write) -> None:
    write_shards({**DIALOGUES, "train": DIALOGUES["train"][:2]})
    assert not dry_run(_config(), built, RunOptions())["cached"]
    build_trajectories(_config(), built, RunOptions())
    assert list(_rows(built, "train")) == ["train/dia0", "train/dia1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"similarities": ["dwt"]},
            (
                r"trajectories\.similarities\.0: Input should be 'histogram', 'transition', .* 'dtw' or 'pooled'"
                r" \(given: 'dwt'\)"
            ),
        ),
        ({"similarities": ["edit", "edit"]}, "'edit' is named twice"),
        ({"valence_arousal": {"joy": [1.2, 0.0]}}, r"trajectories\.valence_arousal\.joy\.0"),
        ({"valence_arousal": {"joy": [1, -1], "anger": [-1, 1]}}, r"classes 4 and 6 are 2\.828 apart"),
        ({"pooled_modalities": ["audio"]}, r"trajectories\.pooled_modalities: audio; the shards have text"),
        ({"pooled_modalities": ["smell"]}, r"trajectories\.pooled_modalities\.0"),
        ({"similarities": []}, r"trajectories\.similarities"),
        ({"neighbours": 0}, r"trajectories\.neighbours"),
        ({"path_bins": 0}, r"trajectories\.path_bins"),
    ],
)
def test_impossible_settings_are_named(change: dict[str, Any], message: str, write_shards: Write) -> None:
    with pytest.raises(BadSettings, match=message):
        build_trajectories(_config(**change), write_shards(DIALOGUES), RunOptions())


def test_a_class_without_valence_and_arousal_leaves_dtw_out_and_says_so(
    write_shards: Write, caplog: pytest.LogCaptureFixture
) -> None:
    built = write_shards(DIALOGUES)
    build_trajectories(
        _config().model_copy(update={"valence_arousal": {"neutral": (0.0, 0.0), "joyful": (1.0, 0.0)}}),
        built,
        RunOptions(),
    )
    assert "no dtw: trajectories.valence_arousal has no 'surprise'" in caplog.text
    columns = _rows(built, "train")["train/dia0"].keys()
    assert "neighbours_path" in columns
    assert "neighbours_dtw" not in columns


def test_a_class_without_valence_and_arousal_is_refused_where_dtw_is_all_that_is_asked_for(write_shards: Write) -> None:
    alone = _config(similarities=["dtw"]).model_copy(update={"valence_arousal": {"neutral": (0.0, 0.0)}})
    with pytest.raises(BadSettings, match=r"trajectories\.valence_arousal has no 'surprise', which dtw needs"):
        build_trajectories(alone, write_shards(DIALOGUES), RunOptions())


def test_without_shards_it_says_what_to_do(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "raw", tmp_path / "features", "tiny")
    with pytest.raises(RawDataMissing, match="merc-extract --dataset tiny"):
        build_trajectories(_config(), layout, RunOptions())
    assert dry_run(_config(), layout, RunOptions()) == {
        "cached": False,
        "neighbours": 2,
        "similarities": [*NAMES, "pooled"],
    }


def test_the_card_names_the_table_and_huggingface_datasets_loads_it(built: Layout, tmp_path: Path) -> None:
    write_card(built.shards)
    loaded = datasets.load_dataset(str(built.shards), "trajectories", cache_dir=str(tmp_path / "cache"))
    assert {split: len(table) for split, table in loaded.items()} == {"train": 5, "dev": 1, "test": 2}
    assert loaded["train"][4]["speaker_trajectories"] == [[0, -1], [4]]


def test_the_file_says_what_made_it(built: Layout) -> None:
    metadata = json.loads(
        pq.read_schema(built.shards / "trajectories" / "dev-00000-of-00001.parquet").metadata[b"merc"]
    )
    assert (metadata["neighbours"], metadata["path_bins"], metadata["neighbours_from"]) == (2, 8, "train")
    assert metadata["classes"][4] == "joy"


def test_shards_of_one_split_give_one_table(write_shards: Write) -> None:
    layout = write_shards({"test": DIALOGUES["test"]})
    folder = build_trajectories(_config(), layout, RunOptions())
    assert sorted(path.name for path in folder.glob("*.parquet")) == ["test-00000-of-00001.parquet"]
    assert _rows(layout, "test")["test/dia0"]["neighbours_path"] == []


def test_runs_as_a_command(write_shards: Write, tmp_path: Path) -> None:
    layout = write_shards(DIALOGUES)
    settings = tmp_path / "params.yaml"
    settings.write_text(json.dumps({"trajectories": _block()}))
    result = CliRunner().invoke(main, ["--dataset", "tiny", "--out", str(layout.out), "--params", str(settings)])
    assert result.exit_code == 0, result.output
    assert (layout.shards / "trajectories" / "train-00000-of-00001.parquet").is_file()


def test_every_dialogue_of_melds_train_split_has_its_neighbours(
    meld_dialogues: Callable[[str], dict[str, Any]], write_shards: Write
) -> None:
    dialogues = meld_dialogues("train")
    numbered = {
        name: {one: chr(ord("A") + at) for at, one in enumerate(dict.fromkeys(speakers))}
        for name, (_, speakers) in dialogues.items()
    }
    rows = [
        (name, "".join(numbered[name][one] for one in speakers), labels.tolist())
        for name, (labels, speakers) in dialogues.items()
    ]
    layout = write_shards({"train": rows})
    build_trajectories(_config(neighbours=10, order_permutations=0, control_pairs=1000), layout, RunOptions())
    found = _rows(layout, "train")
    assert len(found) == 1038
    assert {len(row[f"neighbours_{name}"]) for row in found.values() for name in NAMES} == {10}
