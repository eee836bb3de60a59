"""Randomly changed files, each read in a separate process.

What must hold for every case: it is read, or refused with a message (a :class:`merc.errors.PipelineError`); the process
does not die by a signal, stays within its limits of time and memory, executes nothing from the file, and writes only
where it was told to. A case is identified by its kind and number: the same number gives the same bytes.

Media are decoded here as a worker of :mod:`merc.compute.pool` decodes them. There a clip that crashes its decoder's
process costs only that clip; it is counted, but is not a fault.
"""

import contextlib
import importlib
import os
import pickle
import random
import resource
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["read", "told", "lost clip", "raised", "crashed", "hung", "too much memory", "wrote elsewhere"]
FAULTS: tuple[Outcome, ...] = ("raised", "crashed", "hung", "too much memory", "wrote elsewhere")
_LIMIT_SECONDS = 60
_MOST_MEMORY_BYTES = 3 * 2**30
_IMPORTED = (
    "merc.commands.extract",
    "merc.corpora.table",
    "merc.media.clip",
    "merc.shards.circulation.unpickling",
    "merc.shards.diff",
    "merc.shards.overview",
    "merc.shards.select",
    "merc.shards.validate",
    "merc.training.loop.checkpoint",
    "merc.training.recipes.resolution",
    "merc.training.models.context_gru",
    "merc.training.losses.cross_entropy",
    "merc.encoders.text.ngrams",
    "merc.encoders.audio.acoustic",
    "merc.encoders.visual.gradients",
)
_TOKENS = (
    *(
        b'"',
        b",",
        b";",
        b"\t",
        b"\n",
        b"\r",
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\x1b[2J",
        b"../",
        b"NaN",
        b"1e999",
        b"-1",
        b"null",
        b"true",
        b"[]",
        b"{}",
    ),
    *(
        b"[" * 2000,
        b"{'a':" * 500,
        b"9" * 5000,
        b"A" * 70_000,
        b"&a [",
        b"*a",
        b"!!python/object/apply:os.system ['true']",
        b"\xe2\x80\xae",
        b"' OR 1=1",
    ),
)


@dataclass(frozen=True)
class Case:
    """One file that is read.

    Attributes:
        kind: the kind of file.
        number: determines which seed file is changed, and how.
        outcome: what became of it.
        seconds, memory_bytes: what it took.
        words: the message of an unexpected error.
    """

    kind: str
    number: int
    outcome: Outcome
    seconds: float
    memory_bytes: int
    words: str = ""


def changed(content: bytes, rng: random.Random) -> bytes:
    """The content with one to eight changes: bytes, spans, tokens, reordering, truncation."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        length = rng.choice((1, 2, 4, 16, 64, 1024))
        match rng.randrange(8):
            case 0 | 1:
                for place in range(at, min(at + length, len(data))):
                    data[place] ^= rng.randrange(1, 256)
            case 2:
                data[at : at + length] = bytes(length)
            case 3:
                data[at : at + length] = b"\xff" * length
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = rng.choice(_TOKENS)
            case 6:
                other = rng.randrange(len(data) + 1)
                data[at : at + length] = data[other : other + length]
            case _:
                del data[at : len(data) if rng.random() < 0.5 else at + 1]
    return bytes(data)


class _Marks:
    """Is pickled as a call that leaves a mark, as a malicious file would run arbitrary code."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self._mark}",)


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        seeds: intact files: the name, and what is changed. The files next to it stay unchanged.
        read: receives the folder of the case, in which the changed file is in its place.
        ends_alone: whether death by a signal is not a fault.
    """

    seeds: Mapping[str, bytes]
    read: Callable[[Path], object]
    ends_alone: bool = False


def kinds(prepared: Path) -> dict[str, Kind]:
    """All kinds; ``prepared`` is made by :func:`integrity.commands.prepare`."""
    for module in _IMPORTED:  # once, not in every fork
        importlib.import_module(module)
    root = prepared / "features" / "demo-meld" / "shards"
    clips = sorted((prepared / "raw").rglob("*.mp4"), key=lambda path: path.stat().st_size)
    clips = [path for path in clips if path.stat().st_size > 1000][:2]
    sounds = sorted((prepared / "raw").rglob("sentences/**/*.wav"))[:1]
    annotations = next((prepared / "raw" / "demo-meld").rglob("train_sent_emo.csv"))
    model = next((prepared / "runs").rglob("model.safetensors"))
    return {
        "media": Kind({path.name: path.read_bytes() for path in (*clips, *sounds)}, _read_media, ends_alone=True),
        "csv": Kind({"data.csv": annotations.read_bytes()}, _read_csv),
        "parquet": Kind(
            _shards(root, "dialogues/*.parquet", "trajectories/*.parquet", "failures/*.parquet"), _reading_shards(root)
        ),
        "json": Kind(_shards(root, "meta/*.json"), _reading_shards(root)),
        "safetensors": Kind({"model.safetensors": model.read_bytes()}, _read_model),
        "pickle": Kind(_pickles(), _read_pickle),
        "params": Kind({"params.yaml": (prepared / "params.yaml").read_bytes()}, _read_params),
    }


def _shards(root: Path, *patterns: str) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for pattern in patterns
        for path in sorted(root.glob(pattern))
    }


def _pickles() -> dict[str, bytes]:
    import numpy as np

    rng = np.random.default_rng(0)
    ids = {"Ses01F_impro01": ["Ses01F_impro01_F000", "Ses01F_impro01_M000"], "Ses05M_impro02": ["Ses05M_impro02_M000"]}
    vectors = {name: [rng.normal(size=10).astype("f4") for _ in turns] for name, turns in ids.items()}
    plain: Any = (
        ids,
        {name: ["M"] * len(turns) for name, turns in ids.items()},
        {name: [0] * len(turns) for name, turns in ids.items()},
        vectors,
        vectors,
    )
    mark = Path("..") / "mark"
    return {
        **{f"features_{protocol}.pkl": pickle.dumps(plain, protocol=protocol) for protocol in (0, 2, 5)},
        "hostile.pkl": pickle.dumps({"labels": ids, "more": [_Marks(mark)]}, protocol=2),
    }


def _read_media(folder: Path) -> object:
    from merc.media.clip import decode_dialogue
    from merc.media.config import Config
    from merc.media.tasks import Clip, DialogueTask

    name = next(path.name for path in folder.iterdir())
    video = "" if name.endswith(".wav") else name
    clip = Clip("train/dia0_utt0", "train/dia0", video, name, "full", None, None, None, None)
    config = Config(detector="haar", frames_per_clip=2, choice="largest", max_clip_seconds=20)
    streams = frozenset({"audio"} if not video else {"audio", "visual"})
    return decode_dialogue(DialogueTask(folder.resolve(), "", (clip,), streams, config, None))


def _read_csv(folder: Path) -> object:
    from merc.corpora.table import Table

    columns = {
        "dialogue": "Dialogue_ID",
        "utterance": "Utterance_ID",
        "speaker": "Speaker",
        "text": "Utterance",
        "emotion": "Emotion",
        "split": "",
    }
    config = Table.Config.model_validate({"reader": "table", "file": "data.csv", "columns": columns})
    return Table(config, folder.name).read(folder, folder.parent, media=frozenset(), splits=("train", "dev", "test"))


def _reading_shards(root: Path) -> Callable[[Path], object]:
    """Everything that reads shards, on a copy in which one file was changed."""

    def read(folder: Path) -> object:
        from merc.errors import PipelineError
        from merc.shards.config import Config
        from merc.shards.diff import diff
        from merc.shards.format import reader
        from merc.shards.overview import overview
        from merc.shards.select import select
        from merc.shards.validate import validate
        from merc.trajectories.lookup import read_row

        for path in sorted(root.rglob("*")):
            target = folder / path.relative_to(root)
            if path.is_file() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target)
        told: list[PipelineError] = []

        def everything() -> None:
            for split in reader.splits(folder):
                for _ in reader.Dialogues(folder, split, threads=1).batches(4):
                    pass

        for one in (
            lambda: validate(folder),
            lambda: overview(folder),
            everything,
            lambda: diff(folder, root),
            lambda: read_row(folder, "train/dia0"),
            lambda: select(
                folder, folder.parent / "out", Config(), splits=["train"], modalities=[], dialogues=[], transcripts=True
            ),
        ):
            try:
                one()
            except PipelineError as error:
                told.append(error)
        if told:
            raise told[0]
        return None

    return read


def _read_model(folder: Path) -> object:
    from merc.training.loop import checkpoint

    return checkpoint.load(folder / "model.safetensors")


def _read_pickle(folder: Path) -> object:
    from merc.shards.circulation import unpickling

    return unpickling.load(next(folder.glob("*.pkl")))


def _read_params(folder: Path) -> object:
    from merc.commands.extract import Order, chosen_encoders
    from merc.params import Params
    from merc.training.recipes.resolution import resolve

    params = Params.load(folder / "params.yaml")
    order = Order.of(params, "demo-meld", chosen_encoders(params, "demo-meld", "text,audio,visual", ()))
    return order, resolve(params, "baseline")


def try_case(kind: str, what: Kind, number: int, folder: Path) -> Case:
    """Changes a file by its number, and reads it in a fork of this process.

    Args:
        kind: the kind's name.
        what: the kind itself.
        number: the case's number; 0 is the first file unchanged, which must be read.
        folder: empty; the case is made in a folder below it.
    """
    rng = random.Random(f"{kind} {number}")  # noqa: S311
    name = rng.choice(sorted(what.seeds)) if number else min(what.seeds)
    path = folder / "case" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(changed(what.seeds[name], rng) if number else what.seeds[name])
    words = folder / "words"
    began = time.monotonic()
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        _child(what, folder / "case", words)
    _, status, used = _waited(child)
    seconds, memory = time.monotonic() - began, used.ru_maxrss * 1024
    said = words.read_text(encoding="utf-8", errors="replace") if words.exists() else ""
    strange = {one.name for one in folder.iterdir()} - {"case", "words", "out", ".out.lock", ".out.unfinished"}
    outcome = _outcome(status, what, seconds, memory, strange)
    return Case(kind, number, outcome, seconds, memory, said or ", ".join(sorted(strange)) if outcome in FAULTS else "")


_READ, _TOLD, _RAISED = 0, 10, 11


def _child(what: Kind, folder: Path, words: Path) -> None:
    """Never returns."""
    from merc.errors import PipelineError

    code = _RAISED
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (_LIMIT_SECONDS, _LIMIT_SECONDS + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        what.read(folder)
        code = _READ
    except PipelineError:
        code = _TOLD
    except BaseException:
        words.write_text(traceback.format_exc(), encoding="utf-8")
    os._exit(code)


def _waited(child: int) -> tuple[int, int, Any]:
    """Waits for a child, and kills it shortly after its time is up."""
    deadline = time.monotonic() + _LIMIT_SECONDS + 10
    while True:
        found, status, used = os.wait4(child, os.WNOHANG)
        if found:
            return found, status, used
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGXCPU)
            return os.wait4(child, 0)
        time.sleep(0.002)


def _outcome(status: int, what: Kind, seconds: float, memory: int, strange: set[str]) -> Outcome:
    if strange:
        return "wrote elsewhere"
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL) and seconds > _LIMIT_SECONDS * 0.9:
            return "hung"
        return "lost clip" if what.ends_alone else "crashed"
    if memory > _MOST_MEMORY_BYTES:
        return "too much memory"
    return {_READ: "read", _TOLD: "told"}.get(os.WEXITSTATUS(status), "raised")  # type: ignore[return-value]
