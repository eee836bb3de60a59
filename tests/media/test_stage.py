import importlib
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from merc.corpora.stage import build_manifest, choose
from merc.errors import BadSettings, RawDataMissing, SettingsDiffer, TooManyFailures
from merc.job import RunOptions
from merc.layout import Layout
from merc.media import tables
from merc.media.config import Config
from merc.media.stage import decode, dry_run, prepare
from merc.params import Params
from merc.records import failures, manifest

PARAMS = Path(__file__).parents[2] / "params.yaml"
BOTH = frozenset({"audio", "visual"})
ONE = RunOptions(workers=1)
here = pytest.mark.usefixtures("without_workers")


def config(*overrides: str) -> Config:
    return Params.load(PARAMS, ("media.utterances_per_part=3", *overrides)).fill("media", Config)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, write_media) -> Path:
    """Six clips, and one without a byte."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(6):
        write_media(folder / f"{number}.mp4", seconds=0.5, seed=number)
    (folder / "empty.mp4").touch()
    return folder


@pytest.fixture
def corpus(tmp_path: Path, clips: Path, write_manifest) -> Layout:
    """Four dialogues of 2, 2, 3 and 1 utterances in parts of 4, 3 and 1; one clip is missing, one is empty."""
    shutil.copytree(clips, tmp_path / "raw")
    return write_manifest([["0.mp4", "1.mp4"], ["gone.mp4", "2.mp4"], ["3.mp4", "empty.mp4", "4.mp4"], ["5.mp4"]])


def tolerant(**options) -> RunOptions:
    return RunOptions(workers=1, max_failed="50%", **options)


def test_a_named_pipe_among_the_media_is_a_row_and_nothing_waits_for_it(tmp_path: Path, write_media, write_manifest):
    (tmp_path / "raw").mkdir()
    write_media(tmp_path / "raw" / "0.mp4", seconds=0.5)
    os.mkfifo(tmp_path / "raw" / "pipe.mp4")
    folder = decode(config(), write_manifest([["0.mp4", "pipe.mp4"]]), tolerant(), streams=frozenset({"audio"}))
    failed = pq.read_table(folder / "failures.parquet").to_pylist()
    assert [(row["utterance_id"], row["reason"], row["detail"]) for row in failed] == [
        ("train/dia0_utt1", "media_undecodable", "pipe.mp4: a named pipe instead of a file"),
    ]  # fmt: skip


def test_every_utterance_has_a_row_in_manifest_order_and_every_loss_a_reason(corpus):
    folder = decode(config(), corpus, tolerant(), streams=BOTH)
    assert sorted(content(folder)) == [
        "failures.parquet",
        "part-00000.parquet",
        "part-00001.parquet",
        "part-00002.parquet",
        "record.json",
    ]
    parts = [pq.read_table(path) for path in sorted(folder.glob("part-*"))]
    assert all(part.schema.equals(tables.SCHEMA) for part in parts)
    assert [part.num_rows for part in parts] == [4, 3, 1]
    ids = [one for part in parts for one in part["utterance_id"].to_pylist()]
    assert ids == manifest.read(corpus.manifest)["utterance_id"].to_pylist()
    assert [one for part in parts for one in part["audio_status"].to_pylist()] == [
        "ok",
        "ok",
        "media_missing",
        "ok",
        "ok",
        "media_empty",
        "ok",
        "ok",
    ]
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


@here
def test_a_second_run_does_nothing_and_changed_inputs_are_decoded_again(corpus, write_media):
    folder = decode(config(), corpus, tolerant(), streams=BOTH)
    made = folder.stat().st_mtime_ns
    assert dry_run(config(), corpus, tolerant(), streams=BOTH)["cached"]
    decode(config(), corpus, tolerant(), streams=BOTH)
    assert folder.stat().st_mtime_ns == made
    write_media(corpus.raw / "gone.mp4", seconds=0.5)
    assert not dry_run(config(), corpus, tolerant(), streams=BOTH)["cached"]
    decode(config(), corpus, tolerant(), streams=BOTH)
    assert pq.read_table(folder / "part-00000.parquet")["audio_status"].to_pylist() == ["ok"] * 4


@here
def test_other_settings_are_refused_by_name_unless_told_to_overwrite(corpus):
    decode(config(), corpus, tolerant(), streams=BOTH)
    changed = config("media.frames_per_clip=4")
    with pytest.raises(SettingsDiffer, match=r"media\.frames_per_clip: 8 there, 4 wanted"):
        decode(changed, corpus, tolerant(), streams=BOTH)
    folder = decode(changed, corpus, tolerant(overwrite=True), streams=BOTH)
    assert pq.read_table(folder / "part-00002.parquet")["frames_seen"].to_pylist() == [4]


@here
def test_too_many_broken_clips_stop_the_run_and_a_higher_limit_continues_without_decoding(corpus, monkeypatch):
    with pytest.raises(TooManyFailures, match=r"2 of 8 utterances are broken \(media_empty 1, media_missing 1"):
        decode(config(), corpus, ONE, streams=BOTH)
    assert not corpus.media.exists()
    assert dry_run(config(), corpus, ONE, streams=BOTH)["utterances_to_decode"] == 0
    from merc.media import clip

    monkeypatch.setattr(clip, "decode_dialogue", None)
    assert decode(config(), corpus, tolerant(), streams=BOTH).is_dir()


@here
def test_media_with_more_streams_are_used_and_other_streams_are_added(corpus):
    folder = decode(config(), corpus, tolerant(), streams=frozenset({"audio"}))
    part = pq.read_table(folder / "part-00002.parquet")
    assert (part["audio_status"].to_pylist(), part["visual_status"].to_pylist()) == (["ok"], ["not_decoded"])
    assert dry_run(config(), corpus, tolerant(), streams=frozenset({"visual"}))["streams"] == ["audio", "visual"]
    decode(config(), corpus, tolerant(), streams=frozenset({"visual"}))
    part = pq.read_table(folder / "part-00002.parquet")
    assert (part["audio_status"].to_pylist(), part["visual_status"].to_pylist()) == (["ok"], ["no_face"])
    assert dry_run(config(), corpus, tolerant(), streams=frozenset({"audio"}))["cached"]


def test_the_plan_counts_what_there_is_to_do(corpus):
    assert dry_run(config(), corpus, ONE, streams=BOTH) == {
        "cached": False,
        "streams": ["audio", "visual"],
        "utterances": 8,
        "utterances_to_decode": 8,
        "files": 8,
        "seconds": 8.0,
        "workers": 1,
    }


def test_the_plan_imports_no_decoder():
    program = (
        "import sys, merc.media.stage; print([name for name in ('torch', 'cv2', 'av', 'soxr', 'soundfile') if name in"
        " sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_machine_without_the_raw_files_says_so(corpus):
    decoding = prepare(config(), corpus, ONE, BOTH)
    decoding.check()
    shutil.rmtree(corpus.raw)
    with pytest.raises(RawDataMissing, match=rf"there is no {corpus.raw}"):
        decoding.check()


def test_mistakes_are_named(corpus, tmp_path):
    with pytest.raises(BadSettings, match="'video'"):
        decode(config(), corpus, ONE, streams=frozenset({"video"}))
    with pytest.raises(BadSettings, match="expected one or both"):
        decode(config(), corpus, ONE, streams=frozenset())
    with pytest.raises(BadSettings, match=r"media\.yunet_file: there is no file 'gone\.onnx'"):
        decode(config("media.detector=yunet", "media.yunet_file=gone.onnx"), corpus, ONE, streams=BOTH)
    with pytest.raises(BadSettings, match=r"media\.detector"):
        decode(config("media.detector=mtcnn"), corpus, ONE, streams=BOTH)
    with pytest.raises(RawDataMissing, match="manifest"):
        decode(config(), Layout(tmp_path, tmp_path / "nowhere", "tiny"), ONE, streams=BOTH)


@pytest.fixture
def dangerous(monkeypatch) -> None:
    """Files named ``segfault``, ``sleep``, ``raise`` and ``settings`` do that to the worker that decodes them."""
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "compute")]
    for folder in folders:
        monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")]))
    from merc.media import clip

    monkeypatch.setattr(clip, "decode_dialogue", importlib.import_module("dangers").decode)


@pytest.fixture
def minefield(corpus, dangerous, write_manifest) -> Layout:
    """Five dialogues in five parts, one of which shares a file, with a crash, a hang and an unexpected error among
    them.
    """
    for number, name in enumerate(["segfault", "sleep", "raise", *[f"good{number}" for number in range(9)]]):
        os.link(corpus.raw / f"{number % 6}.mp4", corpus.raw / f"{name}.mp4")
    return write_manifest(
        [
            ["good0.mp4", "segfault.mp4", "good1.mp4"],
            ["good2.mp4", "good3.mp4", "sleep.mp4"],
            ["raise.mp4", "good4.mp4", "good5.mp4"],
            ["segfault.mp4", "segfault.mp4", "good6.mp4"],
            ["good7.mp4", "good8.mp4"],
        ]
    )


def careful(workers: int, clip_timeout_seconds: float = 2.0) -> RunOptions:
    return RunOptions(workers=workers, max_failed="50%", clip_timeout_seconds=clip_timeout_seconds)


def test_a_clip_that_crashes_or_hangs_is_recorded_and_the_rest_continues(minefield, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("merc"), "propagate", True)
    folder = decode(config(), minefield, careful(3), streams=BOTH)
    rows = [row for path in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert [row["utterance_id"] for row in rows] == manifest.read(minefield.manifest)["utterance_id"].to_pylist()
    lost = {
        row["utterance_id"]: (row["audio_status"], row["visual_status"]) for row in rows if row["audio_status"] != "ok"
    }
    assert lost == {
        "train/dia0_utt1": ("media_crashed", "media_crashed"),
        "train/dia1_utt2": ("media_timeout", "media_timeout"),
        "train/dia2_utt0": ("media_crashed", "media_crashed"),
        "train/dia3_utt0": ("media_crashed", "media_crashed"),
        "train/dia3_utt1": ("media_crashed", "media_crashed"),
    }
    assert all(row["audio"] == b"" and row["faces"] == [] for row in rows if row["utterance_id"] in lost)
    failed = pq.read_table(folder / "failures.parquet").to_pylist()
    broken = [(row["utterance_id"][-9:], row["modality"], row["detail"]) for row in failed if row["kind"] == "broken"]
    assert broken == [
        (utterance, modality, detail)
        for utterance, detail in (
            ("dia0_utt1", "its process was killed by SIGSEGV, 2 times"),
            ("dia1_utt2", "not done within 2 s, 2 times"),
            ("dia2_utt0", "LookupError: 1000"),
            ("dia3_utt0", "its process was killed by SIGSEGV, 2 times"),
            ("dia3_utt1", "its process was killed by SIGSEGV, 2 times"),
        )
        for modality in ("audio", "visual")
    ]
    info = json.loads((folder / "record.json").read_text())
    assert info["counts"]["failures"] == {"media_crashed": 8, "media_timeout": 2, "no_face": 9}
    assert info["counts"]["audio_ok"] == 9
    told = [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and "have none" not in record.getMessage()
    ]
    assert len(told) == 4  # the two that share a file count as one
    assert any("Traceback" in message and "LookupError: 1000" in message for message in told)


@pytest.mark.slow
def test_what_was_recorded_of_a_crash_stays_when_the_run_continues(minefield, tmp_path, monkeypatch):
    decode(config(), minefield, careful(1), streams=BOTH)  # with one worker, which is replaced each time
    assert json.loads((minefield.media / "record.json").read_text())["counts"]["failures"] == {
        "media_crashed": 8,
        "media_timeout": 2,
        "no_face": 9,
    }
    undisturbed = content(minefield.media)

    again = Layout(minefield.raw, tmp_path / "again", "tiny")
    manifest.write(again.manifest, manifest.read(minefield.manifest))
    from merc.media import pack

    written, write_part = [], pack.write_part

    def interrupted(path, rows):
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(path)
        write_part(path, rows)

    monkeypatch.setattr(pack, "write_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        decode(config(), again, careful(2), streams=BOTH)
    monkeypatch.setattr(pack, "write_part", write_part)
    assert not again.media.exists()
    assert dry_run(config(), again, careful(2), streams=BOTH)["utterances_to_decode"] in (2, 3)
    decode(config(), again, careful(2, clip_timeout_seconds=2.2), streams=BOTH)
    assert {name for name, bytes_ in content(again.media).items() if bytes_ != undisturbed[name]} <= {
        "failures.parquet",
        "record.json",
    }
    ours, theirs = (pq.read_table(folder / "failures.parquet").to_pylist() for folder in (again.media, minefield.media))
    assert [{**row, "detail": ""} for row in ours] == [{**row, "detail": ""} for row in theirs]


def test_mistakes_in_the_settings_that_a_worker_finds_end_the_run(corpus, dangerous, write_manifest):
    os.link(corpus.raw / "0.mp4", corpus.raw / "settings.mp4")
    layout = write_manifest([["1.mp4", "settings.mp4"]])
    with pytest.raises(BadSettings, match="the settings are wrong: 1000"):
        decode(config(), layout, tolerant(), streams=BOTH)


@here
def test_the_time_limit_is_not_a_setting_of_the_result(corpus):
    decode(config(), corpus, tolerant(), streams=BOTH)
    assert dry_run(config(), corpus, tolerant(clip_timeout_seconds=7.0), streams=BOTH)["cached"]


def test_any_number_of_workers_gives_the_same_bytes(corpus, tmp_path, write_media, write_manifest):
    write_media(corpus.raw / "film.mp4", seconds=3.0)
    for number in range(8):
        os.link(corpus.raw / f"{number % 6}.mp4", corpus.raw / f"more{number}.mp4")
    names = [
        ["film.mp4", "film.mp4", "0.mp4"],
        *[[f"more{number}.mp4", f"{number % 6}.mp4", "gone.mp4"] for number in range(8)],
    ]
    layout = write_manifest(names)
    made = []
    for workers in (1, 3):
        out = Layout(layout.raw, tmp_path / f"with{workers}", "tiny")
        manifest.write(out.manifest, manifest.read(layout.manifest))
        made.append(content(decode(config(), out, RunOptions(workers=workers, max_failed="50%"), streams=BOTH)))
    assert made[0] == made[1]
    assert len(made[0]) == 9 + 2


@here
def test_a_film_that_is_longer_than_its_annotation_is_cut_to_it_where_the_corpus_says_so(
    corpus, write_media, write_manifest
):
    for seconds in (2.0, 2.39, 2.6, 5.0):
        write_media(corpus.raw / f"lasts{seconds}.mp4", seconds=seconds, layout="stereo")
    names = ["lasts2.0.mp4", "lasts2.39.mp4", "lasts2.6.mp4", "lasts5.0.mp4", "gone.mp4", "empty.mp4"]
    folder = decode(
        config("media.max_overlong_seconds=0.4"),
        write_manifest([names], expected_seconds=2.0),
        tolerant(),
        streams=BOTH,
    )
    rows = pq.read_table(folder / "part-00000.parquet").to_pylist()
    lengths = [row["duration_seconds"] for row in rows]
    assert lengths[:2] == pytest.approx([2.0, 2.39], abs=0.15)  # AAC ends with a whole block
    assert lengths[2:4] == [2.0, 2.0]
    failed = pq.read_table(folder / "failures.parquet").to_pylist()
    cut = [
        (row["utterance_id"], row["modality"], row["kind"]) for row in failed if row["reason"] == "cut_to_annotation"
    ]
    assert cut == [
        (f"train/dia0_utt{number}", modality, "altered") for number in (2, 3) for modality in ("audio", "visual")
    ]
    details = [row["detail"] for row in failed if row["reason"] == "cut_to_annotation"]
    assert all(detail.startswith("cut from 5.") and detail.endswith(" s to 2.000 s") for detail in details[2:])
    assert not any(row["truncated"] for row in rows)
    as_they_are = decode(config(), write_manifest([names]), tolerant(overwrite=True), streams=BOTH)
    assert pq.read_table(as_they_are / "part-00000.parquet")["duration_seconds"].to_pylist()[3] > 4.9


@pytest.mark.slow
def test_of_two_thousand_clips_with_a_twentieth_broken_every_one_is_accounted_for(tmp_path, write_media):
    """Through the manifest and the media stage, in MELD's layout; five kinds of damage, twenty clips of each."""
    raw = tmp_path / "raw"
    clips = raw / "meld" / "train_splits"
    clips.mkdir(parents=True)
    for number in range(4):
        write_media(tmp_path / f"good{number}.mp4", seconds=0.1, fps=30, size=(32, 32), seed=number)
    good = (tmp_path / "good0.mp4").read_bytes()
    write_media(tmp_path / "silent_film.mp4", seconds=0.1, fps=30, size=(32, 32), layout=None)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "half.mp4").write_bytes(good[: len(good) // 2])  # the index is at the end
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 20)
    damage = ["empty", "half", "noise", "silent_film", None]
    columns = "Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,StartTime,EndTime"
    lines, broken = [columns], 0
    for index in range(2000):
        dialogue, utterance = divmod(index, 10)
        lines.append(f'Oh.,Ann,neutral,neutral,{dialogue},{utterance},"00:00:01,000","00:00:01,100"')
        kind = damage[index // 20 % 5] if index % 20 == 7 else f"good{index % 4}"
        broken += index % 20 == 7
        if kind is not None:
            os.link(tmp_path / f"{kind}.mp4", clips / f"dia{dialogue}_utt{utterance}.mp4")
    assert broken == 100
    (raw / "meld" / "train_sent_emo.csv").write_text("\r\n".join(lines) + "\r\n", encoding="utf-8", newline="")
    layout, settings = Layout(raw, tmp_path / "features", "meld"), Params.load(PARAMS).fill("media", Config)
    build_manifest(
        choose(Params.load(PARAMS, ("corpora.meld.check_counts=false",)), "meld"),
        layout,
        RunOptions(),
        splits=("train",),
    )
    told = (
        r"100 of 2000 utterances are broken \(media_empty 20, media_missing 20, media_undecodable 40,"
        r" no_audio_stream 20;"
    )
    with pytest.raises(TooManyFailures, match=told):
        decode(settings, layout, RunOptions(workers=2, max_failed="99"), streams=BOTH)
    folder = decode(settings, layout, RunOptions(workers=2, max_failed="5%"), streams=BOTH)

    table = pa.concat_tables(
        [
            pq.read_table(path, columns=["utterance_id", "audio_status", "visual_status"])
            for path in sorted(folder.glob("part-*"))
        ]
    )
    assert table.num_rows == len(set(table["utterance_id"].to_pylist())) == 2000
    failed = pq.read_table(folder / "failures.parquet").to_pylist()
    counts = {"media_empty": 20, "media_undecodable": 40, "media_missing": 20}
    assert Counter(table["audio_status"].to_pylist()) == {"ok": 1900, "no_audio_stream": 20, **counts}
    assert Counter(table["visual_status"].to_pylist()) == {"no_face": 1920, **counts}
    for modality in ("audio", "visual"):
        told = Counter(row["reason"] for row in failed if row["modality"] == modality and row["kind"] != "altered")
        status = Counter(table[f"{modality}_status"].to_pylist())
        assert told == {reason: count for reason, count in status.items() if reason != "ok"}
    assert len({row["utterance_id"] for row in failed if row["kind"] == "broken"}) == 100


PROGRAM = """
import sys
from pathlib import Path
from merc.layout import Layout
from merc.media.config import Config
from merc.media.stage import decode
from merc.params import Params
from merc.job import RunOptions
if __name__ == "__main__":
    params, raw, out, workers = sys.argv[1:]
    options = RunOptions(workers=int(workers), max_failed="50%")
    config = Params.load(Path(params), ("media.utterances_per_part=3",)).fill("media", Config)
    decode(config, Layout(Path(raw), Path(out), "tiny"), options, streams=frozenset({"audio", "visual"}))
"""


def processes_naming(text: str) -> list[int]:
    """Ids of the processes with a given text in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if text.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_a_run_stopped_in_the_middle_leaves_no_process_and_continues_to_the_same_bytes(
    corpus, tmp_path, write_media, write_manifest
):
    for index in range(40):
        os.link(corpus.raw / f"{index % 6}.mp4", corpus.raw / f"more{index}.mp4")
    write_media(corpus.raw / "whole.mp4", seconds=2.0, layout="stereo", options={"movflags": "faststart"})
    whole = (corpus.raw / "whole.mp4").read_bytes()
    (corpus.raw / "cut.mp4").write_bytes(whole[: len(whole) * 7 // 10])
    (corpus.raw / "noise.mp4").write_bytes(bytes(range(256)) * 50)
    layout = write_manifest(
        [
            ["0.mp4", "cut.mp4", "2.mp4"],
            ["gone.mp4", "noise.mp4", "4.mp4"],
            *[[f"more{2 * n}.mp4", f"more{2 * n + 1}.mp4"] for n in range(20)],
        ]
    )
    decode(config(), layout, tolerant(), streams=BOTH)
    undisturbed = content(layout.media)

    for number in (signal.SIGKILL, signal.SIGTERM):
        again = Layout(layout.raw, tmp_path / f"stopped by {number}", "tiny")
        manifest.write(again.manifest, manifest.read(layout.manifest))
        kept = _stop(again, number)
        decode(config(), again, RunOptions(workers=2, max_failed="50%"), streams=BOTH)
        assert {name: (again.media / name).stat().st_ino for name in kept} == kept
        assert content(again.media) == undisturbed


def _stop(layout: Layout, number: int) -> dict[str, int]:
    """Starts a run, stops it by a signal once two parts are done, and returns the finished parts' files with their
    inodes.
    """
    mark = f"MERC_TEST_RUN=stopped-{os.getpid()}-{number}"
    command = [sys.executable, "-c", PROGRAM, str(PARAMS), str(layout.raw), str(layout.out), "2"]
    environment = {**os.environ, "MERC_TEST_RUN": mark.partition("=")[2]}
    run = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while (
        not list(layout.scratch.glob("media/*/part-00001.json")) and run.poll() is None and time.monotonic() < deadline
    ):
        time.sleep(0.005)
    run.send_signal(number)
    run.communicate(timeout=60)
    assert run.returncode != 0
    assert not layout.media.exists()
    done = {path.stem for path in layout.scratch.glob("media/*/part-*.json")}
    assert done
    while processes_naming(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes_naming(mark) == []
    kept = {
        path.name: path.stat().st_ino for path in layout.scratch.glob("media/*/part-*.parquet") if path.stem in done
    }
    assert len(kept) == len(done)
    return kept


@here
def test_a_stream_absent_in_more_than_a_tenth_of_a_split_is_a_warning_and_is_counted(corpus, caplog):
    with caplog.at_level(logging.WARNING, logger="merc"):
        folder = decode(config("media.detector=haar"), corpus, tolerant(), streams=BOTH)
    absent = json.loads((folder / "record.json").read_text())["counts"]["absent"]
    assert absent == {
        "train": {
            "audio": {"media_empty": 1, "media_missing": 1},
            "visual": {"no_face": 6, "media_empty": 1, "media_missing": 1},
        }
    }
    told = [record.getMessage() for record in caplog.records if "have none" in record.getMessage()]
    assert told == [
        (
            "media: audio: 2 of 8 utterances of train have none (25 %), most of them (1) by media_empty: the file has"
            " no bytes"
        ),
        (
            "media: visual: 8 of 8 utterances of train have none (100 %), most of them (6) by no_face: no face was"
            " found in the sampled frames; media.detector=yunet finds more faces"
        ),
    ]


@here
def test_a_stream_absent_in_a_tenth_of_a_split_is_not_a_warning(tmp_path: Path, write_media, write_manifest, caplog):
    (tmp_path / "raw").mkdir()
    write_media(tmp_path / "raw" / "a.wav", size=None, sound_codec="pcm_s16le")
    layout = write_manifest([["a.wav"] * 9 + ["gone.wav"]])
    with caplog.at_level(logging.WARNING, logger="merc"):
        decode(config(), layout, tolerant(), streams=frozenset({"audio"}))
    assert not [record for record in caplog.records if "have none" in record.getMessage()]


@here
def test_clips_in_a_cache_of_links_decode_to_the_same_bytes_and_are_refused_where_the_manifest_says_so(corpus):
    plain = content(decode(config(), corpus, tolerant(), streams=BOTH))
    for number, path in enumerate(sorted(corpus.raw.glob("*.mp4"))):
        target = corpus.raw.parent / "cache" / "files" / "md5" / "ab" / f"cdef{number}"
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        path.symlink_to(target)
    assert dry_run(config(), corpus, tolerant(), streams=BOTH)["cached"]
    assert content(decode(config(), corpus, tolerant(overwrite=True), streams=BOTH)) == plain
    table = manifest.read(corpus.manifest)
    manifest.write(corpus.manifest, table.replace_schema_metadata(table.schema.metadata | {b"links": b"refuse"}))
    with pytest.raises(TooManyFailures, match="media_missing 1, media_refused 7"):
        decode(config(), corpus, tolerant(), streams=BOTH)


def test_sentences_of_iemocap_that_were_cut_off_are_all_recorded(demonstration: Path, tmp_path: Path):
    shutil.copytree(
        demonstration / "raw" / "demo-iemocap",
        tmp_path / "raw" / "demo-iemocap",
        ignore=shutil.ignore_patterns("*.avi"),
    )
    for path in (tmp_path / "raw").rglob("sentences/wav/*/*.wav"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    layout = Layout(tmp_path / "raw", tmp_path / "features", "demo-iemocap")
    table = build_manifest(choose(Params.load(PARAMS), "demo-iemocap"), layout, ONE, modalities=("audio",), limit=1)
    failed = pq.read_table(decode(config(), layout, ONE, streams=frozenset({"audio"})) / "failures.parquet").to_pylist()
    told = Counter(row["reason"] for row in failed)
    assert told["partly_decoded"] == table.num_rows > 0
