import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import soundfile

from pipeline.corpora import failures, manifest
from pipeline.errors import BadSettings, RawDataMissing, SettingsDiffer, TooManyFailures
from pipeline.layout import Layout
from pipeline.media import tables
from pipeline.media.stage import decode, plan
from pipeline.params import Params
from pipeline.parts import RunOptions

PARAMS = Path(__file__).parents[2] / "params.yaml"
BOTH = frozenset({"audio", "visual"})
ONE = RunOptions(workers=1)


def params(*overrides: str) -> Params:
    return Params.load(PARAMS, ("media.utterances_per_part=3", *overrides))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def corpus(tmp_path: Path, write_media, write_manifest) -> Layout:
    """Four dialogues of 2, 2, 3 and 1 utterances in parts of 4, 3 and 1; one clip is missing, one is empty."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(6):
        write_media(raw / f"{number}.mp4", seconds=0.5, seed=number)
    (raw / "empty.mp4").touch()
    return write_manifest([["0.mp4", "1.mp4"], ["gone.mp4", "2.mp4"], ["3.mp4", "empty.mp4", "4.mp4"], ["5.mp4"]])


def tolerant(**options) -> RunOptions:
    return RunOptions(workers=1, max_failed="50%", **options)


def test_every_utterance_has_a_row_in_manifest_order_and_every_loss_a_reason(corpus):
    folder = decode(params(), corpus, tolerant(), streams=BOTH)
    assert sorted(content(folder)) == ["failures.parquet", "info.json", "part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    parts = [pq.read_table(path) for path in sorted(folder.glob("part-*"))]
    assert all(part.schema.equals(tables.SCHEMA) for part in parts)
    assert [part.num_rows for part in parts] == [4, 3, 1]
    ids = [one for part in parts for one in part["utterance_id"].to_pylist()]
    assert ids == manifest.read(corpus.manifest)["utterance_id"].to_pylist()
    assert [one for part in parts for one in part["audio_status"].to_pylist()] == ["ok", "ok", "media_missing", "ok", "ok", "media_empty", "ok", "ok"]
    waveform, rate_hz = soundfile.read(io.BytesIO(parts[2]["audio"][0].as_py()))
    assert (rate_hz, waveform.ndim) == (16_000, 1)
    failed = pq.read_table(folder / "failures.parquet")
    assert failed.schema.equals(failures.SCHEMA)
    rows = [(row["utterance_id"], row["modality"], row["reason"]) for row in failed.to_pylist()]
    assert rows == [
        ("train/dia0_utt0", "visual", "no_face"),
        ("train/dia0_utt1", "visual", "no_face"),
        ("train/dia1_utt0", "audio", "media_missing"),
        ("train/dia1_utt0", "visual", "media_missing"),
        ("train/dia1_utt1", "visual", "no_face"),
        ("train/dia2_utt0", "visual", "no_face"),
        ("train/dia2_utt1", "audio", "media_empty"),
        ("train/dia2_utt1", "visual", "media_empty"),
        ("train/dia2_utt2", "visual", "no_face"),
        ("train/dia3_utt0", "visual", "no_face"),
    ]
    assert not corpus.scratch.joinpath("media").exists() or not any(corpus.scratch.joinpath("media").iterdir())


def test_a_second_run_does_nothing_and_changed_inputs_are_decoded_again(corpus, write_media):
    folder = decode(params(), corpus, tolerant(), streams=BOTH)
    made = folder.stat().st_mtime_ns
    assert plan(params(), corpus, tolerant(), streams=BOTH)["cached"]
    decode(params(), corpus, tolerant(), streams=BOTH)
    assert folder.stat().st_mtime_ns == made
    write_media(corpus.raw / "gone.mp4", seconds=0.5)
    assert not plan(params(), corpus, tolerant(), streams=BOTH)["cached"]
    decode(params(), corpus, tolerant(), streams=BOTH)
    assert pq.read_table(folder / "part-00000.parquet")["audio_status"].to_pylist() == ["ok"] * 4


def test_other_settings_are_refused_by_name_unless_told_to_overwrite(corpus):
    decode(params(), corpus, tolerant(), streams=BOTH)
    changed = params("media.frames_per_clip=4")
    with pytest.raises(SettingsDiffer, match=r"media\.frames_per_clip: 8 there, 4 wanted"):
        decode(changed, corpus, tolerant(), streams=BOTH)
    folder = decode(changed, corpus, tolerant(overwrite=True), streams=BOTH)
    assert pq.read_table(folder / "part-00002.parquet")["frames_seen"].to_pylist() == [4]


def test_too_many_broken_clips_stop_the_run_and_a_higher_limit_goes_on_without_decoding(corpus, monkeypatch):
    with pytest.raises(TooManyFailures, match=r"2 of 8 utterances are broken \(media_empty 1, media_missing 1"):
        decode(params(), corpus, ONE, streams=BOTH)
    assert not corpus.media.exists()
    assert plan(params(), corpus, ONE, streams=BOTH)["utterances_to_decode"] == 0
    from pipeline.media import clip

    monkeypatch.setattr(clip, "decode_dialogue", None)
    assert decode(params(), corpus, tolerant(), streams=BOTH).is_dir()


def test_media_with_more_streams_are_used_and_other_streams_are_added(corpus):
    folder = decode(params(), corpus, tolerant(), streams=frozenset({"audio"}))
    part = pq.read_table(folder / "part-00002.parquet")
    assert (part["audio_status"].to_pylist(), part["visual_status"].to_pylist()) == (["ok"], ["not_decoded"])
    assert plan(params(), corpus, tolerant(), streams=frozenset({"visual"}))["streams"] == ["audio", "visual"]
    decode(params(), corpus, tolerant(), streams=frozenset({"visual"}))
    part = pq.read_table(folder / "part-00002.parquet")
    assert (part["audio_status"].to_pylist(), part["visual_status"].to_pylist()) == (["ok"], ["no_face"])
    assert plan(params(), corpus, tolerant(), streams=frozenset({"audio"}))["cached"]


def test_the_plan_counts_what_there_is_to_do(corpus):
    assert plan(params(), corpus, ONE, streams=BOTH) == {
        "cached": False,
        "streams": ["audio", "visual"],
        "utterances": 8,
        "utterances_to_decode": 8,
        "files": 8,
        "seconds": 8.0,
        "workers": 1,
    }


def test_the_plan_imports_no_decoder():
    program = "import sys, pipeline.media.stage; print([name for name in ('torch', 'cv2', 'av', 'soxr', 'soundfile') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_mistakes_are_named(corpus, tmp_path):
    with pytest.raises(BadSettings, match="'video'"):
        decode(params(), corpus, ONE, streams=frozenset({"video"}))
    with pytest.raises(BadSettings, match="give one or both"):
        decode(params(), corpus, ONE, streams=frozenset())
    with pytest.raises(BadSettings, match=r"media\.yunet_file: there is no file 'gone\.onnx'"):
        decode(params("media.detector=yunet", "media.yunet_file=gone.onnx"), corpus, ONE, streams=BOTH)
    with pytest.raises(BadSettings, match=r"media\.detector"):
        decode(params("media.detector=mtcnn"), corpus, ONE, streams=BOTH)
    with pytest.raises(RawDataMissing, match="manifest"):
        decode(params(), Layout(tmp_path, tmp_path / "nowhere", "tiny"), ONE, streams=BOTH)


PROGRAM = """
import sys
from pathlib import Path
from pipeline.layout import Layout
from pipeline.media.stage import decode
from pipeline.params import Params
from pipeline.parts import RunOptions
if __name__ == "__main__":
    params, raw, out, workers = sys.argv[1:]
    options = RunOptions(workers=int(workers), max_failed="50%")
    decode(Params.load(Path(params), ("media.utterances_per_part=3",)), Layout(Path(raw), Path(out), "tiny"), options, streams=frozenset({"audio", "visual"}))
"""


def processes_naming(text: str) -> list[int]:
    """Ids of the processes that have a text in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if text.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_a_run_stopped_in_the_middle_leaves_no_process_and_goes_on_to_the_same_bytes(corpus, tmp_path, write_media, write_manifest, number):
    for index in range(40):
        os.link(corpus.raw / f"{index % 6}.mp4", corpus.raw / f"more{index}.mp4")
    write_media(corpus.raw / "whole.mp4", seconds=2.0, layout="stereo", options={"movflags": "faststart"})
    whole = (corpus.raw / "whole.mp4").read_bytes()
    (corpus.raw / "cut.mp4").write_bytes(whole[: len(whole) * 7 // 10])
    (corpus.raw / "noise.mp4").write_bytes(bytes(range(256)) * 50)
    layout = write_manifest(
        [["0.mp4", "cut.mp4", "2.mp4"], ["gone.mp4", "noise.mp4", "4.mp4"], *[[f"more{2 * n}.mp4", f"more{2 * n + 1}.mp4"] for n in range(20)]]
    )
    decode(params(), layout, tolerant(), streams=BOTH)
    undisturbed = content(layout.media)

    again = Layout(layout.raw, tmp_path / "again", "tiny")
    manifest.write(again.manifest, manifest.read(layout.manifest))
    mark = f"MERC_TEST_RUN=stopped-{os.getpid()}-{number}"
    command = [sys.executable, "-c", PROGRAM, str(PARAMS), str(again.raw), str(again.out), "2"]
    environment = {**os.environ, "MERC_TEST_RUN": mark.partition("=")[2]}
    run = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not list(again.scratch.glob("media/*/part-00001.json")) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    run.send_signal(number)
    run.communicate(timeout=60)
    assert run.returncode != 0
    assert not again.media.exists()
    done = {path.name: path.stat().st_mtime_ns for path in again.scratch.glob("media/*/part-*.json")}
    assert done
    while processes_naming(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes_naming(mark) == []

    kept = next(again.scratch.glob("media/*/part-00000.parquet")).stat().st_ino
    decode(params(), again, RunOptions(workers=2, max_failed="50%"), streams=BOTH)
    assert (again.media / "part-00000.parquet").stat().st_ino == kept
    assert content(again.media) == undisturbed
