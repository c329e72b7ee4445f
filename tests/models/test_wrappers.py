"""Wrapped, compiled and exported modules: the original is found, or refused by name."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
import timm
import torch
from torch import nn

from visattn.errors import ModelError
from visattn.models import load_model
from visattn.models.wrappers import unwrap


class Plain(nn.Module):
    """Two layers, one in a container."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.head = nn.Linear(4, 2)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(batch).mean(dim=(2, 3)))


def compiled(module: nn.Module) -> nn.Module:
    return torch.compile(module, backend="eager")


def test_a_plain_module_is_itself() -> None:
    module = Plain()
    assert unwrap(module) is module


def test_wrappers_in_wrappers_come_off() -> None:
    module = Plain()
    wrapped = nn.DataParallel(compiled(nn.DataParallel(compiled(module))))
    assert unwrap(wrapped) is module


def test_ddp_comes_off() -> None:
    wrapper = type("DistributedDataParallel", (nn.Module,), {})()
    wrapper.module = module = Plain()
    assert unwrap(wrapper) is module


def test_compiled_and_wrapped_parts_are_replaced_in_a_copy() -> None:
    module = Plain()
    original = module.body[0]
    module.body[0] = compiled(original)
    module.head = nn.DataParallel(module.head)
    plain = unwrap(module)
    assert plain is not module
    assert plain.body[0] is original
    assert [name for name, _ in plain.named_parameters()] == [
        "body.0.weight", "body.0.bias", "head.weight", "head.bias",
    ]  # fmt: skip
    assert plain.head.weight is module.head.module.weight
    assert type(module.body[0]).__name__ == "OptimizedModule", "the owner's module has changed"


@pytest.mark.parametrize("part", ["", "body", "body.0"])
def test_what_was_compiled_in_place_is_run_as_it_was_written(part: str) -> None:
    module, batch = Plain().eval(), torch.rand(1, 3, 8, 8)
    expected = module(batch)
    module.get_submodule(part).compile(backend=unusable)
    model = load_model(module)
    assert torch.equal(model.run(batch), expected)
    assert module.get_submodule(part)._compiled_call_impl is not None
    with pytest.raises(Exception, match="compiled code ran"):
        module(batch)


def unusable(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> None:
    raise RuntimeError("compiled code ran")


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_refused_wherever_it_is(tmp_path: Path) -> None:
    scripted = torch.jit.script(Plain())
    torch.jit.save(scripted, tmp_path / "m.pt")
    holder = nn.Sequential(nn.ReLU(), scripted)
    for module in (scripted, torch.jit.load(tmp_path / "m.pt"), nn.DataParallel(scripted)):
        with pytest.raises(ModelError, match="compiled TorchScript"):
            load_model(module)
    with pytest.raises(ModelError, match="1 is RecursiveScriptModule: compiled TorchScript"):
        load_model(holder)
    with pytest.raises(ModelError, match=r"m\.pt"):
        load_model("test_vit", weights=tmp_path / "m.pt")


@pytest.mark.filterwarnings("ignore")
def test_exported_programs_are_refused() -> None:
    program = torch.export.export(Plain().eval(), (torch.rand(1, 3, 8, 8),))
    with pytest.raises(ModelError, match="ExportedProgram is an exported program"):
        load_model(program)
    with pytest.raises(ModelError, match="exported graph of low-level operations"):
        load_model(program.module())


def test_a_symbolic_trace_still_has_its_modules() -> None:
    traced = torch.fx.symbolic_trace(Plain())
    assert load_model(traced).module is traced


def test_a_sharded_module_is_refused() -> None:
    sharded = type("FullyShardedDataParallel", (nn.Module,), {})()
    with pytest.raises(ModelError, match="full state dict"):
        load_model(sharded)


def test_onnx_is_refused_as_object_as_file_and_as_weights() -> None:
    graph = onnx.helper.make_graph([], "nothing", [], [])
    session = type("InferenceSession", (SimpleNamespace,), {})()
    for thing in (onnx.helper.make_model(graph), session, "model.onnx", Path("a/model.ONNX")):
        with pytest.raises(ModelError, match=r"ONNX graph.*original nn\.Module"):
            load_model(thing)
    with pytest.raises(ModelError, match="exported program"):
        load_model("model.pt2")


@pytest.mark.parametrize("name", ["weights.pth", "folder/model.safetensors"])
def test_a_file_is_not_an_architecture(name: str) -> None:
    with pytest.raises(ModelError, match=rf"{name} is a file.*weights='{name}'"):
        load_model(name)


@pytest.mark.parametrize("thing", [io.BytesIO(), None, 7])
def test_what_is_no_model_is_refused(thing: object) -> None:
    with pytest.raises(ModelError, match=rf"{type(thing).__name__} is no model"):
        load_model(thing)


def test_a_compiled_timm_model_keeps_its_facts() -> None:
    module = timm.create_model("test_vit", num_classes=3)
    module.compile(backend=unusable)
    model = load_model(module)
    assert model.adapter.family == "vision_transformer"
    assert model.adapter.num_classes == 3
