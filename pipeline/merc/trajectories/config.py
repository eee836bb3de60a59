"""Settings of the trajectories: the block ``trajectories``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator

from merc.errors import BadSettings, nearest
from merc.log import logger
from merc.params import Settings

if TYPE_CHECKING:
    from merc.trajectories.base import Similarity

POOLED = "pooled"
"""The only similarity that uses features instead of labels."""

_JOY, _SADNESS, _ANGER, _FEAR = (0.8, 0.4), (-0.7, -0.4), (-0.7, 0.7), (-0.7, 0.6)
VALENCE_AROUSAL = {
    "neutral": (0.0, 0.0),
    "joy": _JOY,
    "joyful": _JOY,
    "happy": _JOY,
    "happiness": _JOY,
    "excited": (0.7, 0.8),
    "powerful": (0.5, 0.5),
    "peaceful": (0.6, -0.5),
    "surprise": (0.2, 0.8),
    "sadness": _SADNESS,
    "sad": _SADNESS,
    "frustrated": (-0.6, 0.4),
    "anger": _ANGER,
    "angry": _ANGER,
    "mad": _ANGER,
    "fear": _FEAR,
    "scared": _FEAR,
    "disgust": (-0.6, 0.3),
}
"""Position of the emotions in the circumplex model: valence, arousal."""

_InPlane = Annotated[float, Field(ge=-1, le=1)]


class Config(Settings):
    """Which dialogues are compared, and how."""

    neighbours: int = Field(default=10, ge=1)
    """K, number of nearest dialogues that are written for each similarity."""
    similarities: tuple[Literal["histogram", "transition", "edit", "path", "path_speakers", "dtw", "pooled"], ...] = (
        Field(default=("histogram", "transition", "edit", "path", "path_speakers", "dtw", "pooled"), min_length=1)
    )
    """Which similarities are computed; ``pooled`` compares features (:mod:`merc.trajectories.pooled`), the others
    labels (:mod:`merc.trajectories.similarity`)."""
    exclude_same_scenario: bool = False
    """Whether dialogues of one scenario, a script or task of IEMOCAP, are excluded from being each other's neighbours;
    those of a script share their text.
    """
    path_bins: int = Field(default=8, ge=1, le=512)
    """R, bins to which trajectories are stretched for ``path``, ``path_speakers`` and ``dtw``."""
    speaker_slots: int = Field(default=4, ge=1, le=64)
    """Number of speakers that ``path_speakers`` distinguishes, by how much they speak; the rest share the last slot."""
    valence_arousal: dict[str, tuple[_InPlane, _InPlane]] = Field(default=VALENCE_AROUSAL)
    """Emotion → valence and arousal, -1 to 1, for ``dtw``; no two of a label set may be more than 2 apart."""
    pooled_modalities: tuple[Literal["text", "audio", "visual"], ...] = ("text", "audio", "visual")
    """Modalities that ``pooled`` uses, if the shards have them; all have the same weight."""
    order_permutations: int = Field(default=50, ge=0)
    """Shuffles behind ``order_excess_*`` of each neighbour; 0 leaves these columns out."""
    control_pairs: int = Field(default=200_000, ge=1)
    """Maximum number of pairs of train dialogues on which the controls in ``_controls.json`` are measured."""
    control_seed: int = Field(default=0, ge=0)
    """Determines the shuffles and which pairs are drawn."""

    @field_validator("similarities", "pooled_modalities")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} is named twice")
        return names

    @property
    def from_labels(self) -> list[str]:
        """The similarities that use labels."""
        return [name for name in self.similarities if name != POOLED]

    def fitting(self, classes: Sequence[str]) -> "Config":
        """These settings, without ``dtw`` if a class has no valence and arousal, as is possible in your own corpus; a
        warning says so.

        If ``dtw`` is the only similarity, it stays, and :meth:`similarity` raises an error.
        """
        missing = [one for one in classes if one not in self.valence_arousal]
        if not missing or "dtw" not in self.similarities or len(self.similarities) == 1:
            return self
        logger.warning(
            "no dtw: trajectories.valence_arousal has no %r; %s",
            missing[0],
            nearest(missing[0], list(self.valence_arousal)),
            extra={"missing": missing},
        )
        return self.model_copy(update={"similarities": tuple(name for name in self.similarities if name != "dtw")})

    def similarity(self, name: str, classes: Sequence[str]) -> "Similarity":
        """The label similarity with a name for these classes.

        Raises:
            BadSettings: if ``dtw`` is requested, and a class has no valence and arousal or two are too far apart.
        """
        import numpy as np

        from merc.trajectories.similarity import similarity

        if name != "dtw":
            return similarity(name, self.path_bins)
        missing = [one for one in classes if one not in self.valence_arousal]
        if missing:
            raise BadSettings(
                f"trajectories.valence_arousal has no {missing[0]!r}, which dtw needs;"
                f" {nearest(missing[0], list(self.valence_arousal))}"
            )
        try:
            return similarity(name, self.path_bins, np.array([self.valence_arousal[one] for one in classes]))
        except ValueError as error:
            raise BadSettings(f"trajectories.valence_arousal of {', '.join(classes)}: {error}") from error

    def modalities(self, there: Sequence[str]) -> list[str]:
        """The modalities that ``pooled`` uses, of those in the shards.

        Raises:
            BadSettings: if there is none.
        """
        wanted: tuple[str, ...] = self.pooled_modalities
        chosen = [name for name in there if name in wanted]
        if not chosen:
            raise BadSettings(
                f"trajectories.pooled_modalities: {', '.join(wanted) or 'none'}; the shards have"
                f" {', '.join(there) or 'none'}"
            )
        return chosen
