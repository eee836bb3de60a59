"""``merc-shards import`` as a user runs it."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from merc.commands.shards import main
from merc.shards.format import reader

PARAMS = str(Path(__file__).parents[3] / "params.yaml")


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["import", *map(str, arguments), "--params", PARAMS])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of MMGCN with one dialogue per split of IEMOCAP."""
    keys = ("Ses01F_impro01", "Ses01M_impro01", "Ses05F_impro01")
    random = np.random.default_rng(1)
    vectors = [{key: [random.normal(size=3) for _ in range(2)] for key in keys} for _ in range(3)]
    ids = {key: [f"{key}_F000", f"{key}_M000"] for key in keys}
    speakers, labels, sentences = ({key: list(row) for key in keys} for row in (("F", "M"), (0, 4), ("Hi.", "No.")))
    content = (ids, speakers, labels, *vectors, sentences, list(keys[:2]), [keys[2]])
    path = tmp_path / "IEMOCAP_features.pkl"
    path.write_bytes(pickle.dumps(content))
    return path


def test_shards_with_trajectories_and_a_card_are_made(file: Path, tmp_path: Path) -> None:
    result = _run(file, tmp_path / "new" / "shards")
    assert result.exit_code == 0, result.output
    root = tmp_path / "new" / "shards"
    assert sorted(path.name for path in root.iterdir()) == [
        "README.md",
        "croissant.json",
        "dialogues",
        "failures",
        "meta",
        "trajectories",
    ]
    assert [path.name for path in root.parent.iterdir()] == ["shards"]  # nothing is left next to them
    assert reader.splits(root) == ["train", "dev", "test"]
    assert "  text: 6 of 6 utterances, 3 numbers each" in result.stdout
    assert "  differs: dialogues in train: 108 in the benchmark, 1 here" in result.stdout
    assert "dialogues in train: 108 in the benchmark, 1 here" in (root / "README.md").read_text()


def test_shards_that_are_there_are_replaced_only_when_told(file: Path, tmp_path: Path) -> None:
    assert _run(file, tmp_path / "out").exit_code == 0
    assert _run(file, tmp_path / "out").exit_code == 5
    assert _run(file, tmp_path / "out", "--validation", "none", "--overwrite").exit_code == 0
    assert reader.splits(tmp_path / "out") == ["train", "test"]


def test_how_dev_is_chosen_is_a_setting(file: Path, tmp_path: Path) -> None:
    settings = tmp_path / "params.yaml"
    settings.write_text("corpora: {iemocap: {validation: none}}")
    done = CliRunner().invoke(main, ["import", str(file), str(tmp_path / "out"), "--params", str(settings)])
    assert done.exit_code == 0, done.output
    assert reader.splits(tmp_path / "out") == ["train", "test"]
    settings.write_text("corpora: {iemocap: {reader: meld}}")
    refused = CliRunner().invoke(main, ["import", str(file), str(tmp_path / "other"), "--params", str(settings)])
    assert refused.exit_code == 2
    assert "corpora.iemocap.reader is 'meld'" in refused.stderr


def test_a_folder_that_holds_something_else_is_never_replaced(file: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years")
    assert _run(file, tmp_path / "out", "--overwrite").exit_code == 5
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years"


def test_a_missing_file_and_one_of_another_shape_have_exit_code_4(tmp_path: Path) -> None:
    assert _run(tmp_path / "nothing.pkl", tmp_path / "out").exit_code == 4
    (tmp_path / "odd.pkl").write_bytes(pickle.dumps(["not", "features"]))
    assert _run(tmp_path / "odd.pkl", tmp_path / "out").exit_code == 4
    assert not (tmp_path / "out").exists()


def test_a_hostile_file_has_exit_code_4_and_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "owned"
    path = tmp_path / "hostile.pkl"
    path.write_bytes(b"cos\nsystem\n(Vtouch " + str(mark).encode() + b"\ntR.")
    result = _run(path, tmp_path / "out")
    assert result.exit_code == 4
    assert "asks for os.system" in result.stderr
    assert not mark.exists()


def test_the_vectors_of_melds_authors_need_their_annotations(tmp_path: Path) -> None:
    splits = ("train", "val", "test")
    vectors, annotations = tmp_path / "text_glove_average_emotion.pkl", tmp_path / "data_emotion.p"
    vectors.write_bytes(pickle.dumps([{f"0_{turn}": np.ones(3, "f4") for turn in range(2)} for _ in splits]))
    rows = [
        {"text": "hi", "split": split, "y": ("joy", "anger")[turn], "dialog": "0", "utterance": str(turn)}
        for split in splits
        for turn in range(2)
    ]
    annotations.write_bytes(pickle.dumps([rows, None, None, None, 50, {}]))
    refused = _run(vectors, tmp_path / "out")
    assert refused.exit_code == 2
    assert "give their data_emotion.p" in refused.stderr
    assert _run(vectors, tmp_path / "out", "--annotations", tmp_path / "nothing.p").exit_code == 4
    assert _run(vectors, tmp_path / "out", "--annotations", annotations).exit_code == 0
    assert reader.dialogue(tmp_path / "out", "dev/dia0")["emotions"].to_pylist() == [["joy", "anger"]]
