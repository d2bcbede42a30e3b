"""Reference pages from docstrings, read by `ast`: nothing is imported."""

from __future__ import annotations

import ast
import re
from pathlib import Path

__all__ = ["api_pages", "as_markdown", "class_docstring", "recipes"]

#: Packages with a page each, in the order of the index.
PACKAGES = ("core", "parts", "nn", "experts", "bench", "testing", "catalog", "lab", "serve")

_SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)
_ENTRY = re.compile(r"^(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*)(?: : (.+))?$")
_ROLE = re.compile(r":\w+:`")


def api_pages(root: Path) -> dict[str, str]:
    """Page name to text: an index, and one page a package."""
    pages = {}
    index = ["# Reference", "", "| package | |", "|---|---|"]
    for package in PACKAGES:
        folder = root / package
        if not (folder / "__init__.py").is_file():
            continue
        about = _docstring(folder / "__init__.py")
        sections = [f"# `turnout.{package}`", as_markdown(about)]
        for path in sorted(folder.rglob("*.py")):
            section = _module_section(path, root)
            if section:
                sections.append(section)
        if len(sections) > 2:
            pages[f"{package}.md"] = "\n\n".join(part for part in sections if part) + "\n"
            first = " ".join(about.partition("\n\n")[0].split())
            index.append(f"| [`turnout.{package}`]({package}.md) | {first} |")
    pages["api.md"] = "\n".join(index) + "\n"
    return pages


def as_markdown(docstring: str) -> str:
    """A numpy-style docstring as Markdown."""
    text = _ROLE.sub("`", docstring)
    pieces = _SECTION.split(text)
    out = [_paragraphs(pieces[0])]
    for title, body in zip(pieces[1::2], pieces[2::2], strict=True):
        listed = title in ("Parameters", "Returns", "Raises", "Yields", "Attributes")
        out.append(f"**{title}**\n\n" + (_entries(body) if listed else _paragraphs(body)))
    return "\n\n".join(part.strip() for part in out if part.strip())


def class_docstring(path: Path, name: str) -> str:
    """Docstring of one class of a file; "" where it has none."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return ast.get_docstring(node) or ""
    return ""


def recipes(path: Path) -> tuple[str, ...]:
    """Public classes of one file that can be fitted, in its order."""
    return tuple(
        node.name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
        and not node.name.startswith("_")
        and any(isinstance(item, ast.FunctionDef) and item.name == "fit" for item in node.body)
    )


def _module_section(path: Path, root: Path) -> str:
    """One module: its docstring, then everything public that it defines."""
    parts = path.relative_to(root.parent).with_suffix("").parts
    if path.stem == "__init__" or any(part.startswith("_") for part in parts):
        return ""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = _public(tree)
    sections = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name in public:
            sections.append(f"### `{_signature(node)}`\n\n{as_markdown(_doc(node))}".strip())
            if isinstance(node, ast.ClassDef):
                sections += _methods(node)
    if not sections:
        return ""
    heading = f"## `{'.'.join(parts)}`\n\n{as_markdown(ast.get_docstring(tree) or '')}".strip()
    return "\n\n".join([heading, *sections])


def _methods(node: ast.ClassDef) -> list[str]:
    found = []
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and not item.name.startswith("_") and _doc(item):
            found.append(f"#### `{node.name}.{_signature(item)}`\n\n{as_markdown(_doc(item))}")
    return found


def _signature(node: ast.ClassDef | ast.FunctionDef) -> str:
    if isinstance(node, ast.FunctionDef):
        if any("property" in ast.unparse(item) for item in node.decorator_list):
            return node.name
        arguments = ast.unparse(node.args)
        for name in ("self", "cls"):
            arguments = re.sub(rf"^{name}(, |$)", "", arguments)
        result = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
        return f"{node.name}({arguments}){result}"
    if not any("dataclass" in ast.unparse(item) for item in node.decorator_list):
        return node.name
    fields = []
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            default = "" if item.value is None else f"={ast.unparse(item.value)}"
            if "init=False" not in default and not item.target.id.startswith("_"):
                fields.append(item.target.id + ("=..." if "field(" in default else default))
    return f"{node.name}({', '.join(fields)})"


def _public(tree: ast.Module) -> set[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            return set(ast.literal_eval(node.value))
    return set()


def _doc(node: ast.ClassDef | ast.FunctionDef) -> str:
    return ast.get_docstring(node) or ""


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def _paragraphs(text: str) -> str:
    """Prose as it is; what follows "::" as code; doctests fenced."""
    out: list[str] = []
    for block in re.split(r"\n{2,}", text.strip("\n")):
        if block.lstrip().startswith(">>>"):
            out.append(f"```python\n{_dedent(block)}\n```")
        elif block.strip() == "::":
            continue
        elif block.startswith("    "):
            code = _dedent(block)
            if out and out[-1].startswith("```text"):  # one listing with a blank line in it
                out[-1] = out[-1].removesuffix("\n```") + f"\n\n{code}\n```"
            else:
                out.append(f"```text\n{code}\n```")
        else:
            out.append(re.sub(r"::$", ":", block.strip()))
    return "\n\n".join(out)


def _entries(text: str) -> str:
    """`name : type` with an indented description, as a list."""
    out: list[str] = []
    for line in text.strip("\n").splitlines():
        match = _ENTRY.match(line)
        if match and not line.startswith(" "):
            name, kind = match.groups()
            out.append(f"* `{name}`" + (f" ({kind})" if kind else "") + ":")
        elif line.strip() and out:
            out[-1] += " " + line.strip()
        elif line.strip():
            out.append(line.strip())
    return "\n".join(item.removesuffix(":") for item in out)


def _dedent(block: str) -> str:
    lines = block.splitlines()
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[indent:] for line in lines)
