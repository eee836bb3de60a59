"""SFace: a small network that tells faces apart, through OpenCV's ``FaceRecognizerSF``; 128 numbers per face, on the
CPU.

Model: Zhong, Deng, Hu, Zhao, Li and Wen 2021, "SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition"
(IEEE TIP 30); ``face_recognition_sface_2021dec.onnx`` of https://github.com/opencv/opencv_zoo. The file is data: an
ONNX graph contains no code.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from merc import files
from merc.encoders.engine import crops
from merc.encoders.engine.base import Encoded, Encoder, EncoderConfig, UtteranceInput
from merc.encoders.engine.checkpoint import Checkpoint
from merc.errors import BadSettings, ModelUnavailable
from merc.records.media import EYE_DISTANCE_SHARE, EYE_HEIGHT_SHARE

INPUT_PX = 112
# Positions of the eyes in the network's training images, in pixels: left and right as seen. Taken from the five points
# that OpenCV's `FaceRecognizerSF.alignCrop` aligns to, which are those of ArcFace.
EYES_XY = np.array([[38.2946, 51.6963], [73.5318, 51.5014]])
_POINTER = b"version https://git-lfs"
_FIRST_FIELD = b"\x08"  # of an ONNX model: its ir_version, a number


@dataclass(frozen=True)
class OnnxFile(Checkpoint):
    """The origin of a single-file model: ``repo`` is a folder that contains it, or a name on the hub.

    Args:
        filename: name in the folder or on the hub.
        sha256: the required hash, hex; empty: any.
    """

    filename: str = ""
    sha256: str = ""

    def identity(self) -> dict[str, str]:
        """``{"sha256": …}`` of the file, wherever it comes from. Raises as :meth:`Checkpoint.identity`."""
        if self.sha256 and not self.is_folder and not self.offline:
            self._ask_hub((self.filename,), dry_run=True)
            return {"sha256": self.sha256}
        return {"sha256": files.sha256(self.fetch())}

    def fetch(self) -> Path:
        """The path of the file; downloads it if it is missing, unless offline. Raises as :meth:`Checkpoint.fetch`."""
        folder = Path(self.repo) if self.is_folder else self._snapshot((self.filename,))
        path = folder / self.filename
        if not path.is_file():
            if self.is_folder:
                raise ModelUnavailable(f"there is no {self.filename} in the folder {self.repo}")
            if self.offline:
                raise ModelUnavailable(
                    f"the model {self._name} is not in the local cache. With a network, this downloads it:\n"
                    f"  {self.command}"
                )
            raise BadSettings(f"{self._name}: has no file {self.filename}")
        with path.open("rb") as file:
            first = file.read(len(_POINTER))
        if first == _POINTER:
            raise ModelUnavailable(f"{path}: a pointer of Git LFS instead of the model; run `git lfs pull` there")
        if self.sha256 and (found := files.sha256(path)) != self.sha256:
            raise ModelUnavailable(
                f"{path}: its sha256 is {found}, the settings state {self.sha256}; download it again, or set the"
                " sha256 of this file if it is the one you want"
            )
        if not first.startswith(_FIRST_FIELD):
            raise BadSettings(f"{path}: begins with {first[:8]!r}, as no ONNX model does")
        return path

    def bytes_on_disk(self) -> int:
        return replace(self, offline=True).fetch().stat().st_size if self.is_here() else 0

    def bytes_to_fetch(self) -> int:
        return (
            0
            if self.is_folder
            else sum(
                int(file.file_size) for file in self._ask_hub((self.filename,), dry_run=True) if file.will_download
            )
        )

    @property
    def command(self) -> str:
        return f"hf download {self.repo} {self.filename} --revision {self.revision}"


class Sface(Encoder):
    """Faces as directions: each crop's vector is scaled to length one before pooling.

    OpenCV compares such vectors by their cosine; their length reflects how sharp an image is rather than whose face it
    shows.
    """

    class Config(EncoderConfig):
        """Settings of SFace; by default, the one file of OpenCV's model zoo."""

        repo: str = "opencv/face_recognition_sface"
        """Folder with the file, or the name of a repository on the hub."""
        revision: str = "3d7082438a6e4551e840c9b2bb60b71e8da4b524"
        """Commit of the repository, 40 hex digits; not used for a folder."""
        filename: str = "face_recognition_sface_2021dec.onnx"
        """Name of the ONNX file."""
        sha256: str = Field(
            default="0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79", pattern="^([0-9a-f]{64})?$"
        )
        """SHA-256 of the file, 64 hex digits; empty: not checked."""
        eye_distance_share: float = Field(default=EYE_DISTANCE_SHARE, gt=0, lt=1)
        """Share of a crop's side between the eyes, as set when the media were made (``media`` in params.yaml); crops
        are transformed from it to the geometry that the network was trained on.
        """
        eye_height_share: float = Field(default=EYE_HEIGHT_SHARE, gt=0, lt=1)
        """Share of a crop's side above the eyes, as set when the media were made."""
        pooling: crops.Pooling = "mean"
        """How the directions of the clip's crops become one vector, see :func:`merc.encoders.engine.crops.pooled`."""
        confidence_temperature: float = Field(default=0.1, gt=0)
        """Temperature of the pooling ``confidence``: a crop whose score is higher by this much has e times the weight.
        """
        dim: int | None = Field(default=128, ge=1)
        """Length of the vectors, if known before the file is on this machine; None: known once it is loaded."""
        megabytes: float | None = Field(default=38.7, gt=0)
        """Size of the file in megabytes, for the list of models."""
        licence: str = "Apache-2.0"
        """Licence of the file."""
        training_data_overlap: str = (
            "none known (its training data are not stated with the file; the paper trains on CASIA-WebFace, VGGFace2"
            " and MS1MV2, faces of well-known people)"
        )
        """Whether the network has seen the corpora, in words, as for every encoder with a checkpoint."""

    MODALITY = "visual"
    HAS_SEQUENCES = True
    config: Config

    def __init__(self, config: EncoderConfig, *, offline: bool = False, sequences: bool = False) -> None:
        super().__init__(config, offline=offline, sequences=sequences)
        self.checkpoint = OnnxFile(
            self.config.repo, self.config.revision, offline, self.config.filename, self.config.sha256
        )

    @cached_property
    def source(self) -> dict[str, str]:
        """The file's hash. Computed once; raises as :meth:`OnnxFile.identity`."""
        return self.checkpoint.identity()

    def identity(self) -> dict[str, Any]:
        not_decisive = {
            "repo",
            "revision",
            "filename",
            "sha256",
            "licence",
            "training_data_overlap",
            "dim",
            "megabytes",
        }
        settings = self.config.model_dump(mode="json", exclude=not_decisive)
        return {**settings, "version": self.VERSION, "checkpoint": self.source}

    def provenance(self) -> dict[str, Any]:
        config = self.config
        return {
            "encoder": config.filename if self.checkpoint.is_folder else config.repo,
            "revision": f"sha256:{self.source['sha256']}",
            "layer": -1,
            "pooling": config.pooling,
            "sample_rate_hz": None,
            "licence": config.licence,
            "training_data_overlap": config.training_data_overlap,
            "eye_distance_share": config.eye_distance_share,
            "eye_height_share": config.eye_height_share,
            **({"confidence_temperature": config.confidence_temperature} if config.pooling == "confidence" else {}),
        }

    @property
    def dim(self) -> int:
        return self._sequence_dim * (2 if self.config.pooling == "mean_std" else 1)

    @property
    def sequence_dim(self) -> int:
        return self._sequence_dim

    def planned_dim(self) -> int | None:
        return self.config.dim

    def missing(self) -> str | None:
        return None if self.checkpoint.is_here() else self.checkpoint.command

    def load(self, device: str) -> None:
        import cv2

        path = self.checkpoint.fetch()
        try:
            self._network = cv2.FaceRecognizerSF.create(str(path), "")
            probe = np.asarray(self._network.feature(np.zeros((INPUT_PX, INPUT_PX, 3), dtype=np.uint8)))
        except cv2.error as error:
            raise BadSettings(
                f"{path}: OpenCV cannot run it as SFace, on images of {INPUT_PX} pixels: {error}"
            ) from error
        if probe.ndim != 2 or probe.shape[0] != 1:
            raise BadSettings(f"{path}: gives an array of shape {probe.shape} for a face, where SFace gives one row")
        self._sequence_dim = int(probe.shape[1])
        if self.config.dim not in (None, self.dim):
            raise BadSettings(
                f"{path}: the settings state dim: {self.config.dim}, but its vectors have {self.dim} numbers; correct"
                " it, or set it to null"
            )

    def encode(self, utterances: Sequence[UtteranceInput]) -> Encoded:
        row = crops.of(utterances)
        vectors_ND = np.zeros((len(row), self._sequence_dim), dtype=np.float32)
        for at, picture in enumerate(row.pictures):
            vectors_ND[at] = self._vector(picture)
        return crops.encoded(
            vectors_ND,
            row,
            utterances,
            pooling=self.config.pooling,
            temperature=self.config.confidence_temperature,
            sequences=self.sequences,
            what="SFace",
        )

    def _vector(self, crop_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(D,) of length one; zeros if the network's output is all zeros."""
        import cv2

        aligned_HWC = align(crop_HWC, self.config.eye_distance_share, self.config.eye_height_share)
        vector = np.asarray(self._network.feature(cv2.cvtColor(aligned_HWC, cv2.COLOR_RGB2BGR)), dtype=np.float32)[0]
        length = float(np.linalg.norm(vector))
        return np.asarray(vector / length if length > 0 else vector, dtype=np.float32)


def align(crop_HWC: NDArray[np.uint8], eye_distance_share: float, eye_height_share: float) -> NDArray[np.uint8]:
    """Rotates, scales and shifts a crop so that its eyes are at :data:`EYES_XY`.

    Args:
        crop_HWC: square, with the eyes level and in its middle, as :func:`merc.media.faces.crop` makes it.
        eye_distance_share, eye_height_share: of its side.

    Returns:
        (112, 112, 3) uint8; beyond the crop's border, the border pixels are repeated.
    """
    import cv2

    height, width = crop_HWC.shape[:2]
    apart = eye_distance_share * width / 2
    eyes = np.array([[width / 2 - apart, eye_height_share * height], [width / 2 + apart, eye_height_share * height]])
    # Two pairs of points determine a similarity; with complex numbers it is z -> a z + b.
    before, after = eyes @ [1, 1j], EYES_XY @ [1, 1j]
    a = (after[1] - after[0]) / (before[1] - before[0])
    b = after[0] - a * before[0]
    matrix = np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
    aligned = cv2.warpAffine(
        np.ascontiguousarray(crop_HWC),
        matrix,
        (INPUT_PX, INPUT_PX),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(aligned, dtype=np.uint8)
