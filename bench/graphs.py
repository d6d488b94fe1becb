"""The encoder and the decoder step of a model as graphs for onnxruntime and OpenVINO, made by PyTorch.

All sentences have one length, so no graph has a mask. The beams of a sentence share the keys and values of its source.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from export import State
from torch import nn
from torch.nn import functional
from works import BOS, Model

Tensors = tuple[torch.Tensor, ...]


class Block(nn.Module):
    """The parameters of a layer, and its parts."""

    def __init__(self, state: State, model: Model, prefix: str) -> None:
        super().__init__()
        self.size, self.heads = model.d_model, model.num_heads
        for name, values in state.items():
            if name.startswith(prefix):
                self.register_buffer(name.removeprefix(prefix).replace(".", "_"), torch.from_numpy(values))

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"))

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, (self.size,), getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"))

    def projected(self, attention: str, part: slice, x: torch.Tensor) -> Tensors:
        """Rows of the queries, keys and values, `part` of these three, as (batch, heads, length, head_dim) each."""
        rows = slice(part.start * self.size, part.stop * self.size)
        weight, bias = getattr(self, f"{attention}_in_proj_weight"), getattr(self, f"{attention}_in_proj_bias")
        merged = functional.linear(x, weight[rows], bias[rows])
        return tuple(y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in merged.split(self.size, -1))

    def attend(self, attention: str, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any) -> torch.Tensor:
        read = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        return self.linear(f"{attention}_out_proj", read)

    def feed_forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear("linear2", functional.relu(self.linear("linear1", x)))


def _blocks(state: State, model: Model, stack: str) -> nn.ModuleList:
    return nn.ModuleList(Block(state, model, f"{stack}.layers.{i}.") for i in range(model.layers))


class Embedding(nn.Module):
    def __init__(self, state: State, model: Model) -> None:
        super().__init__()
        self.scale = math.sqrt(model.d_model)
        for name in ("embedding", "positions", "bias"):
            self.register_buffer(name, torch.from_numpy(state[name]))

    def forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return functional.embedding(ids, self.embedding) * self.scale + positions

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.embedding, self.bias)


class Encoder(nn.Module):
    """ids (batch, length) -> keys and values of every cross-attention, (batch, heads, length, head_dim)."""

    def __init__(self, state: State, model: Model) -> None:
        super().__init__()
        self.embedding = Embedding(state, model)
        for stack in ("encoder", "decoder"):
            setattr(self, stack, _blocks(state, model, stack))

    def forward(self, ids: torch.Tensor) -> Tensors:
        x = self.embedding(ids, self.embedding.positions[: ids.shape[1]])
        for block in self.encoder:
            attended = block.attend("self_attn", *block.projected("self_attn", slice(0, 3), x), None)
            x = block.norm("norm1", x + attended)
            x = block.norm("norm2", x + block.feed_forward(x))
        return tuple(y for block in self.decoder for y in block.projected("multihead_attn", slice(1, 3), x))


class Step(nn.Module):
    """One step of the decoder for `beam` rows a sentence.

    ids (rows, 1), position (1,), parents (rows,), then the keys and values that the rows have so far, and those of the
    sources -> the `beam` best log probabilities and ids of each row, (rows, beam), and the keys and values with the new
    token's.
    """

    def __init__(self, state: State, model: Model, beam: int, masked: bool) -> None:
        super().__init__()
        self.embedding = Embedding(state, model)
        self.blocks = _blocks(state, model, "decoder")
        self.size, self.beam, self.masked = model.d_model, beam, masked

    def forward(
        self, ids: torch.Tensor, position: torch.Tensor, parents: torch.Tensor, *cached: torch.Tensor
    ) -> Tensors:
        own, sources = cached[: len(cached) // 2], cached[len(cached) // 2 :]
        x = self.embedding(ids, functional.embedding(position, self.embedding.positions))
        new: list[torch.Tensor] = []
        for i, block in enumerate(self.blocks):
            q, k, v = block.projected("self_attn", slice(0, 3), x)
            k, v = (torch.cat([own[2 * i + j].index_select(0, parents), y], 2) for j, y in enumerate((k, v)))
            new += [k, v]
            # OpenVINO 2026.4.1 computes wrong sums from 16 keys on without a mask.
            mask = torch.zeros_like(k[:1, :1, :, 0])[:, :, None] if self.masked else None
            x = block.norm("norm1", x + block.attend("self_attn", q, k, v, mask))
            beams = x.reshape(sources[0].shape[0], self.beam, self.size)
            (q,) = block.projected("multihead_attn", slice(0, 1), beams)
            read = block.attend("multihead_attn", q, sources[2 * i], sources[2 * i + 1], None)
            x = block.norm("norm2", x + read.reshape(-1, 1, self.size))
            x = block.norm("norm3", x + block.feed_forward(x))
        logits = self.embedding.logits(x[:, 0])
        best, ids = logits.topk(self.beam, -1)
        if self.beam > 1:
            best = best - logits.logsumexp(-1, keepdim=True)
        return best, ids, *new


class Graph:
    """A module with example inputs, and the names of inputs and outputs."""

    def __init__(self, module: nn.Module, example: Tensors, inputs: list[str], outputs: list[str]) -> None:
        self.module, self.example, self.inputs, self.outputs = module.eval(), example, inputs, outputs

    def sizes(self, name: str) -> list[str | int]:
        """A name for each size that may differ, and the size for each that may not."""
        i = self.inputs.index(name) if name in self.inputs else None
        if name == "ids":
            return ["rows", 1] if len(self.inputs) > 1 else ["sources", "length"]
        if i is None or name in ("position", "parents"):
            return [1 if name == "position" else "rows"]
        _, heads, _, head_dim = self.example[i].shape
        rows, length = ("rows", "past") if name.startswith("past") else ("sources", "length")
        return [rows, heads, length, head_dim]


def graphs(state: State, model: Model, beams: list[int], masked: bool) -> dict[str, Graph]:
    """ "encoder", and "step" with the number of beams."""
    caches = [f"{kind}{i}" for i in range(model.layers) for kind in "kv"]
    sources, past, new = ([f"{kind}_{name}" for name in caches] for kind in ("source", "past", "new"))
    ids = torch.full((2, 5), BOS)
    encoder = Encoder(state, model)
    made = {"encoder": Graph(encoder, (ids,), ["ids"], sources)}
    with torch.no_grad():
        read = encoder(ids)
    for beam in beams:
        rows = 2 * beam
        own = [torch.randn(rows, *y.shape[1:2], 3, *y.shape[3:]) for y in read]
        example = (torch.full((rows, 1), BOS), torch.tensor([3]), torch.arange(rows), *own, *read)
        inputs = ["ids", "position", "parents", *past, *sources]
        made[f"step{beam}"] = Graph(Step(state, model, beam, masked), example, inputs, ["best", "tokens", *new])
    return made


def write_onnx(state: State, model: Model, beams: list[int], folder: Path, dtype: str) -> None:
    """NAME.onnx of each graph; of int8, weights by channel, and activations as they come."""
    for name, graph in graphs(state, model, beams, masked=False).items():
        path = folder / f"{name}.onnx"
        dynamic = {
            input: {i: size for i, size in enumerate(graph.sizes(input)) if isinstance(size, str)}
            for input in graph.inputs
        }
        with torch.no_grad():
            torch.onnx.export(
                graph.module,
                graph.example,
                str(path),
                input_names=graph.inputs,
                output_names=graph.outputs,
                dynamic_axes=dynamic,
                opset_version=17,
                dynamo=False,
            )
        if dtype == "int8":
            from onnxruntime.quantization import QuantType, quantize_dynamic

            quantize_dynamic(
                path,
                path,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                weight_type=QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
            )


def write_openvino(state: State, model: Model, beams: list[int], folder: Path, dtype: str) -> None:
    """NAME.xml of each graph, a step with its keys and values as state; of int8, weights of 8 bits."""
    import openvino
    from openvino._offline_transformations import apply_make_stateful_transformation

    for name, graph in graphs(state, model, beams, masked=True).items():
        with torch.no_grad():
            converted = openvino.convert_model(graph.module, example_input=graph.example)
        for port, port_name in zip(converted.inputs, graph.inputs, strict=True):
            port.tensor.set_names({port_name})
        for port, port_name in zip(converted.outputs, graph.outputs, strict=True):
            port.tensor.set_names({port_name})
        shapes = {input: [s if isinstance(s, int) else -1 for s in graph.sizes(input)] for input in graph.inputs}
        converted.reshape({input: openvino.PartialShape(shape) for input, shape in shapes.items()})
        if dtype == "int8":
            import nncf

            converted = nncf.compress_weights(converted, mode=nncf.CompressWeightsMode.INT8_ASYM)
        past = {input: input.replace("past", "new") for input in graph.inputs if input.startswith("past")}
        if past:
            apply_make_stateful_transformation(converted, past)
        openvino.save_model(converted, folder / f"{name}.xml", compress_to_fp16=False)
