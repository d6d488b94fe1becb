"""Parameters with a learning rate or a weight decay of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from dragoman.arguments import check_types, number, shown
from dragoman.nn.weight import Parameter


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with a learning rate or a weight decay of their own.

    Args:
        pattern: shell pattern over the names of `Module.named_parameters`: `encoder.*`, `*.bias`, or one whole name.
        lr_scale: factor on the optimizer's learning rate, at least 0.
        weight_decay: of every parameter in the group, norms and biases too; None for the optimizer's own rule.

    Raises:
        TypeError, ValueError: an argument of another type, or out of range.
    """

    pattern: str
    lr_scale: float = 1.0
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        check_types("ParameterGroup", str, pattern=self.pattern)
        object.__setattr__(self, "lr_scale", number("ParameterGroup", "lr_scale", self.lr_scale, 0.0))
        if self.weight_decay is not None:
            decay = number("ParameterGroup", "weight_decay", self.weight_decay, 0.0)
            object.__setattr__(self, "weight_decay", decay)


def assign_groups(
    op: str, groups: Sequence[ParameterGroup], trainable: Mapping[str, Parameter]
) -> dict[str, ParameterGroup | None]:
    """The group of every trainable parameter, by its name. TypeError, ValueError for groups that are none."""
    if not isinstance(groups, list | tuple):
        raise TypeError(f"{op}: groups must be a list of ParameterGroups, got {type(groups).__name__}")
    for i, group in enumerate(groups):
        check_types(op, ParameterGroup, **{f"groups[{i}]": group})
    chosen = {name: next((i for i, g in enumerate(groups) if fnmatchcase(name, g.pattern)), None) for name in trainable}
    for i, group in enumerate(groups):
        if i not in chosen.values():
            got = shown(group.pattern)
            raise ValueError(f"{op}: groups[{i}] must match a trainable parameter that no earlier group has, got {got}")
    return {name: None if i is None else groups[i] for name, i in chosen.items()}


def weight_decay_of(group: ParameterGroup | None, parameter: Parameter, weight_decay: float) -> float:
    """Of a parameter of the group; `weight_decay` is the optimizer's."""
    if group is not None and group.weight_decay is not None:
        return group.weight_decay
    return weight_decay if len(parameter.shape) > 1 else 0.0
