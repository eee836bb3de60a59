"""Settings of the trajectories: the block ``trajectories`` of params.yaml."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from merc.errors import BadSettings, nearest
from merc.log import logger
from merc.params import Settings
from merc.trajectories.base import Similarity
from merc.trajectories.similarity import similarity

POOLED = "pooled"
"""The one similarity that looks at features instead of labels."""

_InPlane = Annotated[float, Field(ge=-1, le=1)]


class Config(Settings):
    """Settings of the trajectories.

    Attributes:
        neighbours: K, how many nearest dialogues are written for each similarity.
        similarities: which ones; see :mod:`merc.trajectories.similarity` and :mod:`merc.trajectories.pooled`.
        exclude_same_scenario: whether dialogues of one scenario (of which IEMOCAP's scripted ones share the very text) are kept from
            being each other's neighbours.
        path_bins: R of ``path``, ``path_speakers`` and ``dtw``.
        speaker_slots: of ``path_speakers``: how many speakers are told apart; the others count as one more turn of the last.
        valence_arousal: of ``dtw``: emotion → valence and arousal, -1 to 1; no two of a label set may be more than 2 apart.
        pooled_modalities: of ``pooled``: those of these that the shards have.
        order_permutations: shuffles behind the order excess of each neighbour; 0: none is computed.
        control_pairs: the most pairs of train dialogues on which the controls are measured.
        control_seed: of shuffles and of drawn pairs.
    """

    neighbours: int = Field(ge=1)
    similarities: tuple[Literal["histogram", "transition", "edit", "path", "path_speakers", "dtw", "pooled"], ...] = Field(min_length=1)
    exclude_same_scenario: bool
    path_bins: int = Field(ge=1, le=512)
    speaker_slots: int = Field(ge=1, le=64)
    valence_arousal: dict[str, tuple[_InPlane, _InPlane]]
    pooled_modalities: tuple[Literal["text", "audio", "visual"], ...]
    order_permutations: int = Field(ge=0)
    control_pairs: int = Field(ge=1)
    control_seed: int = Field(ge=0)

    @field_validator("similarities", "pooled_modalities")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} is named twice")
        return names

    @property
    def from_labels(self) -> list[str]:
        """The similarities that look at labels."""
        return [name for name in self.similarities if name != POOLED]

    def fitting(self, classes: Sequence[str]) -> "Config":
        """These settings, without ``dtw`` where a class has no valence and arousal, as those of a corpus of one's own may; a warning says so.

        Where ``dtw`` is the only similarity it stays, and :meth:`similarity` raises.
        """
        missing = [one for one in classes if one not in self.valence_arousal]
        if not missing or "dtw" not in self.similarities or len(self.similarities) == 1:
            return self
        logger.warning(
            "no dtw: trajectories.valence_arousal has no %r; %s", missing[0], nearest(missing[0], list(self.valence_arousal)), extra={"missing": missing}
        )
        return self.model_copy(update={"similarities": tuple(name for name in self.similarities if name != "dtw")})

    def similarity(self, name: str, classes: Sequence[str]) -> Similarity:
        """The label similarity of that name for these classes.

        Raises:
            BadSettings: if ``dtw`` is asked for, and a class has no valence and arousal or two are too far apart.
        """
        if name != "dtw":
            return similarity(name, self.path_bins)
        missing = [one for one in classes if one not in self.valence_arousal]
        if missing:
            raise BadSettings(f"trajectories.valence_arousal has no {missing[0]!r}, which dtw needs; {nearest(missing[0], list(self.valence_arousal))}")
        try:
            return similarity(name, self.path_bins, np.array([self.valence_arousal[one] for one in classes]))
        except ValueError as error:
            raise BadSettings(f"trajectories.valence_arousal of {', '.join(classes)}: {error}") from error

    def modalities(self, there: Sequence[str]) -> list[str]:
        """The modalities that ``pooled`` looks at, of those the shards have.

        Raises:
            BadSettings: if there is none.
        """
        wanted: tuple[str, ...] = self.pooled_modalities
        chosen = [name for name in there if name in wanted]
        if not chosen:
            raise BadSettings(f"trajectories.pooled_modalities: {', '.join(wanted) or 'none'}; the shards have {', '.join(there) or 'none'}")
        return chosen
