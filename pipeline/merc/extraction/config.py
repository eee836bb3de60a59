"""Settings of the extraction: the block ``extraction`` of params.yaml."""

from typing import Literal

from pydantic import PositiveInt

from merc.params import Settings


class Config(Settings):
    """Settings of the block ``extraction``.

    Attributes:
        utterances_per_part: of text, for encoders that run in worker processes; those of sound and faces take the media parts as they are.
        neural_texts_per_part, neural_clips_per_part: for encoders that run on one device. A part is sorted by length as a whole, so that larger
            ones need less padding; an interrupted run loses the one it was at. Clips come in whole media parts.
        level: ``utterance`` keeps one vector per utterance; ``frames`` also what it was pooled from.
    """

    utterances_per_part: PositiveInt
    neural_texts_per_part: PositiveInt
    neural_clips_per_part: PositiveInt
    level: Literal["utterance", "frames"]
