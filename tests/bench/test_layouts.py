from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from turnout.bench import leaks, read
from turnout.core import DataError, Outcomes

LONG = [
    {"prompt": "a", "model": "s", "quality": 1, "cost": 0.1, "group": "g"},
    {"prompt": "a", "model": "l", "quality": 0.5, "cost": 2, "group": "g"},
    {"prompt": "b", "model": "l", "quality": 1, "cost": 3, "group": "h"},
]


def check_long(outcomes: Outcomes) -> None:
    assert outcomes.inputs == ("a", "b")
    assert outcomes.names == ("s", "l")
    np.testing.assert_array_equal(outcomes.quality, [[1, 0.5], [np.nan, 1]])
    np.testing.assert_array_equal(outcomes.cost, [[0.1, 2], [np.nan, 3]])
    assert outcomes.group == ("g", "h")


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "tsv", "jsonl", "jsonl.gz", "json", "parquet"])
def test_long_reads_the_same_from_every_format(tmp_path: Path, ending: str) -> None:
    """One table, seven formats, one result; the cell never seen stays NaN."""
    frame, path = pd.DataFrame(LONG), tmp_path / f"t.{ending}"
    lines = "\n".join(json.dumps(row) for row in LONG)
    if ending == "parquet":
        frame.to_parquet(path)
    elif ending == "json":
        path.write_text(json.dumps(LONG))
    elif ending.startswith("jsonl"):
        path.write_bytes(gzip.compress(lines.encode()) if ending.endswith("gz") else lines.encode())
    else:
        frame.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
    table = read(path)
    assert table.layout == "long"
    check_long(table.outcomes)
    assert table.report.blanks == (("s", 1),)
    assert table.report.complete == 1


def test_long_keeps_a_repeated_answer_as_another_row(tmp_path: Path, kit: SimpleNamespace) -> None:
    """Two answers of one model to one prompt are two requests: neither is lost or averaged."""
    header = ["prompt", "model", "quality", "cost", "latency", "propensity", "answer"]
    rows = [
        ["a", "s", 1, 1, 0.5, 0.5, "x"],
        ["a", "s", 0, 1, 0.7, 0.5, "y"],
        ["a", "l", 1, 2, 1, 0.5, "z"],
    ]
    table = read(kit.write_csv(tmp_path / "t.csv", header, rows))
    np.testing.assert_array_equal(table.outcomes.quality, [[1, 1], [0, np.nan]])
    assert table.outcomes.latency is not None
    assert table.outcomes.latency[0].tolist() == [0.5, 1]
    assert table.outcomes.propensity is not None
    assert table.outcomes.answers is not None
    assert table.outcomes.answers.tolist() == [["x", "z"], ["y", None]]
    assert table.report.duplicates == 1
    assert any("1 answers repeat" in note for note in table.report.notes)


def test_jsonl_lines_end_at_a_line_feed_only(tmp_path: Path) -> None:
    """Unicode's other line ends may stand inside a prompt."""
    odd = "one\u2028two\x85three\x0cfour"
    rows = [{"prompt": odd, "model": m, "quality": 1, "cost": 1} for m in ("s", "l")]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    assert read(path).outcomes.inputs == (odd,)


def test_routellm_counts_strong_calls_and_keeps_answers(
    tmp_path: Path, kit: SimpleNamespace
) -> None:
    """The better model costs 1, whichever column it is; answers find their model."""
    header = ["", "benchmark", "task", "prompt", "gpt-4-1106-preview", "mistralai/Mixtral-8x7B"]
    rows = [
        [0, "mmlu", "anatomy", "p", "True", "False", "no", "yes"],
        [1, "mmlu", "law", "q", "True", "True", "n", "y"],
    ]
    table = read(
        kit.write_csv(tmp_path / "t.csv", [*header, "mixtral_response", "gpt4_response"], rows)
    )
    assert table.layout == "RouteLLM two models"
    assert table.outcomes.names == ("gpt-4-1106-preview", "mistralai/Mixtral-8x7B")
    np.testing.assert_array_equal(table.outcomes.quality, [[1, 0], [1, 1]])
    np.testing.assert_array_equal(table.outcomes.cost, [[1, 0], [1, 0]])
    assert table.outcomes.group == ("anatomy", "law")
    assert table.outcomes.answers is not None
    assert table.outcomes.answers.tolist() == [["yes", "no"], ["y", "n"]]
    assert table.report.constant == (("gpt-4-1106-preview", 1.0),)
    assert any("share of strong calls" in note for note in table.report.notes)


def test_routerbench_parses_printed_prompts_and_keeps_blanks(
    tmp_path: Path, kit: SimpleNamespace
) -> None:
    """The printed list becomes text, a blank stays unseen, models need not be in order."""
    header = ["", "sample_id", "prompt", "eval_name", "b", "a/x", "a/x|model_response"]
    header += ["b|model_response", "b|total_cost", "a/x|total_cost", "oracle_model_to_route_to"]
    rows = [
        [7, "s.1", "['two\\nlines', \"it's\"]", "arc", 1.0, 0.0, "A", "B", 0.1, 0.2, "b"],
        [8, "s.2", "[not a list", "arc", "", 1.0, "A", "", "", 0.2, "a/x"],
    ]
    table = read(kit.write_csv(tmp_path / "t.csv", header, rows))
    assert table.layout == "RouterBench wide"
    assert table.outcomes.names == ("b", "a/x")
    assert table.outcomes.inputs == ("two\nlines\nit's", "[not a list")
    np.testing.assert_array_equal(table.outcomes.quality, [[1, 0], [np.nan, 1]])
    np.testing.assert_array_equal(table.outcomes.cost, [[0.1, 0.2], [np.nan, 0.2]])
    assert table.report.blanks == (("b", 1),)


PRICES = {
    "m1": {"input_price": 0.2, "output_price": 0.4},
    "m2": {"input_price": 1, "output_price": 3},
}


def test_scores_are_priced_by_the_table_beside_them(tmp_path: Path, kit: SimpleNamespace) -> None:
    """Eight characters are two tokens: 2 * 0.2 + 200 * 0.4 per million."""
    (tmp_path / "some_prices_table.json").write_text(json.dumps(PRICES))
    header = ["split", "task", "metric", "prompt", "cluster_id", "m1", "m2"]
    rows = [
        ["train", "math", "em", "12345678", 3, 0.25, 1],
        ["test", "math", "em", "12345678", 3, 0.5, 1],
    ]
    table = read(kit.write_csv(tmp_path / "t.csv", header, rows))
    assert table.layout == "scores and prices"
    assert table.outcomes.cost[0] == pytest.approx([80.4e-6, 602e-6])
    assert table.split == ("train", "test")
    assert table.report.leaks == 1
    assert table.report.duplicates == 1
    assert any("200 tokens" in note for note in table.report.notes)
    assert any("c / 4" in note for note in table.report.notes)


def test_prices_may_be_named_or_flat_and_must_cover_every_model(
    tmp_path: Path, kit: SimpleNamespace
) -> None:
    """--prices wins; a model without a price is refused by name."""
    path = kit.write_csv(tmp_path / "t.csv", ["prompt", "a", "b", "c"], [["p", 1, 0, 1]])
    with pytest.raises(DataError, match="known layout"):
        read(path)
    flat = tmp_path / "flat.json"
    flat.write_text('{"a": 1, "b": 2, "c": 0.5}')
    assert read(path, prices=flat).outcomes.cost.tolist() == [[1, 2, 0.5]]
    flat.write_text('{"a": 1, "b": 2}')
    with pytest.raises(DataError, match="no price for 'c'"):
        read(path, prices=flat)
    flat.write_text('{"a": 1, "b": -2, "c": 1}')
    with pytest.raises(DataError, match=r"price of 'b'.*>= 0"):
        read(path, prices=flat)


@pytest.mark.parametrize("names", [("model_name", "performance"), ("llm", "effect")])
def test_llmrouter_rows(tmp_path: Path, names: tuple[str, str]) -> None:
    """Both generations of names; tokens times prices where there is no cost."""
    model, score = names
    base = {"task_name": "gsm8k", "query": "q", "ground_truth": "4", "metric": "GSM8K"}
    counted = {"input_tokens": 100, "output_tokens": 10, "response_time": 1.5, "response": "4"}
    rows = [
        {**base, **counted, model: "m1", score: 1.0},
        {**base, **counted, model: "m2", score: 0.0, "ground_truth": "4"},
    ]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "p.json").write_text(json.dumps(PRICES))
    table = read(path, prices=tmp_path / "p.json")
    assert table.layout == "LLMRouter rows"
    assert table.outcomes.cost[0] == pytest.approx([24e-6, 130e-6])
    assert table.outcomes.latency is not None
    assert table.outcomes.latency.tolist() == [[1.5, 1.5]]
    assert table.outcomes.group == ("gsm8k",)
    for row, cost in zip(rows, (0.25, 0.5), strict=True):
        row["cost"] = cost
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read(path).outcomes.cost.tolist() == [[0.25, 0.5]]


def result_file(model: str, score: float, *, demo: bool = False) -> str:
    record = {"index": 1, "origin_query": "2+2?", "prompt": "Q: 2+2?", "prediction": "4"}
    record |= {"ground_truth": "4", "score": score, "prompt_tokens": 5, "completion_tokens": 1}
    record |= {"cost": 0.5, "raw_output": f"{model} says 4"}
    head = {"performance": score, "counts": 1, "model_name": model, "dataset_name": "sums"}
    return json.dumps({**head, "split": "test", "demo": demo, "records": [record]})


def test_llmrouterbench_folder_takes_the_newest_whole_run(tmp_path: Path) -> None:
    """One file holds one model: the folder makes the table; demos and older runs are left out."""
    for model, score in (("m1", 1.0), ("m2", 0.0)):
        folder = tmp_path / "sums" / "test" / model
        folder.mkdir(parents=True)
        stem = f"sums-test-{model}"
        (folder / f"{stem}-20250101_000000.json").write_text(result_file(model, 1 - score))
        (folder / f"{stem}-20250201_000000.json").write_text(result_file(model, score))
        (folder / f"{stem}-20250301_000000.json").write_text(result_file(model, 0.5, demo=True))
    table = read(tmp_path)
    assert table.layout == "LLMRouterBench records"
    assert table.outcomes.names == ("m1", "m2")
    assert table.outcomes.quality.tolist() == [[1, 0]]
    assert table.outcomes.inputs == ("2+2?",)
    assert table.outcomes.group == ("sums",)
    assert table.outcomes.answers is not None
    assert table.outcomes.answers[0, 0] == "m1 says 4"


def test_llmrouterbench_flat_records(tmp_path: Path) -> None:
    """Flattened records are told apart by data set and index, not by their words alone."""
    rows = [
        {"dataset_id": "d", "record_index": i, "model_name": m, "origin_query": "same", "score": s}
        | {"cost": 1.0}
        for i, m, s in ((0, "a", 1.0), (0, "b", 0.0), (1, "b", None), (1, "a", 0.5))
    ]
    path = tmp_path / "t.json"
    path.write_text(json.dumps(rows))
    np.testing.assert_array_equal(read(path).outcomes.quality, [[1, 0], [0.5, np.nan]])


def test_pickle_only_where_trusted(tmp_path: Path) -> None:
    """Opening a pickle can run any code, so it is opened on request alone."""
    path = tmp_path / "t.pkl"
    pd.DataFrame(LONG).to_pickle(path)
    with pytest.raises(DataError, match="--trust-pickle"):
        read(path)
    check_long(read(path, trust_pickle=True).outcomes)


def test_unknown_columns_are_listed_with_what_each_layout_needs(
    tmp_path: Path, kit: SimpleNamespace
) -> None:
    """The message names what was found and every layout there is."""
    path = kit.write_csv(tmp_path / "t.csv", ["text", "label"], [["a", 1]])
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert "columns: text, label" in message
    for name in ("RouterBench", "RouteLLM", "LLMRouter rows", "LLMRouterBench", "long"):
        assert name in message


def test_leaks_counts_test_rows(kit: SimpleNamespace) -> None:
    """Every test row whose prompt was trained on counts."""
    table = kit.two_models(10)
    assert leaks(table.take(range(6)), table.take(range(4, 10))) == 2
