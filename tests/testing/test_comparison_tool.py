"""The table of all methods side by side, and the results it is made from."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from turnout.core import InputError, Outcomes

ROOT = Path(__file__).parents[2]


def load(folder: str, name: str) -> ModuleType:
    """A script as a module, with its neighbours on the path as when it is run."""
    path = ROOT / folder
    sys.path.insert(0, str(path))
    try:
        spec = importlib.util.spec_from_file_location(f"turnout_{name}", path / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # for its dataclasses
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path))
    return module


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load("tools", "comparison")


@pytest.fixture(scope="module")
def routers() -> ModuleType:
    return load("benchmarks", "routers")


def row(aiq: float, above: list[float] | None, **more: Any) -> dict[str, Any]:
    return {"landmark": above is None, "aiq": [aiq, aiq - 0.01, aiq + 0.01]} | {
        "above_length": above,
        "cost_to_match": None,
        **more,
    }


def document() -> dict[str, Any]:
    rows = {
        "prompt_length": row(0.60, None),
        "oracle": row(0.80, None),
        "linear": row(0.64, [0.04, 0.03, 0.05], cost_to_match=0.28, decision_us=8.1),
        "knn": row(0.63, [0.03, 0.01, 0.05], fit_seconds=2.0),
        "length": row(0.61, [0.01, -0.01, 0.02]),
        "scikit-learn": row(0.62, [0.02, 0.01, 0.03], peer=True),
    }
    task = {"title": "Nine", "measure": "aiq", "protocol": "5 folds", "judged": 10, "rows": rows}
    return {"settings": {"seed": 0}, "tasks": {"nine": task}}


def lines_of(text: str) -> dict[str, list[str]]:
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in rows]
    assert len({len(row) for row in cells}) == 1, "every row has as many cells"
    return {row[0]: row[1:] for row in cells}


def test_best_is_bold_and_no_better_than_length_is_in_parentheses(
    tool: ModuleType, tmp_path: Path
) -> None:
    """Of methods alone; landmarks stand above as they are, peers below; the rest has a dash."""
    (tmp_path / "routers.json").write_text(json.dumps(document()))
    text = tool.comparison("llms", lambda entry: f"llms/{entry.method}.md", tmp_path)
    rows = lines_of(text)
    names = list(rows)
    assert names[0] == "method"
    assert rows["*oracle*"][0] == "0.800"
    assert rows["[`linear`](llms/linear.md)"][:3] == ["**0.640**", "- / 28 %", "8.1"]
    assert rows["[`knn`](llms/knn.md)"][0] == "0.630"
    assert rows["[`length`](llms/length.md)"][0] == "(0.610)"
    assert rows["[`ratings`](llms/ratings.md)"][0] == "-"
    assert rows["scikit-learn (peer)"][0] == "0.620"
    assert names.index("[`linear`](llms/linear.md)") < names.index("[`knn`](llms/knn.md)")
    assert "10 rows judged" in text
    assert "`answers`" not in text
    assert rows["[`cascade`](llms/cascade.md)"][-2:] == ["answers", "holds"]


def test_labels_at_which_a_method_passes_length_and_stays_above(
    tool: ModuleType, tmp_path: Path
) -> None:
    """From the learning curves where they are there, else a dash."""
    (tmp_path / "routers.json").write_text(json.dumps(document()))
    cell = -3
    rows = lines_of(tool.comparison("llms", lambda entry: entry.method, tmp_path))
    assert rows["[`linear`](linear)"][cell] == "-"
    curve = {
        "prompt length": [0.5, 0.5, 0.5], "linear": [0.6, 0.4, 0.7], "knn": [0.1, 0.2, 0.3]
    }  # fmt: skip
    points = [
        {"table": "llmrouter", "protocol": "in domain", "method": name, "prompts": n, "mean": mean}
        for name, means in curve.items()
        for n, mean in zip((100, 300, 1000), means, strict=True)
    ]
    (tmp_path / "learning.json").write_text(json.dumps({"curves": {"points": points}}))
    rows = lines_of(tool.comparison("llms", lambda entry: entry.method, tmp_path))
    assert rows["[`linear`](linear)"][cell] == "- / 1,000"
    assert rows["[`knn`](knn)"][cell] == "- / never"


def test_without_results_there_is_no_table(tool: ModuleType, tmp_path: Path) -> None:
    """And other levels have none either."""
    assert tool.comparison("llms", lambda entry: entry.method, tmp_path) == ""
    (tmp_path / "routers.json").write_text(json.dumps(document()))
    assert tool.comparison("experts", lambda entry: entry.method, tmp_path) == ""


def table(n: int, seed: int) -> Outcomes:
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.5
    return Outcomes(
        inputs=[f"{'prove' if h else 'count'} item {i} of {n}" for i, h in enumerate(hard)],
        names=("small", "large"),
        quality=np.column_stack((~hard, np.ones(n))).astype(float),
        cost=np.tile([0.0, 1.0], (n, 1)),
        group=["even" if i % 2 else "odd" for i in range(n)],
    )


@pytest.mark.slow
def test_a_peer_is_judged_in_its_own_process(routers: ModuleType) -> None:
    """The whole way: fitted, asked, judged beside a method, and recorded without times."""
    data = routers.Data(table(60, 0), table(30, 1))
    methods, away = routers.entries(data, ["length", "scikit-learn", "routellm"])
    assert set(methods) == {"length", "scikit-learn"}
    assert "routellm" in away
    found = routers.judge(data, methods, 0)
    made = routers.record("two", found, away)
    peer = made["rows"]["scikit-learn"]
    assert peer["peer"]
    assert peer["aiq"][0] > made["rows"]["length"]["aiq"][0]
    assert "decision_us" not in peer
    assert made["rows"]["length"]["decision_us"] > 0
    assert made["left_out"] == {"routellm": away["routellm"]}
    with pytest.raises(InputError, match=r"--method must be a method or a peer"):
        routers.entries(data, ["nobody"])


def test_a_peer_that_stops_is_one_clear_error(
    routers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last words are told, and its process has ended."""
    peer = sys.modules["_router_peers"].Peer("no-such-peer", Path(sys.executable))
    with pytest.raises(InputError, match=r"peer must go on running; got .*no-such-peer"):
        peer.fit(table(10, 0), table(10, 0).pool(), rng=np.random.default_rng(0))


def test_what_is_run_again_replaces_what_was_there_and_nothing_else(routers: ModuleType) -> None:
    """By task and method, under the same settings and on the same rows alone."""

    def made(rows: dict[str, Any], judged: int = 5, seed: int = 0) -> dict[str, Any]:
        task = {"protocol": "p", "judged": judged, "models": 2, "rows": rows, "left_out": {}}
        return {"settings": {"seed": seed}, "tasks": {"two": task}}

    old = made({"a": 1, "b": 2})
    assert routers.merged({}, old) == old
    assert routers.merged(old, made({"b": 3}))["tasks"]["two"]["rows"] == {"a": 1, "b": 3}
    assert routers.merged(old, made({"b": 3}, judged=6))["tasks"]["two"]["rows"] == {"b": 3}
    with pytest.raises(InputError, match=r"settings must be those of routers\.json"):
        routers.merged(old, made({}, seed=1))
    away = made({"b": 1})
    away["tasks"]["two"]["left_out"] = {"a": "absent"}
    assert routers.merged(old, away)["tasks"]["two"]["left_out"] == {}


def test_results_are_written_alike_each_time(routers: ModuleType) -> None:
    """Sorted keys, one line for each method, valid JSON, no NaN."""
    one = {"b": {"x": {"q": 1, "a": [1, 2]}}, "a": "{text}  kept"}
    text = routers.document_text(one)
    assert json.loads(text) == one
    assert text == ('{\n "a": "{text}  kept",\n "b": {\n  "x": {"a": [1, 2], "q": 1}\n }\n}\n')
    with pytest.raises(ValueError, match="JSON"):
        routers.document_text({"a": float("nan")})


def test_sampled_figures_are_never_kept(
    routers: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--write` refuses `--quick`, and no tables is one clear error."""
    assert routers.main(["--data", str(tmp_path), "--quick", "--write"]) == 2
    assert "--write must not come with --quick" in capsys.readouterr().err
    assert routers.main(["--data", str(tmp_path), "--task", "two"]) == 2
    assert "must" in capsys.readouterr().err
