"""A small generated corpus, in the raw layouts of MELD and of IEMOCAP, so that everything runs without either of them.

    raw/demo-meld/      three CSV files, three folders of clips             see meld_layout.py
    raw/demo-iemocap/   IEMOCAP_full_release/Session1 … Session5            see iemocap_layout.py

Conversations follow a handful of emotional trajectories (dialogues.py). Words (words.py), voice (voices.py) and
face (faces.py) show the emotion, each with independent errors, so that each modality by itself is informative and all
three together more so. Nothing in it comes from a real corpus. The bytes depend only on the settings ``demo`` and the
libraries, not on the number of worker processes.
"""

import errno
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import cv2

from merc import files, log
from merc.command_line import PARAMS, RAW, exiting
from merc.corpora.demo import iemocap_layout, meld_layout
from merc.corpora.demo.config import Config
from merc.params import Params

_WORKERS = 2
_UNFINISHED = ".demo-unfinished-"
_LEFTOVER_SECONDS = 86_400  # a run takes less than a minute
_Job = tuple[Callable[..., None], Path, int, meld_layout.Clip | iemocap_layout.Recording]


def make(raw: Path, config: Config, *, workers: int = _WORKERS) -> None:
    """Writes ``raw/demo-meld`` and ``raw/demo-iemocap``, replacing existing ones.

    Both are made in a temporary folder next to them and renamed when they are complete, so that a killed run leaves no
    partial corpus, and two concurrent runs do not mix.

    Args:
        raw: the folder of the corpora.
        config: its size, and how misleading it is.
        workers: processes; any number gives the same bytes.
    """
    raw.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(raw)
    names = (meld_layout.NAME, iemocap_layout.NAME)
    there = {name for name in names if (raw / name).exists()}
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=raw) as folder:
        for name in names:
            (Path(folder) / name).mkdir()
        _work(_plan(config, Path(folder) / meld_layout.NAME, Path(folder) / iemocap_layout.NAME), workers)
        for name in names:
            _put(Path(folder) / name, raw / name, replace=name in there)


def _remove_leftovers(raw: Path) -> None:
    """Removes the temporary folders of killed runs; recent ones may belong to a run in progress."""
    for folder in raw.glob(f"{_UNFINISHED}*"):
        if time.time() - folder.stat().st_mtime > _LEFTOVER_SECONDS:
            shutil.rmtree(folder)


def _put(folder: Path, target: Path, *, replace: bool) -> None:
    """Renames ``folder``; if ``target`` has appeared in the meantime, another run made it and may already be reading
    it.
    """
    if replace:
        files.replace_folder(folder, target)
        return
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        log.logger.info("%s was made by another run in the meantime; that one is kept", target)


def _plan(config: Config, meld_root: Path, iemocap_root: Path) -> list[_Job]:
    """Writes the annotations, and lists the recordings to make, longest first."""
    by_split, clips = meld_layout.listing(config)
    meld_layout.write_annotations(meld_root, by_split)
    recordings = iemocap_layout.script(config)
    iemocap_layout.write_annotations(iemocap_root, recordings)
    return [
        *((iemocap_layout.write_recording, iemocap_root, config.seed, recording) for recording in recordings),
        *((meld_layout.write_clip, meld_root, config.seed, clip) for clip in clips),
    ]


def _work(jobs: list[_Job], workers: int) -> None:
    with log.progress(len(jobs), "demonstration corpus", "recordings") as bar:
        if workers <= 1:
            for job in jobs:
                _run(job)
                bar.update()
            return
        # Fresh processes instead of forks: OpenCV and FFmpeg have threads, which a fork would not survive.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
            for _ in pool.map(_run, jobs):
                bar.update()


def _run(job: _Job) -> None:
    function, *arguments = job
    function(*arguments)


@click.command()
@RAW
@PARAMS
def main(raw: Path, params_file: Path | None) -> None:
    """Makes the demonstration corpus in the raw layouts of MELD and IEMOCAP."""
    log.set_up()
    with exiting():
        make(raw, Params.load(params_file).fill("demo", Config))
        log.logger.info("the demonstration corpus is in %s and %s", raw / meld_layout.NAME, raw / iemocap_layout.NAME)


if __name__ == "__main__":
    sys.exit(main())
