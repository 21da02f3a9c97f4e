"""Low-rank adapters (Hu et al., 2022, arXiv 2106.09685) inside a model that stays what it is, and their way out again.

Adapters are put into the model's own layers, without a wrapper around it: whatever reads a model here reads one with
adapters, too. Saved models have them merged in, so that `from_pretrained` opens them like any other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..errors import StageError

if TYPE_CHECKING:
    from ..components import LoraOptions


def add_lora(model: Any, options: LoraOptions, seed: int) -> None:
    """Put fresh adapters into `model`, in place, and freeze everything else but a score head.

    Each adapted layer computes W x + (alpha / r) B A x, A drawn from `seed` and B zero, so that nothing changes at first. The
    output layer is never adapted; a score head (of a reward model or critic) is trained in full. Raises StageError for
    `target_modules` that the model does not have.
    """
    from peft import LoraConfig, inject_adapter_in_model

    head = model.get_output_embeddings()
    kept_out = [name for name, module in model.named_modules() if module is head or name == "score"]
    layers = {name: module for name, module in model.named_modules() if _is_linear(module) and name not in kept_out}
    _check_targets(options, sorted({name.rpartition(".")[2] for name in layers}))
    config = LoraConfig(
        r=options.r,
        lora_alpha=options.alpha,
        target_modules=options.target_modules,
        exclude_modules=kept_out or None,
        fan_in_fan_out=any(type(layer).__name__ == "Conv1D" for layer in layers.values()),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)
    if isinstance(getattr(model, "score", None), torch.nn.Module):
        model.score.requires_grad_(True)


@contextlib.contextmanager
def adapters_off(model: Any) -> Iterator[None]:
    """The model as it was before its adapters: the reference of a policy that trains them."""
    layers = _adapted(model)
    for _, layer in layers:
        layer.enable_adapters(enabled=False)
    try:
        yield
    finally:
        for _, layer in layers:
            layer.enable_adapters(enabled=True)


def merge_lora(model: Any) -> None:
    """Add every adapter to its layer's weights, in place, and remove it. A model without adapters stays as it is."""
    for name, layer in _adapted(model):
        layer.merge()
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, layer.get_base_layer())
    model.requires_grad_(True)


def trainable_parameters(model: Any) -> list[torch.nn.Parameter]:
    """The parameters that learn: all, or with adapters these and a score head."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def trainable_state(model: Any) -> dict[str, torch.Tensor]:
    """The part of the state dict that training changes, for a checkpoint; buffers count as unchanging."""
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


def load_trainable_state(model: Any, state: dict[str, torch.Tensor]) -> None:
    """Put `trainable_state` of the same model back. Raises KeyError for a parameter that is missing."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(state[name])


def _check_targets(options: LoraOptions, known: Sequence[str]) -> None:
    """peft takes a name that no layer has in silence, as long as another name fits."""
    targets = options.target_modules
    if missing := [
        each for each in ([targets] if isinstance(targets, str) else targets) if each not in {*known, "all-linear"}
    ]:
        raise StageError(f"lora: target_modules: this model has no layer {missing[0]!r}; it has {', '.join(known)}")


def _adapted(model: Any) -> list[tuple[str, Any]]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]


def _is_linear(module: Any) -> bool:
    return isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
