"""The extraction stage: one row per utterance, resumable, the same bytes however it is run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from merc import files
from merc.errors import BadSettings, BadTable, PipelineError, SettingsDiffer, TooManyFailures
from merc.extraction import frames
from merc.extraction.stage import extract, plan
from merc.layout import Layout
from merc.params import Params
from merc.parts import RunOptions
from merc.records import features as feature_tables

RUN = RunOptions(workers=1, device="cpu", max_failed="50%")
WriteManifest = Callable[..., pa.Table]
WriteMedia = Callable[..., None]

pytestmark = pytest.mark.usefixtures("fake_encoders")


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_every_utterance_gets_a_row_in_manifest_order(params: Params, layout: Layout, write_manifest: WriteManifest) -> None:
    table = write_manifest(layout, ["one", "three", ""], ["nan", "zeros", "pad"])
    out = extract(params, layout, RUN, modality="text", encoder="device")
    assert out == layout.features("text", "device")
    assert sorted(path.name for path in out.iterdir()) == ["failures.parquet", "info.json", "part-00000.parquet", "part-00001.parquet"]
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
        {"utterance_id": "train/dia0_utt2", "stage": "extraction", "modality": "text", "reason": "no_text", "kind": "absent", "detail": ""},
        {"utterance_id": "train/dia1_utt0", "stage": "extraction", "modality": "text", "reason": "not_finite", "kind": "broken", "detail": "2 of 3 values"},
        {"utterance_id": "train/dia1_utt1", "stage": "extraction", "modality": "text", "reason": "zero_vector", "kind": "absent", "detail": ""},
        {"utterance_id": "train/dia1_utt2", "stage": "extraction", "modality": "text", "reason": "padded", "kind": "altered", "detail": "from 3 to 8 letters"},
    ]
    info = files.read_json(out / "info.json")
    assert info["dim"] == 3
    assert info["provenance"]["encoder"] == "fake"
    assert info["counts"] == {"utterances": 6, "present": 3, "absent": {"no_text": 1, "not_finite": 1, "zero_vector": 1}}


def test_history_never_leaves_the_dialogue_and_is_no_longer_than_asked(params: Params, layout: Layout, write_manifest: WriteManifest) -> None:
    write_manifest(layout, ["a", "bb", "ccc", "dddd"], ["e", "ff"])
    rows = _rows(extract(params, layout, RUN, modality="text", encoder="history"))
    assert [row["embedding"][1:] for row in rows] == [[0.0, 0.0], [1.0, 1.0], [2.0, 3.0], [2.0, 5.0], [0.0, 0.0], [1.0, 1.0]]


def test_sound_is_read_as_written_and_media_failures_stay_absent(
    params: Params, layout: Layout, write_manifest: WriteManifest, write_media: WriteMedia
) -> None:
    write_media(layout, write_manifest(layout, ["a", "b", "c"], ["d", "e"]), audio={1: "no_audio_stream"})
    out = extract(params, layout, RUN, modality="audio", encoder="device")
    rows = _rows(out)
    assert [row["embedding"][0] for row in rows] == [100.0, 0.0, 300.0, 400.0, 500.0]
    np.testing.assert_allclose([row["embedding"][1] for row in rows if row["present"]], 0.5, atol=1 / 32768)
    assert [row["status"] for row in rows] == ["ok", "no_audio_stream", "ok", "ok", "ok"]
    assert pq.read_table(out / "failures.parquet").num_rows == 0  # the media's failures stay with the media


def test_faces_are_rgb_in_time_order(params: Params, layout: Layout, write_manifest: WriteManifest, write_media: WriteMedia) -> None:
    write_media(layout, write_manifest(layout, ["a", "b"]), visual={0: "no_face"})
    rows = _rows(extract(params, layout, RUN, modality="visual", encoder="device"))
    assert rows[0]["status"] == "no_face"
    faces, red, last_second = rows[1]["embedding"]
    assert (faces, last_second) == (2.0, 0.75)
    assert abs(red - 200) <= 3  # JPEG of one colour at quality 100; blue and green are 0


def test_a_part_without_any_media_is_a_part_of_absent_rows(params: Params, layout: Layout, write_manifest: WriteManifest, write_media: WriteMedia) -> None:
    write_media(layout, write_manifest(layout, ["a", "b"]), visual={0: "no_face", 1: "no_face"})
    rows = _rows(extract(params, layout, RUN, modality="visual", encoder="device"))
    assert [(row["present"], row["status"]) for row in rows] == [(False, "no_face"), (False, "no_face")]


def test_one_and_two_workers_give_the_same_bytes(
    params: Params, tmp_path: Path, write_manifest: WriteManifest, write_media: WriteMedia, folder_digest: Callable[[Path], dict[str, str]]
) -> None:
    found = []
    for workers in (1, 2):
        layout = Layout(tmp_path / "raw", tmp_path / str(workers), "tiny")
        write_media(layout, write_manifest(layout, *[["a", "bb", "ccc"]] * 8))
        found.append(folder_digest(extract(params, layout, RunOptions(workers=workers), modality="audio", encoder="fake")))
    assert found[0] == found[1]
    assert len(found[0]) == 6


def test_a_finished_extraction_is_not_done_again(params: Params, layout: Layout, write_manifest: WriteManifest, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest(layout, ["one"])
    out = extract(params, layout, RUN, modality="text", encoder="device")
    monkeypatch.setattr("merc.extraction.runner.run_here", lambda *_: pytest.fail("it was done again"))
    assert extract(params, layout, RUN, modality="text", encoder="device") == out


def test_changed_transcripts_are_extracted_anew(params: Params, layout: Layout, write_manifest: WriteManifest) -> None:
    write_manifest(layout, ["one"])
    extract(params, layout, RUN, modality="text", encoder="device")
    write_manifest(layout, ["seven"])
    assert _rows(extract(params, layout, RUN, modality="text", encoder="device"))[0]["embedding"][0] == 5.0


def test_changed_encoder_settings_are_refused_by_their_key(params: Params, layout: Layout, write_manifest: WriteManifest) -> None:
    write_manifest(layout, ["one"])
    extract(params, layout, RUN, modality="text", encoder="device")
    params.tree["encoders"]["text"]["device"]["scale"] = 2.0
    with pytest.raises(SettingsDiffer, match=r"encoders\.text\.device\.scale: 1\.0 there, 2\.0 wanted"):
        extract(params, layout, RUN, modality="text", encoder="device")
    overwriting = RunOptions(device="cpu", overwrite=True)
    assert _rows(extract(params, layout, overwriting, modality="text", encoder="device"))[0]["embedding"][0] == 6.0


_KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import fake_encoders
from merc.extraction import stage
from merc.layout import Layout
from merc.params import Params
from merc.parts import RunOptions
stage.build = fake_encoders.build
extraction = {"utterances_per_part": 3, "neural_texts_per_part": 3, "neural_clips_per_part": 1, "level": "utterance"}
params = Params({"encoders": {"text": {"fake": {"family": "fake", "scale": 1.0}}}, "extraction": extraction})
stage.extract(params, Layout(Path(sys.argv[2]), Path(sys.argv[3]), "tiny"), RunOptions(workers=2), modality="text", encoder="fake")
"""


def test_a_killed_run_goes_on_and_gives_the_bytes_of_an_undisturbed_one(
    params: Params, tmp_path: Path, write_manifest: WriteManifest, folder_digest: Callable[[Path], dict[str, str]]
) -> None:
    del params.tree["encoders"]["audio"], params.tree["encoders"]["visual"]
    dialogues = [["a" * (number + 1), "b", "c"] for number in range(8)]
    undisturbed = Layout(tmp_path / "raw", tmp_path / "undisturbed", "tiny")
    write_manifest(undisturbed, *dialogues)
    extract(params, undisturbed, RUN, modality="text", encoder="fake")

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

    out = extract(params, killed, RUN, modality="text", encoder="fake")
    assert folder_digest(out) == folder_digest(undisturbed.features("text", "fake"))
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept  # those were not done again


def test_neural_encoders_take_several_media_parts_of_sound_at_once(
    params: Params, layout: Layout, write_manifest: WriteManifest, write_media: WriteMedia
) -> None:
    table = write_manifest(layout, ["a", "b", "c"], ["d", "e"], ["f", "g", "h", "i"])
    write_media(layout, table)  # parts of 5 and 4 utterances
    params.tree["extraction"]["neural_clips_per_part"] = 6
    parts = {encoder: sorted(extract(params, layout, RUN, modality="audio", encoder=encoder).glob("part-*.parquet")) for encoder in ("fake", "device")}
    assert {encoder: len(paths) for encoder, paths in parts.items()} == {"fake": 2, "device": 1}
    vectors = {encoder: [row["embedding"] for row in _rows(paths[0].parent)] for encoder, paths in parts.items()}
    assert vectors["fake"] == vectors["device"]
    assert [vector[0] for vector in vectors["device"]] == [100.0 * (row + 1) for row in range(9)]


def test_frames_are_kept_on_request_and_serve_who_wants_none(params: Params, layout: Layout, write_manifest: WriteManifest) -> None:
    write_manifest(layout, ["one", "", "three"])
    params.tree["extraction"]["level"] = "frames"
    out = extract(params, layout, RUN, modality="text", encoder="frames")
    assert [(one, vectors.tolist()) for one, vectors, _ in frames.read(out)] == [
        ("train/dia0_utt0", [[3.0, 0.0], [3.0, 1.0]]),
        ("train/dia0_utt1", []),
        ("train/dia0_utt2", [[5.0, 0.0], [5.0, 1.0]]),
    ]
    before = (out / "info.json").stat().st_mtime_ns
    params.tree["extraction"]["level"] = "utterance"
    assert (extract(params, layout, RUN, modality="text", encoder="frames") / "info.json").stat().st_mtime_ns == before


def test_frames_of_features_that_were_made_without_are_asked_for_by_overwrite(params: Params, layout: Layout, write_manifest: WriteManifest) -> None:
    write_manifest(layout, ["one"])
    extract(params, layout, RUN, modality="text", encoder="frames")
    params.tree["extraction"]["level"] = "frames"
    with pytest.raises(SettingsDiffer, match=r"extraction\.level: utterance there, frames wanted"):
        extract(params, layout, RUN, modality="text", encoder="frames")


def test_an_encoder_without_frames_says_so_before_anything_is_read(params: Params, layout: Layout) -> None:
    params.tree["extraction"]["level"] = "frames"
    with pytest.raises(BadSettings, match="family fake give one vector per utterance and no frames"):
        extract(params, layout, RUN, modality="text", encoder="fake")


def test_a_worker_that_dies_is_an_error_that_names_its_part(
    params: Params, layout: Layout, write_manifest: WriteManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(layout, ["one"])
    monkeypatch.setenv("FAKE_ENCODER_DIES", "yes")
    with pytest.raises(PipelineError, match=r"(?s)worker process died .*part 0 of text/fake"):
        extract(params, layout, RUN, modality="text", encoder="fake")


def test_too_many_broken_utterances_stop_the_stage_but_keep_its_parts(params: Params, layout: Layout, write_manifest: WriteManifest) -> None:
    write_manifest(layout, ["nan", "nan", "fine"], ["fine", "fine", "fine"])
    with pytest.raises(TooManyFailures, match=r"2 of 6 utterances are broken \(not_finite 2"):
        extract(params, layout, RunOptions(device="cpu", max_failed="1"), modality="text", encoder="device")
    assert not layout.features("text", "device").exists()
    assert plan(params, layout, RUN, modality="text", encoder="device")["parts_to_do"] == 0
    assert len(_rows(extract(params, layout, RUN, modality="text", encoder="device"))) == 6


def test_an_absent_vector_without_a_reason_is_refused(params: Params, layout: Layout, write_manifest: WriteManifest) -> None:
    write_manifest(layout, ["silent about why"])
    with pytest.raises(BadTable, match="FakeOnDevice: train/dia0_utt0 is absent without a remark"):
        extract(params, layout, RUN, modality="text", encoder="device")


def test_media_of_another_manifest_are_refused(params: Params, layout: Layout, write_manifest: WriteManifest, write_media: WriteMedia) -> None:
    with_two = write_manifest(layout, ["a", "b"])
    write_media(layout, with_two)
    write_manifest(layout, ["a", "b", "c"])
    with pytest.raises(BadTable, match=r"2 utterances, the manifest has 3; they part at row 2 \(nothing there, 'train/dia0_utt2' in the manifest\)"):
        extract(params, layout, RUN, modality="audio", encoder="device")


def test_missing_inputs_and_unknown_names_are_told_apart(params: Params, layout: Layout, write_manifest: WriteManifest) -> None:
    with pytest.raises(BadTable, match="no manifest"):
        extract(params, layout, RUN, modality="text", encoder="device")
    write_manifest(layout, ["a"])
    with pytest.raises(BadTable, match="no decoded media"):
        extract(params, layout, RUN, modality="audio", encoder="device")
    with pytest.raises(BadSettings, match="no modality 'txt'; did you mean 'text'"):
        extract(params, layout, RUN, modality="txt", encoder="device")
    with pytest.raises(BadSettings, match="no device 'gpu'"):
        extract(params, layout, RunOptions(device="gpu"), modality="text", encoder="device")


def test_a_stream_that_was_not_decoded_is_not_taken_for_absence(params: Params, layout: Layout, write_manifest: WriteManifest, write_media: WriteMedia) -> None:
    table = write_manifest(layout, ["a"])
    write_media(layout, table, streams=("visual",))
    with pytest.raises(BadTable, match=r"the audio stream was not decoded, only \['visual'\]"):
        extract(params, layout, RUN, modality="audio", encoder="device")
    write_media(layout, table, audio={0: "not_decoded"})
    with pytest.raises(BadTable, match=r"audio_status \['not_decoded'\]: this stream was not decoded"):
        extract(params, layout, RUN, modality="audio", encoder="device")


def test_sound_stays_extracted_when_faces_are_decoded_later(params: Params, layout: Layout, write_manifest: WriteManifest, write_media: WriteMedia) -> None:
    table = write_manifest(layout, ["a"])
    write_media(layout, table, streams=("audio",))
    extract(params, layout, RUN, modality="audio", encoder="device")
    write_media(layout, table)
    assert plan(params, layout, RUN, modality="audio", encoder="device")["cached"]


def test_a_dry_run_says_what_is_to_do_and_does_nothing(params: Params, layout: Layout, write_manifest: WriteManifest) -> None:
    write_manifest(layout, ["one", "two", "three"], ["four", "five"])
    expected = {"cached": False, "utterances": 5, "utterances_to_do": 5, "parts": 2, "parts_to_do": 2, "bytes": None}
    assert plan(params, layout, RUN, modality="text", encoder="device") == expected
    assert not layout.scratch.exists()
    extract(params, layout, RUN, modality="text", encoder="device")
    expected = {"cached": True, "utterances": 5, "utterances_to_do": 0, "parts": 2, "parts_to_do": 0, "bytes": 60}
    assert plan(params, layout, RUN, modality="text", encoder="device") == expected


def test_a_dry_run_imports_no_torch(layout: Layout, write_manifest: WriteManifest) -> None:
    write_manifest(layout, ["one"])
    code = (
        "import sys; from pathlib import Path; from merc.extraction.stage import plan; from merc.layout import Layout; "
        "from merc.params import Params; from merc.parts import RunOptions; "
        "plan(Params.load(), Layout(Path(sys.argv[1]), Path(sys.argv[2]), 'tiny'), RunOptions(), modality='text', encoder='ngrams'); "
        "print(sorted({'torch', 'transformers', 'cv2', 'soundfile'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(layout.raw), str(layout.out)], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout) == ("", "[]\n")


def test_stage_command_names_the_bad_setting(layout: Layout, fake_encoders: ModuleType) -> None:
    command = [sys.executable, "-m", "merc.extraction.stage", "--dataset", "tiny", "--out", str(layout.out), "--modality", "text", "--encoder", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "encoder 'nonsense'" in done.stderr
