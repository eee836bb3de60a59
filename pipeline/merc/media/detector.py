"""The face detector's file: none for the Haar cascade, which comes with OpenCV; for YuNet a local file, or that of the
hub at a pinned revision.

Its content decides what is found, so its sha256 is stated in the settings or computed from the file, and is part of the
fingerprint.
"""

from pathlib import Path

from merc import files, hub
from merc.errors import BadSettings, ModelUnavailable
from merc.media.config import Config


def content(config: Config) -> str:
    """Hex sha256 of the detector's file, without fetching it; empty with ``haar``.

    Raises:
        BadSettings: if there is no such local file.
    """
    if config.detector == "haar":
        return ""
    return files.sha256(_local(config)) if config.yunet_file else config.yunet_sha256


def path(config: Config, *, offline: bool) -> Path | None:
    """The detector's file; None with ``haar``. Fetches YuNet if no local file is named and it is not in the hub's
    cache.

    Raises:
        BadSettings: if there is no such local file.
        ModelUnavailable: if it is not available, or differs from the file stated in the settings.
    """
    if config.detector == "haar":
        return None
    if config.yunet_file:
        return _local(config)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HTTPError, XetDownloadError  # type: ignore[attr-defined]

    silence = "" if offline else hub.silence()
    try:
        found = Path(
            hf_hub_download(
                config.yunet_repo,
                config.yunet_name,
                revision=config.yunet_revision,
                local_files_only=offline or bool(silence),
            )
        )
    except (HTTPError, XetDownloadError, OSError) as error:
        why = silence or str(error).splitlines()[0]
        raise ModelUnavailable(
            f"the face detector {config.yunet_repo}/{config.yunet_name} is not available: {why}. With a network, this"
            f" downloads it:\n  hf download {config.yunet_repo} {config.yunet_name} --revision"
            f" {config.yunet_revision}\nOr name a local file as media.yunet_file, or use media.detector: haar, which"
            " needs none."
        ) from error
    if (there := files.sha256(found)) != config.yunet_sha256:
        raise ModelUnavailable(
            f"{found}: its sha256 is {there}, media.yunet_sha256 states {config.yunet_sha256}; remove it and download"
            " it again"
        )
    return found


def _local(config: Config) -> Path:
    there = Path(config.yunet_file).resolve()
    if not there.is_file():
        raise BadSettings(
            f"media.yunet_file: there is no file {config.yunet_file!r}; leave it empty to use the hub's;"
            " media.detector: haar needs none"
        )
    return there
