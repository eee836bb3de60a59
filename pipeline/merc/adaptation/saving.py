"""An adapted encoder as a folder that transformers can load: weights, configuration, tokenizer, and what it was trained
on.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from merc import files
from merc.encoders.engine import adapted
from merc.encoders.engine.checkpoint import WEIGHTS
from merc.encoders.engine.trainable import TrainableEncoder

HEAD = "head.safetensors"
_ONE_FILE = "1TB"  # the weights are not split
# Other files of a checkpoint that are read: its tokenizer, and the description of its input.
_BESIDE_THE_WEIGHTS = (
    "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model", "*.jinja",
    "preprocessor_config.json",
    "processor_config.json",
)  # fmt: skip


def save(folder: Path, encoder: TrainableEncoder, head: nn.Linear, seen: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Writes the model, its tokenizer, the classifier of the training and the list of utterances that it has seen.

    The whole model is written in transformers' format, including layers that the encoder does not use. Weights missing
    from the checkpoint (such as those of an unused pooler) are left out instead of writing the random numbers that
    transformers fills in.

    Args:
        folder: an existing folder.
        encoder: the encoder after the training.
        head: see :class:`merc.adaptation.trainer.Adapted`.
        seen: split → keys of its utterances.

    Returns:
        ``weights_sha256``.

    Raises:
        CannotWrite: if the disk is full, and the like.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save as serialize
    from transformers import AutoModel

    source = encoder.checkpoint.fetch()
    whole = encoder.model_from(source, AutoModel)
    invented = set(encoder.not_in_checkpoint)
    trained = whole.get_encoder() if getattr(whole.config, "is_encoder_decoder", False) else whole
    trained.load_state_dict(encoder.trained_weights(), strict=False)
    kept = {name: weight for name, weight in whole.state_dict().items() if name not in invented}
    with files.writing(folder):
        try:
            whole.save_pretrained(folder, state_dict=kept, max_shard_size=_ONE_FILE)
        except SafetensorError as error:  # raised, for example, for a full disk
            raise OSError(str(error)) from error
        for path in sorted({path for pattern in _BESIDE_THE_WEIGHTS for path in source.glob(pattern)}):
            shutil.copyfile(path, folder / path.name)
        (folder / HEAD).write_bytes(
            serialize({name: weight.detach().cpu().contiguous() for name, weight in head.state_dict().items()})
        )
    files.write_json(folder / adapted.SEEN, {split: sorted(keys) for split, keys in seen.items()})
    return {"weights_sha256": files.sha256(folder / WEIGHTS[0])}
