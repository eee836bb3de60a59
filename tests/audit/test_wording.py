"""Only letters and digits of the words count, in any script."""

import pytest

from merc.audit.wording import error_rate, letters, speech_rate


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("It's  NOT\tfunny…", "itsnotfunny"),
        ("[LAUGHTER] No. [BREATHING]", "no"),
        ("20 Stück für Größe", "20stückfürgrösse"),
        ("你好，世界！", "你好世界"),
        ("Ｈｅｌｌｏ １２", "hello12"),
        ("Zoe\u0301", "zo\u00e9"),
        ("हिन्दी", "हिन्दी"),
        ("♪ …!? —", ""),
        ("", ""),
    ],
)
def test_case_punctuation_spaces_and_remarks_are_left_out(text: str, kept: str) -> None:
    assert letters(text) == kept


@pytest.mark.parametrize(
    ("text", "heard", "error"),
    [
        ("The child almost hurt the small dog.", "the child almost hurt the small dog", 0.0),
        ("dog", "god", 2 / 3),
        ("Oh.", "[BLANK_AUDIO]", 1.0),
        ("Oh.", "(gentle music)", 1.0),
        ("no", "no no no no", 3.0),
        ("我不知道", "我知道", 0.25),
        ("...", "anything", None),
        ("", "", None),
    ],
)
def test_the_error_is_of_the_letters_of_the_official_text(text: str, heard: str, error: float | None) -> None:
    assert error_rate(text, heard) == (None if error is None else pytest.approx(error))


def test_a_sign_of_a_syllable_counts_as_three_letters_so_that_one_range_does_for_all_scripts() -> None:
    assert speech_rate("我不知道你", 1.0) == 15
    assert speech_rate("안녕", 0.5) == 12
    assert speech_rate("!", 2.0) is None
