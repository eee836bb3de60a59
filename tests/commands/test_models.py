import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from merc.commands.extract import main
from merc.commands.inventory import Listed
from merc.commands.models import table
from merc.errors import ModelUnavailable
from merc.params import packaged_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIGURATION = json.dumps(
    {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 5, "architectures": ["BertModel"]}
).encode()
HEADER = b'{"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}'
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(8)
MODEL = {"config.json": CONFIGURATION, "model.safetensors": WEIGHTS, "tokenizer.json": b"{}"}
SIZE = sum(map(len, MODEL.values()))


def _transformer(repo: str, **more: Any) -> dict[str, Any]:
    words = {"licence": "MIT", "training_data_overlap": "none known (books; news)"}
    return {
        "family": "transformer",
        "repo": repo,
        "revision": COMMIT,
        "pooling": "mean",
        "max_tokens": 64,
        "tokens_per_batch": 200,
        **words,
        **more,
    }


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A params.yaml with a built-in encoder and three with checkpoints, without the shipped ones."""
    monkeypatch.setattr(
        "merc.encoders.engine.registry.names", lambda params, modality: sorted(params.block(f"encoders.{modality}"))
    )
    seen = {"licence": "CC-BY-NC-SA-4.0", "training_data_overlap": "IEMOCAP and MELD (both in the second stage)"}
    tree = {
        "presets": {"embedded": {"text": "ngrams"}, "base": {"text": "bert"}, "odd": {"text": "elmo"}},
        "encoders": {
            "text": {
                "ngrams": {"word_dims": 384},
                "bert": _transformer("org/model", dim=32, megabytes=1.5),
                "other": _transformer("org/other", **seen),
                "local": _transformer(str(tmp_path / "folder"), revision=""),
            },
            "audio": {},
            "visual": None,
        },
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    (tmp_path / "folder").mkdir()
    for name, data in MODEL.items():
        (tmp_path / "folder" / name).write_bytes(data)
    return tmp_path / "params.yaml"


def _run(settings: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["models", "--params", str(settings), *arguments])


def _listed(settings: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    result = _run(settings, "--json", *arguments)
    assert result.exit_code == 0, result.output
    return {one["name"]: one for one in map(json.loads, result.stdout.splitlines())}


@pytest.mark.usefixtures("hub_cache")
def test_every_encoder_is_listed_with_what_is_known_of_it(settings: Path, tmp_path: Path) -> None:
    listed = _listed(settings)
    assert list(listed) == ["bert", "local", "ngrams", "other"]
    command = listed["bert"].pop("how_to_get")
    assert listed["bert"] == {
        "modality": "text", "name": "bert", "family": "transformer", "dim": 32, "licence": "MIT",
        "training_data_overlap": "none known (books; news)",
        "megabytes": 1.5, "state": "not here", "repo": "org/model", "revision": COMMIT, "presets": ["base"],
        "problem": "",
    }  # fmt: skip
    assert command.startswith(f"hf download org/model --revision {COMMIT} --include")
    assert {key: listed["ngrams"][key] for key in ("dim", "megabytes", "state", "repo", "presets", "how_to_get")} == {
        "dim": 512, "megabytes": 0.0, "state": "built in", "repo": "", "presets": ["embedded"], "how_to_get": "",
    }  # fmt: skip
    assert (listed["other"]["dim"], listed["other"]["megabytes"], listed["other"]["state"]) == (None, None, "not here")
    local = listed["local"]
    assert (local["dim"], local["megabytes"], local["state"], local["how_to_get"]) == (
        32,
        round(SIZE / 1e6, 1),
        "here",
        "",
    )
    assert (local["repo"], local["revision"]) == (str(tmp_path / "folder"), "")


@pytest.mark.usefixtures("hub_cache")
def test_those_that_ship_are_listed_without_any_block(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("")
    listed = _listed(tmp_path / "params.yaml")
    assert set(listed) >= {"ngrams", "roberta_base", "acoustic", "wavlm_large", "gradients", "vit_face"}
    assert {one["modality"] for one in listed.values()} == {"text", "audio", "visual"}


@pytest.mark.usefixtures("hub_cache")
def test_the_table_shows_the_same_in_words(settings: Path) -> None:
    lines = _run(settings).stdout.splitlines()
    assert (
        lines[1]
        == "text   bert                 transformer     32  MIT                   2  not here  base      none known"
    )
    assert lines[2] == f"         org/model@{COMMIT}"
    assert lines[3].startswith("       local                transformer     32  MIT                   -  here")
    assert (
        lines[5]
        == "       ngrams               ngrams         512  Apache-2.0            -  built in  embedded  none: nothing"
        " is fitted"
    )
    assert (
        lines[6]
        == "       other                transformer      ?  CC-BY-NC-SA-4.0       ?  not here            IEMOCAP and"
        " MELD"
    )


def test_a_refused_model_says_why(settings: Path, tmp_path: Path) -> None:
    (tmp_path / "folder" / "model.safetensors").rename(tmp_path / "folder" / "model.bin")
    listed = _listed(settings, "local")["local"]
    assert listed["state"] == "refused"
    assert "model.bin only, which can run code" in listed["problem"]
    assert "model.bin only" in _run(settings, "local").stdout


def test_the_licence_of_opensmile_is_shown_before_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("merc.encoders.audio.functionals.find_spec", lambda _name: None)
    arguments = ["models", "egemaps", "--params", str(packaged_file())]
    lines = CliRunner().invoke(main, arguments).stdout.splitlines()
    assert (
        lines[2].strip()
        == "licence: audEERING Research License (private, research and educational use; no commercial products)"
    )
    (one,) = [json.loads(line) for line in CliRunner().invoke(main, [*arguments, "--json"]).stdout.splitlines()]
    assert (one["state"], one["training_data_overlap"]) == ("not here", "none: nothing is fitted")
    assert "no commercial products" in one["licence"]


def test_the_columns_of_the_list_fit_a_terminal_of_120() -> None:
    one = Listed(
        "visual",
        "vit_face_expression",
        "image_tower",
        768,
        "CC-BY-NC-SA-4.0",
        "none known (x)",
        343.0,
        "not here",
        "a/b",
        COMMIT,
        ("base",),
    )
    built_in = Listed(
        "visual",
        "gradients",
        "gradients",
        648,
        "Apache-2.0",
        "none: nothing is fitted",
        0.0,
        "built in",
        presets=("embedded",),
    )
    assert max(map(len, table([one, built_in]))) <= 120


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["bert"], ["bert"]),
        (["text=other", "bert"], ["bert", "other"]),
        (["--preset", "base"], ["bert"]),
        (["--preset", "base", "ngrams"], ["bert", "ngrams"]),
    ],
)
@pytest.mark.usefixtures("hub_cache")
def test_names_and_presets_choose(settings: Path, names: list[str], expected: list[str]) -> None:
    assert list(_listed(settings, *names)) == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["brt"], "no encoder 'brt'; did you mean 'bert'?"),
        (["audio=bert"], "no encoder 'audio=bert'; valid: text=bert, text=local, text=ngrams, text=other"),
        (["--preset", "bse"], "--preset: no preset 'bse' under presets in params.yaml; did you mean 'base'?"),
        (
            ["--preset", "odd"],
            "presets.odd names text=elmo, which is not an encoder; valid: bert, local, ngrams, other",
        ),
        (["--set", "encoders.text.bert.poling=mean"], "did you mean 'pooling'?"),
        (
            ["--set", "encoders.text.other.max_tokens=9", "bert"],
            "nothing in this command uses encoders.text.other.max_tokens",
        ),
    ],
)
def test_wrong_names_end_with_2(settings: Path, arguments: list[str], words: str) -> None:
    result = _run(settings, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stdout == ""


def test_download_fetches_what_is_missing_and_nothing_twice(settings: Path, hub: Any) -> None:
    hub.models = {"org/model": {COMMIT: MODEL}, "org/other": {COMMIT: MODEL | {"pytorch_model.bin": b"pickle"}}}
    first = _run(settings, "--download", "--preset", "base")
    assert first.exit_code == 0, first.output
    words = [line.partition(" INFO ")[2] for line in first.stderr.splitlines()]
    assert words == ["to download: 1 model, 0 MB", "text=bert: org/model, 0 MB"]  # no bars without a terminal
    assert hub.sent == set(MODEL)
    assert {name: one["state"] for name, one in _listed(settings).items()} == {
        "ngrams": "built in",
        "bert": "here",
        "other": "not here",
        "local": "here",
    }
    hub.sent.clear()
    _run(settings, "--download", "bert")
    assert hub.sent == set()
    every = _run(settings, "--download", "--json")
    assert every.exit_code == 0, every.output
    assert {json.loads(line)["state"] for line in every.stdout.splitlines()} == {"built in", "here"}


def test_what_is_not_available_ends_with_6_and_does_not_keep_the_rest_away(settings: Path, hub: Any) -> None:
    hub.models = {"org/model": {COMMIT: MODEL}, "org/other": {COMMIT: MODEL}}
    hub.gated.add("org/model")
    result = _run(settings, "--download")
    assert result.exit_code == 6
    assert (
        f"text=bert: the model org/model at revision {COMMIT} is available only to users who accept its terms"
        in result.stderr
    )
    assert f"hf download org/model --revision {COMMIT}" in result.stderr
    hub.gated.clear()
    assert {name: one["state"] for name, one in _listed(settings).items()} == {
        "ngrams": "built in",
        "bert": "not here",
        "other": "here",
        "local": "here",
    }


def test_what_is_fine_tuned_here_fails_a_download_only_if_it_was_asked_for(settings: Path, hub: Any) -> None:
    hub.models = {"org/model": {COMMIT: MODEL}, "org/other": {COMMIT: MODEL}}
    tree = yaml.safe_load(settings.read_text())
    tree["encoders"]["text"]["ours"] = _transformer("nowhere", revision="", made_by="merc-adapt --dataset meld")
    settings.write_text(yaml.safe_dump(tree, sort_keys=False))
    assert _run(settings, "--download").exit_code == 0
    result = _run(settings, "--download", "ours")
    assert result.exit_code == 6
    assert "merc-adapt --dataset meld" in result.output


@pytest.mark.usefixtures("hub_cache")
def test_offline_download_only_checks(settings: Path) -> None:
    result = _run(settings, "--download", "--offline", "bert", "local")
    assert result.exit_code == 6
    assert "text=bert: the model org/model" in result.stderr
    assert "--offline forbids" in result.stderr
    assert "text=local" not in result.stderr
    assert _run(settings, "--download", "--offline", "local", "ngrams").exit_code == 0


def test_the_list_needs_neither_torch_nor_a_network(settings: Path, tmp_path: Path) -> None:
    program = f"""
import socket, sys
from click.testing import CliRunner
from merc.commands.extract import main
def refuse(*_, **__): raise AssertionError("a connection was tried")
socket.socket.connect = refuse
result = CliRunner().invoke(main, ["models", "--params", {str(settings)!r}])
assert result.exit_code == 0, result.output
print(sorted({{"torch", "transformers", "librosa", "cv2"}} & set(sys.modules)))
"""
    environment = {"HF_HOME": str(tmp_path / "hf"), "PATH": "/usr/bin"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env=environment,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_the_installed_command_knows_it(settings: Path) -> None:
    command = shutil.which("merc-extract", path=str(Path(sys.executable).parent))
    assert command
    done = subprocess.run(
        [command, "models", "--params", str(settings), "ngrams"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].startswith("text   ngrams")


def test_the_networks_of_the_media_are_listed_with_the_presets_that_need_them_and_fetched_with_these(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = yaml.safe_load(settings.read_text())
    tree["presets"]["base"] = {"text": "ngrams", "media": {"detector": "yunet", "choice": "active_speaker"}}
    settings.write_text(yaml.safe_dump(tree, sort_keys=False))
    here: list[str] = []
    for name, module in (("yunet", "merc.media.detector"), ("light_asd", "merc.media.active_speaker.weights")):

        def path(config: Any, *, offline: bool, name: str = name) -> Path:
            if offline and name not in here:
                raise ModelUnavailable(f"{name} is not here")
            here.append(name)
            return Path(name)

        monkeypatch.setattr(f"{module}.path", path)
    of_base = _listed(settings, "--preset", "base")
    assert {
        name: (one["modality"], one["state"], one["presets"]) for name, one in of_base.items() if name != "ngrams"
    } == {
        "yunet": ("media", "not here", ["base"]),
        "light_asd": ("media", "not here", ["base"]),
    }
    assert set(_listed(settings, "--preset", "embedded")) == {"ngrams"}
    assert set(_listed(settings, "ngrams")) == {"ngrams"}
    assert set(_listed(settings, "media=light_asd")) == {"light_asd"}
    assert set(_listed(settings, "ngrams", "media=yunet", "media=yunet")) == {"ngrams", "yunet"}
    assert "no network media=haar; valid: light_asd, yunet" in _run(settings, "media=haar").output
    assert "yunet is not here" in _run(settings, "--download", "--offline", "--preset", "base").output
    assert _run(settings, "--download", "--preset", "base").exit_code == 0
    assert here[:2] == ["yunet", "light_asd"]
