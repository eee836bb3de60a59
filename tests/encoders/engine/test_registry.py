import pytest
from merc import plugins
from merc.encoders.engine.base import Encoder
from merc.encoders.engine.registry import build, names
from merc.errors import BadSettings
from merc.layout import MODALITIES
from merc.params import Params


def test_every_block_of_params_yaml_makes_an_encoder_of_its_modality() -> None:
    params = Params.load()
    for modality in MODALITIES:
        for name in names(params, modality):
            encoder = build(params, modality, name)
            assert modality == encoder.MODALITY
            assert encoder.config.family == params.get(f"encoders.{modality}.{name}.family")


def test_every_family_has_a_block() -> None:
    params = Params.load()
    for modality in MODALITIES:
        used = {params.get(f"encoders.{modality}.{name}.family") for name in names(params, modality)}
        assert used == set(plugins.names(f"merc.encoders.{modality}", Encoder))


def test_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(BadSettings, match=r"no text encoder 'ngram' under encoders.text.*did you mean 'ngrams'"):
        build(Params.load(), "text", "ngram")


def test_an_unknown_modality_gives_the_nearest() -> None:
    with pytest.raises(BadSettings, match=r"no modality 'video'.*valid: audio, text, visual"):
        build(Params.load(), "video", "gradients")


def test_a_modality_without_a_block_is_named() -> None:
    with pytest.raises(BadSettings, match="visual"):
        build(Params({"encoders": {"text": {}}}), "visual", "gradients")


def test_an_empty_modality_has_no_names() -> None:
    with pytest.raises(BadSettings, match="valid: none"):
        build(Params({"encoders": {"audio": None}}), "audio", "acoustic")


@pytest.mark.parametrize("block", [None, {}, {"family": 3}, "ngrams"])
def test_a_block_without_family_is_refused(block: object) -> None:
    with pytest.raises(BadSettings, match=r"encoders.text.mine has no key family; valid: ngrams, transformer"):
        build(Params({"encoders": {"text": {"mine": block}}}), "text", "mine")


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
