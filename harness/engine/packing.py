"""Products of fixed fp32 weights on a CPU by oneDNN, which takes them in an order of its own; torch packs them anew in each."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from ..components import Compute

PACKED_WEIGHTS = range(2**22, 2**29)
"""How many weights of its linear layers a model is packed with: fewer gain nothing, and the copy of more takes over 2 GiB."""


@contextlib.contextmanager
def packed_weights(model: Any, compute: Compute) -> Iterator[None]:
    """Let the linear layers of `model` multiply with packed copies of their weights, which must not change in this block.

    For passes without gradients, in fp32 on an x86 CPU; elsewhere, and with a torch that cannot, it changes nothing. Products
    differ by rounding alone. Takes as much memory again as the weights, tied ones once.
    """
    layers = [
        layer
        for layer in model.modules()
        if type(layer) is torch.nn.Linear and layer.weight.dtype == torch.float32 and "forward" not in vars(layer)
    ]
    weights = {id(layer.weight): layer.weight.detach() for layer in layers}
    if not (_can_pack(compute) and sum(map(torch.numel, weights.values())) in PACKED_WEIGHTS):
        yield
        return
    packed = {key: torch.ops.mkldnn._reorder_linear_weight(weight) for key, weight in weights.items()}
    for layer in layers:
        layer.forward = partial(_product, packed[id(layer.weight)], layer.bias)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _product(packed: torch.Tensor, bias: torch.Tensor | None, states: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, packed, bias, "none", [], "")
    return product


def _can_pack(compute: Compute) -> bool:
    return (
        torch.device(compute.device).type == "cpu"
        and compute.precision == "fp32"
        and platform.machine().lower() in ("x86_64", "amd64")
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )
