"""Settings of the demonstration corpus: the block ``demo`` of params.yaml."""

from pydantic import Field

from merc.params import Settings


class Config(Settings):
    """The block ``demo`` of params.yaml.

    Attributes:
        seed: the whole corpus follows from it.
        meld_train_dialogues, meld_dev_dialogues, meld_test_dialogues: how many; the least numbers hold all odd clips.
        iemocap_dialogues: the first so many of :data:`merc.corpora.demo.iemocap_layout.DIALOGUES`.
        iemocap_turns: utterances in each of them.
        clip_seconds_min, clip_seconds_max: lengths of the utterances.
        misleading_words, misleading_voice, misleading_face: probability that a modality shows another emotion than the labelled one.
        unexpected_turns: probability that a turn departs from its dialogue's trajectory.
    """

    seed: int = Field(ge=0)
    meld_train_dialogues: int = Field(ge=3)
    meld_dev_dialogues: int = Field(ge=1)
    meld_test_dialogues: int = Field(ge=2)
    iemocap_dialogues: int = Field(ge=1, le=8)
    iemocap_turns: int = Field(ge=8, le=40)
    clip_seconds_min: float = Field(ge=0.8)
    clip_seconds_max: float = Field(le=10)
    misleading_words: float = Field(ge=0, le=1)
    misleading_voice: float = Field(ge=0, le=1)
    misleading_face: float = Field(ge=0, le=1)
    unexpected_turns: float = Field(ge=0, le=1)
