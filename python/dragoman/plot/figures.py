"""Pictures of a training run's loss and of attention weights, by matplotlib (extra `plot`), without a display."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Log = str | Path | Sequence[Mapping[str, Any]]

CURVES = {"loss": "training", "valid_loss": "validation"}  # fields of records
CELL = 0.3  # inches of an attention weight
LARGEST = 16.0  # inches of a picture's side


def loss(log: Log, path: str | Path | None = None) -> Figure:
    """The losses of a training run over its steps.

    Args:
        log: the records that `Trainer.fit` returned, a log.jsonl, or the folder that holds one.
        path: file to write, in the format that its ending names, such as .png; None for no file.

    Returns:
        A matplotlib Figure of one Axes, with a line for each kind of loss in the log.

    Raises:
        ModuleNotFoundError: without matplotlib.
        OSError: the log cannot be read, or the path cannot be written.
        ValueError: a line of the log is not a record, naming the line; or the log has no losses.
    """
    records = _read(log) if isinstance(log, str | Path) else log
    if not isinstance(records, Sequence) or not all(isinstance(record, Mapping) for record in records):
        raise TypeError(f"plot.loss: log must be a path or a list of records, got {type(log).__name__}")
    curves = {
        label: [(record["step"], record[field]) for record in records if field in record]
        for field, label in CURVES.items()
    }
    if not any(curves.values()):
        raise ValueError("plot.loss: log must hold records with a loss, got none")
    figure = _figure(7, 4)
    axes = figure.add_subplot()
    for label, points in curves.items():
        if points:
            axes.plot(*zip(*points, strict=True), marker="." if len(points) < 30 else "", label=label)
    axes.set(xlabel="step", ylabel="loss per target token (nats)", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return _drawn(figure, path)


def attention(
    weights: npt.ArrayLike,
    src_tokens: Sequence[str],
    tgt_tokens: Sequence[str],
    path: str | Path | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Attention weights as squares: the larger, the darker. A row shows what one target token reads.

    With several heads, each panel has the index of its head as a title.

    Args:
        weights: (target tokens, source tokens), or (num_heads, target tokens, source tokens) for one panel a head.
        src_tokens: names of the columns.
        tgt_tokens: names of the rows.
        path: file to write, in the format that its ending names, such as .png; None for no file.
        title: of the whole figure, for instance which layer it shows.

    Returns:
        A matplotlib Figure, with an Axes for each head and one for the scale of the weights.

    Raises:
        ModuleNotFoundError: without matplotlib.
        OSError: a path that cannot be written.
        ValueError: weights of another rank or not finite, or a wrong number of names.
    """
    values = np.asarray(weights, dtype=np.float64)
    if values.ndim not in (2, 3) or values.size == 0:
        raise ValueError(
            "plot.attention: weights must have shape (target tokens, source tokens) or (num_heads, target tokens, "
            f"source tokens), none of them 0, got {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError("plot.attention: weights must be finite, got NaN or infinity")
    heads = values.reshape(-1, *values.shape[-2:])
    for name, tokens, size in (("tgt_tokens", tgt_tokens, heads.shape[1]), ("src_tokens", src_tokens, heads.shape[2])):
        if len(tokens) != size:
            raise ValueError(f"plot.attention: {name} must hold {size} tokens, as weights does, got {len(tokens)}")
    columns = min(len(heads), 2)
    rows = -(-len(heads) // columns)
    width, height = (CELL * size + 1.6 for size in (heads.shape[2], heads.shape[1]))
    figure = _figure(min(columns * width + 0.8, LARGEST), min(rows * height, LARGEST))
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for number, (panel, head) in enumerate(zip(panels, heads, strict=False)):
        image = panel.imshow(head, cmap="Blues", vmin=0.0, vmax=1.0)
        panel.set_xticks(range(len(src_tokens)), src_tokens, rotation=90, parse_math=False)
        panel.set_yticks(range(len(tgt_tokens)), tgt_tokens, parse_math=False)
        panel.xaxis.tick_top()
        panel.xaxis.set_label_position("top")
        panel.set(xlabel="source token", ylabel="target token")
        if len(heads) > 1:
            panel.set_title(f"head {number}")
    for panel in panels[len(heads) :]:
        panel.remove()
    if title is not None:
        figure.suptitle(title, parse_math=False)
    figure.colorbar(image, ax=figure.axes, shrink=0.6, label="attention weight")
    return _drawn(figure, path)


def _read(log: str | Path) -> list[dict[str, Any]]:
    path = Path(log)
    if path.is_dir():
        path /= "log.jsonl"
    records = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or not isinstance(record.get("step"), int):
                raise ValueError("field step must be an int")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: line {number} is not a record ({error})") from None
        records.append(record)
    return records


def _figure(width: float, height: float) -> Figure:
    """An empty figure without a window, which pyplot does not keep."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ModuleNotFoundError("plot: needs the extra: pip install 'dragoman[plot]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def _drawn(figure: Figure, path: str | Path | None) -> Figure:
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure
