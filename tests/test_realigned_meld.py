"""The demonstration's MELD with time stamps as in MELD-FAIR, through the command, from the raw files to the card."""

import contextlib
import csv
import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from merc.commands.extract import main
from merc.media.clip import decode_dialogue
from merc.media.config import Config
from merc.media.tasks import Clip, DialogueTask
from merc.params import Params

SPLIT, FOLDER, SETTING = "train", "train_splits", "corpora.demo-meld.realignment=demo-meld/realigned"
Span = tuple[str, float, float]


def write_realignment(corpus: Path) -> dict[str, list[Span]]:
    """Writes time stamps and a realigned table of one split, as MELD-FAIR has them, for a corpus in MELD's layout.

    A dialogue's utterances alternate between one span of their own clip, two spans and three spans, which include
    neighbours' clips; the last utterance of the split is left out. The table numbers them without gaps.

    Returns:
        MELD's own id → the spans: name of the clip's file, begin, end.
    """
    rows = list(
        csv.DictReader(
            io.StringIO((corpus / f"{SPLIT}_sent_emo.csv").read_text(encoding="utf-8", errors="replace"), newline="")
        )
    )
    own = [(row["Dialogue_ID"], row["Utterance_ID"]) for row in rows]
    table = [["", "Speaker", "Dialogue_ID", "Original Utterance_ID", "Utterance_ID"]]
    stamps = [
        [
            "Split",
            "Dialogue ID",
            "Utterance ID",
            "Original Dialogue ID",
            "Original Utterance ID",
            "Start Time",
            "End Time",
        ]
    ]
    found: dict[str, list[Span]] = {}
    for number, (dialogue, utterance) in enumerate(own):
        of_dialogue = [one for one in own if one[0] == dialogue]
        position = of_dialogue.index((dialogue, utterance))
        table.append([str(number), rows[number]["Speaker"], dialogue, utterance, str(position)])
        before, behind = of_dialogue[max(0, position - 1)], of_dialogue[(position + 1) % len(of_dialogue)]
        spans = [
            [((dialogue, utterance), 0.05, 0.625)],
            [(before, 0.5, 0.7), ((dialogue, utterance), 0.0, 0.6)],
            [(before, 0.6125, 0.75), ((dialogue, utterance), 0.1, 0.7), (behind, 0.0, 0.2)],
        ][position % 3]
        if number + 1 < len(own):
            stamps += [[SPLIT, dialogue, str(position), *clip, str(start), str(end)] for clip, start, end in spans]
            found[f"dia{dialogue}_utt{utterance}"] = [
                (f"dia{clip[0]}_utt{clip[1]}.mp4", start, end) for clip, start, end in spans
            ]
    (corpus / "realigned").mkdir()
    for name, lines in (("MELD_video_realignment_timestamps.csv", stamps), (f"realigned_{SPLIT}_sent_emo.csv", table)):
        with (corpus / "realigned" / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(lines)
    return found


@dataclass
class World:
    """A folder with the corpus and its time stamps, and everything that the command made of them."""

    folder: Path
    spans: dict[str, list[Span]]

    def run(self, *arguments: str, subcommand: tuple[str, ...] = ()) -> Result:
        common = ["--dataset", "demo-meld", "--params", str(self.folder / "params.yaml")]
        with contextlib.chdir(self.folder):
            return CliRunner().invoke(main, [*subcommand, *common, *arguments], catch_exceptions=False)

    def rows(self) -> dict[str, dict[str, object]]:
        parts = sorted((self.folder / "features" / "demo-meld" / "media").glob("part-*.parquet"))
        return {
            row["utterance_id"].partition("/")[2]: row
            for row in pa.concat_tables(map(pq.read_table, parts)).to_pylist()
        }


@pytest.fixture(scope="module")
def world(demonstration: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("realigned")
    shutil.copytree(demonstration / "raw" / "demo-meld", folder / "raw" / "demo-meld", copy_function=os.link)
    settings = yaml.safe_load((demonstration / "params.yaml").read_text())
    settings["media"] |= {"frames_per_clip": 4}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings))
    made = World(folder, write_realignment(folder / "raw" / "demo-meld"))
    done = made.run("--split", SPLIT, "--set", SETTING, "--workers", "1", "--max-failed", "30%")
    assert done.exit_code == 0, done.output
    return made


def _alone(world: World, span: Span) -> NDArray[np.int16]:
    """The audio of a span, decoded separately; none if its clip is one of the broken ones."""
    path = f"demo-meld/{FOLDER}/{span[0]}"
    clip = Clip("one", "one", path, path, "full", *span[1:], *span[1:])
    settings = Params.load(world.folder / "params.yaml").fill("media", Config)
    ((row, _),) = decode_dialogue(
        DialogueTask(world.folder / "raw", "demo-meld", (clip,), frozenset({"audio"}), settings, None)
    )
    return _samples(row["audio"])


def _samples(data: object) -> NDArray[np.int16]:
    return (
        soundfile.read(io.BytesIO(data), dtype="int16")[0]
        if isinstance(data, bytes) and data
        else np.zeros(0, np.int16)
    )


def test_the_audio_of_every_utterance_is_that_of_its_spans_one_behind_the_other(world: World) -> None:
    rows = world.rows()
    lengths = {len(spans) for spans in world.spans.values()}
    assert lengths == {1, 2, 3}
    for name, spans in world.spans.items():
        stored = _samples(rows[name]["audio"])
        assert np.array_equal(stored, np.concatenate([_alone(world, span) for span in spans])), name
    assert sum(row["audio_status"] == "ok" for row in rows.values()) > 0.8 * len(rows)


def test_the_faces_have_seconds_of_the_utterance_and_are_where_it_was_looked(world: World) -> None:
    several = 0
    for name, row in world.rows().items():
        if name not in world.spans or not row["face_seconds"]:
            continue
        whole = sum(end - start for _, start, end in world.spans[name])
        looked = [(number + 0.5) * whole / 4 for number in range(4)]
        assert all(min(abs(seconds - one) for one in looked) < 0.05 for seconds in row["face_seconds"]), (
            name
        )  # a frame lasts 0.042 s
        assert row["face_seconds"] == sorted(row["face_seconds"])
        several += len(world.spans[name]) > 1
    assert several > 3


def test_what_was_realigned_and_what_was_not_is_reported_in_the_shards_and_on_their_card(world: World) -> None:
    shards = world.folder / "features" / "demo-meld" / "shards"
    card = (shards / "README.md").read_text(encoding="utf-8")
    total, realigned = len(world.spans) + 1, len(world.spans)
    assert (
        f"Realigned: audio and video of {realigned} of {total} utterances are the spans of the original clips"
        in card.replace("\\", "")
    )
    failed = pq.read_table(shards / "failures" / "train-00000-of-00001.parquet").to_pylist()
    (left,) = [row["utterance_id"] for row in failed if row["reason"] == "not_realigned"]
    assert left.partition("/")[2] not in world.spans
    assert "1 utterances have no span in the realignment, and keep MELD's own cut" in card.replace("\\", "")
    lost = {
        row["utterance_id"].partition("/")[2]
        for row in failed
        if row["reason"] == "spans_missing" and row["modality"] == "audio"
    }
    broken = {"dia1_utt2.mp4", "dia3_utt1.mp4"}  # without its index, and empty
    assert lost == {
        name
        for name, spans in world.spans.items()
        if len(spans) > 1 and 0 < len(broken & {clip for clip, *_ in spans}) < len(spans)
    }


def test_a_dry_run_and_the_list_of_settings_know_it_and_without_it_the_work_is_not_that(world: World) -> None:
    done = world.run("--split", SPLIT, "--set", SETTING, "--dry-run")
    assert done.exit_code == 0
    assert [line.split(maxsplit=1)[1] for line in done.output.splitlines()[1:]] == ["is there"] * 7
    other = world.run("--split", SPLIT, "--dry-run")
    assert other.exit_code == 5
    assert "corpora.demo-meld.realignment: demo-meld/realigned there, nothing wanted" in other.output
    listed = world.run("--set", SETTING, subcommand=("params",))
    (line,) = [line for line in listed.output.splitlines() if line.startswith("corpora.demo-meld.realignment")]
    assert line.split()[1:4] == ["=", '"demo-meld/realigned"', "#"]
