"""Settings: defaults are in the code, named things are small files of the package, params.yaml overrides both, and
``--set`` overrides all.

    Config of a class            every key, with its default, its unit and its source
      ▲ lies over
    recipes/mmgcn.yaml, …        what has a name, one file each (:class:`Shelf`); ``base: NAME`` puts it over another one
      ▲ lies over
    params.yaml                  choices; its blocks ``recipes``, ``encoders``, ``corpora``, … may also add names
      ▲ lies over
    --set KEY=VALUE

Overriding works mapping by mapping, key by key; anything but a mapping replaces the previous value. The origin of every
value is known (:class:`Laid`), and a value of ``--set`` that nothing uses, or that something else overrides, is an
error.
"""  # noqa: E501

import copy
import re
import reprlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files as resources
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

from merc import files
from merc.errors import BadSettings, nearest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""Valid names of recipes, encoders and corpora; no name can lead outside a folder."""
BLOCKS = (
    "run presets default_encoders build adapt_text adapt_audio train corpora demo media encoders adaptations extraction"
    " audit shards trajectories recipes additions sweeps models losses frameworks evaluation report"
).split()
"""The valid keys of params.yaml."""


_PACKAGED = "the package's params.yaml"
_MOST_BYTES = 300_000
_MOST_VALUES = 100_000
_MOST_DIGITS = 100


class Settings(BaseModel):
    """Base of every ``Config``: immutable, and an unknown key is an error. A string below a field is its
    description.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    ADDED_LATER: ClassVar[tuple[str, ...]] = ()
    """Settings that work was already done without. At their default they are not part of :meth:`decisive`, so that
    such work stays valid.
    """

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """pydantic takes true for 1, and a learning rate of ``true`` is a mistake."""
        kinds = _kinds(cls.model_fields[info.field_name or ""].annotation)
        given = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
        # Of fields that also take text, their own validators judge.
        if kinds & {int, float} and not kinds & {bool, str, Any} and any(isinstance(one, bool) for one in given):
            raise PydanticKnownError("float_type")
        return value

    def decisive(self, exclude: Collection[str] = ()) -> dict[str, Any]:
        """The settings as JSON for a fingerprint, without ``exclude``, which does not determine a result."""
        fields = type(self).model_fields
        unset = {
            name
            for name in self.ADDED_LATER
            if getattr(self, name) == fields[name].get_default(call_default_factory=True, validated_data={})
        }
        return self.model_dump(mode="json", exclude={*exclude, *unset})


def _kinds(annotation: Any) -> set[Any]:
    """What the values of a type such as ``dict[str, float] | None`` are made of; not the keys."""
    parts = get_args(annotation)[1:] if get_origin(annotation) is dict else get_args(annotation)
    return {annotation}.union(*(_kinds(one) for one in parts))


_Config = TypeVar("_Config", bound=Settings)


@dataclass(frozen=True)
class Origin:
    """Where a value comes from.

    Attributes:
        words: a file, or ``--set``.
        key: the dotted key by which params.yaml and ``--set`` reach it; empty if they cannot.
        user: whether it was set by the user.
        override: whether it was set by ``--set``.
    """

    words: str
    key: str = ""
    user: bool = False
    override: bool = False


@dataclass
class Laid:
    """Blocks merged over each other.

    Attributes:
        tree: the result.
        origins: dotted key of a leaf → origin of its value. A key that is not here has its default.
    """

    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    _beaten: list[tuple[Origin, Origin]] = field(default_factory=list)

    def lay(self, key: str, value: Any, origin: Origin) -> None:
        """Merges a value, or a block key by key, over what is at the dotted ``key`` (empty: the root).

        ``origin`` is that of the root; the keys below it are appended to its key, if it has one.
        """
        if isinstance(value, Mapping) and (value or isinstance(self._at(key), Mapping)):
            for name, below in value.items():
                self.lay(f"{key}.{name}" if key else str(name), below, origin)
            if not isinstance(self._at(key), Mapping):
                self._put(key, {}, origin)
            return
        self._put(key, value, origin)

    def lay_part(self, other: "Laid", key: str, without: Collection[str] = ()) -> None:
        """Merges what is below the dotted ``key`` of another over this, with its origins, except for some keys."""
        for leaf, origin in other.origins.items():
            if leaf.startswith(f"{key}.") and leaf.removeprefix(f"{key}.") not in without:
                self._put(leaf.removeprefix(f"{key}."), other.at(leaf), origin, whole=True)

    def at(self, key: str) -> Any:
        """The value at a dotted key; None if there is none."""
        return self._at(key)

    def outcome(self) -> Iterator[tuple[Origin, Origin | None]]:
        """Every value that was set by the user: its origin, and the origin of the value that replaced it, if any."""
        yield from self._beaten
        yield from ((origin, None) for origin in self.origins.values() if origin.user)

    def _at(self, key: str) -> Any:
        value: Any = self.tree
        for part in key.split(".") if key else ():
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def _put(self, key: str, value: Any, origin: Origin, *, whole: bool = False) -> None:
        own = origin if whole or not origin.key else replace(origin, key=_joined(origin.key, key))
        parents = {key[: dot.start()] for dot in re.finditer(r"\.", key)}
        for there in [one for one in self.origins if one == key or one.startswith(f"{key}.") or one in parents]:
            replaced = self.origins.pop(there)
            if (
                replaced.user and replaced != own and not (there in parents and self._at(there) == {})
            ):  # an empty block is filled, not replaced
                self._beaten.append((replaced, own))
        block = self.tree
        *above, last = key.split(".")
        for part in above:
            if not isinstance(block.get(part), dict):
                block.pop(part, None)  # a key that is removed and returns comes last
                block[part] = {}
            block = block[part]
        block[last] = copy.deepcopy(value)
        self.origins[key] = own


def _joined(root: str, key: str) -> str:
    return f"{root}.{key}" if root and key else root or key


@dataclass(frozen=True)
class Shelf:
    """Named blocks that ship as one small file each, overridden by the blocks of the same names in params.yaml.

    Attributes:
        key: the dotted key of the user's blocks in params.yaml.
        package: the folder of the files, as a dotted name.
        word: what such a block is called in messages.
        alone: returns the names that need neither a file nor a block.
    """

    key: str
    package: str
    word: str
    alone: Callable[[], Sequence[str]] = tuple

    def shipped(self) -> list[str]:
        """The names of the files, sorted."""
        return sorted(
            path.name.removesuffix(".yaml") for path in resources(self.package).iterdir() if path.name.endswith(".yaml")
        )

    def names(self, params: "Params") -> list[str]:
        """All names, sorted."""
        return sorted({*self.shipped(), *self.alone(), *params.block(self.key)})

    def path(self, name: str) -> str:
        """Path of the file of a name in the package, whether or not it exists:
        ``merc/training/recipes/mmgcn.yaml``.
        """
        return f"{self.package.replace('.', '/')}/{name}.yaml"

    def lineage(self, params: "Params", name: str) -> list[str]:
        """The name, the name of its base, the base of that, and so on.

        Raises:
            BadSettings: if a name is unknown (the message gives the nearest one), or a block is its own ancestor.
        """
        found: list[str] = []
        while True:
            if name in found:
                circle = " → ".join([*found[found.index(name) :], name])
                raise BadSettings(f"{self.key}.{name}.base: a {self.word} is its own ancestor: {circle}")
            block = self._own(params, name, where=f"{self.key}.{found[-1]}.base: " if found else "")
            found.append(name)
            base = block.tree.get("base")
            if base is None:
                return found
            if not isinstance(base, str):
                raise BadSettings(f"{self.key}.{name}.base is {base!r}; the name of a {self.word} is expected")
            name = base

    def read(self, params: "Params", name: str) -> Laid:
        """The block of a name merged over that of its base, the user's over the shipped one; without the key ``base``.
        Raises as :meth:`lineage`.
        """
        laid = Laid()
        for one in reversed(self.lineage(params, name)):
            self.lay(laid, params, one)
        laid.tree.pop("base", None)
        laid.origins.pop("base", None)
        return laid

    def lay(self, laid: Laid, params: "Params", name: str) -> None:
        """Merges the block of a name, without its base, over what is there."""
        if self._ships(name):
            laid.lay("", self._load(name), Origin(self.path(name), f"{self.key}.{name}"))
        params.lay(laid, f"{self.key}.{name}")

    def _own(self, params: "Params", name: str, where: str) -> Laid:
        if not NAME.fullmatch(name) or not (
            self._ships(name) or name in params.block(self.key) or name in self.alone()
        ):
            raise BadSettings(f"{where}no {self.word} {name!r}; {nearest(name, self.names(params))}")
        laid = Laid()
        self.lay(laid, params, name)
        return laid

    def _ships(self, name: str) -> bool:
        return bool(NAME.fullmatch(name)) and resources(self.package).joinpath(f"{name}.yaml").is_file()

    def _load(self, name: str) -> dict[str, Any]:
        return _mapping(resources(self.package).joinpath(f"{name}.yaml").read_text(encoding="utf-8"), self.path(name))


@dataclass(frozen=True)
class _Override:
    """One ``--set``."""

    given: str
    key: str
    value: Any


class Params:
    """The content of params.yaml, and what ``--set`` overrides in it.

    Example:
        >>> params = Params({"media": {"max_clip_seconds": 60}})
        >>> class Media(Settings):
        ...     max_clip_seconds: float = 30.0
        ...     frames_per_clip: int = 8
        >>> params.fill("media", Media)
        Media(max_clip_seconds=60.0, frames_per_clip=8)
    """

    def __init__(
        self, tree: Mapping[str, Any], overrides: tuple[_Override, ...] = (), file: str = "params.yaml"
    ) -> None:
        self._tree = tree
        self._overrides = overrides
        self._file = file
        self._asked: set[str] = set()
        self._won: set[str] = set()
        self._lost: dict[str, tuple[Origin, Origin]] = {}

    @classmethod
    def load(cls, path: Path | None = None, overrides: tuple[str, ...] = ()) -> "Params":
        """Reads params.yaml.

        Args:
            path: the file; by default ``params.yaml`` in the current folder, else the one that ships with the package.
            overrides: ``KEY=VALUE`` with a dotted key and a YAML value.

        Raises:
            BadSettings: if the file cannot be read as YAML, has an unknown key or an outdated format, or an override
                does not have that form.
        """
        own = path or _own_file()
        path = own or packaged_file()
        try:
            files.check_kind(path)
            with path.open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
            if len(content) > _MOST_BYTES:
                raise BadSettings(f"{path}: more than {_MOST_BYTES:,} bytes; this is not a settings file")
            tree = _mapping(content.decode("utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise BadSettings(f"cannot read the settings: {path}: {error}") from error
        _check_form(tree, path)
        for key in tree:
            if key not in BLOCKS:
                foreign = "; if this is another program's file, name your settings with --params FILE"
                raise BadSettings(f"{path}: unknown key {key!r}; {nearest(str(key), BLOCKS)}{foreign}")
        return cls(tree, tuple(_parsed(one) for one in overrides), path.name if own else _PACKAGED)

    @property
    def file(self) -> str:
        """Describes the settings file; if the user has none, says how to get one."""
        return (
            f"{self._file} (`merc-extract params > params.yaml` writes your own copy)"
            if self._file == _PACKAGED
            else self._file
        )

    def with_overrides(self, **values: Any) -> "Params":
        """The same settings with further overrides; dots in a key are written as two underscores. For tests and
        benchmarks.

        Example:
            >>> Params({}).with_overrides(media__max_clip_seconds=5).block("media")
            {'max_clip_seconds': 5}
        """
        more = tuple(
            _Override(f"{key}={value}", key, value)
            for name, value in values.items()
            for key in [name.replace("__", ".")]
        )
        return Params(self._tree, (*self._overrides, *more), self._file)

    def lay(self, laid: Laid, key: str) -> None:
        """Merges the block at a dotted key, including the user's overrides in it, over what is there."""
        self._asked.add(key)
        if (block := _find(self._tree, key)) is not None:
            laid.lay("", _as_mapping(block, key, self._file), Origin(self._file, key, user=True))
        for override in self._overrides:
            origin = Origin(f"--set {override.given}", key, user=True, override=True)
            if override.key == key:
                laid.lay("", _as_mapping(override.value, key, "--set"), origin)
            elif override.key.startswith(f"{key}."):
                laid.lay(override.key.removeprefix(f"{key}."), override.value, origin)

    def read(self, key: str) -> Laid:
        """The block at a dotted key; empty if there is none."""
        laid = Laid()
        self.lay(laid, key)
        return laid

    def block(self, key: str) -> dict[str, Any]:
        """The block at a dotted key as a mapping; empty if there is none. Reading it does not count as use: see
        :meth:`check_overrides`.
        """
        asked = set(self._asked)
        laid = self.read(key)
        self._asked = asked
        return laid.tree

    def get(self, key: str) -> Any:
        """The value at a dotted key.

        Raises:
            BadSettings: if there is none; the message gives the nearest key.
        """
        parent, _, last = key.rpartition(".")
        block = self.block(parent) if parent else {name: self.block(name) for name in BLOCKS}
        self._asked.add(key)
        if last not in block:
            where = parent or "the top level"
            raise BadSettings(f"{self.file} has no {key!r}: no {last!r} at {where}; {nearest(last, list(block))}")
        return block[last]

    def fill(self, key: str, config: type[_Config]) -> _Config:
        """Fills ``config`` with the block at ``key``; keys that are not in it have their defaults.

        Raises:
            BadSettings: for an unknown or missing key or an invalid value; the message gives the full key.
        """
        return self.filled(self.read(key), config, where=key)

    def filled(self, laid: Laid, config: type[_Config], where: str) -> _Config:
        """Fills ``config`` with merged blocks, and records the effect of the user's values. Raises as :meth:`fill`."""
        made = fill(laid.tree, config, where)
        self.note(laid)
        return made

    def note(self, laid: Laid) -> None:
        """Records which of the user's values are in effect in ``laid``, for :meth:`check_overrides`."""
        for origin, by in laid.outcome():
            if by is None:
                self._won.add(origin.key)
            elif (
                origin.override or origin.key not in self._lost
            ):  # a value of --set has replaced the file's, and is the one that is lost
                self._lost[origin.key] = origin, by

    def check_overrides(self) -> None:
        """Checks the overrides; must be called when all settings of a command are resolved.

        Raises:
            BadSettings: if no code used a value of ``--set``, or a value set by the user was overridden wherever it was
                used.
        """
        for key, (origin, by) in self._lost.items():
            asked_for = key.startswith("recipes.") and by.key.startswith(
                "additions."
            )  # a recipe's name tells which additions override it
            if key not in self._won and (origin.override or not (by.user or asked_for)):
                raise BadSettings(
                    f"{origin.words}: {key} has no effect, since {by.words} overrides"
                    f" it{f'; set {by.key} instead' if by.key else ''}"
                )
        for override in self._overrides:
            if not any(_overlap(override.key, asked) for asked in self._asked):
                raise BadSettings(f"--set {override.given}: nothing in this command uses {override.key}")


def fill(block: Mapping[str, Any], config: type[_Config], where: str) -> _Config:
    """Fills ``config`` with ``block``; ``where`` is named in errors. Raises ``BadSettings`` as :meth:`Params.fill`."""
    defaults = {
        name: info.get_default(call_default_factory=True)
        for name, info in config.model_fields.items()
        if not info.is_required()
    }
    laid = Laid({name: dict(value) for name, value in defaults.items() if isinstance(value, Mapping) and name in block})
    laid.lay("", block, Origin(where))
    try:
        return config(**laid.tree)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            key = ".".join(str(part) for part in (where, *problem["loc"]))
            if problem["type"] == "extra_forbidden":
                problems.append(
                    f"unknown key {key}; {nearest(str(problem['loc'][-1]), _keys_at(config, problem['loc'][:-1]))}"
                )
            else:
                problems.append(f"{key}: {problem['msg']} (given: {reprlib.repr(problem.get('input'))})")
        raise BadSettings("settings: " + "; ".join(problems)) from error


def _keys_at(config: type[Settings], loc: tuple[int | str, ...]) -> list[str]:
    """The keys of the settings nested in ``config`` at ``loc``."""
    for part in loc:
        nested = _settings_in(config.model_fields[part].annotation) if part in config.model_fields else None
        config = nested or config  # an index into a list of settings leads nowhere further
    return list(config.model_fields)


def _settings_in(annotation: Any) -> type[Settings] | None:
    """The first subclass of Settings in a type such as ``tuple[Term, ...]`` or ``Optimizer | None``."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _settings_in(argument))), None)


def _mapping(text: str, where: str) -> dict[str, Any]:
    return dict(_as_mapping(_plain(text, f"{where}: not YAML"), "", where))


class _Loader(yaml.SafeLoader):
    """Refuses YAML of which a part would be lost, such as a key that occurs twice, or that does not fit into
    settings.
    """

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if (
            node is not None and _unfolded(node, {}) > _MOST_VALUES
        ):  # a few lines of nested aliases are billions of values
            raise yaml.composer.ComposerError(
                None, None, f"more than {_MOST_VALUES:,} values, with aliases expanded", node.start_mark
            )
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} twice in a block", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: Any) -> int:
        if len(str(node.value)) > _MOST_DIGITS:
            raise yaml.constructor.ConstructorError(
                None, None, f"a number of more than {_MOST_DIGITS} digits", node.start_mark
            )
        return super().construct_yaml_int(node)


def _unfolded(node: yaml.Node, known: dict[int, int]) -> int:
    """The number of values in a node, counting those repeated by aliases every time. Raises ``yaml.YAMLError`` if a
    node contains itself.
    """
    if id(node) in known:
        if not known[id(node)]:
            raise yaml.composer.ComposerError(None, None, "a value that contains itself", node.start_mark)
        return known[id(node)]
    known[id(node)] = 0
    below = (
        [one for pair in node.value for one in pair]
        if isinstance(node, yaml.MappingNode)
        else node.value
        if isinstance(node, yaml.SequenceNode)
        else []
    )
    known[id(node)] = 1 + sum(_unfolded(one, known) for one in below)
    return known[id(node)]


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _plain(text: str, what: str) -> Any:
    """Parses a YAML text.

    Raises:
        BadSettings: with a message that starts with ``what``, if it is invalid, deeper or larger than any settings, or
            has a duplicate key or an invalid number or date.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        raise BadSettings(f"{what}: {error}") from error
    except RecursionError as error:
        raise BadSettings(f"{what}: blocks nested deeper than in any settings") from error


def _as_mapping(value: Any, key: str, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BadSettings(
            f"{where}: {key or 'the content'} is {reprlib.repr(value)}; expected a block of keys and values"
        )
    return value


def _find(tree: Mapping[str, Any], key: str) -> Any:
    value: Any = tree
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _parsed(given: str) -> _Override:
    key, equals, value = given.partition("=")
    if not equals or not key:
        raise BadSettings(f"--set {given!r} is not of the form KEY=VALUE")
    if key.split(".")[0] not in BLOCKS:
        raise BadSettings(f"--set {given!r}: no block {key.split('.')[0]!r}; {nearest(key.split('.')[0], BLOCKS)}")
    return _Override(given, key, _plain(value, f"--set {given!r}: the value is not YAML"))


def values(text: str, what: str) -> list[Any]:
    """The YAML values of a list written without brackets: ``2, 4, 8``. Raises ``BadSettings``, with a message that
    starts with ``what``, if it is invalid.
    """
    found: list[Any] = _plain(f"[{text}]", f"{what}: not a list of values")
    return found


def _overlap(one: str, other: str) -> bool:
    """Whether one of two dotted keys is the other, or is below it."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


_MOVED = """\
{path} has the form of an earlier version ({sign}). What moved where:
  models, losses, frameworks, encoders, corpora, demo, media, …: every key has its default in the code; keep only what you changed
  recipes, additions: shipped as files in merc/training/recipes; a block here overrides one, or adds one, with `base: NAME` instead of an anchor
  a recipe's `losses` is a mapping, name → settings; its `stages` are `phases`, a mapping, too
  train_second: its entries belong under `train`, with `first` as the key `also_reads`
`merc-extract params` and `merc-train show RECIPE` print the settings in effect."""  # noqa: E501


def _check_form(tree: Mapping[str, Any], path: Path) -> None:
    """Raises ``BadSettings`` with a list of what moved where if the file was written for an earlier version."""
    signs = [key for key in ("train_second",) if key in tree]
    for key in ("recipes", "additions"):
        blocks = tree.get(key)
        for name, block in blocks.items() if isinstance(blocks, Mapping) else ():
            if isinstance(block, Mapping):
                signs += [f"{key}.{name}.stages"] * ("stages" in block) + [
                    f"{key}.{name}.losses is a list"
                ] * isinstance(block.get("losses"), list)
    if signs:
        raise BadSettings(_MOVED.format(path=path, sign=signs[0]))


def _own_file() -> Path | None:
    """The settings in the current folder, if there are any."""
    return Path("params.yaml") if Path("params.yaml").is_file() else None


def packaged_file() -> Path:
    """The settings that ship with the package: next to it in a checkout, inside it if installed.

    Raises:
        BadSettings: if they are missing.
    """
    here = Path(__file__).resolve()
    for candidate in (here.parents[2] / "params.yaml", here.parent / "params.yaml"):
        if candidate.is_file():
            return candidate
    raise BadSettings("there is no params.yaml here; name one with --params")
