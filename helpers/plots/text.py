"""What a notebook shows as text: tables, and source code from the modules."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from helpers.runtime.markdown import markdown_table

# Given with each element, because a page that shows the notebook may have no styles of its own, or a dark theme.
CODE_STYLE = "background:#f6f8fa;color:#1f2328;font-family:monospace;font-size:13px;line-height:1.4;padding:0.8em"
CODE_STYLE += ";white-space:pre;overflow-x:auto"


class Table:
    """A table from columns of equal length, by name; a notebook shows it as Markdown.

    Whole numbers get commas between thousands, other values stay as they are.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]]) -> None:
        self.columns = {name: [_cell(value) for value in values] for name, values in columns.items()}

    def __repr__(self) -> str:
        return self._repr_markdown_()

    def _repr_markdown_(self) -> str:
        return markdown_table(list(self.columns), list(zip(*self.columns.values(), strict=True)))


def compare(predicted: Mapping[str, Any], found: Mapping[str, Any]) -> Table:
    """Return a table of what was predicted and what was found, by name, and whether the two match.

    Raises ``KeyError`` for a prediction whose name is not in ``found``.
    """
    values = [found[name] for name in predicted]
    matches = [value == found[name] for name, value in predicted.items()]
    return Table({"": list(predicted), "predicted": [*predicted.values()], "found": values, "match": matches})


def approximate(shares: Sequence[float]) -> list[str]:
    """Return fractions as percentages with a ≈ sign, because they change a little from run to run."""
    return [f"≈ {share:.1%}" for share in shares]


class Source:
    """Source code; a notebook shows it in a fixed-width font and in colours that need no style sheet."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        from pygments import highlight  # comes with Jupyter; the script does without
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer

        return highlight(self.text, PythonLexer(), HtmlFormatter(noclasses=True, prestyles=CODE_STYLE))


def show_source(*objects: Callable | type) -> Source:
    """Return the source of functions and classes as their modules have it, so that it is written only once."""
    return Source("\n\n".join(inspect.cleandoc("\n" + inspect.getsource(each)) + "\n" for each in objects))


def _cell(value: Any) -> str:
    return f"{value:,}" if type(value) is int else str(value)
