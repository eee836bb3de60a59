"""Frozen models and fixed rules that turn utterances into vectors. :func:`encoder` returns one by its name, without a
settings file; every public class of the files here can be imported from this package.

from merc.encoders import UtteranceInput, encoder
"""

from typing import TYPE_CHECKING, Any

from merc import plugins
from merc.params import Params

if TYPE_CHECKING:
    from merc.encoders.engine.base import Encoder

__getattr__, __dir__ = plugins.exports(__name__)


def encoder(modality: str, name: str, *, offline: bool = False, sequences: bool = False, **settings: Any) -> "Encoder":
    """An encoder of the package, or a family that needs only its settings; nothing is loaded yet.

    Args:
        modality: ``text``, ``audio`` or ``visual``.
        name: of ``merc-extract models``, such as ``roberta_base``.
        offline: never contact a model hub.
        sequences: also keep what the vectors are pooled from.
        settings: keys of the encoder's ``Config``, which override its file. No params.yaml is read.

    Raises:
        BadSettings: if there is no such modality, encoder or key (the message gives the nearest), or a value is
            invalid.

    Example:
        >>> from merc.encoders import UtteranceInput
        >>> ngrams = encoder("text", "ngrams", word_dims=64)
        >>> ngrams.load("cpu")
        >>> ngrams.encode([UtteranceInput(utterance_id="a", text="Hello there!")]).embeddings.shape == (1, ngrams.dim)
        True
    """
    from merc.encoders.engine.registry import choose  # which imports numpy; listing families imports nothing

    return choose(Params({}), modality, name, settings, "the caller").build(offline=offline, sequences=sequences)
