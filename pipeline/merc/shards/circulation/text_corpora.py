"""EmoryNLP and DailyDialog, which are only available as COSMIC's files: their origin, and the benchmark's number of
utterances of each emotion.

EmoryNLP's counts are those of its tables in declare-lab/MELD (``data/emorynlp``), DailyDialog's those of its
distribution.
"""

from collections.abc import Mapping
from types import MappingProxyType

SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "emorynlp": (
            "EmoryNLP: transcripts of the series Friends with emotions by utterance (Zahiri and Choi, Emotion Detection"
            " on TV Show Transcripts with Sequence-based Convolutional Neural Networks, 2018):"
            " <https://github.com/emorynlp/emotion-detection>. Dialogues are named season_episode_scene."
        ),
        "dailydialog": (
            "DailyDialog: dialogues written for learners of English (Li et al., DailyDialog: A Manually Labelled"
            " Multi-turn Dialogue Dataset, 2017): <http://yanran.li/dailydialog>."
        ),
    }
)

DIALOGUES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {"emorynlp": {"train": 659, "dev": 89, "test": 79}, "dailydialog": {"train": 11118, "dev": 1000, "test": 1000}}
)

EMOTIONS: Mapping[str, Mapping[str, Mapping[str, int]]] = MappingProxyType(
    {
        "emorynlp": {
            "train": {
                "joyful": 1677,
                "mad": 785,
                "peaceful": 638,
                "neutral": 2485,
                "sad": 474,
                "powerful": 551,
                "scared": 941,
            },
            "dev": {"joyful": 205, "mad": 97, "peaceful": 82, "neutral": 322, "sad": 51, "powerful": 70, "scared": 127},
            "test": {
                "joyful": 217,
                "mad": 86,
                "peaceful": 111,
                "neutral": 288,
                "sad": 70,
                "powerful": 96,
                "scared": 116,
            },
        },
        "dailydialog": {
            "train": {
                "happiness": 11182,
                "neutral": 72143,
                "anger": 827,
                "sadness": 969,
                "fear": 146,
                "surprise": 1600,
                "disgust": 303,
            },
            "dev": {
                "happiness": 684,
                "neutral": 7108,
                "anger": 77,
                "sadness": 79,
                "fear": 11,
                "surprise": 107,
                "disgust": 3,
            },
            "test": {
                "happiness": 1019,
                "neutral": 6321,
                "anger": 118,
                "sadness": 102,
                "fear": 17,
                "surprise": 116,
                "disgust": 47,
            },
        },
    }
)
