"""The contract of an encoder: it takes utterances and returns one vector for each.

A new family is one file in ``text/``, ``audio/`` or ``visual/``, and its test. An encoder of the family that needs more
than its defaults, such as a checkpoint, is a YAML file next to it, whose ``family`` names the file
(:mod:`merc.encoders.engine.registry`). Heavy libraries are imported in :meth:`Encoder.load`, never at the top of the
file: ``--dry-run`` imports these files and must not wait for torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from merc.errors import BadSettings
from merc.params import Settings


@dataclass(frozen=True, kw_only=True)
class UtteranceInput:
    """The input of an encoder; the runner fills in what its modality needs.

    Attributes:
        utterance_id: for messages.
        text: the transcript.
        speaker: the speaker's name.
        history: earlier turns of the dialogue as (speaker, text), oldest first; up to
            :attr:`Encoder.history_turns`.
        waveform: (samples,) float32 in [-1, 1], 16 kHz mono; None if there is no audio.
        faces: (frames, height, width, 3) uint8 RGB, square crops of one person; None if there is no face.
        face_seconds: (frames,) float32, from the utterance's start.
        face_scores: (frames,) float32, the detector's confidence, 0 to 1.
    """

    utterance_id: str
    text: str = ""
    speaker: str = ""
    history: tuple[tuple[str, str], ...] = ()
    waveform: NDArray[np.float32] | None = None
    faces: NDArray[np.uint8] | None = None
    face_seconds: NDArray[np.float32] | None = None
    face_scores: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class EncodedSequence:
    """What an utterance's vector was pooled from.

    Attributes:
        vectors: (length, sequence_dim) float16: tokens, pieces of audio (20 ms for most models), face crops; in order,
            without padding.
        seconds: (length,) float32, the middle of each, from the utterance's start; empty for tokens.
    """

    vectors: NDArray[np.float16]
    seconds: NDArray[np.float32]


@dataclass
class Encoded:
    """Vectors of a batch, in the order of its utterances.

    Attributes:
        embeddings: (utterances, dim) float32; zeros where ``present`` is False.
        present: (utterances,) bool.
        remarks: (index, reason, detail): why a vector is absent, and what was padded or truncated; reasons are keys of
            :data:`merc.records.failures.REASONS`. Every absent vector has one.
        sequences: one per utterance, None where absent; an empty list if they were not requested.
    """

    embeddings: NDArray[np.float32]
    present: NDArray[np.bool_]
    remarks: list[tuple[int, str, str]] = field(default_factory=list)
    sequences: list[EncodedSequence | None] = field(default_factory=list)


class EncoderConfig(Settings):
    """Settings of every encoder; a family's own ``Config`` extends it."""

    family: str
    """File that implements the encoder, in the folder of its modality."""


class Encoder(ABC):
    """A frozen model, or a fixed rule, that turns an utterance into a vector.

    An utterance's vector does not depend on the other utterances in its batch (cosine at least 0.9999 in float32).

    Args:
        config: an instance of the family's ``Config``.
        offline: never contact a model hub.
        sequences: also keep what the vectors are pooled from (:class:`EncodedSequence`).

    Raises:
        BadSettings: if sequences are requested and the family has none.
    """

    Config: ClassVar[type[EncoderConfig]] = EncoderConfig
    MODALITY: ClassVar[str]
    VERSION: ClassVar[int] = 1
    """Incremented whenever the same settings give different vectors; part of the fingerprint."""
    ACCELERATED: ClassVar[bool] = False
    """True: batches on one device in the main process. False: parts are spread over worker processes."""
    HAS_SEQUENCES: ClassVar[bool] = False
    """Whether the family can return :class:`EncodedSequence`."""

    history_turns: int = 0

    def __init__(self, config: EncoderConfig, *, offline: bool = False, sequences: bool = False) -> None:
        if sequences and not self.HAS_SEQUENCES:
            raise BadSettings(
                f"encoders of the family {config.family} give one vector per utterance and no sequences; choose a"
                " neural encoder, or --level utterance"
            )
        self.config = config
        self.offline = offline
        self.sequences = sequences

    def identity(self) -> dict[str, Any]:
        """What determines the vectors: settings, and the revision or content hash of a checkpoint. JSON-able, without
        local paths.

        Called before :meth:`load` and without importing torch.

        Raises:
            ModelUnavailable: if a checkpoint is not on this machine and must not or cannot be downloaded.
        """
        return {**self.config.model_dump(mode="json"), "version": self.VERSION}

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """For the shards' metadata: ``encoder, revision, layer, pooling, sample_rate_hz, licence,
        training_data_overlap``, and more where useful.
        """

    def rule_provenance(self, *, pooling: str, sample_rate_hz: int | None = None, **more: Any) -> dict[str, Any]:
        """:meth:`provenance` of an encoder that is a fixed rule of this package, without a checkpoint.

        Args:
            pooling: description.
            sample_rate_hz: sample rate of the audio it reads; None for another modality.
            more: further keys, or different values for the usual ones.
        """
        return {
            "encoder": self.config.family,
            "revision": f"version {self.VERSION}",
            "layer": None,
            "pooling": pooling,
            "sample_rate_hz": sample_rate_hz,
            "licence": "Apache-2.0",
            "training_data_overlap": "none: nothing is fitted",
            **more,
        }

    def terms(self) -> dict[str, str]:
        """``licence`` and ``training_data_overlap`` of a third-party rule, which must be known before it is installed;
        empty for all other encoders.
        """
        return {}

    @property
    @abstractmethod
    def dim(self) -> int:
        """Length of the vectors; known after :meth:`load`."""

    @property
    def sequence_dim(self) -> int:
        """Length of a frame's vector; known after :meth:`load`."""
        return self.dim

    def planned_dim(self) -> int | None:
        """:attr:`dim` if it is known before :meth:`load` (for dry runs), else None."""
        return None

    def missing(self) -> str | None:
        """The command that fetches or installs what :meth:`load` needs and this machine does not have; None if nothing
        is missing. Never contacts a hub.

        Raises:
            BadSettings: if the existing files are refused.
        """
        return None

    @abstractmethod
    def load(self, device: str) -> None:
        """Prepares for encoding.

        Args:
            device: ``cpu``, ``cuda:0``, …; already resolved, never ``auto``.

        Raises:
            ModelUnavailable: see :meth:`identity`.
            BadSettings: if the checkpoint does not have the requested layer or pooling.
        """

    @abstractmethod
    def encode(self, utterances: Sequence[UtteranceInput]) -> Encoded:
        """Encodes any number of utterances in any order; batches them internally by length."""
