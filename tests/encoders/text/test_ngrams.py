import numpy as np
import pytest

from merc.encoders.engine.base import UtteranceInput
from merc.encoders.text.ngrams import CUE_NAMES, Ngrams, cues, tokens, word_ngrams


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I am not happy, but fine.", ["i", "am", "not", "not_happy", ",", "but", "fine", "."]),
        ("I don’t like it! Good", ["i", "don't", "not_like", "not_it", "!", "good"]),
        ("Never ever; yes", ["never", "not_ever", ";", "yes"]),
        ("No no [LAUGHTER] way", ["no", "not_no", "[laughter]", "not_way"]),
        ("That is sooooo good!!!", ["that", "is", "soo", "<elongated>", "good", "!!"]),
        ("What?? Wait...... ok", ["what", "??", "wait", "...", "ok"]),
        ("Well\u2026 \u201cright\u201d", ["well", "...", '"', "right", '"']),
        ("ＦＵＬＬ width", ["full", "width"]),
        ("", []),
    ],
)
def test_tokens(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


def test_quotes_and_case_make_no_difference_to_words() -> None:
    assert tokens("IT\u2019S fine") == tokens("it's FINE") == tokens("it\u0092s fine")


def test_ngrams_do_not_reach_beyond_the_text() -> None:
    assert word_ngrams("so", 1, 3) == ["so"]
    assert word_ngrams("", 1, 2) == []


def test_cues_are_literal() -> None:
    found = dict(zip(CUE_NAMES, cues(["NO way!! [LAUGHTER]"])[0], strict=True))
    assert found == pytest.approx(
        {
            "length": np.log1p(19) / 5,
            "capitals": 2 / 5,
            "exclamation": np.log(3),
            "question": 0.0,
            "ellipsis": 0.0,
            "elongation": 0.0,
            "negation": np.log(2),
            "tags": np.log(2),
        }
    )


def test_the_parts_have_length_one(ngrams: Ngrams) -> None:
    vector = ngrams.encode([UtteranceInput(utterance_id="a", text="I love this so much")]).embeddings[0]
    assert np.linalg.norm(vector[:384]) == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(vector[384:504]) == pytest.approx(1, abs=1e-6)


def test_negation_changes_the_vector_as_much_as_another_word(ngrams: Ngrams) -> None:
    texts = ("I am happy now", "I am not happy now")
    first, second = ngrams.encode([UtteranceInput(utterance_id=text, text=text) for text in texts]).embeddings[:, :384]
    assert first @ second < 0.6  # without the mark the two would share seven of their n-grams: above 0.7


@pytest.mark.parametrize("text", ["?", "…", "\u200b", "😀", "___", "[", "1"])
def test_a_text_of_one_odd_sign_is_present(ngrams: Ngrams, text: str) -> None:
    encoded = ngrams.encode([UtteranceInput(utterance_id="a", text=text)])
    assert encoded.present.all()
    assert encoded.embeddings.any()


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u00a0"])
def test_an_empty_text_is_absent(ngrams: Ngrams, text: str) -> None:
    encoded = ngrams.encode([UtteranceInput(utterance_id="a", text=text)])
    assert not encoded.present.any()
    assert encoded.remarks == [(0, "no_text", "the transcript is empty")]


@pytest.mark.parametrize("change", [{"word_dims": 0}, {"char_ngrams": (3, 2)}, {"word_ngrams": (0, 1)}])
def test_impossible_settings_are_refused(change: dict[str, object]) -> None:
    good = {"family": "ngrams", "word_dims": 4, "char_dims": 4, "word_ngrams": (1, 2), "char_ngrams": (2, 4)}
    assert Ngrams(Ngrams.Config(**good)).dim == 16
    with pytest.raises(ValueError, match=next(iter(change))):
        Ngrams.Config(**{**good, **change})
