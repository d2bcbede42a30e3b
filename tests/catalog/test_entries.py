"""The catalogue is what a crawl of the packages finds."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from turnout import catalog
from turnout.catalog import entries
from turnout.core import InputError, MissingExtraError

CARD = (
    '"""A method."""\nCARD = Card(name="{name}", system="{system}", title="T", authors="A", '
    'year=2024, id="arXiv:2401.00001", routes="r", kind="score", recipe="{recipe}", '
    'signal=(), covers=("1",), differs=(), needs={needs}, aliases={aliases})\n'
)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package tree of three methods on two levels, crawled in place of the real one."""
    root = tmp_path / "house"

    def method(path: str, name: str, system: str, **more: object) -> None:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        values = {"recipe": "", "needs": (), "aliases": (), **more}
        file.write_text(CARD.format(name=name, system=system, **values))

    method("llms/words.py", "llms.words", "WordRouter", aliases=("bow",))
    method("llms/deep.py", "llms.deep", "DeepRouter", recipe="Deep", needs=("torch",))
    method("bench/words.py", "bench.words", "Words of merit")
    method("core/words.py", "core.words", "No method lives in core")
    (root / "llms" / "__init__.py").write_text("")
    monkeypatch.setattr(entries, "_ROOT", root)
    return root


def test_every_module_with_a_card_is_a_method(house: Path) -> None:
    """Methods are sorted by name, with the module they live in."""
    found = catalog.methods()
    assert [entry.name for entry in found] == ["bench.words", "llms.deep", "llms.words"]
    assert [entry.module for entry in found] == [
        "house.bench.words",
        "house.llms.deep",
        "house.llms.words",
    ]
    assert [entry.name for entry in catalog.methods("llms")] == ["llms.deep", "llms.words"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("llms.words", "llms.words"),  # the full name
        ("LLMs.Words", "llms.words"),  # in any case
        ("deep", "llms.deep"),  # without its level, where only one level has it
        ("bow", "llms.words"),  # by an alias
        ("WordRouter", "llms.words"),  # by the system's name
        ("words-of-merit", "bench.words"),  # with dashes for spaces
    ],
)
def test_a_method_is_found_by_any_of_its_names(house: Path, name: str, found: str) -> None:
    """Catalogue name, method, alias and system's name all lead to it."""
    assert catalog.find(name).name == found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("deeep", "Did you mean deep"),  # misspelt
        ("words", "bench.words, llms.words"),  # on two levels
        ("zzz", "turnout methods"),  # nothing like it
    ],
)
def test_an_unknown_name_is_refused(house: Path, name: str, message: str) -> None:
    """The refusal tells the nearest names, or how to list them."""
    with pytest.raises(InputError, match=message):
        catalog.find(name)


def test_an_unknown_level_is_refused(house: Path) -> None:
    """The refusal lists the levels there are."""
    with pytest.raises(InputError, match="bench, llms"):
        catalog.methods("llm")


def test_an_alias_of_two_methods_is_refused(house: Path) -> None:
    """A name that means two things names neither; the refusal lists both."""
    clash = CARD.format(name="llms.other", system="O", recipe="", needs=(), aliases=("bow",))
    (house / "llms" / "other.py").write_text(clash)
    entries._crawl.cache_clear()
    with pytest.raises(InputError, match=r"llms\.other, llms\.words"):
        catalog.find("bow")


def test_every_name_of_the_real_catalogue_leads_to_its_method() -> None:
    """Names, aliases and systems are all different."""
    for entry in catalog.methods():
        for name in (entry.name, entry.card.system, *entry.card.aliases):
            assert catalog.find(name) == entry


def test_an_analysis_has_no_recipe(house: Path) -> None:
    """Asking for what cannot be fitted says where its functions are."""
    with pytest.raises(InputError, match=r"house\.bench\.words"):
        catalog.recipe("bench.words")


def test_a_missing_extra_is_named(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A method whose extra is absent says the install line."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else find_spec(name)
    )
    with pytest.raises(MissingExtraError, match=r"pip install 'turnout\[torch\]'"):
        catalog.recipe("llms.deep")


def test_the_real_catalogue_gives_every_recipe() -> None:
    """Each card names a class that its module really has."""
    for entry in catalog.methods():
        if entry.recipe and not entry.card.needs:
            assert catalog.recipe(entry.name).__name__ == entry.recipe


def test_rows_have_the_documented_keys() -> None:
    """A row says name, system, paper, level, file and claim; the file is there to open."""
    for row in catalog.rows():
        assert list(row) == ["name", "system", "paper", "level", "file", "claim"]
        assert row["claim"] in catalog.STATES
        assert catalog.find(row["name"]).file.is_file()


def test_listing_imports_no_method() -> None:
    """The catalogue is read from text: no method, and nothing heavy, is imported."""
    code = (
        "import sys; from turnout import catalog; rows = catalog.rows(); "
        "names = [e.module for e in catalog.methods()]; "
        "print(sorted(set(names) & set(sys.modules)), 'torch' in sys.modules, len(rows) > 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False True"
