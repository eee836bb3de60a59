"""How commands print settings: one per line, with their origins."""

import json
import re
from collections.abc import Iterator, Mapping

from merc.job import flat
from merc.params import Origin, Settings

_KEY_COLUMNS = 52
_ELSEWHERE = re.compile(r"^(model_settings|framework_settings)|\.settings($|\.)")
"""Keys of a recipe that belong to its model, framework or losses, and are printed with these."""


def lines_of(key: str, config: Settings, origins: Mapping[str, Origin]) -> Iterator[str]:
    """``media.frames_per_clip = 8  # default``.

    Args:
        key: the dotted key of the block.
        config: the settings.
        origins: dotted key below ``key`` → origin of the value; missing keys have their defaults.
    """
    for name, value in flat(config.model_dump(mode="json")).items():
        if _ELSEWHERE.search(name):
            continue
        origin = next(
            (
                found
                for one, found in origins.items()
                if name == one or name.startswith(f"{one}.") or one.startswith(f"{name}.")
            ),
            None,
        )
        yield (
            f"{f'{key}.{name}':<{_KEY_COLUMNS}} = {json.dumps(value, ensure_ascii=False):<24} #"
            f" {origin.words if origin else 'default'}"
        )
