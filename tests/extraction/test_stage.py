"""The extraction stage: one row per utterance, resumable, and the same bytes however it is run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merc import files
from merc.encoders.engine.registry import ChosenEncoder
from merc.errors import BadSettings, BadTable, PipelineError, RawDataMissing, SettingsDiffer, TooManyFailures
from merc.extraction import sequences
from merc.extraction.config import Config
from merc.extraction.stage import dry_run, extract
from merc.job import RunOptions
from merc.layout import Layout
from merc.records import features as feature_tables

RUN = RunOptions(workers=1, device="cpu", max_failed="50%")
CONFIG = Config(utterances_per_part=3, neural_texts_per_part=3, neural_clips_per_part=1)
SEQUENCES = CONFIG.model_copy(update={"level": "sequences"})
Choose = Callable[..., ChosenEncoder]
WriteManifest = Callable[..., pa.Table]
WriteMedia = Callable[..., None]


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_every_utterance_gets_a_row_in_manifest_order(
    chosen: Choose, layout: Layout, write_manifest: WriteManifest
) -> None:
    table = write_manifest(layout, ["one", "three", ""], ["nan", "zeros", "pad"])
    out = extract(chosen("text", "device"), CONFIG, layout, RUN)
    assert out == layout.features("text", "device")
    assert sorted(path.name for path in out.iterdir()) == [
        "failures.parquet",
        "part-00000.parquet",
        "part-00001.parquet",
        "record.json",
    ]
    assert pq.read_schema(out / "part-00000.parquet").equals(feature_tables.schema(3))
    rows = _rows(out)
    assert [row["utterance_id"] for row in rows] == table["utterance_id"].to_pylist()
    assert [(row["embedding"], row["present"], row["status"]) for row in rows] == [
        ([3.0, 0.0, 0.0], True, "ok"),
        ([5.0, 0.0, 0.0], True, "ok"),
        ([0.0, 0.0, 0.0], False, "no_text"),
        ([0.0, 0.0, 0.0], False, "not_finite"),
        ([0.0, 0.0, 0.0], False, "zero_vector"),
        ([3.0, 0.0, 0.0], True, "ok"),
    ]
    assert pq.read_table(out / "failures.parquet").to_pylist() == [
        {
            "utterance_id": "train/dia0_utt2",
            "stage": "extraction",
            "modality": "text",
            "reason": "no_text",
            "kind": "absent",
            "detail": "",
        },
        {
            "utterance_id": "train/dia1_utt0",
            "stage": "extraction",
            "modality": "text",
            "reason": "not_finite",
            "kind": "broken",
            "detail": "2 of 3 values",
        },
        {
            "utterance_id": "train/dia1_utt1",
            "stage": "extraction",
            "modality": "text",
            "reason": "zero_vector",
            "kind": "absent",
            "detail": "",
        },
        {
            "utterance_id": "train/dia1_utt2",
            "stage": "extraction",
            "modality": "text",
            "reason": "padded",
            "kind": "altered",
            "detail": "from 3 to 8 letters",
        },
    ]
    info = files.read_json(out / "record.json")
    assert info["dim"] == 3
    assert info["provenance"]["encoder"] == "fake"
    assert info["counts"] == {
        "utterances": 6,
        "present": 3,
        "absent": {"no_text": 1, "not_finite": 1, "zero_vector": 1},
    }


def test_history_never_leaves_the_dialogue_and_is_no_longer_than_asked(
    chosen: Choose, layout: Layout, write_manifest: WriteManifest
) -> None:
    write_manifest(layout, ["a", "bb", "ccc", "dddd"], ["e", "ff"])
    rows = _rows(extract(chosen("text", "history"), CONFIG, layout, RUN))
    assert [row["embedding"][1:] for row in rows] == [
        [0.0, 0.0],
        [1.0, 1.0],
        [2.0, 3.0],
        [2.0, 5.0],
        [0.0, 0.0],
        [1.0, 1.0],
    ]


def test_audio_is_read_as_written_and_media_failures_stay_absent(
    chosen: Choose, layout: Layout, write_manifest: WriteManifest, write_media: WriteMedia
) -> None:
    write_media(layout, write_manifest(layout, ["a", "b", "c"], ["d", "e"]), audio={1: "no_audio_stream"})
    out = extract(chosen("audio", "device"), CONFIG, layout, RUN)
    rows = _rows(out)
    assert [row["embedding"][0] for row in rows] == [100.0, 0.0, 300.0, 400.0, 500.0]
    np.testing.assert_allclose([row["embedding"][1] for row in rows if row["present"]], 0.5, atol=1 / 32768)
    assert [row["status"] for row in rows] == ["ok", "no_audio_stream", "ok", "ok", "ok"]
    assert pq.read_table(out / "failures.parquet").num_rows == 0  # the media's failures stay with the media


def test_faces_are_rgb_in_time_order(
    chosen: Choose, layout: Layout, write_manifest: WriteManifest, write_media: WriteMedia
) -> None:
    write_media(layout, write_manifest(layout, ["a", "b"]), visual={0: "no_face"})
    rows = _rows(extract(chosen("visual", "device"), CONFIG, layout, RUN))
    assert rows[0]["status"] == "no_face"
    faces, red, last_second = rows[1]["embedding"]
    assert (faces, last_second) == (2.0, 0.75)
    assert abs(red - 200) <= 3  # JPEG of one colour at quality 100; blue and green are 0


def test_a_part_without_any_media_is_a_part_of_absent_rows(
    chosen: Choose, layout: Layout, write_manifest: WriteManifest, write_media: WriteMedia
) -> None:
    write_media(layout, write_manifest(layout, ["a", "b"]), visual={0: "no_face", 1: "no_face"})
    rows = _rows(extract(chosen("visual", "device"), CONFIG, layout, RUN))
    assert [(row["present"], row["status"]) for row in rows] == [(False, "no_face"), (False, "no_face")]


def test_one_and_two_workers_give_the_same_bytes(
    chosen: Choose,
    tmp_path: Path,
    write_manifest: WriteManifest,
    write_media: WriteMedia,
    folder_digest: Callable[[Path], dict[str, str]],
) -> None:
    found = []
    for workers in (1, 2):
        layout = Layout(tmp_path / "raw", tmp_path / str(workers), "tiny")
        write_media(layout, write_manifest(layout, *[["a", "bb", "ccc"]] * 8))
        found.append(folder_digest(extract(chosen("audio", "fake"), CONFIG, layout, RunOptions(workers=workers))))
    assert found[0] == found[1]
    assert len(found[0]) == 6


def test_a_finished_extraction_is_not_done_again(
    chosen: Choose, layout: Layout, write_manifest: WriteManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(layout, ["one"])
    out = extract(chosen("text", "device"), CONFIG, layout, RUN)
    monkeypatch.setattr("merc.extraction.runner.encode_part", lambda *_: pytest.fail("it was done again"))
    assert extract(chosen("text", "device"), CONFIG, layout, RUN) == out


def test_changed_transcripts_are_extracted_anew(chosen: Choose, layout: Layout, write_manifest: WriteManifest) -> None:
    write_manifest(layout, ["one"])
    extract(chosen("text", "device"), CONFIG, layout, RUN)
    write_manifest(layout, ["seven"])
    assert _rows(extract(chosen("text", "device"), CONFIG, layout, RUN))[0]["embedding"][0] == 5.0


def test_changed_encoder_settings_are_refused_by_their_key(
    chosen: Choose, layout: Layout, write_manifest: WriteManifest
) -> None:
    write_manifest(layout, ["one"])
    extract(chosen("text", "device"), CONFIG, layout, RUN)
    doubling = chosen("text", "device", scale=2.0)
    with pytest.raises(SettingsDiffer, match=r"encoders\.text\.device\.scale: 1\.0 there, 2\.0 wanted"):
        extract(doubling, CONFIG, layout, RUN)
    assert _rows(extract(doubling, CONFIG, layout, RunOptions(device="cpu", overwrite=True)))[0]["embedding"][0] == 6.0


_KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fake_encoders import chosen
from merc.extraction.config import Config
from merc.extraction.stage import extract
from merc.layout import Layout
from merc.job import RunOptions
config = Config(utterances_per_part=3, neural_texts_per_part=3, neural_clips_per_part=1)
extract(chosen("text", "fake"), config, Layout(Path(sys.argv[2]), Path(sys.argv[3]), "tiny"), RunOptions(workers=2))
"""


def test_a_killed_run_continues_and_gives_the_bytes_of_an_undisturbed_one(
    chosen: Choose, tmp_path: Path, write_manifest: WriteManifest, folder_digest: Callable[[Path], dict[str, str]]
) -> None:
    dialogues = [["a" * (number + 1), "b", "c"] for number in range(8)]
    undisturbed = Layout(tmp_path / "raw", tmp_path / "undisturbed", "tiny")
    write_manifest(undisturbed, *dialogues)
    extract(chosen("text", "fake"), CONFIG, undisturbed, RUN)

    killed = Layout(tmp_path / "raw", tmp_path / "killed", "tiny")
    write_manifest(killed, *dialogues)
    command = [sys.executable, "-c", _KILLED, str(Path(__file__).parent), str(killed.raw), str(killed.out)]
    process = subprocess.Popen(command, env={**os.environ, "FAKE_ENCODER_SECONDS": "0.3"})
    deadline = time.monotonic() + 60
    while len(done := list(killed.scratch.rglob("part-*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 2 <= len(done) < 8
    assert not killed.features("text", "fake").exists()
    written = {path.name: path for path in killed.scratch.rglob("part-*.parquet")}
    kept = {f"{marker.stem}.parquet": written[f"{marker.stem}.parquet"].stat().st_mtime_ns for marker in done}

    out = extract(chosen("text", "fake"), CONFIG, killed, RUN)
    assert folder_digest(out) == folder_digest(undisturbed.features("text", "fake"))
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept  # those were not done again


def test_neural_encoders_take_several_media_parts_of_audio_at_once(
    chosen: Choose, layout: Layout, write_manifest: WriteManifest, write_media: WriteMedia
) -> None:
    table = write_manifest(layout, ["a", "b", "c"], ["d", "e"], ["f", "g", "h", "i"])
    write_media(layout, table)  # parts of 5 and 4 utterances
    config = CONFIG.model_copy(update={"neural_clips_per_part": 6})
    parts = {
        encoder: sorted(extract(chosen("audio", encoder), config, layout, RUN).glob("part-*.parquet"))
        for encoder in ("fake", "device")
    }
    assert {encoder: len(paths) for encoder, paths in parts.items()} == {"fake": 2, "device": 1}
    vectors = {encoder: [row["embedding"] for row in _rows(paths[0].parent)] for encoder, paths in parts.items()}
    assert vectors["fake"] == vectors["device"]
    assert [vector[0] for vector in vectors["device"]] == [100.0 * (row + 1) for row in range(9)]


def test_sequences_are_kept_on_request_and_serve_who_wants_none(
    chosen: Choose, layout: Layout, write_manifest: WriteManifest
) -> None:
    write_manifest(layout, ["one", "", "three"])
    out = extract(chosen("text", "sequences"), SEQUENCES, layout, RUN)
    assert [(one, vectors.tolist()) for one, vectors, _ in sequences.read(out)] == [
        ("train/dia0_utt0", [[3.0, 0.0], [3.0, 1.0]]),
        ("train/dia0_utt1", []),
        ("train/dia0_utt2", [[5.0, 0.0], [5.0, 1.0]]),
    ]
    before = (out / "record.json").stat().st_mtime_ns
    assert (extract(chosen("text", "sequences"), CONFIG, layout, RUN) / "record.json").stat().st_mtime_ns == before


def test_sequences_of_features_that_were_made_without_are_asked_for_by_overwrite(
    chosen: Choose, layout: Layout, write_manifest: WriteManifest
) -> None:
    write_manifest(layout, ["one"])
    extract(chosen("text", "sequences"), CONFIG, layout, RUN)
    with pytest.raises(SettingsDiffer, match=r"extraction\.level: utterance there, sequences wanted"):
        extract(chosen("text", "sequences"), SEQUENCES, layout, RUN)


def test_an_encoder_without_sequences_says_so_before_anything_is_read(chosen: Choose, layout: Layout) -> None:
    with pytest.raises(BadSettings, match="family fake give one vector per utterance and no sequences"):
        extract(chosen("text", "fake"), SEQUENCES, layout, RUN)


def test_a_worker_that_dies_is_an_error_that_names_its_part(
    chosen: Choose, layout: Layout, write_manifest: WriteManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(layout, ["one"])
    monkeypatch.setenv("FAKE_ENCODER_DIES", "yes")
    with pytest.raises(PipelineError, match=r"(?s)worker process died .*part 0 of text/fake"):
        extract(chosen("text", "fake"), CONFIG, layout, RUN)


def test_too_many_broken_utterances_stop_the_stage_but_keep_its_parts(
    chosen: Choose, layout: Layout, write_manifest: WriteManifest
) -> None:
    write_manifest(layout, ["nan", "nan", "fine"], ["fine", "fine", "fine"])
    with pytest.raises(TooManyFailures, match=r"2 of 6 utterances are broken \(not_finite 2"):
        extract(chosen("text", "device"), CONFIG, layout, RunOptions(device="cpu", max_failed="1"))
    assert not layout.features("text", "device").exists()
    assert dry_run(chosen("text", "device"), CONFIG, layout, RUN)["parts_to_do"] == 0
    assert len(_rows(extract(chosen("text", "device"), CONFIG, layout, RUN))) == 6


def test_an_absent_vector_without_a_reason_is_refused(
    chosen: Choose, layout: Layout, write_manifest: WriteManifest
) -> None:
    write_manifest(layout, ["silent about why"])
    with pytest.raises(BadTable, match="FakeOnDevice: train/dia0_utt0 is absent without a remark"):
        extract(chosen("text", "device"), CONFIG, layout, RUN)


def test_media_of_another_manifest_are_refused(
    chosen: Choose, layout: Layout, write_manifest: WriteManifest, write_media: WriteMedia
) -> None:
    with_two = write_manifest(layout, ["a", "b"])
    write_media(layout, with_two)
    write_manifest(layout, ["a", "b", "c"])
    with pytest.raises(
        BadTable,
        match=(
            r"2 utterances, the manifest has 3; they differ from row 2 \(nothing there, 'train/dia0_utt2' in the"
            r" manifest\)"
        ),
    ):
        extract(chosen("audio", "device"), CONFIG, layout, RUN)


def test_missing_inputs_and_an_unknown_device_are_distinguished(
    chosen: Choose, layout: Layout, write_manifest: WriteManifest
) -> None:
    with pytest.raises(RawDataMissing, match="no manifest"):
        extract(chosen("text", "device"), CONFIG, layout, RUN)
    write_manifest(layout, ["a"])
    with pytest.raises(BadTable, match="no decoded media"):
        extract(chosen("audio", "device"), CONFIG, layout, RUN)
    with pytest.raises(BadSettings, match="no device 'gpu'"):
        extract(chosen("text", "device"), CONFIG, layout, RunOptions(device="gpu"))


def test_a_stream_that_was_not_decoded_is_not_taken_for_absence(
    chosen: Choose, layout: Layout, write_manifest: WriteManifest, write_media: WriteMedia
) -> None:
    table = write_manifest(layout, ["a"])
    write_media(layout, table, streams=("visual",))
    with pytest.raises(BadTable, match=r"the audio stream was not decoded, only \['visual'\]"):
        extract(chosen("audio", "device"), CONFIG, layout, RUN)
    write_media(layout, table, audio={0: "not_decoded"})
    with pytest.raises(BadTable, match=r"audio_status \['not_decoded'\]: this stream was not decoded"):
        extract(chosen("audio", "device"), CONFIG, layout, RUN)


def test_audio_stays_extracted_when_faces_are_decoded_later(
    chosen: Choose, layout: Layout, write_manifest: WriteManifest, write_media: WriteMedia
) -> None:
    table = write_manifest(layout, ["a"])
    write_media(layout, table, streams=("audio",))
    extract(chosen("audio", "device"), CONFIG, layout, RUN)
    write_media(layout, table)
    assert dry_run(chosen("audio", "device"), CONFIG, layout, RUN)["cached"]


def test_a_dry_run_says_what_is_to_do_and_does_nothing(
    chosen: Choose, layout: Layout, write_manifest: WriteManifest
) -> None:
    write_manifest(layout, ["one", "two", "three"], ["four", "five"])
    expected = {"cached": False, "utterances": 5, "utterances_to_do": 5, "parts": 2, "parts_to_do": 2, "bytes": None}
    assert dry_run(chosen("text", "device"), CONFIG, layout, RUN) == expected
    assert not layout.scratch.exists()
    extract(chosen("text", "device"), CONFIG, layout, RUN)
    expected = {"cached": True, "utterances": 5, "utterances_to_do": 0, "parts": 2, "parts_to_do": 0, "bytes": 60}
    assert dry_run(chosen("text", "device"), CONFIG, layout, RUN) == expected


def test_a_dry_run_imports_no_torch(layout: Layout, write_manifest: WriteManifest) -> None:
    write_manifest(layout, ["one"])
    code = (
        "import sys; from pathlib import Path; from merc.encoders.engine.registry import choose; from"
        " merc.extraction.config import Config; from merc.extraction.stage import dry_run; from merc.layout import"
        " Layout; from merc.params import Params; from merc.job import RunOptions; dry_run(choose(Params.load(),"
        " 'text', 'ngrams'), Config(), Layout(Path(sys.argv[1]), Path(sys.argv[2]), 'tiny'), RunOptions());"
        " print(sorted({'torch', 'transformers', 'cv2', 'soundfile'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(layout.raw), str(layout.out)], capture_output=True, text=True, check=False
    )
    assert (done.stderr, done.stdout) == ("", "[]\n")


def test_stage_command_names_the_bad_setting(layout: Layout) -> None:
    command = [
        sys.executable,
        "-m",
        "merc.extraction.stage",
        "--dataset",
        "tiny",
        "--out",
        str(layout.out),
        "--modality",
        "text",
        "--encoder",
        "nonsense",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "encoder 'nonsense'" in done.stderr
