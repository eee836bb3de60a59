"""Statistics of the voice by openSMILE: eGeMAPS, ComParE, emobase. An extra, since its licence forbids commercial
products.

openSMILE: Eyben, Wöllmer and Schuller 2010 (ACM Multimedia). eGeMAPS: Eyben et al. 2016 (IEEE Trans. Affective
Computing 7(2)).
ComParE 2016: Schuller et al. 2016 (Interspeech). emobase: the set of the openEAR toolkit, Eyben, Wöllmer and Schuller
2009.
"""

from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from merc import extras
from merc.encoders.engine.base import Encoded, Encoder, EncoderConfig, UtteranceInput
from merc.encoders.engine.batching import one_by_one
from merc.encoders.engine.sound import why_absent
from merc.errors import MissingExtra
from merc.records.media import SAMPLE_RATE_HZ

DIMS = {"eGeMAPSv02": 88, "ComParE_2016": 6373, "emobase": 988}
LICENCE = "audEERING Research License (private, research and educational use; no commercial products)"
LARGEST_SAMPLE = 32767 / 32768


class Functionals(Encoder):
    """openSMILE's unscaled functionals of a clip: unlike those of ``acoustic``, they have very different magnitudes.

    Numbers that openSMILE leaves undefined are zero, which is also its pitch for a clip without any.
    """

    class Config(EncoderConfig):
        """Settings of openSMILE."""

        feature_set: Literal["eGeMAPSv02", "ComParE_2016", "emobase"] = "eGeMAPSv02"
        """OpenSMILE's name of the set; eGeMAPSv02 has 88 numbers, ComParE_2016 6,373, emobase 988."""
        minimum_seconds: float = Field(default=0.1, ge=0.06)
        """Seconds; shorter clips are padded with zeros to this length, and recorded; openSMILE gives nothing for less
        than its window of 60 ms."""

    MODALITY = "audio"
    config: Config

    @cached_property
    def _version(self) -> str:
        """Version of the package; its features have changed between versions."""
        try:
            return version("opensmile")
        except PackageNotFoundError as error:
            raise MissingExtra(_how_to_get()) from error

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "opensmile": self._version}

    def provenance(self) -> dict[str, Any]:
        return self.rule_provenance(
            encoder=f"openSMILE {self.config.feature_set}",
            revision=f"opensmile {self._version}, version {self.VERSION}",
            pooling="functionals over frames",
            sample_rate_hz=SAMPLE_RATE_HZ,
            **self.terms(),
            feature_set=self.config.feature_set,
        )

    def terms(self) -> dict[str, str]:
        return {"licence": LICENCE, "training_data_overlap": "none: nothing is fitted"}

    @property
    def dim(self) -> int:
        return DIMS[self.config.feature_set]

    def planned_dim(self) -> int:
        return self.dim

    def missing(self) -> str | None:
        return None if find_spec("opensmile") else extras.command("opensmile")

    def load(self, device: str) -> None:
        try:
            import opensmile
        except ImportError as error:
            raise MissingExtra(f"{_how_to_get()} ({error})") from error
        self._smile = opensmile.Smile(
            feature_set=opensmile.FeatureSet[self.config.feature_set],
            feature_level=opensmile.FeatureLevel.Functionals,
            num_workers=1,
        )
        if self._smile.num_features != self.dim:
            raise RuntimeError(
                f"openSMILE's {self.config.feature_set} has {self._smile.num_features} numbers, expected {self.dim}"
            )

    def encode(self, utterances: Sequence[UtteranceInput]) -> Encoded:
        return one_by_one(utterances, self.dim, self._encode_one)

    def _encode_one(self, utterance: UtteranceInput) -> tuple[NDArray[np.float32] | None, list[tuple[str, str]]]:
        waveform = np.zeros(0, dtype=np.float32) if utterance.waveform is None else utterance.waveform
        absent = why_absent(waveform)
        if absent is not None:
            return None, [absent]
        remarks = []
        beyond = int((np.abs(waveform) > 1).sum())
        if beyond:
            remarks.append(("clipped", f"{beyond} of {waveform.size} samples beyond full scale were limited"))
        # openSMILE's 16-bit samples wrap around: 1.0 would become -1.0.
        sound = np.clip(waveform, -1.0, LARGEST_SAMPLE)
        least = round(self.config.minimum_seconds * SAMPLE_RATE_HZ)
        if sound.size < least:
            remarks.append(
                ("padded", f"from {sound.size / SAMPLE_RATE_HZ:.4f} to {least / SAMPLE_RATE_HZ:.4f} s with zeros")
            )
            sound = np.pad(sound, (0, least - sound.size))
        vector = np.asarray(self._smile(sound, SAMPLE_RATE_HZ), dtype=np.float32).reshape(-1)
        known = np.isfinite(vector)
        if not known.any():
            return None, [("not_finite", f"none of openSMILE's {vector.size} numbers is finite")]
        if not known.all():
            first = self._smile.feature_names[int(np.flatnonzero(~known)[0])]
            remarks.append(
                (
                    "partly_undefined",
                    (
                        f"{int((~known).sum())} of {vector.size} numbers are not finite and set to zero, the first is"
                        f" {first}"
                    ),
                )
            )
        vector = np.where(known, vector, np.float32(0))
        if not vector.any():
            return None, [("zero_vector", f"all of openSMILE's {vector.size} numbers are zero")]
        return vector, remarks


def _how_to_get() -> str:
    return (
        f"encoders of the family functionals need openSMILE, which is not installed: {extras.command('opensmile')}."
        f" Its licence, the {LICENCE}, is why it is never installed by default; the encoder acoustic needs no extra"
    )
