from pathlib import Path
from typing import Any

import pytest
import yaml

from merc import files
from merc.errors import BadSettings, BadTable, SettingsDiffer
from merc.job import Fingerprint, Job, RunOptions, differing_settings, finished_fingerprint
from merc.params import Params
from merc.records.failures import Failure

SETTINGS = {"media": {"max_clip_seconds": 60.0, "faces": {"detector": "haar"}}}
INPUTS = {"manifest": "aa11"}


def _job(
    folder: Path, *, settings: dict[str, Any] = SETTINGS, inputs: dict[str, Any] = INPUTS, overwrite: bool = False
) -> Job:
    return Job("audio/acoustic", folder / "out", folder / "scratch", Fingerprint(settings, inputs), overwrite)


def _write_part(job: Job, index: int, content: str = "rows") -> None:
    files.write_text(job.part(index), content)
    job.mark_done(index, [Failure(f"train/u{index}", "media", "audio", "no_face").row()])


def _finish(job: Job, parts: int = 2) -> None:
    job.start()
    for index in range(parts):
        _write_part(job, index)
    job.finish({"utterances": parts})


def _names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.rglob("*") if file.is_file())


def test_new_work_is_not_cached_and_has_nothing_in_place_until_it_is_finished(tmp_path: Path) -> None:
    job = _job(tmp_path)
    assert not job.cached()
    job.start()
    _write_part(job, 0)
    assert not job.out.exists()
    assert not job.cached()


def test_finishing_moves_everything_into_place_with_a_record_of_what_made_it(tmp_path: Path) -> None:
    job = _job(tmp_path)
    _finish(job)
    assert _names(job.out) == ["part-00000.parquet", "part-00001.parquet", "record.json"]
    assert files.read_json(job.out / "record.json") == {
        "fingerprint": job.fingerprint.digest,
        "settings": SETTINGS,
        "inputs": INPUTS,
        "utterances": 2,
    }
    assert _names(tmp_path / "scratch") == []
    assert finished_fingerprint(job.out) == job.fingerprint.digest


def test_finished_work_with_the_same_fingerprint_is_cached(tmp_path: Path) -> None:
    _finish(_job(tmp_path))
    assert _job(tmp_path).cached()
    assert _job(tmp_path, overwrite=True).cached()


def test_a_folder_without_a_record_proves_nothing(tmp_path: Path) -> None:
    job = _job(tmp_path)
    job.out.mkdir()
    (job.out / "part-00000.parquet").write_text("from somewhere")
    assert not job.cached()


OTHER = {"media": {"max_clip_seconds": 30.0, "faces": {"detector": "haar"}}}


def test_what_a_run_left_that_was_killed_as_it_ended_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _job(tmp_path)
    with monkeypatch.context() as killed:
        killed.setattr("merc.job.shutil.rmtree", lambda *_, **__: None)
        _finish(job)
    assert _names(tmp_path / "scratch") == ["part-00000.json", "part-00001.json"]
    assert job.done_before()
    assert _names(tmp_path / "scratch") == []


def test_finished_work_with_other_settings_is_refused_and_the_key_named(tmp_path: Path) -> None:
    _finish(_job(tmp_path))
    with pytest.raises(
        SettingsDiffer,
        match=(
            r"audio/acoustic: .* already exists at .*out:\n  media\.max_clip_seconds: 60\.0 there, 30\.0 wanted\n"
            r".*--overwrite"
        ),
    ) as raised:
        _job(tmp_path, settings=OTHER).cached()
    assert raised.value.exit_code == 5
    assert "detector" not in str(raised.value)


def test_unfinished_work_with_other_settings_is_refused_too(tmp_path: Path) -> None:
    started = _job(tmp_path)
    started.start()
    _write_part(started, 0)
    with pytest.raises(
        SettingsDiffer,
        match=r"already exists at .*scratch/audio-acoustic:\n  media\.max_clip_seconds: 60\.0 there, 30\.0 wanted",
    ):
        _job(tmp_path, settings=OTHER).cached()
    assert started.is_done(0)


def test_overwriting_replaces_finished_and_unfinished_work(tmp_path: Path) -> None:
    _finish(_job(tmp_path))
    again = _job(tmp_path, inputs={"manifest": "bb22"})
    again.start()
    _write_part(again, 0)
    other = _job(tmp_path, settings=OTHER, overwrite=True)
    assert not other.cached()
    other.start()
    assert not again.folder.exists()
    assert not other.is_done(0)
    assert _names(other.out) == [
        "part-00000.parquet",
        "part-00001.parquet",
        "record.json",
    ]  # the old result stays until the new one is complete
    _write_part(other, 0, "other rows")
    other.finish({})
    assert _names(other.out) == ["part-00000.parquet", "record.json"]
    assert (other.out / "part-00000.parquet").read_text() == "other rows"
    assert _job(tmp_path, settings=OTHER).cached()


def test_changed_inputs_make_finished_work_stale_without_being_asked(tmp_path: Path) -> None:
    _finish(_job(tmp_path))
    changed = _job(tmp_path, inputs={"manifest": "bb22"})
    assert not changed.cached()
    _finish(changed, parts=1)
    assert _names(changed.out) == ["part-00000.parquet", "record.json"]


def test_changed_inputs_never_meet_parts_made_from_the_old_ones(tmp_path: Path) -> None:
    started = _job(tmp_path)
    started.start()
    _write_part(started, 0)
    changed = _job(tmp_path, inputs={"manifest": "bb22"})
    assert not changed.cached()
    changed.start()
    assert not changed.is_done(0)
    assert not started.folder.exists()


def test_an_interrupted_run_keeps_its_finished_parts_and_makes_the_others_again(tmp_path: Path) -> None:
    killed = _job(tmp_path)
    killed.start()
    _write_part(killed, 0, "kept")
    killed.part(1).write_text("written, but not marked when the run was killed")
    resumed = _job(tmp_path)
    assert not resumed.cached()
    resumed.start()
    assert [resumed.is_done(index) for index in range(3)] == [True, False, False]
    assert resumed.part(0).read_text() == "kept"


def test_what_runs_settled_on_is_kept_in_order_until_the_work_is_finished(tmp_path: Path) -> None:
    job = _job(tmp_path)
    job.start()
    assert job.noted("arithmetic") == []
    for value in ("one", "other", "one"):
        job.note("arithmetic", value)
    resumed = _job(tmp_path)
    resumed.start()
    assert resumed.noted("arithmetic") == ["one", "other"]
    _finish(resumed)
    assert _names(tmp_path / "scratch") == []
    assert resumed.noted("arithmetic") == []


def test_what_work_with_other_inputs_settled_on_says_nothing_of_this_one(tmp_path: Path) -> None:
    before = _job(tmp_path)
    before.start()
    before.note("arithmetic", "one")
    changed = _job(tmp_path, inputs={"manifest": "bb22"})
    changed.start()
    assert changed.noted("arithmetic") == []
    assert before.noted("arithmetic") == []  # stale scratch is removed


def test_a_marker_without_its_table_is_not_enough(tmp_path: Path) -> None:
    job = _job(tmp_path)
    job.start()
    job.mark_done(0, [])
    assert not job.is_done(0)


def test_failures_are_collected_in_the_order_of_parts(tmp_path: Path) -> None:
    job = _job(tmp_path)
    job.start()
    for index in (2, 0, 1):
        _write_part(job, index)
    assert [row["utterance_id"] for row in job.failures(3)] == ["train/u0", "train/u1", "train/u2"]
    assert job.failures(2) == job.failures(3)[:2]


def test_an_undisturbed_and_an_interrupted_run_give_the_same_bytes(tmp_path: Path) -> None:
    _finish(_job(tmp_path / "one"))
    killed = _job(tmp_path / "two")
    killed.start()
    _write_part(killed, 1)
    _finish(_job(tmp_path / "two"))
    one, two = (
        {file.name: file.read_bytes() for file in (tmp_path / name / "out").iterdir()} for name in ("one", "two")
    )
    assert one == two


def test_other_stages_unfinished_work_is_left_alone(tmp_path: Path) -> None:
    media = Job("media", tmp_path / "media", tmp_path / "scratch", Fingerprint(OTHER, INPUTS))
    media.start()
    job = _job(tmp_path)
    assert not job.cached()
    job.start()
    assert media.folder.is_dir()


def test_the_record_may_be_elsewhere_in_the_output(tmp_path: Path) -> None:
    def job(settings: dict[str, Any] = SETTINGS) -> Job:
        return Job(
            "shards", tmp_path / "out", tmp_path / "scratch", Fingerprint(settings, INPUTS), record="meta/info.json"
        )

    _finish(job(), parts=1)
    assert (tmp_path / "out" / "meta" / "info.json").is_file()
    assert job().cached()
    assert finished_fingerprint(tmp_path / "out", "meta/info.json") == job().fingerprint.digest
    with pytest.raises(SettingsDiffer, match="max_clip_seconds"):
        job(OTHER).cached()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"fingerprint": "ab"}', '{"settings": {}}'])
def test_a_record_that_is_invalid_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    job = _job(tmp_path)
    files.write_text(job.out / "record.json", content)
    with pytest.raises(BadTable, match=r"out/record\.json: not (a JSON file|the record of a job)"):
        job.cached()


def test_a_fingerprint_depends_on_settings_and_inputs_and_on_nothing_else() -> None:
    base = Fingerprint({"a": 1, "b": 2}, {"c": 3}).digest
    assert Fingerprint({"b": 2, "a": 1}, {"c": 3}).digest == base
    assert (
        len(
            {
                base,
                Fingerprint({"a": 1, "b": 3}, {"c": 3}).digest,
                Fingerprint({"a": 1, "b": 2}, {"c": 4}).digest,
                Fingerprint({"a": 1}, {"b": 2, "c": 3}).digest,
            }
        )
        == 4
    )


@pytest.mark.parametrize(
    ("there", "wanted", "lines"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": 1, "c": {"d": 2}}}, {"a": {"b": 1, "c": {"d": 3}}}, ["a.c.d: 2 there, 3 wanted"]),
        (
            {"b": 1, "a": 1},
            {"c": 1},
            ["a: 1 there, nothing wanted", "b: 1 there, nothing wanted", "c: nothing there, 1 wanted"],
        ),
        ({"a": [1, 2]}, {"a": [2, 1]}, ["a: [1, 2] there, [2, 1] wanted"]),
        ({"a": {}}, {"a": {"b": 1}}, ["a: {} there, nothing wanted", "a.b: nothing there, 1 wanted"]),
    ],
)
def test_differing_settings_are_reported_by_dotted_key(
    there: dict[str, Any], wanted: dict[str, Any], lines: list[str]
) -> None:
    assert differing_settings(there, wanted) == lines


def test_how_to_run_is_reported_by_the_command_line_else_the_settings_else_the_defaults() -> None:
    params = Params({"run": {"max_failed": 7, "clip_timeout_seconds": 3}})
    assert RunOptions.of(Params({})) == RunOptions()
    assert RunOptions.of(params, workers=4) == RunOptions(workers=4, max_failed="7", clip_timeout_seconds=3.0)
    assert RunOptions.of(params, "1%") == RunOptions(max_failed="1%", clip_timeout_seconds=3.0)


@pytest.mark.parametrize("value", ["0", "-1", "soon", ".nan", "true"])
def test_a_time_limit_that_is_invalid_is_named(value: str) -> None:
    with pytest.raises(
        BadSettings, match=r"run\.clip_timeout_seconds: Input should be (greater than 0|a valid number)"
    ):
        RunOptions.of(Params(yaml.safe_load(f"run: {{clip_timeout_seconds: {value}}}")))


@pytest.mark.parametrize("value", ["", "-1", "five", "5 %%", "5%5"])
def test_a_limit_of_failures_that_is_invalid_is_named(value: str) -> None:
    with pytest.raises(BadSettings, match=r"max_failed .*: expected a number or a share such as 5%"):
        RunOptions.of(Params({"run": {"max_failed": value}}))


def test_how_to_run_has_careful_defaults_and_cannot_be_changed_on_the_way() -> None:
    run = RunOptions()
    assert (run.workers, run.device, run.overwrite, run.max_failed, run.offline, run.clip_timeout_seconds) == (
        2,
        "auto",
        False,
        "5%",
        False,
        120.0,
    )
    with pytest.raises(AttributeError):
        run.overwrite = True  # type: ignore[misc]
