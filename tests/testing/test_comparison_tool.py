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

from turnout import catalog
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
        "elsewhere": row(
            0.60, [0.0, -0.01, 0.01], peer=True, fit_seconds=300.0, decision_us=56000.0,
            decision_us_without_encoder=480.0,
        ),
    }  # fmt: skip
    task = {"title": "Nine", "measure": "aiq", "protocol": "5 folds", "judged": 10, "rows": rows}
    return {"settings": {"seed": 0}, "tasks": {"nine": task}}


def lines_of(text: str) -> dict[str, list[str]]:
    """The cells of the only table."""
    (table,) = [part for part in text.split("\n\n") if part.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert len({len(row) for row in cells}) == 1, "every row has as many cells"
    return {row[0]: row[1:] for row in cells}


def test_best_is_bold_and_no_better_than_length_is_in_parentheses(
    tool: ModuleType, tmp_path: Path
) -> None:
    """Of methods alone; landmarks stand above as they are, peers below; a dash for no figure."""
    (tmp_path / "routers.json").write_text(json.dumps(document()))
    text = tool.comparison("llms", lambda entry: f"llms/{entry.method}.md", tmp_path)
    rows = lines_of(text)
    names = list(rows)
    assert names[0] == "method"
    assert rows["*oracle*"][1] == "0.800"
    linear = rows["[`linear`](llms/linear.md)"]
    assert linear[:4] == ["language model", "**0.640**", "- / 28 %", "8.1"]
    assert linear[-4:-1] == ["outcomes", "", "holds"]
    assert linear[-1].startswith("apgr 0.7")
    assert rows["[`knn`](llms/knn.md)"][1] == "0.630"
    assert rows["[`length`](llms/length.md)"][1] == "(0.610)"
    assert rows["scikit-learn (peer)"][1:5] == ["0.620", "-", "-", "-"]
    assert rows["elsewhere (peer)"][1:5] == ["(0.600)", "-", "56,000 (480)", "300"]
    assert names.index("[`linear`](llms/linear.md)") < names.index("[`knn`](llms/knn.md)")
    assert "10 rows judged" in text
    assert "`answers`" not in text
    assert rows["[`kb_router`](llms/kb_router.md)"][:2] == ["knowledge base", "-"], "on no table"
    assert rows["[`cascade`](llms/cascade.md)"][-3:-1] == ["answers", "holds"]
    methods = [name for name in names if name.startswith("[")]
    assert len(methods) == len(catalog.methods("llms"))


def test_labels_at_which_a_method_passes_length_and_stays_above(
    tool: ModuleType, tmp_path: Path
) -> None:
    """In every choice of prompts, from the learning curves where they are there; else a dash."""
    (tmp_path / "routers.json").write_text(json.dumps(document()))
    cell = -5
    rows = lines_of(tool.comparison("llms", lambda entry: entry.method, tmp_path))
    assert rows["[`linear`](linear)"][cell] == "-"
    curve = {
        "prompt length": ([0.5, 0.4], [0.5, 0.5], [0.5, 0.5]),
        "linear": ([0.6, 0.5], [0.9, 0.4], [0.7, 0.6]),
        "length": ([0.6, 0.5], [0.6, 0.6], [0.7, 0.6]),
        "knn": ([0.1, 0.2], [0.2, 0.4], [0.3, 0.1]),
    }
    points = [
        {"table": "llmrouter", "protocol": "in domain", "method": name, "prompts": n, "values": row}
        for name, rows in curve.items()
        for n, row in zip((100, 300, 1000), rows, strict=True)
    ]
    (tmp_path / "learning.json").write_text(json.dumps({"curves": {"points": points}}))
    rows = lines_of(tool.comparison("llms", lambda entry: entry.method, tmp_path))
    assert rows["[`linear`](linear)"][cell] == "- / 1,000"
    assert rows["[`length`](length)"][cell] == "- / 100"
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
    """The whole way: fitted, asked, judged beside a method, and recorded with its own times."""
    data = routers.Data(table(60, 0), table(30, 1))
    methods, away = routers.entries(data, ["length", "scikit-learn"])
    assert set(methods) == {"length", "scikit-learn"}
    found = routers.judge(data, methods, 0)
    made = routers.record("two", found, away, methods)
    peer = made["rows"]["scikit-learn"]
    assert peer["peer"]
    assert peer["aiq"][0] > made["rows"]["length"]["aiq"][0]
    times = methods["scikit-learn"].times
    assert len(times.fits) == 1
    assert len(times.single) >= 30, "each prompt judged is timed alone"
    assert 0 < peer["fit_seconds"] < 10
    assert 0 < peer["decision_us"] < 1e6
    assert "decision_us_without_encoder" not in peer, "it reads words, not vectors"
    assert made["rows"]["length"]["decision_us"] > 0
    with pytest.raises(InputError, match=r"--method must be a method or a peer"):
        routers.entries(data, ["nobody"])


def test_peers_that_are_not_installed_are_left_out_by_name(
    routers: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each with its package; the benchmark runs without them."""
    peers = sys.modules["_router_peers"]
    monkeypatch.setattr(peers, "_modules", lambda python: frozenset({"sklearn"}))
    found, away = peers.present(tmp_path)
    assert set(found) == {"scikit-learn"}
    assert set(found) | set(away) == set(peers.PEERS)
    assert away["llmrouter-knn"] == f"llmrouter-lib is not installed (no {tmp_path.name})"


def test_a_peer_that_gives_up_is_one_clear_error(routers: ModuleType) -> None:
    """Its last words are told; one made for another number of models is not even asked."""
    peer = sys.modules["_router_peers"].Peer
    with pytest.raises(InputError, match=r"peer must go on running; got .*no-such-peer"):
        peer("no-such-peer", Path(sys.executable)).fit(
            table(10, 0), table(10, 0).pool(), rng=np.random.default_rng(0)
        )
    three = Outcomes(
        inputs=["a", "b"], names=("x", "y", "z"), quality=np.ones((2, 3)), cost=np.ones((2, 3))
    )
    with pytest.raises(InputError, match=r"routellm-mf must be given 2 models; got 3"):
        peer("routellm-mf", Path(sys.executable)).fit(
            three, three.pool(), rng=np.random.default_rng(0)
        )


def test_a_process_that_stops_is_one_clear_error(routers: ModuleType) -> None:
    """And the next peer gets a new one."""
    peers = sys.modules["_router_peers"]
    false = Path("/bin/false")
    with pytest.raises(InputError, match=r"peer must go on running; got 'no reason given'"):
        peers.Peer("scikit-learn", false).fit(
            table(10, 0), table(10, 0).pool(), rng=np.random.default_rng(0)
        )
    assert peers._rooms[false].ended


class Counter:
    """Encodes a text as its length, and notes which texts it was given."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def encode(self, texts: list[str], **options: Any) -> np.ndarray:
        self.given += texts
        return np.array([[float(len(text))] * 384 for text in texts])


def test_a_text_is_encoded_once_and_charged_each_time(routers: ModuleType, tmp_path: Path) -> None:
    """From the file the vector is the same and the seconds are owed; single prompts bypass it."""
    kind = sys.modules["_router_encoder"].Encoder
    first, second = (kind(tmp_path / "vectors") for _ in range(2))
    first._model, second._model = Counter(), Counter()
    once = first(["a", "bb", "a"])
    assert first._model.given == ["a", "bb"]
    assert first.owed == 0
    again = second(["bb", "a", "ccc"])
    assert second._model.given == ["ccc"]
    assert again[:2].tolist() == once[[1, 0]].tolist()
    assert 0 < second.owed < second.seconds
    assert second.owed == pytest.approx(first.seconds)
    second.keep = False
    before = second.owed
    second.ahead(["a"])
    second(["a"])
    assert second._model.given == ["ccc", "a"]
    assert second.owed == before


def test_preferences_between_two_models_reach_every_threshold(routers: ModuleType) -> None:
    """Weak at zero and strong at its share; more models keep the shares of their wins."""
    task = sys.modules["_router_task"]
    share = np.array([[0.8, 0.2], [0.1, 0.9]])
    assert task.preference(share, (0, 1)) == pytest.approx(np.array([[0.0, 0.2], [0.0, 0.9]]))
    assert task.preference(share, (1, 0))[:, 1].tolist() == [0.0, 0.0]
    even = task.shares(np.zeros((1, 3)))
    assert even.tolist() == [[0.5, 0.5, 0.5]]
    odds = task.shares(np.log(np.array([[3.0, 1.0]])))
    assert odds[0].tolist() == pytest.approx([0.75, 0.25])


def test_who_wins_where_several_do_equally_well(routers: ModuleType) -> None:
    """Of two the cheaper, of more the better on average; nobody where nobody is right."""
    kind = sys.modules["_router_task"].Task

    def winners(quality: list[list[float]], cost: list[float]) -> list[tuple[str, str]]:
        n, m = len(quality), len(cost)
        names = list("xyz"[:m])
        texts = [f"{i}" for i in range(n)]
        made = kind(texts, names, np.array(quality), np.tile(cost, (n, 1)), 0, Path())
        return list(made.winners())

    two = [[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]
    assert winners(two, [2.0, 1.0]) == [("0", "y"), ("1", "x")]
    three = [[1.0, 1.0, 0.0], [0.0, 1.0, float("nan")], [0.0, 0.0, 1.0]]
    assert winners(three, [1.0, 2.0, 3.0]) == [("0", "y"), ("1", "y"), ("2", "z")]


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


def test_points_of_a_curve_replace_those_of_the_same_alone() -> None:
    """By table, protocol, method and number of prompts, under the same settings."""
    learning = load("benchmarks", "learning")

    def made(mean: float, folds: int = 3, **point: Any) -> dict[str, Any]:
        keys = {"table": "t", "protocol": "p", "method": "m", "prompts": 100} | point
        return {"settings": {"folds": folds}, "curves": {"points": [{**keys, "mean": mean}]}}

    old = learning.merged({}, made(0.5))
    both = learning.merged(old, made(0.6, prompts=300))
    assert [point["mean"] for point in both["curves"]["points"]] == [0.5, 0.6]
    again = learning.merged(both, made(0.7))
    assert [point["mean"] for point in again["curves"]["points"]] == [0.7, 0.6]
    with pytest.raises(InputError, match=r"settings must be those of learning\.json"):
        learning.merged(old, made(0.5, folds=5))


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
