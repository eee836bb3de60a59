"""The only reader of params.yaml. Each class keeps its ``Config`` beside itself; here it is filled and checked."""

from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from merc.errors import BadSettings
from merc.plugins import nearest


class Settings(BaseModel):
    """Base of every ``Config``: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


_Config = TypeVar("_Config", bound=Settings)


class Params:
    """The content of params.yaml with the overrides of the command line.

    Example:
        >>> params = Params({"media": {"max_clip_seconds": 60}})
        >>> class Media(Settings):
        ...     max_clip_seconds: float
        >>> params.fill("media", Media).max_clip_seconds
        60.0
    """

    def __init__(self, tree: dict[str, Any]) -> None:
        self.tree = tree

    @classmethod
    def load(cls, path: Path | None = None, overrides: tuple[str, ...] = ()) -> "Params":
        """Reads params.yaml.

        Args:
            path: the file; without it ``params.yaml`` of the current folder, else the one that came with the package.
            overrides: ``KEY=VALUE`` with a dotted key that exists and a YAML value.

        Raises:
            BadSettings: if the file cannot be read as YAML or an override names no existing key.
        """
        path = path or _default_file()
        try:
            tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadSettings(f"cannot read the settings: {error}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise BadSettings(f"{path}: not YAML: {error}") from error
        params = cls(tree)
        for override in overrides:
            key, equals, value = override.partition("=")
            if not equals:
                raise BadSettings(f"--set {override!r} is not of the form KEY=VALUE")
            parent, _, last = key.rpartition(".")
            block = params.get(parent) if parent else params.tree
            params.get(key)
            try:
                block[last] = yaml.safe_load(value)
            except yaml.YAMLError as error:
                raise BadSettings(f"--set {override!r}: the value is not YAML: {error}") from error
        return params

    def get(self, key: str) -> Any:
        """The value at a dotted key.

        Raises:
            BadSettings: if there is none; the message gives the nearest key.
        """
        value: Any = self.tree
        done: list[str] = []
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                valid = list(value) if isinstance(value, dict) else []
                where = ".".join(done) or "the top level"
                raise BadSettings(f"params.yaml has no {key!r}: no {part!r} at {where}; {nearest(part, valid)}")
            value = value[part]
            done.append(part)
        return value

    def fill(self, key: str, config: type[_Config], **more: Any) -> _Config:
        """Fills ``config`` with the block at ``key``.

        Args:
            key: dotted key of a block.
            config: the class that says which keys there must be.
            more: values that do not stand in the file (from a recipe, say); they win.

        Raises:
            BadSettings: for an unknown, missing or impossible key, naming it with its full path.
        """
        return fill({**(self.get(key) or {}), **more}, config, where=key)


def fill(block: dict[str, Any], config: type[_Config], where: str) -> _Config:
    """Fills ``config`` with ``block``; ``where`` is named in errors. Raises ``BadSettings`` as :meth:`Params.fill`."""
    try:
        return config(**block)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            key = ".".join(str(part) for part in (where, *problem["loc"]))
            if problem["type"] == "extra_forbidden":
                problems.append(f"unknown key {key}; {nearest(str(problem['loc'][-1]), _keys_at(config, problem['loc'][:-1]))}")
            else:
                problems.append(f"{key}: {problem['msg']} (given: {problem.get('input')!r})")
        raise BadSettings("settings: " + "; ".join(problems)) from error


def _keys_at(config: type[Settings], loc: tuple[int | str, ...]) -> list[str]:
    """The keys of the settings that lie nested in ``config`` at ``loc``."""
    for part in loc:
        nested = _settings_in(config.model_fields[part].annotation) if part in config.model_fields else None
        config = nested or config  # an index into a list of settings leads nowhere further
    return list(config.model_fields)


def _settings_in(annotation: Any) -> type[Settings] | None:
    """The first subclass of Settings in a type such as ``tuple[Term, ...]`` or ``Optimizer | None``."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _settings_in(argument))), None)


def _default_file() -> Path:
    beside_the_package = Path(__file__).resolve().parents[2] / "params.yaml"
    inside_the_package = Path(__file__).resolve().parent / "params.yaml"
    for candidate in (Path("params.yaml"), beside_the_package, inside_the_package):
        if candidate.is_file():
            return candidate
    raise BadSettings("there is no params.yaml here; name one with --params")
