"""The generator of the documents: docstrings become Markdown, unknown regions are refused."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="module")
def docs() -> ModuleType:
    """The script as a module, with its neighbour on the path as when it is run."""
    sys.path.insert(0, str(TOOLS))
    try:
        spec = importlib.util.spec_from_file_location("turnout_tools_docs", TOOLS / "docs.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(TOOLS))
    return module


DOCSTRING = """One sentence.

An equation::

    y = a x

    z = y

Parameters
----------
a : float
    A slope, over
    two lines.
b, c : int, optional

Raises
------
InputError
    It is bad.

Examples
--------
>>> 1 + 1
2
"""


def test_a_numpy_docstring_becomes_markdown(docs: ModuleType) -> None:
    """Equations and doctests are fenced, parameters become a list."""
    assert docs.as_markdown(DOCSTRING) == (
        "One sentence.\n\nAn equation:\n\n```text\ny = a x\n\nz = y\n```\n\n"
        "**Parameters**\n\n* `a` (float): A slope, over two lines.\n* `b, c` (int, optional)\n\n"
        "**Raises**\n\n* `InputError`: It is bad.\n\n"
        "**Examples**\n\n```python\n>>> 1 + 1\n2\n```"
    )


def test_a_region_is_filled_between_its_markers(docs: ModuleType) -> None:
    """What stood between the markers is replaced; the markers stay."""
    text = "# A\n<!-- generated: checks -->\nold\n<!-- end -->\nrest\n"
    page = docs.ROOT / "README.md"
    filled = docs.REGION.sub(lambda match: docs._fill(match, page), text)
    assert filled.startswith("# A\n<!-- generated: checks -->\n| check |")
    assert filled.endswith("\n<!-- end -->\nrest\n")
    assert "\nold\n" not in filled
    assert docs.REGION.sub(lambda match: docs._fill(match, page), filled) == filled


def test_an_unknown_region_is_refused(docs: ModuleType) -> None:
    """The refusal lists the regions there are."""
    match = docs.REGION.search("<!-- generated: nothing -->\n<!-- end -->")
    with pytest.raises(SystemExit, match="known: methods"):
        docs._fill(match, docs.ROOT / "README.md")


@pytest.mark.parametrize(
    ("identifier", "link"),
    [
        ("arXiv:2403.12031", "[x](https://arxiv.org/abs/2403.12031)"),
        ("doi:10.1/a(b)<c>", "[x](https://doi.org/10.1/a%28b%29%3Cc%3E)"),
        ("ACL P12-2018", "[x](https://aclanthology.org/P12-2018)"),
        ("a book", "x"),
    ],
)
def test_an_identifier_becomes_a_link(docs: ModuleType, identifier: str, link: str) -> None:
    """A link where the kind of identifier is known; characters that end a link are escaped."""
    assert docs._link("x", identifier) == link
