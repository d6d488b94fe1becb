"""LoRA: low-rank adapters beside frozen weights (Hu et al. 2021, arXiv:2106.09685).

`add` gives a model new adapters, whose matrices alone are trained; `save` and `load` keep them in the layout of the
PEFT library; `using` chooses them, for each sentence of a batch if need be; `merge` adds one to the weights for good.

    model = dragoman.load("en-de")
    dragoman.lora.add(model, rank=8, modules=["q_proj", "v_proj"])
    dragoman.Trainer(model, tokenizer=tokenizer, lr=1e-3, max_steps=500).fit(pairs)
    dragoman.lora.save(model, "en-de-law")
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.files import SafetensorsFile, array_parts, atomic_write_all
from dragoman.json_file import read_object
from dragoman.nn.linear import Linear
from dragoman.nn.lora import Adapter, Choice, LoRALinear
from dragoman.nn.module import Module
from dragoman.nn.weight import Parameter

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"

_PREFIX = "base_model.model."  # before the name of a module, in PEFT's files

# Fields of adapter_config.json that change what an adapter computes, with the only value that is known here.
_PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "bias": "none",
    "fan_in_fan_out": False,
    "use_dora": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "layers_to_transform": None,
    "layer_replication": None,
}


def add(
    model: Module,
    *,
    rank: int = 8,
    alpha: float | None = None,
    dropout: float = 0.0,
    modules: Sequence[str] = ("q_proj", "v_proj"),
    name: str = "default",
) -> list[str]:
    """Gives Linears of a model a new adapter, freezes everything else, and chooses the adapter for all sentences.

    Args:
        model: changed in place. What it computes is the same until the adapter is trained.
        rank: rows of A, columns of B.
        alpha: the update is multiplied by alpha / rank; 2 * rank by default.
        dropout: rate of the rows that A reads in training, in [0, 1).
        modules: which Linears: the ends of their names, "q_proj" or "decoder.layers.0.feed_forward.linear1".
        name: of the adapter, for `using`, `save` and `merge`.

    Returns:
        The names of the Linears that have the adapter.

    Raises:
        TypeError, ValueError: naming the argument; a name that the model has already; modules that match no Linear.
    """
    arguments.check_types("lora.add", Module, model=model)
    arguments.check_types("lora.add", str, name=name)
    rank = arguments.integer("lora.add", "rank", rank, 1)
    alpha = 2.0 * rank if alpha is None else arguments.positive("lora.add", "alpha", alpha)
    dropout = arguments.number("lora.add", "dropout", dropout, 0.0, 1.0)
    if isinstance(modules, str) or not all(isinstance(end, str) for end in modules):
        raise TypeError(f"lora.add: modules must be a list of str, got {modules!r}")
    found = [place for place in _linears(model) if any(_ends(place, end) for end in modules)]
    for end in modules:
        if not any(_ends(place, end) for place in found):
            known = sorted({place.rsplit(".", 1)[-1] for place in _linears(model)})
            raise ValueError(f"lora.add: modules must match Linears, named {', '.join(known)}, got {end!r}")
    if not found:
        raise ValueError("lora.add: modules must match at least one Linear, got none")
    _check_new("lora.add", model, name)
    _put(model, name, {place: (rank, alpha, dropout) for place in found})
    return found


def adapters(model: Module) -> list[str]:
    """The names of the model's adapters, in the order in which they came."""
    names = [adapter.name for _, layer in _layers(model) for adapter in layer.adapters]
    return list(dict.fromkeys(names))


@contextmanager
def using(model: Module, choice: str | Sequence[str | None] | None) -> Iterator[None]:
    """Inside, the model runs with other adapters than before; the weights are untouched.

    Args:
        model: with adapters.
        choice: the name of an adapter; None for the model without any; or a list of both, one for each sentence of
            the batch. `generate` and `model.logits` take such batches.

    Raises:
        TypeError, ValueError: no such adapter.
    """
    names = choice if isinstance(choice, str | None) else list(choice)
    known = adapters(model)
    for item in names if isinstance(names, list) else [names]:
        if item is not None and item not in known:
            raise ValueError(f"lora.using: choice must be among {', '.join(known) or 'no adapters'}, got {item!r}")
    held = _choice(model)
    before, held.names = held.names, names
    try:
        yield
    finally:
        held.names = before


def save(model: Module, folder: str | Path, name: str = "default") -> None:
    """Writes one adapter to `folder`, in the layout of PEFT: adapter_model.safetensors and adapter_config.json.

    Of a model that came from a checkpoint of the Hugging Face libraries, modules have the names that they have there,
    so that PEFT adds the adapter to that checkpoint. What is one product there, as the queries, keys and values of
    GPT-2, has one adapter, of a rank as large as those of its parts together.

    Raises:
        OSError: a file cannot be written.
        TypeError, ValueError: naming the argument; no such adapter.
    """
    arguments.check_path("lora.save", "folder", folder)
    found = _places_of(model, name)
    if not found:
        raise ValueError(f"lora.save: name must be among {adapters(model)}, got {name!r}")
    pairs = {place: (adapter.a.numpy(), adapter.b.numpy()) for place, (_, adapter) in found.items()}
    transposed = False
    if _has_origin(model):
        pairs, transposed = _adapters_of_theirs().to_theirs(model, pairs)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for place, (a, b) in pairs.items():
        arrays[f"{_PREFIX}{place}.lora_A.weight"] = a
        arrays[f"{_PREFIX}{place}.lora_B.weight"] = b
    _, adapter = next(iter(found.values()))  # all have one rank, alpha and dropout
    rank = len(next(iter(pairs.values()))[0])
    config = _PLAIN | {
        "fan_in_fan_out": transposed,
        "r": rank,
        "lora_alpha": adapter.alpha if rank == adapter.rank else adapter.alpha * rank / adapter.rank,
        "lora_dropout": adapter.dropout,
        "target_modules": list(pairs),
        "inference_mode": True,
        "task_type": None,
        "base_model_name_or_path": None,
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = (json.dumps(config, indent=2) + "\n").encode()
    atomic_write_all({folder / CONFIG: [text], folder / WEIGHTS: array_parts(arrays, {"format": "pt"})})


def load(model: Module, folder: str | Path, name: str = "default") -> list[str]:
    """Gives a model the adapter that `save`, or PEFT, wrote, and chooses it for all sentences. Other adapters stay.

    Modules have the names of ours, or those of the checkpoint that the model came from. The weights are frozen, as by
    `add`; nothing is changed if the files do not fit.

    Returns:
        The names of the Linears that have the adapter.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: naming the file and what in it does not fit.
    """
    arguments.check_types("lora.load", Module, model=model)
    arguments.check_path("lora.load", "folder", folder)
    arguments.check_types("lora.load", str, name=name)
    _check_new("lora.load", model, name)
    path, file = Path(folder) / CONFIG, SafetensorsFile(Path(folder) / WEIGHTS)
    rank, alpha, dropout = _read_config(path, of_origin=_has_origin(model))
    linears, pairs = _linears(model), _pairs(file)
    if _has_origin(model):
        pairs = _adapters_of_theirs().to_ours(model, pairs)
    for place, pair in pairs.items():
        if place not in linears:
            raise ValueError(f"{file.path}: {place} must be a Linear of the model")
        out_features, in_features = linears[place].weight.shape
        for got, expected in zip(
            (pair[0].shape, pair[1].shape), ((rank, in_features), (out_features, rank)), strict=True
        ):
            if got != expected:
                raise ValueError(f"{file.path}: the adapter of {place} must have shape {expected}, got {got}")
    _put(model, name, dict.fromkeys(pairs, (rank, alpha, dropout)))
    for place, layer in _layers(model):
        if place in pairs:
            adapter = layer.adapters[-1]
            adapter.a.copy_(pairs[place][0])
            adapter.b.copy_(pairs[place][1])
    return list(pairs)


def merge(model: Module, name: str | None = None) -> None:
    """Adds an adapter's update to the weights, and takes all adapters off the model, whose parameters can be trained
    again. What it computes with that adapter stays, to rounding.

    Args:
        model: changed in place.
        name: of the adapter; the one that is chosen by default.

    Raises:
        ValueError: no such adapter; a weight that another layer shares; the model is frozen.
    """
    weights = merged(model, name)
    for place, layer in _layers(model):
        if place in weights:
            layer.weight.copy_(weights[place])
        linear = Linear.__new__(Linear)
        linear.weight, linear.bias, linear.training = layer.weight, layer.bias, layer.training
        _set(model, place, linear)
    for parameter in model.parameters():
        parameter.requires_grad = True


def merged(model: Module, name: str | None = None) -> dict[str, npt.NDArray[Any]]:
    """By the name of each Linear that has the adapter, its weight with the update, a float32 array. As of `merge`."""
    model.check_not_frozen("lora.merge", "merge into the model that it was made from")
    chosen = _choice(model).names if name is None else name
    if not isinstance(chosen, str) or chosen not in adapters(model):
        raise ValueError(f"lora.merge: name must be among {adapters(model)}, got {chosen!r}")
    users: dict[int, int] = {}
    for _, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Parameter):
            users[id(weight)] = users.get(id(weight), 0) + 1
    result = {}
    for place, (layer, adapter) in _places_of(model, chosen).items():
        if users[id(layer.weight)] > 1:
            raise ValueError(f"lora.merge: the weight of {place} must be its own, but another layer shares it")
        update = adapter.b.numpy().astype(np.float64) @ adapter.a.numpy().astype(np.float64)
        result[place] = (layer.weight.numpy() + adapter.scale * update).astype(np.float32)
    return result


def merged_state(model: Module) -> dict[str, npt.NDArray[Any]]:
    """The state_dict of the model that `merge` would leave; arrays may be views. ValueError as `merge`, and where each
    sentence has an adapter of its own."""
    state = {name: array for name, array in model.state_dict(copy=False).items() if ".adapters." not in name}
    if adapters(model) and _choice(model).names is not None:
        state |= {f"{place}.weight": weight for place, weight in merged(model).items()}
    return state


def _has_origin(model: Module) -> bool:
    """Whether the model came from a checkpoint of the Hugging Face libraries."""
    return getattr(model, "origin", None) is not None


def _adapters_of_theirs() -> Any:
    """The module that knows their names; imported when it is needed, as it stands above this one."""
    return import_module("dragoman.interop.huggingface.adapters")


def _read_config(path: Path, of_origin: bool = False) -> tuple[int, float, float]:
    """Rank, alpha and dropout. Where the model's weights lie in their files does not matter `of_origin`."""
    values = read_object(path)
    for field, plain in _PLAIN.items():
        if field == "fan_in_fan_out" and of_origin:
            continue
        if values.get(field, plain) not in (plain, [] if plain is None else plain):
            raise ValueError(f"{path}: {field} must be {plain!r}, got {values[field]!r}")
    try:
        rank = arguments.integer("adapter", "r", values.get("r"), 1)
        alpha = arguments.positive("adapter", "lora_alpha", values.get("lora_alpha"))
        dropout = arguments.number("adapter", "lora_dropout", values.get("lora_dropout", 0.0), 0.0, 1.0)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    if values.get("use_rslora", False):  # Kalajdzievski 2023, arXiv:2312.03732: alpha / sqrt(rank)
        alpha *= rank**0.5
    return rank, alpha, dropout


def _pairs(file: SafetensorsFile) -> dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """A and B of each module in a file of PEFT's."""
    places = [key[len(_PREFIX) : -len(".lora_A.weight")] for key in file.headers if key.endswith(".lora_A.weight")]
    expected = {f"{_PREFIX}{place}.lora_{side}.weight" for place in places for side in "AB"}
    if not places or expected != set(file.headers):
        odd = sorted(expected ^ set(file.headers))
        raise ValueError(f"{file.path}: must hold lora_A and lora_B of each module, and nothing else; see {odd[:3]}")
    arrays = {key: file.array(key) for key in file.headers}
    return {
        place: (arrays[f"{_PREFIX}{place}.lora_A.weight"], arrays[f"{_PREFIX}{place}.lora_B.weight"])
        for place in places
    }


def _put(model: Module, name: str, shapes: dict[str, tuple[int, float, float]]) -> None:
    """Adds adapters of (rank, alpha, dropout) by the names of their Linears, and freezes all else."""
    choice, linears = _choice(model), _linears(model)
    for parameter in model.parameters():
        parameter.requires_grad = False
    for place, (rank, alpha, dropout) in shapes.items():
        linear = linears[place]
        if not isinstance(linear, LoRALinear):
            linear = LoRALinear(linear, choice)
            _set(model, place, linear)
        out_features, in_features = linear.weight.shape
        adapter = Adapter(name, in_features, out_features, rank, alpha, dropout).to(linear.weight.device)
        linear.adapters.append(adapter.train(linear.training))
    choice.names = name


def _check_new(op: str, model: Module, name: str) -> None:
    if name in adapters(model):
        raise ValueError(f"{op}: name must be new, got {name!r}, which the model has")


def _ends(place: str, end: str) -> bool:
    return place == end or place.endswith(f".{end}")


def _linears(model: Module) -> dict[str, Linear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Linear)}


def _layers(model: Module) -> list[tuple[str, LoRALinear]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, LoRALinear)]


def _places_of(model: Module, name: str) -> dict[str, tuple[LoRALinear, Adapter]]:
    """By the names of the Linears that have an adapter, each with its adapter of that name."""
    return {
        place: (layer, adapter) for place, layer in _layers(model) for adapter in layer.adapters if adapter.name == name
    }


def _choice(model: Module) -> Choice:
    """What the model's adapters have in common; a new one for a model without any."""
    return next((layer.choice for _, layer in _layers(model)), Choice())


def _set(model: Module, place: str, module: Module) -> None:
    """Puts a module in the place of the one that has this name."""
    *parents, last = place.split(".")
    owner: Any = model
    for part in parents:
        owner = owner[int(part)] if part.isdigit() else getattr(owner, part)
    if last.isdigit():
        owner[int(last)] = module
    else:
        setattr(owner, last, module)
