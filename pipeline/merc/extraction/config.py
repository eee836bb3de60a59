"""Settings of the extraction: the block ``extraction``."""

from typing import Literal

from pydantic import PositiveInt

from merc.params import Settings


class Config(Settings):
    """How many utterances are encoded at a time, and what is kept of them.

    Parts are split at dialogue boundaries. Neural encoders sort a whole part by length, so larger parts need less
    padding; an interrupted run loses the part in progress.
    """

    utterances_per_part: PositiveInt = 512
    """Utterances of text per part, for encoders that run in worker processes; audio and faces are divided like the
    media.
    """
    neural_texts_per_part: PositiveInt = 4096
    """Utterances of text per part, for encoders that run on one device."""
    neural_clips_per_part: PositiveInt = 1024
    """Audio clips per part, in whole media parts, for encoders that run on one device; 1,024 clips of 3 s take 200 MB.
    """
    level: Literal["utterance", "sequences"] = "utterance"
    """``utterance`` keeps one vector per utterance; ``sequences`` also what it was pooled from (tokens, 20 ms audio
    frames, face crops), in separate tables.
    """
