"""What a check answers, and how it speaks of what it was given."""

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
    """The answer of a check: whether it is passed, its points, and a sentence, as which it prints.

    ``seen`` is a table to print above the sentence.
    """

    passed: bool
    sentence: str
    seen: str = ""
    maximum: int = 1

    @property
    def points(self) -> int:
        return self.maximum if self.passed else 0

    def __repr__(self) -> str:
        return f"{self.seen}\n\n{self.sentence}" if self.seen else self.sentence


def right(sentence: str, seen: str = "") -> Result:
    return Result(True, f"Right: {sentence}", seen)


def not_yet(sentence: str, seen: str = "") -> Result:
    return Result(False, f"Not yet: {sentence}", seen)


class NotYet(Exception):
    """Ends a check: what it saw, and the next thing to look at."""


def ends_with_not_yet(check: Callable[..., Result]) -> Callable[..., Result]:
    """Have ``check`` return a result where ``NotYet`` is raised within it."""

    @wraps(check)
    def checked(*answer: Any) -> Result:
        try:
            return check(*answer)
        except NotYet as fault:
            return not_yet(str(fault))
        except Exception as error:  # by a reader's code in a place where no check expects it
            return not_yet(f"it raises {said_by(error)}")

    return checked


def call(what: str, function: Callable, *arguments: Any) -> Any:
    """Return ``function(*arguments)``, a reader's; raises ``NotYet`` with the error that it raises."""
    try:
        return function(*arguments)
    except NotYet:
        raise
    except Exception as error:  # whatever it is, it is the answer
        raise NotYet(f"{what} raises {said_by(error)}") from error


def said_by(error: Exception) -> str:
    return f"{type(error).__name__}: {textwrap.shorten(first_line(error), LONGEST)}"


def check_function(given: Any, name: str) -> None:
    """Raise ``NotYet`` where ``given`` cannot be called: often it is what the function has returned."""
    if not callable(given):
        raise NotYet(
            f"the check was given {described(given)}: give it the function itself, {name} without parentheses."
        )


def check_module_class(given: Any, name: str) -> None:
    """Raise ``NotYet`` where ``given`` builds no modules: often it is one."""
    if isinstance(given, nn.Module) or not callable(given):
        raise NotYet(f"the check was given {described(given)}: give it the class itself, {name} without parentheses.")


def build_module(given: Callable[..., nn.Module], *arguments: int) -> nn.Module:
    """Return the module that a reader's class builds; raises ``NotYet`` where it builds none."""
    what = f"{name_of(given)}({', '.join(map(str, arguments))})"
    module = call(what, given, *arguments)
    if not isinstance(module, nn.Module):
        raise NotYet(f"{what} gives {described(module)}: derive the class from nn.Module.")
    return module


def name_of(given: Any) -> str:
    return getattr(given, "__name__", type(given).__name__)


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
    """Return a whole number of whatever type, None for anything else."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real) or value != value // 1:
        return None
    return int(value)
