import pytest

from merc.corpora.engine.labels import LABEL_SETS, label_set
from merc.errors import BadSettings


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("meld7", ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")),
        ("iemocap6", ("happy", "sad", "neutral", "angry", "excited", "frustrated")),
        ("iemocap4", ("happy", "sad", "neutral", "angry")),
        ("iemocap4_merged", ("happy", "sad", "neutral", "angry")),
        ("emorynlp", ("joyful", "mad", "peaceful", "neutral", "sad", "powerful", "scared")),
        ("dailydialog", ("happiness", "neutral", "anger", "sadness", "fear", "surprise", "disgust")),
    ],
)
def test_the_classes_stand_in_the_order_of_the_feature_files(name: str, classes: tuple[str, ...]) -> None:
    assert label_set(name).classes == classes
    assert [label_set(name).index(emotion) for emotion in classes] == list(range(len(classes)))


@pytest.mark.parametrize(
    ("name", "emotion", "index"),
    [
        ("iemocap4", "excited", -1),
        ("iemocap4", "frustrated", -1),
        ("iemocap4_merged", "excited", 0),
        ("iemocap4_merged", "frustrated", -1),
        ("iemocap6", "excited", 4),
    ],
)
def test_the_two_meanings_of_four_classes_differ_in_excited_alone(name: str, emotion: str, index: int) -> None:
    assert label_set(name).index(emotion) == index


@pytest.mark.parametrize("emotion", ["undecided", "Neutral", ""])
def test_an_emotion_outside_the_set_has_no_class(emotion: str) -> None:
    assert {labels.index(emotion) for labels in LABEL_SETS.values()} == {-1}


def test_an_unknown_label_set_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadSettings, match="no label set 'iemocap5'; did you mean 'iemocap"):
        label_set("iemocap5")
