"""A job does a stage's work: fingerprint, scratch folder, parts that survive a crash, and one rename that moves
everything into place.

    new ──► scratch/<stage>/<fingerprint>/part-00000.parquet, …   scratch/<stage>/<fingerprint>.done/part-00000.json, …
                    │  (killed? the parts whose marker is in .done are kept; the others are remade)
                    ▼  all done: failures.parquet, record.json
            <out>/part-00000.parquet, …, failures.parquet, record.json

The scratch folder is outside the stage's output because DVC deletes outputs before every run, even after a crash.
Existence proves nothing: existing work is used only if its fingerprint (settings and inputs) is that of this run.
"""

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator

from merc import files
from merc.errors import BadSettings, BadTable, SettingsDiffer
from merc.log import logger
from merc.machines import ADDRESSES
from merc.params import Params, Settings

RECORD = "record.json"


class Fingerprinted(BaseModel):
    """A record of the work by which the output was made."""

    model_config = ConfigDict(strict=True, extra="allow")

    fingerprint: str


class Record(Fingerprinted):
    """The minimum content of a job's record: its fingerprint, and what that is computed from."""

    settings: dict[str, Any]
    inputs: dict[str, Any]


class RunConfig(Settings):
    """The block ``run`` of params.yaml."""

    max_failed: str | int = "5%"
    """Tolerated broken utterances, as a number or a share; ``--max-failed`` overrides it."""
    clip_timeout_seconds: float = Field(default=120.0, gt=0, strict=True)
    """Seconds after which a worker that hangs on a clip is killed, and the clip recorded. A minute of recording gets
    twice the time, two minutes three times. Decoding and face detection take a tenth to a half of a clip's length; an
    overloaded machine or a slow network disk may need a hundred times that.
    """
    executor: Literal["local", "ray"] = "local"
    """``local``: this machine; ``ray``: the machines of a Ray cluster, which must all see the output under the same
    path. ``--executor`` overrides it.
    """
    address: str = "auto"
    """Address of the Ray cluster: ``auto`` (the one that this machine belongs to, or RAY_ADDRESS), ``HOST:PORT`` of its
    head, or ``local`` (a cluster of only this machine). ``--address`` overrides it.
    """
    cores_per_worker: int = Field(default=4, ge=1, strict=True)
    """Ray: cores of a worker that decodes, or that runs an encoder without a checkpoint; a node runs as many workers as
    fit.
    """
    gpus_per_worker: float = Field(default=1.0, gt=0, le=1)
    """Ray: share of a GPU that an encoder with a checkpoint takes; 0.5 puts two on each GPU."""
    follow: tuple[str, ...] = ()
    """What shows a training while it runs, files in ``training/following``: ``dvclive``, ``tensorboard``; each needs
    its extra. ``--follow`` overrides it.
    """

    @field_validator("address")
    @classmethod
    def _names_a_cluster(cls, address: str) -> str:
        if not ADDRESSES.fullmatch(address):
            raise ValueError(f"{address!r} is not an address of a Ray cluster; valid: auto, local, HOST:PORT")
        return address


@dataclass(frozen=True)
class RunOptions:
    """How to run, as opposed to what to compute: nothing here changes a byte of the result.

    Attributes:
        workers: processes for decoding and for encoders that run on the CPU.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` for neural encoders and training.
        overwrite: replace work made with other settings instead of refusing.
        max_failed: broken utterances that are tolerated, a number or a share such as ``5%``.
        offline: never ask a model hub.
        clip_timeout_seconds: how long a worker may take for a short clip.
        wait: wait for another process that writes to the same output instead of giving up.
        executor, address, cores_per_worker, gpus_per_worker, follow: see :class:`RunConfig`.
    """

    workers: int = 2
    device: str = "auto"
    overwrite: bool = False
    max_failed: str = "5%"
    offline: bool = False
    clip_timeout_seconds: float = 120.0
    wait: bool = False
    executor: str = "local"
    address: str = "auto"
    cores_per_worker: int = 4
    gpus_per_worker: float = 1.0
    follow: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        params: Params,
        max_failed: str | None = None,
        executor: str | None = None,
        address: str | None = None,
        **how: Any,
    ) -> "RunOptions":
        """The block ``run`` of params.yaml, overridden by the command line.

        Raises:
            BadSettings: if the block is invalid, ``max_failed`` is neither a number nor a share, or there is an address
                but no cluster.
        """
        config = params.fill("run", RunConfig)
        tolerated = max_failed or str(config.max_failed)
        if not re.fullmatch(r"\s*\d+(\.\d+)?%?\s*", tolerated):
            raise BadSettings(f"max_failed {tolerated!r}: expected a number or a share such as 5%")
        executor = executor or config.executor
        if address is not None and executor == "local":
            raise BadSettings(f"--address {address}: only --executor ray has an address")
        return cls(
            **{
                **config.model_dump(),
                "max_failed": tolerated,
                "executor": executor,
                "address": address or config.address,
                **how,
            }
        )


@dataclass(frozen=True)
class Fingerprint:
    """What decides a stage's result.

    Attributes:
        settings: JSON-able; the user's choices. A difference is refused (exit code 5) unless overwriting is requested.
        inputs: JSON-able; hashes of the inputs. A difference means that the work is stale and is redone.
    """

    settings: Mapping[str, Any]
    inputs: Mapping[str, Any]

    @property
    def digest(self) -> str:
        return files.digest({"settings": self.settings, "inputs": self.inputs})


def differing_settings(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """One line per differing key: dotted key, existing value, requested value.

    >>> differing_settings({"a": {"b": 1}}, {"a": {"b": 2}, "c": 3})
    ['a.b: 1 there, 2 wanted', 'c: nothing there, 3 wanted']
    """
    old, new = flat(there), flat(wanted)
    return [
        f"{key}: {old.get(key, 'nothing')} there, {new.get(key, 'nothing')} wanted"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key → value of a nested mapping; an empty mapping is a value.

    >>> flat({"a": {"b": 1, "c": {}}})
    {'a.b': 1, 'a.c': {}}
    """
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


@dataclass
class Job:
    """The work of one stage on one output folder.

    Args:
        name: name in messages, such as ``audio/acoustic``.
        out: the folder that appears, complete, at the end.
        scratch: folder for unfinished work of all stages (:attr:`merc.layout.Layout.scratch`).
        fingerprint: settings and inputs of this run.
        overwrite: replace finished and unfinished work that has other settings.
        record: path of the record of its origin in ``out``.
    """

    name: str
    out: Path
    scratch: Path
    fingerprint: Fingerprint
    overwrite: bool = False
    record: str = RECORD

    @property
    def folder(self) -> Path:
        """Where the parts are written until all are done."""
        return self._stage_scratch / self.fingerprint.digest[:16]

    @property
    def _stage_scratch(self) -> Path:
        return self.scratch / self.name.replace("/", "-")

    def cached(self) -> bool:
        """True if the finished output has this very fingerprint.

        Raises:
            SettingsDiffer: if finished or unfinished work with other settings exists and ``overwrite`` is off.
        """
        finished = _recorded(self.out, self.record)
        if finished is not None and finished["fingerprint"] == self.fingerprint.digest:
            return True
        for there in [finished, *(_recorded(folder, self.record) for folder in self._others())]:
            if there is None or self.overwrite:
                continue
            keys = differing_settings(there["settings"], self.fingerprint.settings)
            if keys:
                raise SettingsDiffer(
                    f"{self.name}: work made with other settings already exists at"
                    f" {self.out if there is finished else self._stage_scratch}:\n  "
                    + "\n  ".join(keys)
                    + "\nUse the old settings, another --out, or --overwrite to replace it."
                )
        if finished is not None and not self.overwrite:
            logger.info(
                "%s: its inputs have changed since it was made; it is remade", self.name, extra={"stage": self.name}
            )
        return False

    def done_before(self) -> bool:
        """:meth:`cached`, with a log message; markers of a run that was killed at its very end are removed."""
        done = self.cached()
        if done:
            shutil.rmtree(self._markers, ignore_errors=True)
            logger.info("%s: already done", self.name, extra={"stage": self.name, "cached": True})
        return done

    def _others(self) -> list[Path]:
        if not self._stage_scratch.is_dir():
            return []
        return sorted(
            folder
            for folder in self._stage_scratch.iterdir()
            if folder.is_dir() and folder not in (self.folder, self._markers)
        )

    def start(self) -> None:
        """Makes the scratch folder, or finds that of an interrupted run; stale scratch is removed."""
        with files.writing(self.folder):
            for folder in self._others():
                shutil.rmtree(folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            for half_written in self.folder.rglob(
                ".*.tmp"
            ):  # of a killed run; otherwise moved into place with the rest
                half_written.unlink()
        self.join()

    def join(self) -> None:
        """Makes the scratch folder, or finds the one to which other processes are writing their shares of the parts;
        nothing is removed.
        """
        with files.writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        files.write_json(self.folder / self.record, self._record({}))

    def _record(self, more: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint.digest,
            "settings": self.fingerprint.settings,
            "inputs": self.fingerprint.inputs,
            **more,
        }

    def part(self, index: int) -> Path:
        """Path of a part's table; write it with :func:`merc.files.replacing`, then call :meth:`mark_done`."""
        return self.folder / f"part-{index:05d}.parquet"

    def is_done(self, index: int) -> bool:
        """True if the part was finished by this run or an interrupted one."""
        return self._marker(index).is_file() and self.part(index).is_file()

    def mark_done(self, index: int, failures: Iterable[Mapping[str, Any]]) -> None:
        """Writes the part's marker, after its table.

        Args:
            index: number of the part, from 0.
            failures: the part's failure rows (:meth:`merc.records.failures.Failure.row`), JSON-able.
        """
        files.write_json(self._marker(index), list(failures))

    def _marker(self, index: int) -> Path:
        return self._markers / f"part-{index:05d}.json"

    @property
    def _markers(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.done")

    def note(self, name: str, value: str) -> None:
        """Records next to the unfinished parts what this run determined that is not in the fingerprint, before the
        first part is marked.

        Args:
            name: of a file; different from those of parts.
            value: appended to those already recorded, unless it is one of them.
        """
        values = self.noted(name)
        if value not in values:
            files.write_json(self._note(name), [*values, value])

    def noted(self, name: str) -> list[str]:
        """What the runs that did this work so far have determined, starting with the first one; empty if there is
        nothing yet.
        """
        path = self._note(name)
        return list(files.read_record(path, TypeAdapter(list[str]), "a note of a job")) if path.is_file() else []

    def _note(self, name: str) -> Path:
        return self._markers / f"{name}.json"

    def failures(self, parts: int) -> list[dict[str, Any]]:
        """All failure rows of the finished parts 0 … ``parts`` - 1, in order."""
        return [row for index in range(parts) for row in files.read_json(self._marker(index))]

    def finish(self, info: Mapping[str, Any]) -> None:
        """Records what made the output and moves it into place.

        Args:
            info: further JSON-able facts (counts, provenance); no time stamps, so that equal work gives equal bytes.
        """
        files.write_json(self.folder / self.record, self._record(info))
        # The markers are removed last: a run killed before the rename finds all its parts again.
        files.replace_folder(self.folder, self.out)
        shutil.rmtree(self._markers, ignore_errors=True)


def _recorded(folder: Path, record_name: str) -> dict[str, Any] | None:
    """The record of the work in ``folder``; None if there is none. Raises ``BadTable`` if the file is not a record."""
    path = folder / record_name
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = files.read_record(path, Record, "the record of a job")
    except BadTable as error:
        raise BadTable(f"{error}; remove {folder} to remake it") from error
    return record


def finished_fingerprint(out: Path, record_name: str = RECORD) -> str:
    """The fingerprint in the record of a finished output; later stages use it as the hash of their input."""
    record = files.read_record(out / record_name, Fingerprinted, "the record of a finished output")
    return str(record["fingerprint"])
