"""The thin layer between the tool and user code: what fails there says where, and what to do."""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from advisor.errors import note_place


@contextmanager
def running(what: str, next_step: str | None = None) -> Iterator[None]:
    """Have an exception that comes out of user code say what was run, and what may help."""
    try:
        yield
    except Exception as error:
        note_place(error, what, next_step)
        raise


def parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter] | None:
    """Return the parameters of a function; None where it has no signature to look at."""
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # builtins, and objects that say nothing of themselves
        return None


def count_places(function: Callable[..., Any]) -> int:
    """Return how many arguments it takes by place; any number where its signature does not tell."""
    parameters = parameters_of(function)
    kinds = [each.kind for each in (parameters or {}).values()]
    if parameters is None or inspect.Parameter.VAR_POSITIONAL in kinds:
        return sys.maxsize
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(kind in places for kind in kinds)


def name_of(function: Any) -> str:
    """Return what the user calls a function, a class or an object."""
    name = getattr(getattr(function, "func", function), "__qualname__", None)  # of a partial
    return name if isinstance(name, str) else type(function).__name__


def attribute_of(value: object, name: str) -> Any:
    """Return an attribute that the value may lack, or refuse to give; None then."""
    try:
        return getattr(value, name, None)
    except Exception:  # noqa: BLE001 - properties and __getattr__ may raise what they like
        return None


def is_a(value: object, kind: type | tuple[type, ...]) -> bool:
    """Return whether the value is of the kind; proxies may refuse to say which class they are."""
    try:
        return isinstance(value, kind)
    except Exception:  # noqa: BLE001 - as a proxy outside of its context
        return False


def parameters_in(model: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters; a `parameters` of the user's own may return groups of them."""
    return nn.Module.parameters(model)
