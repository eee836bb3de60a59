from pathlib import Path

import pytest
import yaml
from merc import params as module
from merc.errors import BadSettings
from merc.params import Params, Settings, fill

TREE = """
media:
  max_clip_seconds: 60.0
  faces: {detector: haar, frames_per_second: 4}
empty:
"""


class Faces(Settings):
    detector: str
    frames_per_second: float


class Media(Settings):
    max_clip_seconds: float
    faces: Faces


class WithDefaults(Settings):
    seed: int = 7


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text(TREE)
    return tmp_path / "params.yaml"


def test_a_block_fills_its_config(path: Path) -> None:
    media = Params.load(path).fill("media", Media)
    assert media == Media(max_clip_seconds=60.0, faces=Faces(detector="haar", frames_per_second=4.0))


def test_nested_blocks_are_reached_by_dotted_keys(path: Path) -> None:
    params = Params.load(path)
    assert params.get("media.faces.detector") == "haar"
    assert params.fill("media.faces", Faces).frames_per_second == 4.0


def test_an_empty_block_takes_the_defaults(path: Path) -> None:
    assert Params.load(path).fill("empty", WithDefaults).seed == 7


def test_values_given_beside_the_file_win(path: Path) -> None:
    assert Params.load(path).fill("media.faces", Faces, detector="yunet").detector == "yunet"


def test_settings_cannot_be_changed(path: Path) -> None:
    media = Params.load(path).fill("media", Media)
    with pytest.raises(ValueError, match="frozen"):
        media.max_clip_seconds = 1.0  # type: ignore[misc]


def test_an_unknown_key_is_named_in_full_with_the_nearest() -> None:
    with pytest.raises(BadSettings, match=r"unknown key media\.max_clip_second; did you mean 'max_clip_seconds'\?") as raised:
        fill({"max_clip_second": 60, "faces": {"detector": "haar", "frames_per_second": 4}}, Media, where="media")
    assert "media.max_clip_seconds: Field required" in str(raised.value)
    assert raised.value.exit_code == 2


def test_an_unknown_key_in_a_nested_block_is_named_in_full_with_the_keys_of_that_block() -> None:
    with pytest.raises(BadSettings, match=r"unknown key media\.faces\.detektor; did you mean 'detector'\? valid: detector, frames_per_second"):
        fill({"max_clip_seconds": 60, "faces": {"detektor": "haar", "detector": "haar", "frames_per_second": 4}}, Media, where="media")


def test_a_missing_key_is_named_in_full(path: Path) -> None:
    with pytest.raises(BadSettings, match=r"media\.faces\.detector: Field required"):
        fill({"max_clip_seconds": 60, "faces": {"frames_per_second": 4}}, Media, where="media")


def test_an_impossible_value_is_named_with_what_was_given() -> None:
    with pytest.raises(BadSettings, match=r"media\.max_clip_seconds: .* \(given: 'long'\)"):
        fill({"max_clip_seconds": "long", "faces": {"detector": "haar", "frames_per_second": 4}}, Media, where="media")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("mediaa", r"no 'mediaa': no 'mediaa' at the top level; did you mean 'media'\? valid: empty, media"),
        ("media.faces.detektor", r"no 'media\.faces\.detektor': no 'detektor' at media\.faces; did you mean 'detector'\?"),
        ("media.max_clip_seconds.unit", r"no 'unit' at media\.max_clip_seconds; valid: none"),
        ("empty.key", r"no 'key' at empty; valid: none"),
        ("", r"no ''"),
    ],
)
def test_a_key_that_is_not_there_is_answered_with_the_nearest(path: Path, key: str, message: str) -> None:
    with pytest.raises(BadSettings, match=message):
        Params.load(path).get(key)


def test_overrides_change_values_of_existing_keys(path: Path) -> None:
    params = Params.load(path, ("media.max_clip_seconds=2.5", "media.faces.detector=a=b", "empty={seed: 3}"))
    assert params.get("media.max_clip_seconds") == 2.5
    assert params.get("media.faces.detector") == "a=b"
    assert params.fill("empty", WithDefaults).seed == 3
    assert Params.load(path).get("media.max_clip_seconds") == 60.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("media.max_clip_seconds", r"--set 'media\.max_clip_seconds' is not of the form KEY=VALUE"),
        ("media.max_clip=3", r"no 'max_clip' at media; did you mean 'max_clip_seconds'\?"),
        ("nothing.here=3", r"no 'nothing' at the top level"),
        ("empty.seed=3", r"no 'seed' at empty"),
        ("=3", r"no ''"),
        ("media.faces={", r"--set 'media\.faces=\{': the value is not YAML"),
    ],
)
def test_a_bad_override_is_refused(path: Path, override: str, message: str) -> None:
    with pytest.raises(BadSettings, match=message):
        Params.load(path, (override,))


@pytest.mark.parametrize("content", [b"a: [", b"a: b: c", b"\xff\xfe\x00", b"a: !!python/object/apply:os.getcwd []"])
def test_a_file_that_is_no_plain_yaml_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.yaml").write_bytes(content)
    with pytest.raises(BadSettings, match=r"other\.yaml: not YAML"):
        Params.load(tmp_path / "other.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"cannot read the settings: .*nothing\.yaml"):
        Params.load(tmp_path / "nothing.yaml")


def test_an_empty_file_has_no_keys(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("")
    with pytest.raises(BadSettings, match="no 'media' at the top level; valid: none"):
        Params.load(tmp_path / "params.yaml").get("media")


def test_without_a_name_the_file_of_the_current_folder_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    assert Params.load().tree == yaml.safe_load(TREE)


def test_elsewhere_the_file_that_came_with_the_package_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "pipeline"
    package.mkdir(parents=True)
    (package / "params.yaml").write_text("media: {max_clip_seconds: 1}")
    monkeypatch.setattr(module, "__file__", str(package / "params.py"))
    monkeypatch.chdir(tmp_path)
    assert Params.load().get("media.max_clip_seconds") == 1
    (package / "params.yaml").unlink()
    with pytest.raises(BadSettings, match=r"there is no params\.yaml here; name one with --params"):
        Params.load()
