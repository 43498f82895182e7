"""Checks of settings, for when they are made: an error names the setting, its value and what to give instead."""

import math
from collections.abc import Sequence


def is_whole_number(value: object, least: int, most: int = 2**31 - 1) -> bool:
    """Tell whether ``value`` is a whole number within these bounds; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def check_whole_numbers(settings: object, *names: str, least: int) -> None:
    """Raise ``ValueError`` unless these attributes of ``settings`` are whole numbers of at least ``least``."""
    for name in names:
        value = getattr(settings, name)
        if not is_whole_number(value, least):
            raise ValueError(f"{name} is {value!r}: give a whole number, at least {least}")


def check_numbers(
    settings: object,
    *names: str,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> None:
    """Raise ``ValueError`` unless these attributes of ``settings`` are numbers within the bounds."""
    bounds = {"above": above, "at least": least, "below": below, "at most": most}
    words = " and ".join(f"{word} {bound}" for word, bound in bounds.items() if math.isfinite(bound))
    for name in names:
        value = getattr(settings, name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not (value > above and value >= least and value < below and value <= most):
            raise ValueError(f"{name} is {value!r}: give a number {words}")


def check_switches(settings: object, *names: str) -> None:
    """Raise ``ValueError`` unless these attributes of ``settings`` are True or False."""
    for name in names:
        value = getattr(settings, name)
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}: give True or False")


def check_choice(settings: object, name: str, choices: Sequence[str]) -> None:
    """Raise ``ValueError`` unless this attribute of ``settings`` is one of ``choices``."""
    value = getattr(settings, name)
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: choose {', '.join(choices[:-1])} or {choices[-1]}")
