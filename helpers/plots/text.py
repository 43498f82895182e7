"""What a notebook shows as text: tables, and source code from the modules."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from helpers.runtime.markdown import markdown_table

# Given with each element, because a page that shows the notebook may have no styles of its own, or a dark theme.
CODE_STYLE = "background:#f6f8fa;color:#1f2328;font-family:monospace;font-size:13px;line-height:1.4;padding:0.8em"
CODE_STYLE += ";white-space:pre;overflow-x:auto"


class Table:
    """Columns of equal length by their names; a notebook shows it as Markdown.

    Numbers get a comma for each thousand, a fraction stays as it is.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]]) -> None:
        self.columns = {name: [_cell(value) for value in values] for name, values in columns.items()}

    def __repr__(self) -> str:
        return self._repr_markdown_()

    def _repr_markdown_(self) -> str:
        return markdown_table(list(self.columns), list(zip(*self.columns.values(), strict=True)))


def compare(predicted: Mapping[str, Any], found: Mapping[str, Any]) -> Table:
    """Return a table that sets what was predicted beside what was found under the same name, and says if they match.

    Raises ``KeyError`` where something predicted was not looked for.
    """
    values = [found[name] for name in predicted]
    matches = [value == found[name] for name, value in predicted.items()]
    return Table({"": list(predicted), "predicted": [*predicted.values()], "found": values, "match": matches})


def approximate(shares: Sequence[float]) -> list[str]:
    """Return fractions as percentages after a ≈ sign, which says that they change a little from run to run."""
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
    """Return the source of functions and classes, taken from their modules, so that it is never written twice."""
    return Source("\n\n".join(inspect.cleandoc("\n" + inspect.getsource(each)) + "\n" for each in objects))


def _cell(value: Any) -> str:
    return f"{value:,}" if type(value) is int else str(value)
