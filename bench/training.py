"""One training step in dragoman and in PyTorch: forward, loss with label smoothing, backward, AdamW."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from works import BOS, EOS, Batch, Model

if TYPE_CHECKING:  # a process of one system does not pay for the other's import
    import dragoman as dg

SMOOTHING = 0.1
ADAMW = {"lr": 1e-4, "betas": (0.9, 0.98), "eps": 1e-9, "weight_decay": 0.0}

Step = Callable[[Batch], float]  # runs one step and returns its loss
State = Mapping[str, npt.NDArray[Any]]


def dragoman_model(model: Model, dtype: str, dropout: float) -> dg.Transformer:
    import dragoman as dg

    dg.manual_seed(0)
    config = dg.TransformerConfig(
        vocab_size=model.vocab_size,
        d_model=model.d_model,
        num_heads=model.num_heads,
        d_ff=model.d_ff,
        num_encoder_layers=model.layers,
        num_decoder_layers=model.layers,
        final_norm=True,
        bos_id=BOS,
        eos_id=EOS,
    ).with_dropout(dropout)
    return dg.Transformer(config, compute_dtype=dtype)


def dragoman_step(transformer: dg.Transformer) -> Step:
    import dragoman as dg

    optimizer = dg.optim.AdamW(transformer, **ADAMW)

    def step(batch: Batch) -> float:
        sources, targets = zip(*batch, strict=True)
        loss = transformer.loss(sources, targets, SMOOTHING)
        value = loss.item()
        loss.backward()
        optimizer.step()
        return value

    return step


def load_torch_weights(transformer: dg.Transformer, state: State) -> None:
    """The state_dict of a torch.nn.Transformer, and an "embedding" beside it."""
    from dragoman import interop

    stacks = {name: values for name, values in state.items() if name != "embedding"}
    own = interop.from_torch_state_dict(stacks, transformer.config)
    transformer.load_state_dict({"src_embedding.weight": state["embedding"], **own})


def torch_step(
    model: Model, dtype: str, dropout: float, device: str = "cpu", compiled: bool = False
) -> tuple[Step, Callable[[], State]]:
    """Eager unless `compiled`, fused AdamW, bfloat16 by autocast; and a function that returns the weights, for
    `load_torch_weights`."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(0)
    torch.set_float32_matmul_precision("highest")
    max_length = max(64, model.length)

    class Translator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(model.vocab_size, model.d_model)
            nn.init.normal_(self.embedding.weight, std=model.d_model**-0.5)
            self.dropout = nn.Dropout(dropout)
            self.transformer = nn.Transformer(
                model.d_model, model.num_heads, model.layers, model.layers, model.d_ff, dropout, batch_first=True
            )
            steps = 1e4 ** (-torch.arange(0, model.d_model, 2) / model.d_model)
            angles = torch.arange(max_length)[:, None] * steps
            positions = torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(max_length, model.d_model)
            self.register_buffer("positions", positions)
            self.register_buffer("future", torch.ones(max_length, max_length, dtype=torch.bool).triu(1))

        def embed(self, ids: torch.Tensor) -> torch.Tensor:
            return self.dropout(self.embedding(ids) * math.sqrt(model.d_model) + self.positions[: ids.shape[1]])

        def forward(
            self,
            source: torch.Tensor,
            target: torch.Tensor,
            source_padding: torch.Tensor | None,
            target_padding: torch.Tensor | None,
        ) -> torch.Tensor:
            """Logits of the target tokens, without padding."""
            length = target.shape[1]
            hidden = self.transformer(
                self.embed(source),
                self.embed(target),
                tgt_mask=self.future[:length, :length],
                tgt_is_causal=True,
                src_key_padding_mask=source_padding,
                tgt_key_padding_mask=target_padding,
                memory_key_padding_mask=source_padding,
            )
            hidden = hidden.flatten(0, 1) if target_padding is None else hidden[~target_padding]
            return functional.linear(hidden, self.embedding.weight)

    def pad(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor | None]:
        lengths = np.array([len(row) for row in rows])
        used = np.arange(lengths.max()) < lengths[:, None]
        ids = np.zeros(used.shape, np.int64)
        ids[used] = np.fromiter(chain.from_iterable(rows), np.int64)
        return torch.from_numpy(ids).to(device), None if used.all() else torch.from_numpy(~used).to(device)

    translator = Translator().train().to(device)
    forward = torch.compile(translator, dynamic=True) if compiled else translator
    optimizer = torch.optim.AdamW(translator.parameters(), fused=True, **ADAMW)

    def step(batch: Batch) -> float:
        source, source_padding = pad([ids for ids, _ in batch])
        target, target_padding = pad([[BOS, *ids] for _, ids in batch])
        predicted = torch.from_numpy(np.fromiter(chain.from_iterable((*ids, EOS) for _, ids in batch), np.int64))
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = forward(source, target, source_padding, target_padding)
            loss = functional.cross_entropy(logits, predicted.to(device), label_smoothing=SMOOTHING)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def state() -> State:
        stacks = {name: tensor.cpu().numpy() for name, tensor in translator.transformer.state_dict().items()}
        return {"embedding": translator.embedding.weight.detach().cpu().numpy(), **stacks}

    return step, state
