"""Where the face detector's file comes from."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from merc.errors import BadSettings, ModelUnavailable
from merc.media import detector
from merc.media.config import Config as MediaConfig

COMMIT = "a" * 40
CONTENT = b"not a network, but a file"
OF_THE_HUB = {
    "detector": "yunet",
    "yunet_file": "",
    "yunet_repo": "zoo/yunet",
    "yunet_revision": COMMIT,
    "yunet_name": "yunet.onnx",
}


@pytest.fixture
def yunet(config: MediaConfig) -> MediaConfig:
    return config.model_copy(update={**OF_THE_HUB, "yunet_sha256": hashlib.sha256(CONTENT).hexdigest()})


def test_haar_needs_no_file(config: MediaConfig) -> None:
    assert detector.path(config, offline=True) is None
    assert detector.content(config) == ""


def test_a_local_file_goes_first(yunet: MediaConfig, tmp_path: Path) -> None:
    file = tmp_path / "mine.onnx"
    file.write_bytes(b"mine")
    local = yunet.model_copy(update={"yunet_file": str(file)})
    assert detector.path(local, offline=True) == file
    assert detector.content(local) == hashlib.sha256(b"mine").hexdigest()


def test_a_local_file_that_is_not_there_is_named(yunet: MediaConfig) -> None:
    gone = yunet.model_copy(update={"yunet_file": "gone.onnx"})
    for ask in (lambda: detector.path(gone, offline=True), lambda: detector.content(gone)):
        with pytest.raises(BadSettings, match=r"media\.yunet_file: there is no file 'gone\.onnx'"):
            ask()


def test_the_hubs_file_is_fetched_once_and_then_found_offline(yunet: MediaConfig, hub: Any) -> None:
    hub.models["zoo/yunet"] = {COMMIT: {"yunet.onnx": CONTENT}}
    fetched = detector.path(yunet, offline=False)
    assert fetched is not None
    assert fetched.read_bytes() == CONTENT
    assert detector.path(yunet, offline=True) == fetched
    assert detector.content(yunet) == hashlib.sha256(CONTENT).hexdigest()


def test_another_file_than_the_settings_state_is_refused(yunet: MediaConfig, hub: Any) -> None:
    hub.models["zoo/yunet"] = {COMMIT: {"yunet.onnx": b"another"}}
    with pytest.raises(ModelUnavailable, match=r"its sha256 is .*media\.yunet_sha256 states"):
        detector.path(yunet, offline=False)


@pytest.mark.parametrize("offline", [True, False])
def test_a_file_that_is_not_to_be_had_says_how_to_get_it(yunet: MediaConfig, hub: Any, offline: bool) -> None:
    with pytest.raises(ModelUnavailable, match=rf"hf download zoo/yunet yunet\.onnx --revision {COMMIT}") as caught:
        detector.path(yunet, offline=offline)
    assert caught.value.exit_code == 6
    assert "media.detector: haar" in str(caught.value)


def test_the_shipped_settings_name_the_file_that_the_real_detector_is(real_data: Path, config: MediaConfig) -> None:
    assert (
        config.yunet_sha256
        == hashlib.sha256((real_data / "models" / "face_detection_yunet.onnx").read_bytes()).hexdigest()
    )
