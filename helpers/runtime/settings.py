"""Settings that are checked when they are made: what is out of range is told in one line."""

import math
from collections.abc import Sequence


def check_whole_numbers(settings: object, *names: str, least: int) -> None:
    """Raise ``ValueError`` where an attribute of ``settings`` is no whole number of at least ``least``."""
    for name in names:
        value = getattr(settings, name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**31:
            raise ValueError(f"{name} is {value!r}: give a whole number, at least {least}")


def check_numbers(
    settings: object,
    *names: str,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> None:
    """Raise ``ValueError`` where an attribute of ``settings`` is no number within these bounds."""
    bounds = {"above": above, "at least": least, "below": below, "at most": most}
    words = " and ".join(f"{word} {bound}" for word, bound in bounds.items() if math.isfinite(bound))
    for name in names:
        value = getattr(settings, name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not (value > above and value >= least and value < below and value <= most):
            raise ValueError(f"{name} is {value!r}: give a number {words}")


def check_switches(settings: object, *names: str) -> None:
    """Raise ``ValueError`` where an attribute of ``settings`` is neither True nor False."""
    for name in names:
        value = getattr(settings, name)
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}: give True or False")


def check_choice(settings: object, name: str, choices: Sequence[str]) -> None:
    """Raise ``ValueError`` where an attribute of ``settings`` is none of ``choices``."""
    value = getattr(settings, name)
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: choose {', '.join(choices[:-1])} or {choices[-1]}")
