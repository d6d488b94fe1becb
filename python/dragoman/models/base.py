"""Model, the base of every model, and the registry of the kinds of models that a folder may hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy.typing as npt

from dragoman import arguments, lora
from dragoman.arguments import check_regular, shown
from dragoman.files import array_parts, atomic_write_all
from dragoman.functional.operands import ACTIVATION_DTYPES
from dragoman.json_file import read_object
from dragoman.models.config import ModelConfig
from dragoman.models.freezing import freeze, frozen_state
from dragoman.models.memory import memory_plan
from dragoman.nn import Module, TransformerStack
from dragoman.tensor import Tensor

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
FROZEN = "frozen"  # the field of config.json that holds the dtype of frozen weights
ORIGIN = "origin"  # the field that holds the config.json of another library that the model came from


class Model(Module):
    """A Module that is made from a config, trained by its loss and kept in a folder; in training mode at first.

    A subclass sets `config_class` and writes `__call__`, `loss` and `__init__(self, config, compute_dtype="float32")`,
    which calls this one first. `register` gives it a name, so that it can be saved and loaded.

    Attributes:
        origin: the config.json, as a dict, of the checkpoint of another library that the model came from; None for a
            model of ours.
        origin_folder: where it was read, there or from a folder that `save` wrote since; None for other models.

    Args:
        config: what to build, of the type `config_class`.
        compute_dtype: of activations and matrix products in training, "float32" or "bfloat16". Weights, their
            gradients, softmax statistics, sums and losses are float32 in both (Micikevicius et al. 2018,
            arXiv:1710.03740; Kalamkar et al. 2019, arXiv:1905.12322). Inference computes in float32.

    Raises:
        TypeError, ValueError: naming the argument.
    """

    config_class: ClassVar[type[ModelConfig]] = ModelConfig
    config: Any
    origin: dict[str, Any] | None = None
    origin_folder: Path | None = None

    def __init__(self, config: ModelConfig, compute_dtype: str = "float32") -> None:
        op = type(self).__name__
        arguments.check_types(op, self.config_class, config=config)
        self.config = config
        self.compute_dtype = arguments.choice(op, "compute_dtype", compute_dtype, ACTIVATION_DTYPES)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """The model's output for a batch, in the mode that it stands in: on the tape and with dropout in training."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__")

    def loss(self, *args: Any, **kwargs: Any) -> Tensor:
        """The loss of a batch, a scalar to call `backward` on."""
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def attention_weights(self, *args: Any, **kwargs: Any) -> dict[str, list[npt.NDArray[Any]]]:
        """Arrays (num_heads, queries, keys) of one example, for each layer, by kind of attention."""
        raise NotImplementedError(f"{type(self).__name__} has no attention_weights")

    def example_batch(self, tokens: Any) -> tuple[Any, ...]:
        """Arguments of `loss` for some batch of `tokens` tokens: `memory_plan` rehearses a step on it."""
        raise NotImplementedError(f"{type(self).__name__} has no example_batch")

    def memory_plan(
        self, tokens: int | tuple[int, int], compute_dtype: str | None = None, ranks: int = 1
    ) -> dict[str, int]:
        """Bytes that a training step takes, with `checkpoint_layers` as it is: see dragoman.models.memory."""
        return memory_plan(self, tokens, compute_dtype, ranks)

    def save(self, folder: str | Path, *, beside: Sequence[str] = ()) -> None:
        """Writes config.json and model.safetensors into `folder`, made where missing, each atomically.

        The weights are renamed last and hold the SHA-256 of config.json, which `dragoman.load` compares. So nobody
        takes the weights of one model with the config of another.

        Args:
            folder: of the model.
            beside: "tokenizer.json", where the folder holds the tokenizer that belongs to the weights: its SHA-256 is
                kept and compared, too.

        Of a model with adapters (`dragoman.lora`), the weights are those with the chosen adapter's update. `lora.save`
        keeps an adapter alone.

        A frozen model is saved in its dtype, with "frozen" in config.json. The file is the same on every machine.

        Raises:
            OSError: naming the file that cannot be written or read.
            ValueError: the class is not registered; a frozen model has adapters, or the folder holds a model that can
                be trained, which it would replace.
        """
        arguments.check_path("save", "folder", folder)
        if not isinstance(beside, list | tuple):
            raise TypeError(f"save: beside must be a list of names, got {type(beside).__name__}")
        arguments.check_types("save", str, **{f"beside[{i}]": name for i, name in enumerate(beside)})
        values = {"model": registered_name(type(self)), **self.config.to_dict()}
        folder = Path(folder)
        if self.frozen is not None:
            check_replaceable("save", "folder", folder)
            values[FROZEN] = self.frozen
        if self.origin is not None:
            values[ORIGIN] = self.origin
        config = (json.dumps(values, indent=2) + "\n").encode()
        folder.mkdir(parents=True, exist_ok=True)
        for name in beside:
            check_regular(folder / name)
        digests = {digest_field(CONFIG): sha256(config).hexdigest()}
        digests |= {digest_field(name): sha256((folder / name).read_bytes()).hexdigest() for name in beside}
        state = lora.merged_state(self) if self.frozen is None else frozen_state(self)
        weights = array_parts(state, {"format": "dragoman", **digests})
        atomic_write_all({folder / CONFIG: [config], folder / WEIGHTS: weights})

    def save_pretrained(self, folder: str | Path, model_type: str | None = None) -> None:
        """Writes the model in the layout of the Hugging Face libraries: config.json and model.safetensors, float32.

        The tokenizer and the settings that came with a checkpoint are copied from its folder. transformers opens the
        folder, with the same logits; so does `dragoman.load`. Of a model with adapters, the weights are those with the
        chosen adapter's update.

        Args:
            folder: of the model, made where missing.
            model_type: the family to write, as "marian" or "t5"; that of the checkpoint from which the model came by
                default.

        Raises:
            OSError: naming the file that cannot be written.
            TypeError, ValueError: no such family, or one whose models compute something else, naming the field of the
                config; a frozen model. Nothing is written.
        """
        arguments.check_path("save_pretrained", "folder", folder)
        if model_type is not None:
            arguments.check_types("save_pretrained", str, model_type=model_type)
        huggingface("saving").save(self, Path(folder), model_type)

    def freeze(self, dtype: str) -> Self:
        """Turns the model, in place, into one that only runs: smaller, and faster with few rows.

        Each weight of a Linear or an Embedding is kept once, packed for this machine; the float32 original is dropped.
        Tied weights share one copy. Biases, norms and tables of positions stay float32, as do activations between ops.

        - "int8": a scale for each row of a weight (each output). A product rounds each row of its input to 255 steps
          (Dettmers et al. 2022, arXiv:2208.07339, section 2) and adds up integers exactly. On the CPU alone.
        - "bfloat16": weights and the input of each product are rounded to bfloat16; sums and outputs are float32.
        - "float32": the same results as before, to rounding.

        A frozen model cannot be trained, gives no gradients and takes no other weights. `save` keeps it as it is.
        Adapters of LoRA run beside it, in float32. A weight that anything but a plain Linear or Embedding holds, as a
        subclass with its own `__call__`, stays as it is.

        Args:
            dtype: of the weights.

        Returns:
            The model, in inference mode.

        Raises:
            TypeError, ValueError: another dtype; the model is frozen already; "int8" for a model on another device, or
                for one with weights that are not finite. Nothing is changed.
        """
        freeze(self, dtype)
        return self

    @property
    def frozen(self) -> str | None:
        """The dtype that `freeze` was called with, None for a model that can be trained."""
        return next((weight.dtype for _, weight in self.named_frozen()), None)

    @property
    def checkpoint_layers(self) -> bool:
        """Whether a training step computes each layer again in backward instead of keeping its activations, for all
        stacks of layers: less memory for about a third more time, and the same bits (Chen et al. 2016,
        arXiv:1604.06174). False at first."""
        return any(stack.checkpoint_layers for stack in self._stacks())

    @checkpoint_layers.setter
    def checkpoint_layers(self, value: bool) -> None:
        arguments.flag("Model", "checkpoint_layers", value)
        for stack in self._stacks():
            stack.checkpoint_layers = value

    def _stacks(self) -> list[TransformerStack]:
        return [module for _, module in self.named_modules() if isinstance(module, TransformerStack)]

    @property
    def dtype(self) -> str:
        """Of activations: `compute_dtype` in training, float32 in inference."""
        return self.compute_dtype if self.training else "float32"


def huggingface(module: str) -> Any:
    """A module of dragoman.interop.huggingface, which stands above this one: imported when it is needed."""
    return import_module(f"dragoman.interop.huggingface.{module}")


def check_replaceable(op: str, argument: str, folder: Path) -> None:
    """ValueError for a folder whose model can be trained. A frozen one in its place could not be turned back."""
    if (folder / CONFIG).exists() and read_object(folder / CONFIG).get(FROZEN) is None:
        raise ValueError(f"{op}: {argument} must not hold a model that can be trained, as {folder} does")


def digest_field(name: str) -> str:
    """The field of the weights' metadata that holds the SHA-256 of the file `name` beside them."""
    return f"sha256 of {name}"


M = TypeVar("M", bound=type[Model])

_registry: dict[str, type[Model]] = {}

_OWN = ("decoder", "encoder", "encoder_decoder", "speech", "vision")  # names, and modules that are imported when needed


def _import_own(name: str) -> None:
    if name in _OWN:
        import_module(f"dragoman.models.{name}")


def register(name: str) -> Callable[[M], M]:
    """Decorates a Model class: config.json calls it `name`, and `dragoman.load` builds it where it reads that name.

    Raises:
        TypeError: the name is no str, or what is decorated no Model class with a config_class.
        ValueError: another class has the name.
    """
    arguments.check_types("register", str, name=name)

    def add(model_class: M) -> M:
        if not (isinstance(model_class, type) and issubclass(model_class, Model)):
            raise TypeError(f"register: the class must be a subclass of Model, got {model_class!r}")
        config_class = model_class.config_class
        is_class = isinstance(config_class, type) and issubclass(config_class, ModelConfig)
        if not is_class or config_class is ModelConfig:
            raise TypeError(
                f"register: config_class of {model_class.__name__} must be a subclass of ModelConfig, "
                f"got {config_class!r}"
            )
        _import_own(name)
        held = _registry.get(name)
        if held is not None and _place(held) != _place(model_class):  # a notebook's cell may run twice
            raise ValueError(f"register: name must be free, got {name!r}, which {held.__name__} has")
        _registry[name] = model_class
        return model_class

    return add


def registered_name(model_class: type[Model]) -> str:
    """The name that a class was registered by. ValueError for a class that was not."""
    for name, registered in _registry.items():
        if registered is model_class:
            return name
    raise ValueError(f"save: {model_class.__name__} must be registered by dragoman.models.register, got no name")


def registered_class(name: str) -> type[Model]:
    """The class of that name. ValueError, with the known names, where there is none."""
    if not isinstance(name, str) or name not in {*_registry, *_OWN}:
        raise ValueError(f"model must be one of {', '.join(sorted({*_registry, *_OWN}))}, got {shown(name)}")
    _import_own(name)
    return _registry[name]


def class_of_config(config_class: type[ModelConfig]) -> type[Model]:
    """The registered class whose models have configs of that class. ValueError where there is none."""
    for model_class in _registry.values():
        if model_class.config_class is config_class:
            return model_class
    raise ValueError(f"a model with the config {config_class.__name__} must be registered, got none")


def _place(model_class: type[Model]) -> tuple[str, str]:
    return model_class.__module__, model_class.__qualname__
