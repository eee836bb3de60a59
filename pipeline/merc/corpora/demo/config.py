"""Settings of the demonstration corpus: the block ``demo``."""

from pydantic import Field

from merc.params import Settings


class Config(Settings):
    """How large the corpus is, and how plainly it shows its emotions.

    Each modality errs independently: if one misleads, that says nothing about the other two.
    """

    seed: int = Field(default=7, ge=0)
    """Determines the whole corpus."""
    meld_train_dialogues: int = Field(default=14, ge=3)
    """Dialogues in the train split of demo-meld; the minimum for each split includes all its odd clips."""
    meld_dev_dialogues: int = Field(default=4, ge=1)
    """Dialogues in the dev split of demo-meld."""
    meld_test_dialogues: int = Field(default=6, ge=2)
    """Dialogues in the test split of demo-meld."""
    iemocap_dialogues: int = Field(default=8, ge=1, le=8)
    """The first ones of :data:`merc.corpora.demo.iemocap_layout.DIALOGUES`."""
    iemocap_turns: int = Field(default=16, ge=8, le=40)
    """Utterances in each dialogue of demo-iemocap."""
    clip_seconds_min: float = Field(default=1.0, ge=0.8)
    """Seconds; length of the shortest utterance."""
    clip_seconds_max: float = Field(default=1.6, le=10)
    """Seconds; length of the longest utterance."""
    misleading_words: float = Field(default=0.22, ge=0, le=1)
    """Probability that the words show another emotion than the labelled one."""
    misleading_voice: float = Field(default=0.22, ge=0, le=1)
    """Probability that the voice shows another emotion than the labelled one."""
    misleading_face: float = Field(default=0.22, ge=0, le=1)
    """Probability that the face shows another emotion than the labelled one."""
    unexpected_turns: float = Field(default=0.12, ge=0, le=1)
    """Probability that a turn departs from its dialogue's trajectory."""
