"""What a plug-in's file says about itself, without importing it: a loss or a model can be looked up even if torch is
not installed.

The file is parsed for the first sentence of its docstring and the fields of the ``Config`` nested in its class,
including inherited ones.
"""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from merc import plugins
from merc.errors import BadPlugin, BadSettings

_CONFIG = "Config"
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_LONGEST_ALIAS = 4
"""Maximum number of nested aliases that are followed."""


@dataclass(frozen=True)
class Setting:
    """A field of a ``Config``.

    Attributes:
        name: name of the field.
        type: its annotation and bounds, such as ``float > 0``; an alias is replaced by its definition.
        default: as in the source; empty if there is none.
        about: its description, one line.
    """

    name: str
    type: str
    default: str
    about: str


@dataclass(frozen=True)
class Outline:
    """A plug-in as its file describes it.

    Attributes:
        title: the first sentence of the file's docstring, or of the class's if the file has none.
        settings: the fields of its ``Config``, in pydantic's order.
    """

    title: str
    settings: tuple[Setting, ...]


def titles(package: str) -> dict[str, str]:
    """Name → title of every plug-in of a package; the title of one whose file cannot be read says so, since a broken
    plug-in must not hide the others.
    """
    found = {}
    for name in plugins.names(package):
        try:
            found[name] = _title(*plugins.place(package, name))
        except BadPlugin as error:
            found[name] = f"unreadable: {error}"
    return found


def read(package: str, name: str) -> Outline:
    """The outline of a plug-in.

    Args:
        package: dotted name, such as ``merc.training.losses``.
        name: name of the plug-in.

    Raises:
        BadSettings: if there is no such plug-in (the message gives the nearest name), or no class of its file has a
            nested ``Config``.
        BadPlugin: if its file cannot be found or parsed.
    """
    module, wanted = plugins.place(package, name)
    classes = _classes(_parsed(_file(module)))
    of_config = [node for node in classes if _nested(node) and (not wanted or node.name == wanted)]
    if not of_config:
        raise BadSettings(f"{module} has no class with a Config nested in it")
    fields = {one.name: one for one in _fields(module, of_config[-1].name)}
    return Outline(_title(module, wanted), tuple(fields.values()))


@cache
def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise BadPlugin(f"{path} is not Python: {error}") from error


def _file(module: str) -> Path:
    """The file of a module; its parent packages are imported, the module is not."""
    try:
        spec = find_spec(module)
    except ModuleNotFoundError as error:
        raise BadPlugin(f"{module} cannot be found: {error}") from error
    if spec is None or spec.origin is None:
        raise BadPlugin(f"{module} cannot be found")
    return Path(spec.origin)


def _title(module: str, wanted: str) -> str:
    """The title of the module, or of the class if the module has no docstring."""
    tree = _parsed(_file(module))
    documented: list[ast.Module | ast.ClassDef] = [tree, *(node for node in _classes(tree) if node.name == wanted)]
    docstrings = [ast.get_docstring(node) for node in documented]
    paragraph = next(filter(None, docstrings), "").partition("\n\n")[0]
    return " ".join(paragraph.split()).partition(". ")[0].rstrip(".")


def _classes(tree: ast.Module) -> list[ast.ClassDef]:
    return [node for node in tree.body if isinstance(node, ast.ClassDef)]


def _nested(node: ast.ClassDef) -> ast.ClassDef | None:
    return next((one for one in node.body if isinstance(one, ast.ClassDef) and one.name == _CONFIG), None)


def _fields(module: str, owner: str) -> Iterator[Setting]:
    """The fields of the ``Config`` nested in a class, inherited ones first."""
    node = next((one for one in _classes(_parsed(_file(module))) if one.name == owner), None)
    config = _nested(node) if node else None
    if node is None or config is None:
        return
    for base in config.bases:
        if isinstance(base, ast.Attribute) and base.attr == _CONFIG and isinstance(base.value, ast.Name):
            yield from _fields(_home(module, base.value.id), base.value.id)
    described = [*config.body[1:], None]
    for statement, after in zip(config.body, described, strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            default, bounds = _default(statement.value)
            kind = f"{_words(_spelled(module, statement.annotation))} {', '.join(bounds)}".strip()
            yield Setting(statement.target.id, kind, default, _text(after))


def _home(module: str, name: str) -> str:
    """The module that defines a name used by another one."""
    for node in ast.walk(_parsed(_file(module))):
        if isinstance(node, ast.ImportFrom) and any((one.asname or one.name) == name for one in node.names):
            source = str(node.module)
            return plugins.public_classes(source).get(name, [source])[0] if _is_package(source) else source
    return module


def _is_package(module: str) -> bool:
    return _file(module).name == "__init__.py"


def _default(value: ast.expr | None) -> tuple[str, list[str]]:
    """The default and the bounds of a field."""
    if value is None:
        return "", []
    if not (isinstance(value, ast.Call) and ast.unparse(value.func) == "Field"):
        return ast.unparse(value), []
    given = {one.arg: one.value for one in value.keywords}
    bounds = [f"{sign} {ast.unparse(given[name])}" for name, sign in _BOUNDS.items() if name in given]
    factory = given.get("default_factory")
    made = {"dict": "{}", "list": "[]"}.get(ast.unparse(factory), ast.unparse(factory)) if factory else ""
    return (ast.unparse(given["default"]) if "default" in given else made), bounds


def _spelled(module: str, annotation: ast.expr) -> ast.expr:
    """The definition of an annotation that is an alias; any other annotation unchanged."""
    for _ in range(_LONGEST_ALIAS):
        if not isinstance(annotation, ast.Name):
            break
        module = _home(module, annotation.id)
        value = _assigned(_parsed(_file(module)), annotation.id)
        if value is None:
            break
        annotation = value
    return annotation


def _words(annotation: ast.expr) -> str:
    """``Literal["a", "b"]`` becomes ``'a' | 'b'``; anything else is as in the source."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        values = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        return " | ".join(map(ast.unparse, values))
    return ast.unparse(annotation)


def _assigned(tree: ast.Module, name: str) -> ast.expr | None:
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == name:
            return getattr(node, "value", None)
    return None


def _text(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return " ".join(inspect.cleandoc(node.value.value).split())
    return ""
