"""Saving: gates go into side files and come back; what does not fit is refused."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from turnout.core import InputError, RouterFileError
from turnout.experts import Identity, Site, load, save, sites, swap
from turnout.experts.softmax_topk import SoftmaxTopK
from turnout.nn.gates import Gate, LinearScorer, Plain, TopK

sys.path.insert(0, str(Path(__file__).parent))
from families import answer, inputs, run, tiny

torch.set_num_threads(1)


@dataclass(frozen=True)
class Odd:
    """A recipe whose field JSON cannot hold."""

    what: Any = complex

    def build(self, d: int, e: int, *, generator: torch.Generator) -> Gate:
        return Gate(LinearScorer(d, e), TopK(1), Plain(), e=e)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a Mixtral with a softmax gate in its second layer was saved."""
    with swap(tiny("mixtral"), SoftmaxTopK(k=3), layers=[1], init="fresh") as handle:
        save(handle.model, tmp_path)
    return tmp_path


def test_a_recipe_comes_back_by_name(folder: Path) -> None:
    """Nothing has to be passed to load gates of this package."""
    fresh = tiny("mixtral")
    with load(fresh, folder) as handle:
        assert list(handle.gates) == [1]
        with swap(tiny("mixtral"), SoftmaxTopK(k=3), layers=[1], init="fresh") as first:
            ids, mask = inputs()
            assert torch.equal(answer(run(fresh, ids, mask)), answer(run(first.model, ids, mask)))
    assert "turnout.experts.softmax_topk:SoftmaxTopK" in (folder / "routing.json").read_text()


def test_nothing_to_save_is_refused(tmp_path: Path) -> None:
    """A model without a gate, observed or not."""
    model = tiny("mixtral")
    with pytest.raises(InputError, match="model must have a gate in some layer"):
        save(model, tmp_path)
    with swap(model, Identity()), pytest.raises(InputError, match="model must have a gate"):
        save(model, tmp_path)


def test_a_recipe_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    """The field is named."""
    with (
        swap(tiny("mixtral"), Odd()) as handle,
        pytest.raises(InputError, match=r"gate 0\.what must be something JSON can hold"),
    ):
        save(handle.model, tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """For writing and for reading."""
    with (
        swap(tiny("mixtral"), SoftmaxTopK()) as handle,
        pytest.raises(RouterFileError, match="folder must be one that can be written"),
    ):
        save(handle.model, tmp_path / "nowhere")
    with pytest.raises(RouterFileError, match=r"must hold routing.json and routing.safetensors"):
        load(tiny("mixtral"), tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "format must be at most 1; got 99"),
        ({"format": "1"}, "must hold saved gates"),
        ({"sites": [{"d": 32, "e": 8}]}, "must be of a model with these layers"),
        ({"class": "os:system"}, "must name classes of turnout only; got 'os:system'"),
        ({"class": "turnout.experts.softmax_topk:Nobody"}, "must name classes that exist"),
        ({"class": "turnout.core.errors:InputError"}, "must name dataclasses"),
        ({"fields": {"k": 0}}, "must fit the fields of"),
        ({"fields": {"size": 3}}, "must fit the fields of"),
        ({"recipe": None}, "must name a recipe; got 'none for layer 1'"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    folder: Path, change: dict[str, Any], message: str
) -> None:
    """Damaged, newer, of another model, of an untrusted class; the model stays as it was."""
    path = folder / "routing.json"
    manifest = json.loads(path.read_text())
    for key, value in change.items():
        gate = manifest["gates"][0]
        target = gate["recipe"] if key in ("class", "fields") else manifest
        (gate if key == "recipe" else target)[key] = value
    path.write_text(json.dumps(manifest))
    model = tiny("mixtral")
    with pytest.raises(RouterFileError, match=message):
        load(model, folder)
    assert type(sites(model)[1].router).__name__ == "MixtralTopKRouter"


def test_weights_that_do_not_fit_are_refused(folder: Path) -> None:
    """And the swap is taken back."""
    from safetensors.torch import save_file

    save_file({"1.scorer.weight": torch.zeros(2, 2)}, folder / "routing.safetensors")
    model = tiny("mixtral")
    with pytest.raises(RouterFileError, match=r"routing.safetensors must fit the gates"):
        load(model, folder)
    assert type(sites(model)[1].router).__name__ == "MixtralTopKRouter"
    (folder / "routing.safetensors").write_bytes(b"no tensors")
    with pytest.raises(RouterFileError, match="must hold saved gates"):
        load(model, folder)


def test_a_trusted_package_may_be_named(folder: Path) -> None:
    """Its recipes are imported; others stay refused."""
    path = folder / "routing.json"
    manifest = json.loads(path.read_text())
    manifest["gates"][0]["recipe"]["class"] = "elsewhere:Recipe"
    path.write_text(json.dumps(manifest))
    with pytest.raises(RouterFileError, match="must name classes that exist"):
        load(tiny("mixtral"), folder, trust=("elsewhere",))


def test_a_function_remakes_what_has_no_recipe(tmp_path: Path) -> None:
    """Its weights come from the file."""

    def gate(site: Site) -> Gate:
        return Gate(LinearScorer(site.d, site.e), TopK(1), Plain(), e=site.e)

    model, fresh = tiny("mixtral"), tiny("mixtral")
    with swap(model, gate, init="fresh") as first:
        save(model, tmp_path)
        with load(fresh, tmp_path, gate=gate) as second:
            for ordinal, made in first.gates.items():
                other = second.gates[ordinal]
                assert torch.equal(made.scorer.weight, other.scorer.weight)  # type: ignore[union-attr]


def test_a_checkpoint_and_its_side_files_give_equal_logits(tmp_path: Path) -> None:
    """Bit for bit."""
    model = tiny("mixtral")
    ids, mask = inputs()
    with swap(model, SoftmaxTopK(k=3), init="fresh"):
        before = answer(run(model, ids, mask))
        model.save_pretrained(tmp_path)
        save(model, tmp_path)
    fresh = type(model).from_pretrained(tmp_path).eval()
    load(fresh, tmp_path)
    assert torch.equal(answer(run(fresh, ids, mask)), before)
