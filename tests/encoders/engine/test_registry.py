import importlib
from pathlib import Path

import pytest

from merc import plugins
from merc.encoders.engine.base import Encoder
from merc.encoders.engine.registry import build, choose, names
from merc.errors import BadSettings
from merc.layout import MODALITIES
from merc.params import Params


def test_every_encoder_that_ships_is_one_of_its_modality() -> None:
    params = Params.load()
    for modality in MODALITIES:
        for name in names(params, modality):
            chosen = choose(params, modality, name)
            assert (chosen.modality, chosen.name) == (modality, name)
            encoder = chosen.build()
            assert modality == encoder.MODALITY
            assert type(encoder) is plugins.load(f"merc.encoders.{modality}", encoder.config.family, Encoder)


def test_every_family_has_an_encoder() -> None:
    params = Params.load()
    for modality in MODALITIES:
        used = {choose(params, modality, name).config.family for name in names(params, modality)}
        assert used == set(plugins.names(f"merc.encoders.{modality}", Encoder))


def test_what_ships_needs_no_block() -> None:
    assert choose(Params({}), "visual", "gradients").config.family == "gradients"
    assert names(Params({"encoders": {"audio": None}}), "audio") == names(Params({}), "audio")


def test_a_block_overrides_what_ships_and_its_base() -> None:
    shipped = choose(Params({}), "text", "roberta_base").config
    tree = {
        "encoders": {"text": {"roberta_base": {"max_tokens": 77}, "mine": {"base": "roberta_base", "pooling": "first"}}}
    }
    changed, mine = (choose(Params(tree), "text", name).config for name in ("roberta_base", "mine"))
    assert changed == shipped.model_copy(update={"max_tokens": 77})
    assert mine == shipped.model_copy(update={"max_tokens": 77, "pooling": "first"})
    assert "mine" in names(Params(tree), "text")


def test_settings_that_are_handed_over_override_all() -> None:
    params = Params({"encoders": {"text": {"ngrams": {"word_dims": 8}}}})
    assert choose(params, "text", "ngrams", {"word_dims": 16}).config.model_dump()["word_dims"] == 16


def test_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(BadSettings, match=r"^no text encoder 'ngram'; did you mean 'ngrams'\? valid: "):
        build(Params.load(), "text", "ngram")


@pytest.mark.parametrize("name", ["../audio/ast", "transformer", "base", "", "os"])
def test_a_name_that_is_not_that_of_an_encoder_is_refused(name: str) -> None:
    with pytest.raises(BadSettings, match=f"^no text encoder '{name}'; .*valid: .*ngrams, roberta_base"):
        build(Params({}), "text", name)


def test_an_unknown_modality_gives_the_nearest() -> None:
    with pytest.raises(BadSettings, match=r"no modality 'video'.*valid: audio, text, visual"):
        build(Params.load(), "video", "gradients")


@pytest.mark.parametrize("block", [None, {}, {"family": 3}, {"max_tokens": 9}])
def test_a_block_without_family_is_refused(block: object) -> None:
    with pytest.raises(BadSettings, match=r"encoders.text.mine has no key family; valid: ngrams, transformer"):
        build(Params({"encoders": {"text": {"mine": block}}}), "text", "mine")


def test_a_block_that_is_invalid_is_refused() -> None:
    with pytest.raises(
        BadSettings, match=r"^params.yaml: encoders.text.mine is 'ngrams'; expected a block of keys and values$"
    ):
        build(Params({"encoders": {"text": {"mine": "ngrams"}}}), "text", "mine")


@pytest.mark.parametrize("family", ["ngrms", "../../evil", "base", "os"])
def test_an_unknown_family_gives_the_valid_ones(family: str) -> None:
    with pytest.raises(BadSettings, match="valid: ngrams, transformer"):
        build(Params({"encoders": {"text": {"mine": {"family": family}}}}), "text", "mine")


def test_a_wrong_key_is_named_in_full() -> None:
    params = Params.load(overrides=("encoders.visual.gradients.cell_px=15",))
    with pytest.raises(BadSettings, match=r"encoders.visual.gradients.*cell_px 15 does not divide size_px 64"):
        build(params, "visual", "gradients")
    params = Params({"encoders": {"text": {"ngrams": {"family": "ngrams", "word_dim": 3}}}})
    with pytest.raises(BadSettings, match=r"unknown key encoders.text.ngrams.word_dim; did you mean 'word_dims'"):
        build(params, "text", "ngrams")


@pytest.mark.parametrize("modality", MODALITIES)
def test_what_helps_the_families_and_is_next_to_them_is_none(
    modality: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = importlib.import_module(f"merc.encoders.{modality}")
    families = plugins.names(package.__name__, Encoder)
    (tmp_path / "layers.py").write_text(
        "from merc.encoders.engine.base import Encoder\ndef mean(layers): ...\nclass Layers: ...\n"
    )
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    assert "layers" in plugins.names(package.__name__)
    assert "layers" not in names(Params({}), modality)
    with pytest.raises(BadSettings, match=f"valid: {', '.join(names(Params({}), modality))}$"):
        build(Params({}), modality, "layers")
    for block in ({}, {"family": "layers"}):
        with pytest.raises(BadSettings, match=f"valid: {', '.join(families)}$"):
            build(Params({"encoders": {modality: {"mine": block}}}), modality, "mine")
