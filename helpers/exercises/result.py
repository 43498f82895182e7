"""The result of a check, and how checks call and describe what a reader gives them."""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from numbers import Real
from typing import Any

from torch import Tensor, nn

from helpers.runtime.looking import first_line

LONGEST = 200  # characters of an error message or a value


@dataclass(frozen=True, repr=False)
class Result:
    """The result of a check: whether it is passed, and the sentence to print.

    ``seen`` is a table to print above the sentence.
    """

    passed: bool
    sentence: str
    seen: str = ""

    def __repr__(self) -> str:
        return f"{self.seen}\n\n{self.sentence}" if self.seen else self.sentence


def right(sentence: str, seen: str = "") -> Result:
    return Result(True, f"Right: {sentence}", seen)


def not_yet(sentence: str, seen: str = "") -> Result:
    return Result(False, f"Not yet: {sentence}", seen)


class NotYet(Exception):
    """Ends a check, saying what it saw and what to look at next."""


def ends_with_not_yet(check: Callable[..., Result]) -> Callable[..., Result]:
    """Have ``check`` return a result where it raises ``NotYet`` or another error."""

    @wraps(check)
    def checked(*answer: Any) -> Result:
        try:
            return call("it", check, *answer)  # another error is from a reader's code, where no check expects one
        except NotYet as fault:
            return not_yet(str(fault))

    return checked


def call(what: str, function: Callable, *arguments: Any) -> Any:
    """Return ``function(*arguments)`` of a reader's function; turn any error that it raises into ``NotYet``."""
    try:
        return function(*arguments)
    except NotYet:
        raise
    except Exception as error:  # a reader's code may raise any
        said = textwrap.shorten(first_line(error), LONGEST)
        raise NotYet(f"{what} raises {type(error).__name__}: {said}") from error


def check_given(given: Any, name: str) -> None:
    """Raise ``NotYet`` where ``given`` is no function or class; often it is what this one gives when it is called."""
    if isinstance(given, nn.Module) or not callable(given):
        raise NotYet(f"the check was given {described(given)}: give it {name} itself, without parentheses.")


def build_module(given: Callable[..., nn.Module], *arguments: int) -> nn.Module:
    """Return the module that a reader's class builds; raises ``NotYet`` where it builds none."""
    what = f"{name_of(given)}({', '.join(map(str, arguments))})"
    module = call(what, given, *arguments)
    if not isinstance(module, nn.Module):
        raise NotYet(f"{what} gives {described(module)}: derive the class from nn.Module.")
    return module


def name_of(given: Any) -> str:
    return getattr(given, "__name__", type(given).__name__)


def gives(value: Any, remedy: str) -> str:
    """Say that a reader's function gives ``value``, which is of the wrong kind, and the ``remedy``."""
    return f"gives {described(value)}: {'does it end with return?' if value is None else remedy}"


def described(value: Any) -> str:
    """Return a few words for a value of any kind."""
    if value is None or isinstance(value, Real | str):
        return textwrap.shorten(repr(value), LONGEST)
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    if isinstance(value, nn.Module):
        return f"an instance of {name}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def whole_number(value: Any) -> int | None:
    """Return a whole number of any numeric type as an int, None for anything else."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real) or value != value // 1:
        return None
    return int(value)
