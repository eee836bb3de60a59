"""Media settings: the user's block over a preset's, with the same result however they are given."""

from pathlib import Path

import pytest

from merc.commands.extract import Order, chosen_encoders
from merc.commands.resolve import resolve_all
from merc.errors import BadSettings
from merc.media.config import Config, lay, of_dataset, of_preset
from merc.params import Params

PARAMS = Path(__file__).parents[2] / "params.yaml"
TREE = {
    "presets": {
        "embedded": {"text": "ngrams"},
        "base": {"text": "bert", "media": {"detector": "yunet", "choice": "active_speaker", "frames_per_clip": 5}},
    },
    "default_encoders": {"meld": "base", "demo-meld": "embedded"},
    "media": {"frames_per_clip": 9},
}


def told(config: Config) -> tuple[str, str, int]:
    return config.detector, config.choice, config.frames_per_clip


@pytest.mark.parametrize(
    ("dataset", "preset", "expected"),
    [
        ("meld", None, ("yunet", "active_speaker", 9)),
        ("meld", "embedded", ("haar", "speaking", 9)),
        ("demo-meld", None, ("haar", "speaking", 9)),
        ("demo-meld", "base", ("yunet", "active_speaker", 9)),
        ("mine", None, ("haar", "speaking", 9)),
    ],
)
def test_the_presets_settings_override_the_defaults_but_not_the_users(
    dataset: str, preset: str | None, expected: tuple[str, str, int]
) -> None:
    assert told(of_dataset(Params(TREE), dataset, preset)) == expected


def test_set_overrides_both_and_is_never_without_effect() -> None:
    params = Params(TREE).with_overrides(media__detector="haar", presets__base__media__choice="largest")
    assert told(of_dataset(params, "meld")) == ("haar", "largest", 9)
    params.check_overrides()


def test_a_value_of_a_preset_that_the_users_block_overrides_cannot_be_set() -> None:
    params = Params(TREE).with_overrides(presets__base__media__frames_per_clip=3)
    of_dataset(params, "meld")
    with pytest.raises(
        BadSettings,
        match=(
            r"presets\.base\.media\.frames_per_clip has no effect, since params\.yaml overrides it; set"
            r" media\.frames_per_clip"
        ),
    ):
        params.check_overrides()


def test_where_a_value_comes_from_is_known() -> None:
    origins = lay(Params(TREE), "meld").origins
    assert (origins["detector"].key, origins["frames_per_clip"].key) == (
        "presets.base.media.detector",
        "media.frames_per_clip",
    )


@pytest.mark.parametrize("preset", ["bsae", {"text": "ngrams"}])
def test_an_unknown_preset_and_a_wrong_key_are_named(preset: object) -> None:
    with pytest.raises(BadSettings, match=r"no preset .*base"):
        of_dataset(Params({**TREE, "default_encoders": {"meld": preset}}), "meld")
    with pytest.raises(BadSettings, match=r"has no block presets; `merc-extract params` prints one to copy"):
        of_preset(Params({}), "base")
    wrong = {"presets": {"base": {"media": {"detectr": "yunet"}}}}
    with pytest.raises(BadSettings, match=r"unknown key media\.detectr"):
        of_preset(Params(wrong), "base")


def test_dvc_the_command_and_the_stage_resolve_the_same_settings(tmp_path: Path) -> None:
    text = PARAMS.read_text().replace(
        "build:\n", "build:\n  meld:\n    text: roberta_base\n    audio: wav2vec2_base\n    visual: vit_face\n", 1
    )
    (tmp_path / "params.yaml").write_text(text)
    params = Params.load(tmp_path / "params.yaml")
    found = resolve_all(params)
    for dataset, expected in (("meld", ("yunet", "active_speaker", 8)), ("demo-meld", ("haar", "speaking", 8))):
        order = Order.of(params, dataset, chosen_encoders(params, dataset, "text,audio,visual", ()))
        assert (
            found[f"datasets/{dataset}/media"]
            == order.media.model_dump(mode="json")
            == of_dataset(params, dataset).model_dump(mode="json")
        )
        assert told(order.media) == expected
