"""The dataset card and the checksums."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from merc import files
from merc.errors import BadTable
from merc.shards.card.writing import write_card

Make = Callable[..., Any]


def _front_matter(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((root / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    return found


def _with_trajectories(root: Path) -> None:
    (root / "trajectories").mkdir()
    for split in ("train", "dev", "test"):
        pq.write_table(
            pa.table({"dialogue_id": [f"{split}/dia0"]}), root / "trajectories" / f"{split}-00000-of-00001.parquet"
        )


def test_configs_name_only_tables_and_splits_with_rows(extracted: Make) -> None:
    root = extracted().build()
    write_card(root)
    dialogues = {
        "config_name": "dialogues",
        "default": True,
        "data_files": [{"split": split, "path": f"dialogues/{split}-*.parquet"} for split in ("train", "dev", "test")],
    }
    failed = {"config_name": "failures", "data_files": [{"split": "train", "path": "failures/train-*.parquet"}]}
    assert _front_matter(root)["configs"] == [dialogues, failed]
    _with_trajectories(root)
    write_card(root)
    trajectories = {
        "config_name": "trajectories",
        "data_files": [
            {"split": split, "path": f"trajectories/{split}-*.parquet"} for split in ("train", "dev", "test")
        ],
    }
    assert _front_matter(root)["configs"] == [dialogues, trajectories, failed]


def test_card_tells_counts_coverage_encoders_and_failures(extracted: Make) -> None:
    made = extracted()
    made.write_features("visual", {1: "no_face", 6: "no_face"})
    root = made.build()
    write_card(root)
    card = (root / "README.md").read_text(encoding="utf-8")
    for line in (
        "| utterances | 6 | 2 | 4 |",
        "| *anger* | 2 | 0 | 1 |",
        "| outside the label set | 1 | 0 | 0 |",
        "| visual | 5 of 6 (83.3 %) | 1 of 2 (50.0 %) | 4 of 4 (100.0 %) |",
        "| visual | fake | fake | 3 | 2 |",
        "- *visual*: fake, licence CC0; overlap of its training data with IEMOCAP and MELD: none",
        "| `no_face` | absent | no face was found in the sampled frames | visual | extraction | 1 | 1 | 0 |",
        (
            "| `text_repaired` | altered | the transcript had wrongly decoded characters, repaired | text | manifest |"
            " 1 | 0 | 0 |"
        ),
        "- train has 6 utterances",
    ):
        assert line in card.splitlines()
    assert "MELD" in card  # where the corpus comes from, in the words of its reader
    assert "Do not redistribute" in card
    assert "\n\n\n" not in card


def test_checksums_cover_every_file_but_themselves_and_the_card(extracted: Make) -> None:
    root = extracted().build(max_file_bytes=700)
    _with_trajectories(root)
    write_card(root)
    found = files.read_json(root / "meta" / "manifest.json")["files"]
    there = {path.relative_to(root).as_posix() for path in root.rglob("*.*")}
    assert set(found) == there - {"README.md", "meta/manifest.json"}
    for name, facts in found.items():
        assert facts["sha256"] == files.sha256(root / name)
        assert facts["bytes"] == (root / name).stat().st_size
    assert [found[f"dialogues/train-0000{index}-of-00002.parquet"]["rows"] for index in (0, 1)] == [2, 1]
    assert found["failures/dev-00000-of-00001.parquet"]["rows"] == 0


def test_writing_the_card_twice_changes_nothing(extracted: Make) -> None:
    root = extracted().build()
    write_card(root)
    before = {path: path.read_bytes() for path in (root / "README.md", root / "meta" / "manifest.json")}
    write_card(root)
    assert {path: path.read_bytes() for path in before} == before


def test_a_folder_without_shards_gets_no_card(tmp_path: Path) -> None:
    with pytest.raises(BadTable, match="not a folder of shards"):
        write_card(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_card_of_what_may_be_passed_on_says_its_terms_and_forbids_nothing(sound: Path) -> None:
    info = files.read_json(sound / "meta" / "info.json")
    files.write_json(sound / "meta" / "info.json", {**info, "redistribution": "Apache-2.0. It was made by code."})
    write_card(sound)
    card, croissant = (sound / "README.md").read_text(), json.loads((sound / "croissant.json").read_text())
    assert "**This folder may be passed on: Apache-2.0. It was made by code.**" in card
    assert "may be passed on: Apache-2.0." in croissant["description"]
    assert "not redistribute" not in card + croissant["description"]
