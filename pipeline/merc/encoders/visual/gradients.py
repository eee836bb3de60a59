"""Histograms of oriented gradients of the face, over the frames of an utterance. No model, no download.

HOG: Dalal and Triggs 2005 (CVPR), as OpenCV's ``HOGDescriptor`` computes it.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from merc.encoders.engine.base import Encoded, Encoder, EncoderConfig, UtteranceInput
from merc.encoders.engine.batching import one_by_one


class Gradients(Encoder):
    """Mean and standard deviation of the frames' descriptors, side by side.

    The mean describes the face, the deviation its motion; the deviation of a single frame is zero.
    """

    class Config(EncoderConfig):
        """Settings of the histograms; the default vectors have 648 numbers, mean and deviation of 324."""

        size_px: int = Field(default=64, ge=8)
        """Pixels; width and height to which crops are scaled."""
        cell_px: int = Field(default=16, ge=2)
        """Pixels; side of a cell, which has one histogram; a divisor of ``size_px``."""
        block_cells: int = Field(default=2, ge=1)
        """Cells along the side of a block, within which histograms are normalised; blocks move by one cell."""
        bins: int = Field(default=9, ge=2)
        """Directions in a histogram, over half a turn."""

        @model_validator(mode="after")
        def _cells_fill_the_picture(self) -> Self:
            if self.size_px % self.cell_px:
                raise ValueError(f"cell_px {self.cell_px} does not divide size_px {self.size_px}")
            if self.block_cells * self.cell_px > self.size_px:
                raise ValueError(
                    f"a block of {self.block_cells} cells of {self.cell_px} px is larger than the image of"
                    f" {self.size_px} px"
                )
            return self

        @property
        def histogram_dims(self) -> int:
            """Length of one frame's descriptor."""
            blocks = self.size_px // self.cell_px - self.block_cells + 1
            return blocks**2 * self.block_cells**2 * self.bins

    MODALITY = "visual"
    config: Config

    def provenance(self) -> dict[str, Any]:
        return self.rule_provenance(pooling="mean and standard deviation over frames")

    @property
    def dim(self) -> int:
        return 2 * self.config.histogram_dims

    def planned_dim(self) -> int:
        return self.dim

    def load(self, device: str) -> None:
        import cv2

        size, cell, block = self.config.size_px, self.config.cell_px, self.config.block_cells * self.config.cell_px
        self._hog = cv2.HOGDescriptor((size, size), (block, block), (cell, cell), (cell, cell), self.config.bins)
        if self._hog.getDescriptorSize() != self.config.histogram_dims:
            raise RuntimeError(
                f"OpenCV's descriptor has {self._hog.getDescriptorSize()} numbers, {self.config.histogram_dims} were"
                " expected"
            )

    def encode(self, utterances: Sequence[UtteranceInput]) -> Encoded:
        return one_by_one(utterances, self.dim, self._encode_one)

    def _encode_one(self, utterance: UtteranceInput) -> tuple[NDArray[np.float32] | None, list[tuple[str, str]]]:
        faces = utterance.faces
        if faces is None or faces.size == 0:
            return None, [("no_face", "there is no face crop")]
        frames = np.stack([self._describe(face) for face in faces]).astype(np.float64)
        vector = np.concatenate([frames.mean(axis=0), frames.std(axis=0)]).astype(np.float32)
        if not vector.any():
            return None, [("zero_vector", f"none of the {len(faces)} crops has an edge in it: each is of one colour")]
        return vector, []

    def _describe(self, face: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(histogram_dims,) descriptor of one crop, in grey and with its histogram equalised, to reduce the influence
        of light.
        """
        import cv2

        size = self.config.size_px
        grey = cv2.cvtColor(np.ascontiguousarray(face), cv2.COLOR_RGB2GRAY)
        # INTER_AREA averages when shrinking; when enlarging, it would copy pixels and so create edges.
        smaller = grey.shape[0] >= size and grey.shape[1] >= size
        scaled = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        return np.asarray(self._hog.compute(cv2.equalizeHist(scaled)), dtype=np.float32).reshape(-1)
