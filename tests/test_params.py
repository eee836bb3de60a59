import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
import yaml
from pydantic import Field

from merc import params as module
from merc.errors import BadSettings
from merc.params import Laid, Origin, Params, Settings, Shelf, fill

TREE = """
media:
  max_clip_seconds: 60.0
  faces: {detector: haar, frames_per_second: 4}
run:
"""


class Faces(Settings):
    detector: str
    frames_per_second: float


class Media(Settings):
    max_clip_seconds: float
    faces: Faces


class WithDefaults(Settings):
    seed: int = Field(default=7, ge=0)
    """Decides everything."""
    places: Mapping[str, float] = {"joy": 0.8, "anger": -0.7}


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


@pytest.mark.parametrize("key", ["run", "report"])
def test_an_empty_block_and_one_that_is_not_there_take_the_defaults(path: Path, key: str) -> None:
    assert Params.load(path).fill(key, WithDefaults) == WithDefaults()


def test_a_single_key_of_a_mapping_leaves_the_others_as_they_are(path: Path) -> None:
    assert Params.load(path, ("run.places.joy=0.5",)).fill("run", WithDefaults).places == {"joy": 0.5, "anger": -0.7}


class Grown(Settings):
    """Settings, of which the last two came later."""

    ADDED_LATER: ClassVar[tuple[str, ...]] = ("limit", "shares")

    width: int = 3
    limit: float | None = None
    shares: dict[str, float] = Field(default_factory=dict)


def test_settings_that_came_later_are_decisive_only_where_they_are_set() -> None:
    assert Grown().decisive() == {"width": 3}
    assert Grown(limit=2.0, shares={"audio": 0.5}).decisive() == {"width": 3, "limit": 2.0, "shares": {"audio": 0.5}}
    assert Grown(limit=2.0).decisive(exclude={"width"}) == {"limit": 2.0}


def test_settings_cannot_be_changed(path: Path) -> None:
    media = Params.load(path).fill("media", Media)
    with pytest.raises(ValueError, match="frozen"):
        media.max_clip_seconds = 1.0  # type: ignore[misc]


def test_the_string_below_a_field_describes_it() -> None:
    assert WithDefaults.model_fields["seed"].description == "Decides everything."


def test_an_unknown_key_is_named_in_full_with_the_nearest() -> None:
    with pytest.raises(
        BadSettings, match=r"unknown key media\.max_clip_second; did you mean 'max_clip_seconds'\?"
    ) as raised:
        fill({"max_clip_second": 60, "faces": {"detector": "haar", "frames_per_second": 4}}, Media, where="media")
    assert "media.max_clip_seconds: Field required" in str(raised.value)
    assert raised.value.exit_code == 2


def test_an_unknown_key_in_a_nested_block_is_named_in_full_with_the_keys_of_that_block() -> None:
    with pytest.raises(
        BadSettings,
        match=r"unknown key media\.faces\.detektor; did you mean 'detector'\? valid: detector, frames_per_second",
    ):
        fill(
            {"max_clip_seconds": 60, "faces": {"detektor": "haar", "detector": "haar", "frames_per_second": 4}},
            Media,
            where="media",
        )


def test_a_missing_key_is_named_in_full() -> None:
    with pytest.raises(BadSettings, match=r"media\.faces\.detector: Field required"):
        fill({"max_clip_seconds": 60, "faces": {"frames_per_second": 4}}, Media, where="media")


def test_an_impossible_value_is_named_with_what_was_given() -> None:
    with pytest.raises(BadSettings, match=r"media\.max_clip_seconds: .* \(given: 'long'\)"):
        fill({"max_clip_seconds": "long", "faces": {"detector": "haar", "frames_per_second": 4}}, Media, where="media")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("mediaa", r"no 'mediaa': no 'mediaa' at the top level; did you mean 'media'\?"),
        (
            "media.faces.detektor",
            r"no 'media\.faces\.detektor': no 'detektor' at media\.faces; did you mean 'detector'\?",
        ),
        ("run.key", r"no 'key' at run; valid: none"),
        ("", r"no ''"),
    ],
)
def test_a_key_that_is_not_there_is_answered_with_the_nearest(path: Path, key: str, message: str) -> None:
    with pytest.raises(BadSettings, match=message):
        Params.load(path).get(key)


def test_a_block_that_is_invalid_is_refused(path: Path) -> None:
    with pytest.raises(BadSettings, match=r"media\.max_clip_seconds is 60\.0; expected a block of keys and values"):
        Params.load(path).read("media.max_clip_seconds")


# --set


def test_overrides_override_the_file(path: Path) -> None:
    params = Params.load(path, ("media.max_clip_seconds=2.5", "media.faces.detector=a=b", "run={seed: 3}"))
    assert params.get("media.max_clip_seconds") == 2.5
    assert params.get("media.faces.detector") == "a=b"
    assert params.fill("run", WithDefaults).seed == 3
    params.check_overrides()
    assert Params.load(path).get("media.max_clip_seconds") == 60.0


def test_a_key_that_the_file_does_not_have_can_be_set(path: Path) -> None:
    assert Params.load(path, ("report.seed=3",)).fill("report", WithDefaults).seed == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("media.max_clip_seconds", r"--set 'media\.max_clip_seconds' is not of the form KEY=VALUE"),
        ("nothing.here=3", r"no block 'nothing'; valid: .*\bmedia\b"),
        ("=3", r"--set '=3' is not of the form KEY=VALUE"),
        ("media.faces={", r"--set 'media\.faces=\{': the value is not YAML"),
    ],
)
def test_a_bad_override_is_refused(path: Path, override: str, message: str) -> None:
    with pytest.raises(BadSettings, match=message):
        Params.load(path, (override,))


def test_an_override_of_an_unknown_key_is_refused_where_the_block_is_filled(path: Path) -> None:
    with pytest.raises(BadSettings, match=r"unknown key media\.max_clip; did you mean 'max_clip_seconds'"):
        Params.load(path, ("media.max_clip=3",)).fill("media", Media)


def test_an_override_that_nothing_uses_is_refused(path: Path) -> None:
    params = Params.load(path, ("report.seed=3",))
    params.fill("media", Media)
    params.block("report")  # reading is not using
    with pytest.raises(BadSettings, match=r"--set report\.seed=3: nothing in this command uses report\.seed"):
        params.check_overrides()


@pytest.mark.parametrize("override", [True, False], ids=["--set", "the file"])
def test_a_value_of_the_users_that_what_ships_overrides_is_refused_with_the_key_to_set(override: bool) -> None:
    params = (
        Params({}).with_overrides(losses__focal__gamma=1) if override else Params({"losses": {"focal": {"gamma": 1}}})
    )
    laid = params.read("losses.focal")
    laid.lay("gamma", 2, Origin("merc/recipes/r.yaml", "recipes.r.losses.focal.gamma"))
    params.note(laid)
    with pytest.raises(
        BadSettings,
        match=(
            r"losses\.focal\.gamma has no effect, since merc/recipes/r\.yaml overrides it; set"
            r" recipes\.r\.losses\.focal\.gamma"
        ),
    ):
        params.check_overrides()


def test_a_value_that_is_in_force_somewhere_is_not_a_fault_where_it_is_overridden() -> None:
    params = Params({}).with_overrides(losses__focal__gamma=1)
    params.note(params.read("losses.focal"))
    laid = params.read("losses.focal")
    laid.lay("gamma", 2, Origin("merc/recipes/r.yaml"))
    params.note(laid)
    params.check_overrides()


# Blocks over blocks


def test_mappings_are_merged_and_all_else_replaces() -> None:
    laid = Laid()
    laid.lay("", {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}}, Origin("first"))
    laid.lay("", {"a": {"c": [3]}, "d": None, "f": {}}, Origin("second", "over"))
    assert laid.tree == {"a": {"b": 1, "c": [3]}, "d": None, "f": {}}
    assert {key: (origin.words, origin.key) for key, origin in laid.origins.items()} == {
        "a.b": ("first", ""), "a.c": ("second", "over.a.c"), "d": ("second", "over.d"), "f": ("second", "over.f"),
    }  # fmt: skip
    laid.lay("", {"d": {"g": 2}}, Origin("third"))
    assert (laid.tree["d"], list(laid.tree)) == ({"g": 2}, ["a", "f", "d"])


def test_what_is_laid_is_not_changed_by_what_is_laid_over_it() -> None:
    block = {"a": {"b": [1]}}
    laid = Laid()
    laid.lay("", block, Origin("first"))
    laid.tree["a"]["b"].append(2)
    laid.lay("a.c", 3, Origin("second"))
    assert block == {"a": {"b": [1]}}


def test_a_part_of_other_blocks_comes_with_its_origins() -> None:
    other, laid = Laid(), Laid()
    other.lay("", {"losses": {"focal": {"weight": 1, "gamma": 2}}}, Origin("file", "recipes.r"))
    laid.lay("", {"gamma": 0, "alpha": 1}, Origin("mine"))
    laid.lay_part(other, "losses.focal", {"weight"})
    assert laid.tree == {"gamma": 2, "alpha": 1}
    assert laid.origins["gamma"] == Origin("file", "recipes.r.losses.focal.gamma")


# What has a name


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    package = f"shelf_{tmp_path.name}".replace("-", "_")
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / "plain.yaml").write_text("epochs: 5\noptimizer:\n  name: adam\n  rate: 0.1\n")
    (tmp_path / package / "quick.yaml").write_text("base: plain\nepochs: 1\n")
    (tmp_path / package / "broken.yaml").write_text("epochs: [\n")
    monkeypatch.syspath_prepend(tmp_path)
    return Shelf("recipes", package, "recipe", alone=lambda: ["bare"])


def test_a_block_of_the_users_overrides_the_file_and_its_base_below_both(shelf: Shelf) -> None:
    params = Params({"recipes": {"quick": {"optimizer": {"rate": 0.2}}, "mine": {"base": "quick", "epochs": 2}}})
    assert shelf.read(params, "quick").tree == {"epochs": 1, "optimizer": {"name": "adam", "rate": 0.2}}
    mine = shelf.read(params, "mine")
    assert mine.tree == {"epochs": 2, "optimizer": {"name": "adam", "rate": 0.2}}
    assert mine.origins["optimizer.rate"] == Origin("params.yaml", "recipes.quick.optimizer.rate", user=True)
    assert mine.origins["optimizer.name"].words == shelf.path("plain")
    assert shelf.names(params) == ["bare", "broken", "mine", "plain", "quick"]
    assert shelf.read(params, "bare").tree == {}


@pytest.mark.parametrize(
    ("recipes", "name", "words"),
    [
        ({}, "plaain", r"no recipe 'plaain'; did you mean 'plain'\? valid: bare, broken, plain, quick"),
        ({}, "../plain", r"no recipe '\.\./plain'"),
        ({"a": {"base": "plaain"}}, "a", r"recipes\.a\.base: no recipe 'plaain'; did you mean 'plain'"),
        (
            {"plain": {"base": "quick"}},
            "quick",
            r"recipes\.quick\.base: a recipe is its own ancestor: quick → plain → quick",
        ),
        ({"a": {"base": ["plain"]}}, "a", r"recipes\.a\.base is \['plain'\]; the name of a recipe is expected"),
        ({"a": 3}, "a", r"params\.yaml: recipes\.a is 3; expected a block of keys and values"),
        ({}, "broken", r"broken\.yaml: not YAML"),
    ],
)
def test_a_name_or_base_that_cannot_be_is_refused(
    shelf: Shelf, recipes: dict[str, object], name: str, words: str
) -> None:
    with pytest.raises(BadSettings, match=words):
        shelf.read(Params({"recipes": recipes}), name)


# The file


@pytest.mark.parametrize("content", [b"a: [", b"a: b: c", b"a: !!python/object/apply:os.getcwd []"])
def test_a_file_that_is_not_plain_yaml_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.yaml").write_bytes(content)
    with pytest.raises(BadSettings, match=r"other\.yaml: not YAML"):
        Params.load(tmp_path / "other.yaml")


@pytest.mark.parametrize(("name", "content"), [("nothing.yaml", None), ("latin.yaml", b"\xff\xfe\x00")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadSettings, match=rf"cannot read the settings: .*{name}"):
        Params.load(tmp_path / name)


def test_an_unknown_block_is_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("mediaa: {}")
    with pytest.raises(BadSettings, match=r"params\.yaml: unknown key 'mediaa'; did you mean 'media'"):
        Params.load(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("content", "sign"),
    [
        ("train_second: {}", "train_second"),
        ("recipes: {mine: {losses: [{name: focal}]}}", r"recipes\.mine\.losses is a list"),
        ("additions: {mine: {stages: null}}", r"additions\.mine\.stages"),
    ],
)
def test_a_file_of_an_earlier_form_is_told_what_moved_where(tmp_path: Path, content: str, sign: str) -> None:
    (tmp_path / "params.yaml").write_text(content)
    with pytest.raises(
        BadSettings,
        match=(
            rf"form of an earlier version \({sign}\)\. What moved where:\n(.*\n)*.*`stages` are"
            r" `phases`(.*\n)*.*`also_reads`"
        ),
    ):
        Params.load(tmp_path / "params.yaml")


def test_an_empty_file_has_no_keys(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("")
    with pytest.raises(BadSettings, match=r"no 'frames' at media; valid: none"):
        Params.load(tmp_path / "params.yaml").get("media.frames")


def test_without_a_name_the_file_of_the_current_folder_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    assert Params.load().block("media") == yaml.safe_load(TREE)["media"]


def test_elsewhere_the_file_that_came_with_the_package_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "merc"
    package.mkdir(parents=True)
    (package / "params.yaml").write_text("media: {max_clip_seconds: 1}")
    monkeypatch.setattr(module, "__file__", str(package / "params.py"))
    monkeypatch.chdir(tmp_path)
    assert Params.load().get("media.max_clip_seconds") == 1
    (package / "params.yaml").unlink()
    with pytest.raises(BadSettings, match=r"there is no params\.yaml here; name one with --params"):
        Params.load()


@pytest.mark.slow
def test_every_command_refuses_what_an_override_cannot_do(tmp_path: Path) -> None:
    """Exit code 2 before anything is read or written, whichever block the setting belongs to."""
    environment = {**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[1])}
    for command, override, words in (
        (
            "extract --dataset demo-meld",
            "trajectories.neighbours=0",
            "trajectories.neighbours: Input should be greater than or equal to 1",
        ),
        (
            "extract --dataset demo-meld",
            "losses.focal.gamma=1",
            "nothing in this command uses losses.focal.gamma",
        ),
        (
            "train --dataset demo-meld --recipe mmgcn+dclf_iemocap",
            "losses.context_aware.window=2",
            "set additions.dclf_iemocap.losses.context_aware.window",
        ),
    ):
        name, *options = command.split()
        program = f"from merc.commands.{name} import main; main()"
        told = subprocess.run(
            [sys.executable, "-c", program, *options, "--set", override],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        assert (told.returncode, words in told.stderr) == (2, True), told.stderr
    assert list(tmp_path.iterdir()) == []


_BOMB = "media:\n  a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"  {one}: &{one} [{', '.join(['*' + other] * 9)}]\n" for other, one in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("media: " + "[" * 50_000, "deeper than in any settings"),
        ("media:\n" + "".join(" " * depth + "a:\n" for depth in range(1, 700)), "deeper than in any settings"),
        (_BOMB, "more than 100,000 values, with aliases expanded"),
        ("media: &a [*a]", "a value that contains itself"),
        ("media:\n  a: 1\n  a: 2\n", "the key 'a' twice"),
        ("media: {}\nmedia: {}\n", "the key 'media' twice"),
        ("media:\n\tmax_clip_seconds: 1\n", "cannot start any token"),
        ("media: {max_clip_seconds: 2001-99-99}", "not YAML: month must be"),
        ("media: {max_clip_seconds: 0x" + "f" * 5000 + "}", "more than 100 digits"),
        ("media: {max_clip_seconds: '" + "x" * 400_000 + "'}", "more than 300,000 bytes"),
        ("media: [" + "1," * 1000 + "]", r"media is \[1, 1, 1, 1, 1, 1, \.\.\.\]; expected a block"),
        ("media: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        (bytes(range(256)), "cannot read the settings"),
        ("media:\0", "not YAML: unacceptable character"),
    ],
)
def test_a_hostile_file_is_one_sentence_at_once(tmp_path: Path, content: str | bytes, words: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadSettings, match=words) as raised:
        Params.load(path).fill("media", Media)
    assert raised.value.exit_code == 2
    assert len(str(raised.value)) < 500


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "params.yaml")
    with pytest.raises(BadSettings, match="a named pipe instead of a file"):
        Params.load(tmp_path / "params.yaml")


def test_a_block_that_is_used_twice_by_an_alias_is_read(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(
        "run: &common {max_failed: 3}\nmedia:\n  <<: *common\n  max_clip_seconds: 5\n"
    )
    assert Params.load(tmp_path / "params.yaml").block("media") == {"max_failed": 3, "max_clip_seconds": 5}


class Numbers(Settings):
    rate: float = 0.1
    count: int | None = None
    shares: dict[str, float] = Field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    on: bool = False
    either: bool | float = 1.0


@pytest.mark.parametrize("given", [{"rate": True}, {"count": False}, {"shares": {"audio": True}}, {"seeds": [0, True]}])
def test_true_is_not_a_number(given: dict[str, object]) -> None:
    with pytest.raises(BadSettings, match=rf"one\.{next(iter(given))}: Input should be a valid number"):
        Params({"one": given}).fill("one", Numbers)
    assert Params({"one": {"on": True, "either": True, "rate": 1}}).fill("one", Numbers).either is True
