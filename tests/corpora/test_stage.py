"""The stage on a small MELD-like corpus: files written, settings compared, limits, generators, exit codes."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from merc import corpora, files
from merc.corpora.meld import Meld
from merc.corpora.stage import Corpus, build_manifest, choose, main, will_be_made
from merc.errors import BadSettings, BadTable, RawDataMissing, SettingsDiffer, TooManyFailures
from merc.job import RunOptions
from merc.layout import Layout
from merc.params import Params
from merc.records import manifest

TEXT = ("text",)


def _corpus(**changes: Any) -> Corpus:
    return choose(Params({"corpora": {"meld": {"check_counts": False, **changes}}}), "meld")


def _layout(meld: Any) -> Layout:
    return Layout(meld.raw, meld.raw.parent / "features", "meld")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """The pipeline's log, whatever an earlier test set up."""
    logger = logging.getLogger("merc")
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "handlers", [])
    caplog.set_level(logging.INFO, logger="merc")
    return caplog


def test_the_manifest_and_its_record_are_written(meld: Any) -> None:
    meld.small()
    layout = _layout(meld)
    table = build_manifest(_corpus(), layout, RunOptions(), modalities=TEXT)
    assert table["utterance_id"].to_pylist()[:3] == ["train/dia0_utt0", "train/dia0_utt1", "train/dia1_utt0"]
    assert manifest.read(layout.manifest).equals(table)
    assert sorted(file.name for file in layout.folder.iterdir()) == ["manifest.json", "manifest.parquet"]
    assert files.read_json(layout.folder / "manifest.json") == {
        "settings": {
            "corpora": {
                "meld": {
                    "reader": "meld",
                    "label_set": "meld7",
                    "unlabelled": "keep",
                    "encoding": "utf-8",
                    "delimiter": ",",
                    "links": "follow",
                    "min_believed_seconds": 0.5,
                    "max_characters_per_second": 35.0,
                    "replacements": "",
                }
            },
            "run": {"splits": ["train", "dev", "test"], "limit": None},
        },
        "source": Meld.SOURCE,
        "counts_compared": False,
        "classes": ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"],
        "counts": {
            "train": {"utterances": 6, "dialogues": 3, "emotions": {"neutral": 3, "joy": 3}},
            "dev": {"utterances": 2, "dialogues": 1, "emotions": {"neutral": 1, "joy": 1}},
            "test": {"utterances": 4, "dialogues": 2, "emotions": {"neutral": 2, "joy": 2}},
        },
        "deviations": [],
        "checks": {},
        "failures": [],
    }


def test_two_runs_give_the_same_bytes(meld: Any) -> None:
    meld.small()
    layout = _layout(meld)
    made = []
    for _ in range(2):
        build_manifest(_corpus(), layout, RunOptions(), modalities=TEXT)
        made.append([(layout.folder / name).read_bytes() for name in ("manifest.json", "manifest.parquet")])
    assert made[0] == made[1]


def test_a_changed_corpus_gives_a_new_manifest_without_being_asked(meld: Any) -> None:
    meld.small()
    build_manifest(_corpus(), _layout(meld), RunOptions(), modalities=TEXT)
    meld.csv("dev", [meld.row(0, 0, Utterance="Something else.")])
    table = build_manifest(_corpus(), _layout(meld), RunOptions(), modalities=TEXT)
    assert "Something else." in table["text"].to_pylist()


def test_the_limit_keeps_the_first_dialogues_of_each_split(meld: Any) -> None:
    meld.small()
    table = build_manifest(_corpus(), _layout(meld), RunOptions(), modalities=TEXT, limit=2)
    assert list(dict.fromkeys(table["dialogue_id"].to_pylist())) == [
        "train/dia0",
        "train/dia1",
        "dev/dia0",
        "test/dia0",
        "test/dia1",
    ]


def test_splits_may_be_given_in_any_order(meld: Any) -> None:
    meld.small()
    layout = _layout(meld)
    first = build_manifest(_corpus(), layout, RunOptions(), modalities=TEXT, splits=("test", "dev"))
    assert build_manifest(_corpus(), layout, RunOptions(), modalities=TEXT, splits=("dev", "test")).equals(first)
    assert list(dict.fromkeys(first["split"].to_pylist())) == ["dev", "test"]


@pytest.mark.parametrize(
    ("change", "options", "key"),
    [
        ({"unlabelled": "drop"}, {}, "corpora.meld.unlabelled: keep there, drop wanted"),
        ({}, {"limit": 1}, "run.limit: None there, 1 wanted"),
        ({}, {"splits": ("train",)}, r"run.splits: \['train', 'dev', 'test'\] there, \['train'\] wanted"),
    ],
)
def test_a_manifest_with_other_settings_is_refused_unless_told_to_overwrite(
    meld: Any, change: dict[str, Any], options: dict[str, Any], key: str
) -> None:
    meld.small()
    layout = _layout(meld)
    build_manifest(_corpus(), layout, RunOptions(), modalities=TEXT)
    before = layout.manifest.read_bytes()
    with pytest.raises(SettingsDiffer, match=key) as raised:
        build_manifest(_corpus(**change), layout, RunOptions(), modalities=TEXT, **options)
    assert raised.value.exit_code == 5
    assert layout.manifest.read_bytes() == before
    build_manifest(_corpus(**change), layout, RunOptions(overwrite=True), modalities=TEXT, **options)
    build_manifest(_corpus(**change), layout, RunOptions(), modalities=TEXT, **options)


def test_another_label_set_is_named_as_the_key_that_differs(meld: Any) -> None:
    meld.small()
    layout = _layout(meld)
    build_manifest(_corpus(), layout, RunOptions(), modalities=TEXT)
    record = files.read_json(layout.folder / "manifest.json")
    record["settings"]["corpora"]["meld"]["label_set"] = "meld3"
    files.write_json(layout.folder / "manifest.json", record)
    with pytest.raises(SettingsDiffer, match=r"corpora\.meld\.label_set: meld3 there, meld7 wanted"):
        build_manifest(_corpus(), layout, RunOptions(), modalities=TEXT)


def test_settings_that_do_not_change_the_table_and_the_modalities_are_not_compared(meld: Any) -> None:
    meld.small()
    layout = _layout(meld)
    before = build_manifest(_corpus(), layout, RunOptions(), modalities=TEXT)
    for split, dialogues in (("train", 3), ("dev", 1), ("test", 2)):
        meld.clips(split, [f"dia{d}_utt{u}.mp4" for d in range(dialogues) for u in range(2)])
    after = build_manifest(
        _corpus(check_counts=True, made_by="demo.make"), layout, RunOptions(), modalities=("text", "audio", "visual")
    )
    assert after.equals(before)


@pytest.mark.parametrize("content", ["[]", "{}", '{"settings": 1}', "not json"])
def test_a_record_that_is_invalid_is_refused_by_name(meld: Any, content: str) -> None:
    meld.small()
    layout = _layout(meld)
    files.write_text(layout.folder / "manifest.json", content)
    with pytest.raises(BadTable, match=r"manifest\.json: not "):
        build_manifest(_corpus(), layout, RunOptions(), modalities=TEXT)
    build_manifest(_corpus(), layout, RunOptions(overwrite=True), modalities=TEXT)


def test_deviations_are_warnings_and_stand_in_the_record(meld: Any, log: pytest.LogCaptureFixture) -> None:
    meld.small()
    build_manifest(_corpus(check_counts=True), _layout(meld), RunOptions(), modalities=TEXT, limit=1)
    line = "train: 6 utterances instead of 9989"  # the corpus is counted before the limit is applied
    assert f"meld: {line}" in [record.getMessage() for record in log.records if record.levelno == logging.WARNING]
    assert line in files.read_json(_layout(meld).folder / "manifest.json")["deviations"]


def test_repairs_stand_in_the_record_if_their_utterance_is_in_the_table(meld: Any) -> None:
    meld.csv("train", [meld.row(0, 0, EndTime="?"), meld.row(1, 0, EndTime="?")])
    layout = _layout(meld)
    build_manifest(_corpus(), layout, RunOptions(), modalities=TEXT, splits=("train",), limit=1)
    assert files.read_json(layout.folder / "manifest.json")["failures"] == [
        {
            "utterance_id": "train/dia0_utt0",
            "stage": "manifest",
            "modality": "all",
            "reason": "annotation_repaired",
            "kind": "altered",
            "detail": "EndTime '?' is not a time",
        }
    ]


def test_media_are_looked_for_only_if_they_will_be_extracted(meld: Any) -> None:
    meld.small()
    build_manifest(_corpus(), _layout(meld), RunOptions(), modalities=TEXT)
    for modality in ("audio", "visual"):
        with pytest.raises(RawDataMissing, match="there is not one of 12 clips"):
            build_manifest(_corpus(), _layout(meld), RunOptions(), modalities=("text", modality))


@pytest.mark.parametrize(
    ("max_failed", "refused"), [("5%", True), ("49%", True), ("5", True), ("50%", False), ("6", False), ("100%", False)]
)
def test_max_failed_decides_how_many_media_may_be_missing(meld: Any, max_failed: str, refused: bool) -> None:
    meld.small()
    meld.clips("dev", ["dia0_utt0.mp4", "dia0_utt1.mp4"])
    meld.clips("test", ["dia0_utt0.mp4", "dia0_utt1.mp4", "dia1_utt0.mp4", "dia1_utt1.mp4"])
    run = RunOptions(max_failed=max_failed)
    if not refused:
        assert build_manifest(_corpus(), _layout(meld), run).num_rows == 12
        return
    words = (
        r"meld: the media of 6 of 12 utterances are missing \(audio 6, visual 6; the first is"
        r" meld/train_splits/dia0_utt0\.mp4\), more than --max-failed "
    )
    with pytest.raises(TooManyFailures, match=words + max_failed) as caught:
        build_manifest(_corpus(), _layout(meld), run)
    assert caught.value.exit_code == 3
    assert not _layout(meld).manifest.exists()
    assert build_manifest(_corpus(), _layout(meld), run, splits=("dev", "test")).num_rows == 6


def test_the_name_of_an_unknown_dataset_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        BadSettings,
        match=(
            r"^no dataset 'mled'; did you mean 'meld'\? valid: demo-iemocap, demo-meld, emorynlp, iemocap, meld, own,"
            r" table$"
        ),
    ):
        choose(Params({"corpora": {"own": {"reader": "table"}}}), "mled")


def test_an_unknown_reader_is_answered_with_readers_alone() -> None:
    with pytest.raises(
        BadSettings, match=r"no CorpusReader named 'labels' in merc\.corpora; valid: .*\bmeld, table$"
    ) as raised:
        _corpus(reader="labels")
    for other in ("dialogue", "manifest", "failures", "text_repair", "demo", "stage"):
        assert other not in str(raised.value).partition("valid:")[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_set": "iemocap6"}, r"corpora\.meld\.label_set: 'iemocap6' does not fit the reader meld; valid: meld7"),
        (
            {"label_set": "meld8"},
            r"corpora\.meld\.label_set: 'meld8' does not fit the reader meld; did you mean 'meld7'\?",
        ),
        ({"unlabelled": "hide"}, r"corpora\.meld\.unlabelled: .*'keep' or 'drop' \(given: 'hide'\)"),
        ({"label_sett": "meld7"}, r"unknown key corpora\.meld\.label_sett; did you mean 'label_set'\?"),
        ({"reader": 1}, r"corpora\.meld\.reader is 1; valid: "),
    ],
)
def test_a_wrong_setting_is_named_with_its_full_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSettings, match=message):
        _corpus(**change)


def test_a_dataset_that_has_not_the_name_of_a_reader_names_one() -> None:
    with pytest.raises(BadSettings, match=r"^corpora\.own\.reader is None; valid: iemocap, meld, table$"):
        choose(Params({"corpora": {"own": {"unlabelled": "drop"}}}), "own")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": ("text", "video")}, "no modality 'video'; .*valid: audio, text, visual"),
        ({"modalities": ()}, "no modality is given; valid: text, audio, visual"),
        ({"splits": ("valid",)}, "no split 'valid'; valid: dev, test, train"),
        ({"splits": ()}, "no split is given"),
        ({"limit": 0}, "the limit is 0 dialogues per split; at least 1"),
    ],
)
def test_impossible_options_are_refused_before_anything_is_read(
    meld: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadSettings, match=message):
        build_manifest(_corpus(), _layout(meld), RunOptions(), **options)


@pytest.fixture
def generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder ``merc.corpora.made_up`` whose ``make.py`` puts ``prepared`` in the place of the corpus and records its
    settings in ``made``.
    """
    folder = tmp_path / "packages" / "made_up"
    folder.mkdir(parents=True)
    (folder / "config.py").write_text(
        "from merc.params import Settings\n\n\nclass Config(Settings):\n    dialogues: int = 3\n"
    )
    (folder / "make.py").write_text(
        "def make(raw, config):\n"
        "    with (raw.parent / 'made').open('a') as file:\n"
        "        file.write(f'{config.dialogues} dialogues;')\n"
        "    (raw.parent / 'prepared').rename(raw / 'meld')\n"
    )
    monkeypatch.setattr(corpora, "__path__", [*corpora.__path__, str(folder.parent)])
    yield folder
    for name in [name for name in sys.modules if name.startswith("merc.corpora.made_up")]:
        del sys.modules[name]
    vars(corpora).pop("made_up", None)


def test_a_corpus_made_by_code_is_made_once_with_its_settings(meld: Any, generator: Path) -> None:
    meld.small()
    meld.root.rename(meld.raw.parent / "prepared")
    corpus = choose(
        Params({"corpora": {"meld": {"check_counts": False, "made_by": "made_up.make"}}, "made_up": {"dialogues": 5}}),
        "meld",
    )
    assert will_be_made(corpus, _layout(meld))
    assert build_manifest(corpus, _layout(meld), RunOptions(), modalities=TEXT).num_rows == 12
    assert not will_be_made(corpus, _layout(meld))
    build_manifest(corpus, _layout(meld), RunOptions(), modalities=TEXT)
    assert (meld.raw.parent / "made").read_text() == "5 dialogues;"


def test_a_corpus_that_is_there_is_never_made_anew(meld: Any, generator: Path) -> None:
    with pytest.raises(RawDataMissing):  # an empty folder is for the user to fill
        build_manifest(_corpus(made_by="made_up.make"), _layout(meld), RunOptions(), modalities=TEXT)
    assert not (meld.raw.parent / "made").exists()


@pytest.mark.parametrize(
    "name",
    ["nowhere", "nowhere.make", "demo", "demo.nothing", "demo.make.nothing", "table", "table.make", "engine.labels"],
)
def test_a_generator_that_is_invalid_is_refused(name: str) -> None:
    with pytest.raises(
        BadSettings,
        match=(
            rf"corpora\.meld\.made_by: there is no merc\.corpora\.{name}; expected a module FOLDER\.NAME .*"
            r" config\.py next to it"
        ),
    ):
        _corpus(made_by=name)


def test_a_generator_without_a_function_is_refused(meld: Any, generator: Path) -> None:
    (generator / "make.py").write_text("")
    meld.root.rmdir()
    with pytest.raises(
        BadSettings, match=r"corpora\.meld\.made_by: merc\.corpora\.made_up\.make has no function make\(raw, config\)"
    ):
        build_manifest(_corpus(made_by="made_up.make"), _layout(meld), RunOptions(), modalities=TEXT)


def test_a_library_that_a_generator_lacks_is_not_taken_for_a_missing_generator(meld: Any, generator: Path) -> None:
    (generator / "make.py").write_text("import some_library_that_is_not_here\n")
    meld.root.rmdir()
    with pytest.raises(ModuleNotFoundError, match="some_library_that_is_not_here"):
        build_manifest(_corpus(made_by="made_up.make"), _layout(meld), RunOptions(), modalities=TEXT)


def test_a_generator_is_not_imported_before_it_is_needed() -> None:
    program = (
        "import sys; from merc.corpora.stage import choose; from merc.params import Params; choose(Params({}),"
        " 'demo-meld'); print('cv2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_missing_corpus_without_a_generator_is_missing_raw_data(meld: Any) -> None:
    meld.root.rmdir()
    with pytest.raises(RawDataMissing, match=r"https://github\.com/declare-lab/MELD"):
        build_manifest(_corpus(), _layout(meld), RunOptions(), modalities=TEXT)


@pytest.fixture
def run_command(meld: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the stage's command in the folder of a small corpus."""
    logger = logging.getLogger("merc")
    for name in ("handlers", "level", "propagate"):
        monkeypatch.setattr(logger, name, getattr(logger, name))  # the command sets up its own log
    monkeypatch.chdir(meld.raw.parent)
    meld.small()

    def run(build: str = "{}", *options: str) -> Any:
        Path("params.yaml").write_text(
            f"corpora: {{meld: {{reader: meld, label_set: meld7, check_counts: false}}}}\nbuild: {build}\nrun:"
            " {max_failed: 5%}\n"
        )
        return CliRunner().invoke(main, ["--dataset", "meld", *options])

    return run


def test_the_command_asks_for_the_modalities_that_are_built(run_command: Any) -> None:
    result = run_command("{meld: {text: ngrams}}")
    assert result.exit_code == 0, result.output
    assert manifest.read(Path("features/meld/manifest.parquet")).num_rows == 12
    assert run_command("{meld: {text: ngrams, audio: acoustic}}").exit_code == 4


def test_the_command_takes_modalities_and_folders(run_command: Any) -> None:
    result = run_command("{}", "--modalities", "text", "--raw", "raw", "--out", "elsewhere")
    assert result.exit_code == 0, result.output
    assert manifest.read(Path("elsewhere/meld/manifest.parquet")).num_rows == 12
    assert run_command("{}").exit_code == 4
    assert run_command("{}", "--modalities", "text,video").exit_code == 2


def test_the_real_annotations_give_a_manifest_without_deviations(
    real_data: Path, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "meld").symlink_to(real_data / "meld", target_is_directory=True)
    table = build_manifest(
        _corpus(check_counts=True), Layout(raw, tmp_path / "features", "meld"), RunOptions(), modalities=TEXT
    )
    assert table.num_rows == 13_708
    record = files.read_json(tmp_path / "features" / "meld" / "manifest.json")
    assert record["deviations"] == []
    assert {split: (counts["dialogues"], counts["utterances"]) for split, counts in record["counts"].items()} == {
        "train": (1038, 9989),
        "dev": (114, 1109),
        "test": (280, 2610),
    }
    assert [entry.getMessage() for entry in log.records] == ["meld: 13708 utterances in 1432 dialogues"]
    assert set(table["audio_path"].to_pylist()[:2]) == {
        "meld/train_splits/dia0_utt0.mp4",
        "meld/train_splits/dia0_utt1.mp4",
    }


def _to_dvc_cache(folder: Path, cache: Path) -> None:
    """Turns every file below ``folder`` into a link, as `dvc config cache.type symlink` does."""
    for number, path in enumerate(sorted(one for one in folder.rglob("*") if one.is_file())):
        target = cache / "files" / "md5" / "ab" / f"cdef{number}"
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        path.symlink_to(target)


def _with_clips(meld: Any) -> None:
    meld.small()
    for split, dialogues in (("train", 3), ("dev", 1), ("test", 2)):
        meld.clips(split, [f"dia{d}_utt{u}.mp4" for d in range(dialogues) for u in (0, 1)])


@pytest.mark.parametrize("links", ["follow", "refuse"])
def test_a_corpus_in_a_cache_of_links_is_read_unless_links_are_refused(meld: Any, links: str) -> None:
    _with_clips(meld)
    plain = build_manifest(_corpus(), _layout(meld), RunOptions())
    _to_dvc_cache(meld.root, meld.raw.parent / "cache")
    if links == "follow":
        assert build_manifest(_corpus(), _layout(meld), RunOptions()).equals(plain)
        return
    with pytest.raises(
        RawDataMissing, match=r"a link that leads outside .*meld, to .*cdef\d+, and corpora\.meld\.links is refuse"
    ) as caught:
        build_manifest(_corpus(links="refuse"), _layout(meld), RunOptions(overwrite=True))
    assert caught.value.exit_code == 4


def test_a_split_on_another_disk_is_read_unless_links_are_refused(meld: Any) -> None:
    _with_clips(meld)
    (meld.root / "train_splits").rename(meld.raw.parent / "disk")
    (meld.root / "train_splits").symlink_to(meld.raw.parent / "disk", target_is_directory=True)
    assert build_manifest(_corpus(), _layout(meld), RunOptions()).num_rows == 12
    with pytest.raises(RawDataMissing, match=r"meld/train_splits: a link that leads outside"):
        build_manifest(_corpus(links="refuse"), _layout(meld), RunOptions(overwrite=True))


def test_where_links_are_refused_those_inside_and_that_of_the_corpus_itself_are_not(meld: Any) -> None:
    _with_clips(meld)
    (meld.root / "test.csv").symlink_to("test_sent_emo.csv")
    meld.root.rename(meld.raw.parent / "disk")
    meld.root.symlink_to(meld.raw.parent / "disk", target_is_directory=True)
    table = build_manifest(_corpus(links="refuse"), _layout(meld), RunOptions())
    assert not manifest.follows_links(manifest.read(_layout(meld).manifest))
    assert table.num_rows == 12
