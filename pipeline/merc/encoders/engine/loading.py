"""Loading a model with transformers: only safetensors, no remote code, no network, no randomly initialised weights."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from merc.errors import BadSettings

# Weights that a checkpoint may lack, since their output is not used: a pooler (but see `pooler`), and the vector that
# masks audio in training.
_WITHOUT_INFLUENCE = re.compile(r"(^|\.)(pooler\.|masked_spec_embed$)")


def load(
    name: str, folder: Path, auto_class: Any, *, dtype: str, attention: str = "sdpa", pooler: bool = False, **more: Any
) -> tuple[Any, list[str]]:
    """Loads a model in evaluation mode.

    Args:
        name: the model's name, for messages.
        folder: folder with the checkpoint's files.
        auto_class: a class of transformers, such as ``AutoModel``.
        dtype: torch's dtype.
        attention: transformers' name of the implementation.
        pooler: whether the output of the model's pooler is used, so that its weights must exist.
        more: further arguments of ``from_pretrained``.

    Returns:
        The model, and the names of its weights that the files lack, sorted, which transformers fills with random
        numbers.

    Raises:
        BadSettings: if transformers cannot load it (with its message), or the files lack weights that the model needs.
    """
    import torch

    model, about = quietly(
        lambda: auto_class.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            dtype=getattr(torch, dtype),
            attn_implementation=attention,
            output_loading_info=True,
            **more,
        ),
        f"{name}: transformers cannot load it",
    )
    lacking = sorted(about["missing_keys"])
    missing = [one for one in lacking if pooler or not _WITHOUT_INFLUENCE.search(one)]
    if missing:
        raise BadSettings(
            f"{name}: {len(missing)} of the weights of a {type(model).__name__} are not in its files, among them"
            f" {missing[0]}; copy or download it again, or choose another checkpoint"
        )
    return model.eval(), lacking


def quietly(make: Callable[[], Any], what: str) -> Any:
    """The result of ``make``, without progress bars and warnings from transformers. Raises ``BadSettings`` with
    ``what`` followed by its message.
    """
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it is drawn even without a terminal
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # unneeded weights (of a head, of a decoder) are expected
    try:
        return make()
    except (ValueError, OSError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise BadSettings(f"{what}: {error}") from error
    finally:
        logging.set_verbosity(verbosity)
