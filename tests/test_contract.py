"""Every method of the catalogue through every check its card implies.

A method is found by its card; its case by the file `tests/methods/<level>/test_<method>.py`. A
method without a case or a citation fails, and so does an exemption whose check passes. Gates
(`experts`) and strategies ("multi_step") have contracts of their own; that of gates needs torch.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from turnout import catalog
from turnout.catalog import Entry
from turnout.core import MissingExtraError
from turnout.testing import Case, Check, Result, Subject, checks_for, run_check, strategies
from turnout.testing.contract import known

HERE = Path(__file__).parent
#: An identifier a reader can look up.
CITED = re.compile(
    r"arXiv:\d{4}\.\d{4,5}|doi:10\.\d{4,}/|ACL [A-Z0-9][\w.-]+|OpenReview \S+|https://|ISBN \d"
)


def case_file(entry: Entry) -> Path:
    """Where a method's own tests are."""
    return HERE / "methods" / entry.level / f"test_{entry.method}.py"


#: Levels whose methods are gates.
GATES = {"experts"}
#: The contract of gates, where torch is there.
TORCH = importlib.util.find_spec("torch") is not None


def lacking(entry: Entry) -> bool:
    """Whether a method cannot be made here for want of torch."""
    return not TORCH and (entry.level in GATES or "torch" in entry.card.needs)


def multi_step(entry: Entry) -> bool:
    """Whether a method is a strategy, with the contract of strategies."""
    return "multi_step" in entry.card.properties


ENTRIES = catalog.methods()
#: A method without its test file fails once, in `test_a_method_has_tests_of_its_own`.
FITTED = [
    entry for entry in ENTRIES if entry.recipe and case_file(entry).is_file() and not lacking(entry)
]


def implied(entry: Entry) -> list[Check]:
    """The checks a method's card implies."""
    if multi_step(entry):
        return strategies.checks_for(entry.card)
    if entry.level not in GATES:
        return checks_for(entry.card)
    from turnout.testing import gates

    return gates.checks_for(entry.card)


RUNS = [(entry, check) for entry in FITTED for check in implied(entry)]


@cache
def module_of(path: Path) -> ModuleType:
    """A test module, imported once under a name of its own."""
    name = f"contract_{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@cache
def subject_of(entry: Entry) -> Any:
    """The method under test; its fits are shared by all its checks."""
    path = case_file(entry)
    case = getattr(module_of(path), "CASE", None)
    if entry.level in GATES:
        from turnout.testing import gates

        if not isinstance(case, gates.GateCase):
            pytest.fail(f"{path.relative_to(HERE.parent)} must declare CASE = GateCase(recipe)")
        gates.known(case)
        return gates.GateSubject(case, entry.card)
    if multi_step(entry):
        if not isinstance(case, strategies.StrategyCase):
            pytest.fail(f"{path.relative_to(HERE.parent)} must declare CASE = StrategyCase(...)")
        strategies.known(case)
        return strategies.StrategySubject(case, entry.card)
    if not isinstance(case, Case):
        pytest.fail(f"{path.relative_to(HERE.parent)} must declare CASE = Case(recipe)")
    known(case)
    return Subject(case, entry.card)


def outcome(entry: Entry, check: Check) -> Result:
    """What one check finds about one method."""
    if multi_step(entry):
        return strategies.run_check(subject_of(entry), check)
    if entry.level not in GATES:
        return run_check(subject_of(entry), check)
    from turnout.testing import gates

    return gates.run_check(subject_of(entry), check)


def usable(entry: Entry) -> None:
    """Skip a method whose extra is not installed."""
    try:
        catalog.recipe(entry.name)
    except MissingExtraError as error:
        pytest.skip(str(error))


def test_there_are_methods() -> None:
    """The catalogue finds something to hold to the contract."""
    assert ENTRIES


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_method_is_where_its_name_says(entry: Entry) -> None:
    """`level.method` is the module `turnout.level.method`."""
    assert entry.module == f"turnout.{entry.name}"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_method_is_cited(entry: Entry) -> None:
    """A reader can look the publication up, and the module says what it builds."""
    assert CITED.search(entry.card.id), f"{entry.name} cites no identifier: {entry.card.id!r}"
    assert entry.card.covers, f"{entry.name} must say which equations it covers"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_method_has_tests_of_its_own(entry: Entry) -> None:
    """A method has a test file, and a case where it can be fitted."""
    path = case_file(entry)
    assert path.is_file(), f"{entry.name} has no test file {path.relative_to(HERE.parent)}"
    if entry.recipe:
        usable(entry)
        case = subject_of(entry).case
        kind = catalog.recipe(entry.name)
        if multi_step(entry):
            made = type(subject_of(entry).strategy)
            assert made.__module__ == kind.__module__, f"CASE must make what {entry.name} fits"
        else:
            assert isinstance(case.recipe, kind), f"CASE must hold a {kind.__name__}"


@pytest.mark.parametrize("entry", FITTED, ids=lambda entry: entry.name)
def test_a_case_exempts_only_checks_it_runs(entry: Entry) -> None:
    """An exemption from a check that the card does not imply says nothing."""
    usable(entry)
    names = {check.name for check in implied(entry)}
    assert set(subject_of(entry).case.xfail) <= names


@pytest.mark.parametrize(("entry", "check"), RUNS, ids=lambda item: item.name)
def test_contract(entry: Entry, check: Check) -> None:
    """The method keeps the property the check states."""
    usable(entry)
    result = outcome(entry, check)
    if result.status == "skipped":
        pytest.skip(result.message)
    if result.status == "exempt":
        pytest.xfail(result.message)
    assert result.status == "passed", f"{check.text}\n{result.message}"
