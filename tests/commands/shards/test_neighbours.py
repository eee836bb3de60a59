"""``merc-shards neighbours`` on small shards: strips, the page, predictions, and what it refuses."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from merc import files, parquet
from merc.commands.shards import main
from merc.job import RunOptions
from merc.layout import Layout
from merc.shards.format.schema import SCHEMA_VERSION, schema
from merc.trajectories.config import Config
from merc.trajectories.stage import build_trajectories

CLASSES = ("neutral", "joy", "anger")
DIALOGUES = {
    "train": [
        ("train/dia0", "impro01", [0, 1, 1, 2]),
        ("train/dia1", "impro01", [0, 1, 2, 2]),
        ("train/dia2", "", [2, 2]),
        ("train/dia3", "", [-1]),
    ],
    "test": [("test/dia0", "", [0, 1]), ("test/dia1", "", [1, 1])],
}


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def shards(made_once: Callable[..., Path], tmp_path: Path) -> Path:
    shutil.copytree(made_once("shards of neighbours", make), tmp_path, dirs_exist_ok=True)
    return tmp_path / "features" / "tiny" / "shards"


def make(tmp_path: Path, texts: bool = True) -> Path:
    """Shards and trajectories in which Chloë & <Bob> talk."""
    layout = Layout(tmp_path / "raw", tmp_path / "features", "tiny")
    shape = schema({"text": 2}, {"corpus": "tiny", "label_set": "tiny3", "encoders": {}}, CLASSES)
    for split, rows in DIALOGUES.items():
        records = []
        for name, scenario, labels in rows:
            size = len(labels)
            strings = {
                key: [f"{name}_utt{at}" for at in range(size)]
                for key in ("utterance_ids", "source_utterance_ids", "emotions", "sentiments")
            }
            numbers = {key: [0.0] * size for key in ("valence", "arousal", "dominance", "start_seconds", "end_seconds")}
            facts = {
                "corpus": "tiny",
                "split": split,
                "dialogue_id": name,
                "scenario": scenario,
                "n_utterances": size,
                "n_speakers": 1,
            }
            said = {
                "speakers": ["Chloë & <Bob>"] * size,
                "speaker_index": [0] * size,
                "texts": [f"<i>what</i> {at}" for at in range(size)],
            }
            vectors = {
                "text": [[1.0, float(label)] for label in labels],
                "text_present": [True] * size,
                "emotion_index": labels,
            }
            records.append({**facts, **strings, **numbers, **said, **vectors})
        table = pa.Table.from_pylist(records, schema=shape)
        parquet.write(
            layout.shards / "dialogues" / f"{split}-00000-of-00001.parquet",
            table if texts else table.drop_columns(["texts"]),
        )
    counts = {
        split: {
            "dialogues": len(rows),
            "utterances": 9,
            "labels": dict.fromkeys(CLASSES, 0),
            "unlabelled": 0,
            "present": {"text": 9},
        }
        for split, rows in DIALOGUES.items()
    }
    info = {
        "schema_version": SCHEMA_VERSION,
        "corpus": "tiny",
        "label_set": "tiny3",
        "classes": CLASSES,
        "counts": counts,
        "splits": list(DIALOGUES),
    }
    info |= {
        "modalities": ["text"],
        "dims": {"text": 2},
        "encoders": {"text": {"name": "ngrams"}},
        "source": "",
        "deviations": [],
        "versions": {},
    }
    files.write_json(
        layout.shards / "meta" / "info.json", info | {"fingerprint": "0", "versions": {"merc-pipeline": "0"}}
    )
    files.write_json(
        layout.shards / "meta" / "stats.json", {"text": {"count": 9, "mean": [1.0, 1.0], "std": [0.0, 1.0]}}
    )
    build_trajectories(Config(order_permutations=3), layout, RunOptions())
    return layout.shards


def _run(*arguments: object, **more: object) -> Result:
    return CliRunner().invoke(main, ["neighbours", *map(str, arguments)], **more)  # type: ignore[arg-type]


def test_strips_show_the_dialogue_above_its_nearest_with_similarity_and_scenario(shards: Path) -> None:
    result = _run("train/dia0", "--shards", shards, "--similarity", "edit")
    assert result.exit_code == 0, result.output
    head, own, first, second, *_, legend = result.output.splitlines()
    assert head.endswith("by edit")
    assert own.split() == ["train/dia0", "4", "N", "J", "J", "A"]
    assert first.split()[:3] == ["train/dia1", "4", "0.750"]
    assert first.split()[4:] == ["N", "J", "A", "A", "same", "scenario"]
    assert second.split()[:3] == ["train/dia2", "2", "0.250"]
    assert "train/dia3" not in result.output  # it has no label
    assert "joy" in legend


def test_the_strips_are_coloured_on_a_terminal_alone(shards: Path) -> None:
    arguments = ("train/dia0", "--shards", shards)
    assert "\x1b[" not in _run(*arguments).output
    # Joy is #F0E442 in every image of this project, here as the background of a letter in black.
    assert "\x1b[38;2;0;0;0m\x1b[48;2;240;228;66mJ" in _run(*arguments, color=True).output


def test_a_strip_that_is_longer_than_the_terminal_continues_below(shards: Path) -> None:
    lines = _run("train/dia0", "--shards", shards, "--similarity", "edit", env={"COLUMNS": "40"}).output.splitlines()
    assert [line.split()[-3:] for line in lines[1:3]] == [["N", "J", "J"], ["A"]]


def test_without_a_name_path_is_shown_and_pooled_for_a_test_dialogue(shards: Path) -> None:
    assert _run("train/dia0", "--shards", shards).output.splitlines()[0].endswith("by path")
    result = _run("test/dia0", "--shards", shards)
    assert result.output.splitlines()[0].endswith("by pooled")
    assert result.output.splitlines()[2].startswith("test/dia1")


def test_a_dialogue_without_neighbours_is_shown_alone_and_the_reason_is_given(shards: Path) -> None:
    for dialogue, similarity in (("test/dia0", "path"), ("train/dia3", "edit")):
        result = _run(dialogue, "--shards", shards, "--similarity", similarity)
        assert result.exit_code == 0
        assert f"no neighbours by {similarity}: it has no labels that may be looked at" in result.output


def test_the_page_is_one_escaped_file_with_the_words_of_every_utterance(shards: Path, tmp_path: Path) -> None:
    page = tmp_path / "look.html"
    result = _run("train/dia0", "--shards", shards, "--number", 1, "--html", page)
    assert result.output == f"{page}\n"
    html = page.read_text(encoding="utf-8")
    assert html.count("&lt;i&gt;what&lt;/i&gt;") == 8
    assert html.count("Chloë &amp; &lt;Bob&gt; · joy") == 3
    assert "<i>what" not in html
    assert not [sign for sign in ("<script", "http:", "https:", "src=", "url(") if sign in html]
    assert "same scenario" in html
    assert "stretched to the same width" in html


def test_shards_without_transcripts_are_shown_all_the_same(tmp_path: Path) -> None:
    shards, page = make(tmp_path, texts=False), tmp_path / "look.html"
    assert _run("train/dia0", "--shards", shards, "--html", page).exit_code == 0
    assert "Chloë &amp; &lt;Bob&gt; · anger" in page.read_text(encoding="utf-8")


def _predictions(folder: Path) -> Path:
    labels = {"test/dia0": [2, 2], "test/dia1": [2, 1]}
    rows = [
        {"seed": 0, "split": "test", "dialogue_id": name, "position": position, "predicted": label}
        for name, some in labels.items()
        for position, label in enumerate(some)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "predictions.parquet")
    return folder / "predictions.parquet"


def test_with_predictions_a_test_dialogue_has_neighbours_by_predicted_labels(shards: Path, tmp_path: Path) -> None:
    result = _run("test/dia0", "--shards", shards, "--similarity", "edit", "--predictions", _predictions(tmp_path))
    assert result.exit_code == 0, result.output
    head, own, first, *_ = result.output.splitlines()
    assert head.endswith("by edit_predicted")
    assert own.split() == ["test/dia0", "2", "A", "A"]
    assert first.split()[:3] == ["test/dia1", "2", "0.500"]
    assert (
        _run("test/dia0", "--shards", shards, "--predictions", _predictions(tmp_path))
        .output.splitlines()[0]
        .endswith("by path_predicted")
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train/dia9"], 4, "no dialogue 'train/dia9'; did you mean"),
        (["train/dia0", "--similarity", "pth"], 2, "no neighbours by 'pth'; did you mean 'path'"),
        (["train/dia0", "--seed", "1"], 2, "--seed chooses among --predictions"),
        (["train/dia0", "--number", "0"], 2, "--number"),
        (["test/dia0", "--predictions", "nowhere.parquet"], 4, "nowhere.parquet: no such file"),
        (
            ["test/dia0", "--predictions", "nowhere.parquet", "--similarity", "pooled"],
            2,
            "uses features, not labels",
        ),
        (["test/dia0", "--predictions", "nowhere.parquet", "--similarity", "pth"], 2, "trajectories.similarities.0"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(arguments: list[str], code: int, message: str, shards: Path) -> None:
    result = _run(*arguments, "--shards", shards)
    assert result.exit_code == code, result.output
    assert message in result.output


def test_trajectories_that_were_not_made_are_asked_for(shards: Path) -> None:
    for path in (shards / "trajectories").glob("*.parquet"):
        path.unlink()
    result = _run("train/dia0", "--shards", shards)
    assert (result.exit_code, "make the trajectories first" in result.output) == (4, True)


def test_the_only_shards_below_features_need_no_name(
    shards: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _run("train/dia0").exit_code == 0
    (tmp_path / "features" / "other" / "shards").mkdir(parents=True)
    result = _run("train/dia0")
    assert (result.exit_code, "name the shards with --shards" in result.output) == (2, True)
