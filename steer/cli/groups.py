"""Groups of options: a parameter that is a dataclass becomes one option for each of its fields."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any


def with_groups(command: Callable[..., Any]) -> Callable[..., Any]:
    """Makes of a `command` with parameters that are dataclasses one that Typer can read: their
    fields, and those of dataclasses in them, are options after the command's own. What has no
    default comes first."""
    own: list[inspect.Parameter] = []
    grouped: list[inspect.Parameter] = []
    for each in inspect.signature(command).parameters.values():
        if is_dataclass(each.annotation):
            grouped += _parameters(each.annotation)
        else:
            own.append(each.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    needed = [each for each in grouped if each.default is inspect.Parameter.empty]
    others = [each for each in grouped if each not in needed]
    first = [each for each in own if each.default is inspect.Parameter.empty]
    rest = [each for each in own if each not in first]
    groups = {
        each.name: each.annotation
        for each in inspect.signature(command).parameters.values()
        if is_dataclass(each.annotation)
    }

    def parsed(**values: Any) -> Any:
        made = {name: _make(kind, values) for name, kind in groups.items()}
        return command(**made, **values)

    parsed.__signature__ = inspect.Signature([*first, *needed, *rest, *others])  # type: ignore[attr-defined]
    parsed.__name__, parsed.__doc__ = command.__name__, command.__doc__
    return parsed


def _parameters(group: Any) -> Iterator[inspect.Parameter]:
    for field in fields(group):
        if is_dataclass(field.type):
            yield from _parameters(field.type)
        else:
            yield inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=_default(field),
                annotation=field.type,
            )


def _default(field: Field[Any]) -> Any:
    return inspect.Parameter.empty if field.default is MISSING else field.default


def _make(group: Any, values: dict[str, Any]) -> Any:
    """Makes a group of the values of its options, which are taken out of `values`."""
    return group(
        **{
            field.name: _make(field.type, values)
            if is_dataclass(field.type)
            else values.pop(field.name)
            for field in fields(group)
        }
    )
