"""Decoding in which some files are deadly; a worker imports this module by its name."""

from pathlib import Path

from merc.media.clip import decode_dialogue
from merc.media.tasks import DialogueTask


def decode(task: DialogueTask) -> object:
    """Decodes like the stage, except for files whose name says what happens."""
    from errands import run  # only on the path of a worker

    for clip in task.clips:
        name = Path(clip.video_path).stem.rstrip("0123456789")
        if name in ("segfault", "sleep", "raise", "settings"):
            run(f"{name} 1000")
    return decode_dialogue(task)
