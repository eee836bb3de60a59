"""``croissant.json`` is valid according to MLCommons' own library, which finds the rows with it."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merc import files
from merc.shards.card.writing import write_card
from merc.shards.config import Config as ShardsConfig
from merc.shards.format import reader
from merc.shards.select import select

SPLITS = {"train": 3, "dev": 1, "test": 2}


def _load(root: Path) -> Any:
    import mlcroissant

    return mlcroissant.Dataset(jsonld=str(root / "croissant.json"))


def test_it_is_valid_without_errors(sound: Path) -> None:
    issues = _load(sound).metadata.ctx.issues
    assert issues.errors == set()
    # Shards must not be published, so there is no publication date.
    assert [warning.partition("Property ")[2] for warning in issues.warnings] == [
        '"https://schema.org/datePublished" is recommended, but does not exist.'
    ]


def test_rows_are_read_by_it(sound: Path) -> None:
    dataset = _load(sound)
    rows = {row["dialogues/dialogue_id"].decode(): row for row in dataset.records("dialogues")}
    assert len(rows) == sum(SPLITS.values())
    wanted = {row["dialogue_id"]: row for split in SPLITS for row in reader.read_split(sound, split).to_pylist()}
    for dialogue_id, row in rows.items():
        assert row["dialogues/n_utterances"] == wanted[dialogue_id]["n_utterances"]
        assert [text.decode() for text in row["dialogues/texts"]] == wanted[dialogue_id]["texts"]
        assert [list(vector) for vector in row["dialogues/audio"]] == wanted[dialogue_id]["audio"]
    assert [row["failures/reason"] for row in dataset.records("failures")] == [b"text_repaired", b"no_face"]
    assert len(list(dataset.records("trajectories"))) == sum(SPLITS.values())


def test_every_column_is_a_field_and_every_file_has_its_checksum(sound: Path) -> None:
    found = files.read_json(sound / "croissant.json")
    for table in found["recordSet"]:
        schema = pq.read_schema(sound / table["name"] / "train-00000-of-00001.parquet")
        assert [field["name"] for field in table["field"]] == schema.names
        assert all(field["description"] for field in table["field"])
    fields = {field["@id"]: field for table in found["recordSet"] for field in table["field"]}
    assert (fields["dialogues/text"]["dataType"], fields["dialogues/text"]["arrayShape"]) == ("cr:Float32", "-1,4")
    assert (fields["dialogues/emotion_index"]["dataType"], fields["dialogues/emotion_index"]["arrayShape"]) == (
        "cr:Int64",
        "-1",
    )
    assert "isArray" not in fields["dialogues/dialogue_id"]
    objects = {one["contentUrl"]: one for one in found["distribution"] if one["@type"] == "cr:FileObject"}
    assert set(objects) == {path.relative_to(sound).as_posix() for path in sound.rglob("*.parquet")}
    assert all(one["sha256"] == files.sha256(sound / name) for name, one in objects.items())


def test_it_has_no_record_set_of_a_table_that_is_not_there(sound: Path, tmp_path: Path) -> None:
    select(
        sound,
        tmp_path / "part",
        ShardsConfig(row_group_dialogues=2, max_file_bytes=1),
        dialogues=["dev/dia0"],
        modalities=["text"],
        transcripts=False,
    )
    dataset = _load(tmp_path / "part")
    assert [one.name for one in dataset.metadata.record_sets] == ["dialogues", "failures"]
    assert [row["dialogues/dialogue_id"] for row in dataset.records("dialogues")] == [b"dev/dia0"]


def test_it_says_that_the_data_must_not_be_passed_on(sound: Path) -> None:
    found = files.read_json(sound / "croissant.json")
    assert "must not be passed on" in found["description"]
    assert found["citeAs"] == "MELD, from its authors"


def test_a_column_that_croissant_has_no_word_for_is_an_error(sound: Path) -> None:
    path = sound / "trajectories" / "dev-00000-of-00001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("when", pa.array([0], pa.timestamp("ms"))), path)
    with pytest.raises(ValueError, match=r"trajectories.when: timestamp\[ms\] has no name in Croissant"):
        write_card(sound)


def test_its_context_is_that_of_the_specification(sound: Path, caplog: pytest.LogCaptureFixture) -> None:
    _load(sound)
    assert "is not standard" not in caplog.text  # what the library says of any other key
    found = files.read_json(sound / "croissant.json")
    del found["@context"]["samplingRate"]
    files.write_json(sound / "croissant.json", found)
    _load(sound)
    assert "is not standard" in caplog.text
