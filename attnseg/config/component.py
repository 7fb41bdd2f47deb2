"""A component in a configuration: one of ours by name, or anybody's class by `_target_`."""

from __future__ import annotations

import ast
import difflib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import Any, TypeVar

from pydantic import (
    ConfigDict,
    Field,
    PlainValidator,
    SerializerFunctionWrapHandler,
    ValidationError,
    create_model,
    model_serializer,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticKnownError

from attnseg.component import KINDS
from attnseg.config.base import Section
from attnseg.config.environment import Composed, value_at
from attnseg.config.signatures import (
    REQUIRED,
    UNTOLD,
    Option,
    Signature,
    class_constants,
    find_module,
    imported_signature,
    read_signature,
)

TARGET = "_target_"

Config = TypeVar("Config", bound=dict[str, Any])


class Component(Section):
    """What one component is told; the options are attributes.

    Attributes:
        kind: a key of `attnseg.component.KINDS`.
        name: of one of ours, or the last part of the dotted name of any other.
        target: the dotted name of its class.
    """

    model_config = ConfigDict(protected_namespaces=())

    @property
    def signature(self) -> Signature:
        """What it can be told."""
        return _signatures[type(self)]

    @property
    def registered(self) -> bool:
        """Whether it is one of ours."""
        return self.signature.name is not None

    @property
    def target(self) -> str:
        """The dotted name of its class or function."""
        return self.signature.target

    def __eq__(self, other: object) -> bool:
        """Of one class with equal options; every reading makes a schema of its own."""
        if not isinstance(other, Component):
            return NotImplemented
        return (self.target, self.model_dump()) == (other.target, other.model_dump())

    @property
    def options(self) -> dict[str, Any]:
        """Every option of ours; of any other those that were given."""
        fields = type(self).model_fields if self.registered else self.model_fields_set
        named = {name: getattr(self, name) for name in self.signature.options if name in fields}
        return {**named, **(self.model_extra or {})}

    def __getattr__(self, item: str) -> Any:
        """`name` of a component that has none: its class's."""
        if item == "name":
            return self.signature.name or self.target.rpartition(".")[2]
        return super().__getattr__(item)  # type: ignore[misc]

    @model_serializer(mode="wrap")
    def _flat(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain = handler(self)
        if self.registered:
            return dict(plain)
        beside = type(self).model_fields.keys() - self.signature.options.keys()
        kept = self.model_fields_set | beside
        return {TARGET: self.target, **{key: plain[key] for key in plain if key in kept}}


_signatures: dict[type[Component], Signature] = {}


def signature_of(schema: type[Component]) -> Signature:
    """What components of this schema can be told."""
    return _signatures[schema]


_BESIDE: dict[str, tuple[str | None, type[Component]]] = {}

Keys = TypeVar("Keys", bound=type[Component])


def beside(kind: str, where: str | None = None) -> Callable[[Keys], Keys]:
    """Makes a schema's fields keys of all components of a kind, beside the options of each.

    Args:
        kind: of `attnseg.component.KINDS`.
        where: the argument that a class must have for it; None for all.
    """

    def note(schema: Keys) -> Keys:
        _BESIDE[kind] = (where, schema)
        return schema

    return note


def _base(kind: str, signature: Signature) -> type[Component]:
    where, schema = _BESIDE.get(kind, (None, Component))
    return schema if where in (None, *signature.asks_for, *signature.options) else Component


class ComponentError(ValueError):
    """What is wrong inside a component; `attnseg.config.validation` lists it.

    Attributes:
        kind: of the component.
        name: of the component.
        errors: of pydantic, their places relative to the component.
        config: what was given.
        schema: what was wanted.
    """

    def __init__(
        self,
        kind: str,
        error: ValidationError,
        config: Mapping[str, Any],
        schema: type[Component],
    ) -> None:
        super().__init__(str(error))
        self.kind = kind
        self.name = _signatures[schema].name or schema.__name__
        self.errors: list[dict[str, Any]] = [dict(item) for item in error.errors()]
        self.config = dict(config)
        self.schema = schema


def slot(kind: str) -> PlainValidator:
    """Makes a field of a Section hold a component of that kind."""
    return PlainValidator(partial(component, kind))


def kind_of(field: FieldInfo) -> str | None:
    """The kind of component that a field of a Section holds, if it holds one."""
    for mark in field.metadata:
        check = mark.func if isinstance(mark, PlainValidator) else None
        if isinstance(check, partial) and check.func is component:
            return str(check.args[0])
    return None


def by_target(kind: str) -> PlainValidator:
    """Makes any key of a Section hold a component of that kind, by `_target_` alone.

    Without one it is a mistyped key, and told as such.
    """
    return PlainValidator(partial(_by_target, kind))


def _by_target(kind: str, given: Any) -> Component:
    if not isinstance(given, Component) and not (isinstance(given, Mapping) and TARGET in given):
        raise PydanticKnownError("extra_forbidden")
    return component(kind, given)


def component(kind: str, given: Any) -> Component:
    """Check what a configuration says of a component.

    Raises:
        ValueError: there is no such component, or an option is wrong.
    """
    if isinstance(given, Component):
        return given
    if not isinstance(given, Mapping):
        raise ValueError(f"must have keys: name, or {TARGET}, and options")
    options, key = dict(given), KINDS[kind].name_key
    target = options.pop(TARGET, None)
    name = options.get(key) if key is not None else None
    if target is None:
        name = name if name is not None else KINDS[kind].default
        if name is None:
            raise ValueError(f"needs a {key} ({_choices(kind)}), or a {TARGET}")
        target = registry(kind).get(str(name))
        if target is None:
            raise ValueError(f"no {kind} is called {name!r}; {_nearest(str(name), kind)}")
    elif name is not None:
        raise ValueError(
            f"give a {key} or a {TARGET}, not both ({key}={name}, {TARGET}={target}); a file that "
            f"is laid over another says {key}: null"
        )
    elif key is not None:
        options.pop(key, None)
    model = schema_of(kind, str(target), imports=_IMPORTS.get())
    if _signatures[model].name is not None and key is not None:
        options[key] = _signatures[model].name
    if _signatures[model].name is not None and not _IMPORTS.get():
        options = _without_others(kind, options, model)
    try:
        return model.model_validate(options)
    except ValidationError as error:
        raise ComponentError(kind, error, options, model) from None


def _without_others(
    kind: str, options: Mapping[str, Any], model: type[Component]
) -> dict[str, Any]:
    """A file's options without those of other components: older versions wrote all of a kind."""
    return {
        name: value
        for name, value in options.items()
        if name in model.model_fields or not having(kind, name)
    }


def _choices(kind: str) -> str:
    return " | ".join(registry(kind))


def _nearest(name: str, kind: str) -> str:
    close = difflib.get_close_matches(name, registry(kind), n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose {_choices(kind)}"


_IMPORTS: ContextVar[bool] = ContextVar("imports", default=False)


@contextmanager
def importing(allowed: bool) -> Iterator[None]:
    """Whether classes may be imported to learn their arguments, for the time of the block."""
    token = _IMPORTS.set(allowed)
    try:
        yield
    finally:
        _IMPORTS.reset(token)


def schema_of(kind: str, target: str, *, imports: bool) -> type[Component]:
    """The schema of a component's options: from its source, or, where that is silent, its class.

    Where the class may not be imported, for a file names it, any option is taken.

    Raises:
        ValueError: there is no such class.
    """
    silent = read_signature(target, KINDS[kind].provided) is None
    return _schema_of(kind, target, imports=silent and imports)


@lru_cache(maxsize=256)
def _schema_of(kind: str, target: str, *, imports: bool) -> type[Component]:
    """One class for one component, so that equal configurations are equal."""
    provided = KINDS[kind].provided
    signature = read_signature(target, provided)
    if signature is None and not imports:
        signature = Signature(target, open=True, asks_for=provided)
    elif signature is None:
        from attnseg.common.importing import find_class  # imports what the configuration names

        signature = imported_signature(target, find_class(target), provided)
    base: Any = _base(kind, signature)
    fields: dict[str, Any] = {
        name: _field(option, base.model_fields.get(name))
        for name, option in signature.options.items()
        if not name.startswith("_")
    }
    key = KINDS[kind].name_key
    if signature.name is not None and key is not None:
        fields = {key: (str, signature.name), **fields}
    extra = ConfigDict(extra="allow") if signature.open else None
    with warnings.catch_warnings():  # an option may be called `copy`
        warnings.simplefilter("ignore")
        if extra is not None:
            base = type("OpenComponent", (base,), {"model_config": extra})
        model: type[Component] = create_model(target.rpartition(".")[2], __base__=base, **fields)
    _signatures[model] = signature
    return model


def _field(option: Option, known: FieldInfo | None = None) -> Any:
    """A field for pydantic; where the kind's own keys hold it, theirs but for the default."""
    annotation: Any = option.annotation
    if known is not None:
        needed = known.is_required() and option.default in (REQUIRED, UNTOLD, None)
        default = option.default if known.is_required() else known.default
        return (known.rebuild_annotation(), ... if needed else default)
    if option.slot is not None:
        from typing import Annotated

        from pydantic import SerializeAsAny

        annotation = Annotated[SerializeAsAny[Component], slot(option.slot)]
        if option.default is None:
            annotation = annotation | None
    if option.default is REQUIRED:
        return (annotation, ...)
    if option.slot is not None and option.default is not None:
        return (annotation, Field(default_factory=partial(component, option.slot, {})))
    if option.default is UNTOLD:
        return (Any, None)
    return (annotation, Field(default=option.default))


@lru_cache(maxsize=64)
def registry(kind: str) -> dict[str, str]:
    """Ours of a kind, from its package's files: registered name -> dotted name of the class."""
    package = KINDS[kind].package
    top = find_module(package)
    assert top is not None, package
    files = [top.path]
    if top.path.name == "__init__.py":
        files = sorted(path for path in top.path.parent.glob("*.py"))
    found = {}
    for path in files:
        dotted = package if path == top.path else f"{package}.{path.stem}"
        module = find_module(dotted)
        for statement in module.tree.body if module is not None else ():
            if not isinstance(statement, ast.ClassDef):
                continue
            bases = [base.id for base in statement.bases if isinstance(base, ast.Name)]
            right = KINDS[kind].derived is None or KINDS[kind].derived in bases
            if right and (name := class_constants(statement).get("name")):
                found[name] = f"{dotted}.{statement.name}"
    return found


def components_in(found: object) -> Iterator[Component]:
    """Every component of a configuration, those inside of others included."""
    if isinstance(found, Component):
        yield found
    if isinstance(found, Section):
        for name in type(found).model_fields:
            yield from components_in(getattr(found, name))
    elif isinstance(found, Mapping):
        for value in found.values():
            yield from components_in(value)
    elif isinstance(found, (list, tuple)):
        for value in found:
            yield from components_in(value)


def having(kind: str, option: str) -> list[str]:
    """The names of ours of a kind that have an option."""
    signatures = {n: read_signature(t, KINDS[kind].provided) for n, t in registry(kind).items()}
    return [n for n, signature in signatures.items() if signature and option in signature.options]


def forget() -> None:
    """Read everything anew: a source file has changed."""
    for cached in (_schema_of, registry):
        cached.cache_clear()


def without_replaced(plain: Config, given: Sequence[str]) -> Config:
    """A composed configuration without what belongs to components that the user replaced.

    `attention._target_=mylab.Disc` leaves what the option file of the group said of the one that
    it replaces, and `model.encoder.name=resnet18` what the light encoder has and it has not.

    Args:
        plain: the composed configuration, which is changed.
        given: the dotted keys that the user gave on the command line.
    """
    for key in given:
        *path, last = key.split(".")
        node, kind = _at(plain, path), _kind_at(plain, path)
        names = (TARGET, "name", KINDS[kind].name_key if kind else None)
        if last not in names or not isinstance(node, dict):
            continue
        kept = {
            name.removeprefix(f"{'.'.join(path)}.").split(".")[0]
            for name in given
            if name.startswith(f"{'.'.join(path)}.")
        }
        if kind:
            kept |= set(keys_beside(kind)[1])
        if last != TARGET:
            signature = _signature_at(kind, node)
            kept |= set(signature.options if signature else node)
        for name in [name for name in node if name not in kept]:
            del node[name]
        if isinstance(plain, Composed):
            gone = [place for place in plain.interpolations if value_at(plain, place) is None]
            for place in gone:
                del plain.interpolations[place]
    return plain


def _at(plain: Any, path: Sequence[str]) -> Any:
    for part in path:
        plain = plain.get(part) if isinstance(plain, Mapping) else None
    return plain


def keys_beside(kind: str) -> tuple[type[Component], list[str]]:
    """What a kind's components of any class have, and keep when the class is replaced."""
    where, schema = _BESIDE.get(kind, (None, Component))
    fields = schema.model_fields.items()
    return schema, [name for name, field in fields if not (where or field.is_required())]


def _kind_at(plain: Mapping[str, Any], path: Sequence[str]) -> str | None:
    """The kind of the component at a place; None where the place does not tell it."""
    kind = path[0] if path and path[0] in KINDS else None
    for depth, key in enumerate(path[1:], 1):
        signature = _signature_at(kind, _at(plain, path[:depth]))
        option = signature.options.get(key) if signature else None
        by_name = key if kind and key in KINDS and key in keys_beside(kind)[1] else None
        kind = option.slot if option else by_name
    return kind


def _signature_at(kind: str | None, node: Any) -> Signature | None:
    """Of one of ours; None of any other."""
    if kind is None or not isinstance(node, Mapping) or TARGET in node:
        return None
    name = node.get(KINDS[kind].name_key or "", KINDS[kind].default)
    target = registry(kind).get(str(name))
    return read_signature(target, KINDS[kind].provided) if target else None
