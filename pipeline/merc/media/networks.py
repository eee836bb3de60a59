"""The network files that a media run needs: the face detector, the active-speaker network, and the face embedding."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from merc import files
from merc.errors import BadSettings
from merc.media import detector
from merc.media.config import Config

if TYPE_CHECKING:
    from merc.media import active


@dataclass(frozen=True)
class Found:
    """Their paths.

    Attributes:
        detector: None with ``haar``.
        speaker: None with any choice but ``active_speaker``.
    """

    detector: Path | None = None
    speaker: Path | None = None


NONE = Found()


def contents(config: Config) -> dict[str, str]:
    """What represents the files in a fingerprint: the hex sha256 of each needed file, without fetching it.

    Raises:
        BadSettings: if a local file does not exist.
    """
    needed: dict[str, str] = {}
    if config.detector == "yunet":
        needed["detector"] = detector.content(config)
    if config.choice == "active_speaker":
        from merc.media.active_speaker import weights

        needed["speaker"] = weights.content(config)
        if config.same_person_file:
            needed["same_person"] = files.sha256(same_person(config))
    return needed


def same_person(config: Config) -> Path:
    """The file of the embedding that joins a person's tracks, named by the settings. Raises ``BadSettings`` if it does
    not exist.
    """
    there = Path(config.same_person_file).resolve()
    if not there.is_file():
        raise BadSettings(
            f"media.same_person_file: there is no file {config.same_person_file!r}; leave it empty to keep the tracks"
            " of different shots separate"
        )
    return there


def found(config: Config, *, offline: bool) -> Found:
    """The files, fetched if they are not on this machine.

    Raises:
        BadSettings: if a local file does not exist.
        ModelUnavailable: if one is not on this machine and cannot be fetched, or differs from the file stated in the
            settings.
    """
    if config.choice != "active_speaker":
        return Found(detector.path(config, offline=offline))
    from merc.media.active_speaker import weights

    return Found(detector.path(config, offline=offline), weights.path(config, offline=offline))


def check(config: Config, there: Found, device: str) -> "active.Scorer | None":
    """Loads each network once before any worker starts, so that a wrong file stops the run at once.

    Returns:
        The active-speaker network, if it runs on a GPU; on the CPU, each worker loads its own.

    Raises:
        BadSettings: if a file does not contain the network, or the device does not exist.
    """
    from merc.media import faces

    faces.check(config, there.detector)
    if there.speaker is None:
        return None
    from merc.compute.device import resolve
    from merc.media import persons
    from merc.media.active_speaker.scoring import Scorer

    persons.embedder(config)
    scorer = Scorer(there.speaker, where := resolve(device), config.speaker_precision)
    return None if where == "cpu" else scorer
