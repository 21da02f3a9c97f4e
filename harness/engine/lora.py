"""Low-rank adapters (Hu et al., 2022, arXiv 2106.09685) inside a model that stays what it is, and their way out again.

Adapters are put into the model's own layers, without a wrapper around it: whatever reads a model here reads one with
adapters, too. Saved models have them merged in, so that `from_pretrained` opens them like any other.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..errors import StageError
from .models import first_line

if TYPE_CHECKING:
    from ..components import LoraOptions

ALL_LINEAR = "all-linear"


def add_lora(model: Any, options: LoraOptions, seed: int) -> None:
    """Put fresh adapters into `model`, in place, and freeze everything else but a score head.

    Each adapted layer computes W x + (alpha / r) B A x, A drawn from `seed` and B zero, so that nothing changes at first. Only
    linear layers are adapted: experts and routers that are bare tensors, as those of most mixtures are, stay frozen. So does
    the output layer; a score head (of a reward model or critic) is trained in full. Raises StageError for `target_modules`
    that the model does not have, or that peft refuses.
    """
    from peft import LoraConfig, inject_adapter_in_model

    head = model.get_output_embeddings()
    layers = {
        name: module
        for name, module in model.named_modules()
        if _is_linear(module) and module is not head and name != "score"
    }
    chosen = _chosen(options, list(layers))
    config = LoraConfig(
        r=options.r,
        lora_alpha=options.alpha,
        target_modules=[],
        fan_in_fan_out=any(type(layers[name]).__name__ == "Conv1D" for name in chosen),
    )
    # As the keys of a state dict names mean these layers and no others. As `target_modules` peft takes `gate_proj` of many
    # mixtures for their experts, even where other blocks have a layer of that name, and its adapters for experts are nested.
    keys = dict.fromkeys(f"{name}.lora_A.weight" for name in chosen)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of names that are no `target_modules`
        torch.manual_seed(seed)
        try:
            inject_adapter_in_model(config, model, state_dict=keys)
        except ValueError as error:
            raise StageError(f"lora: {first_line(error)}") from error
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


def _chosen(options: LoraOptions, layers: Sequence[str]) -> list[str]:
    """The layers, by their whole names, that `target_modules` means."""
    targets = [options.target_modules] if isinstance(options.target_modules, str) else options.target_modules
    known = sorted({_last(name) for name in layers})
    if not known:
        raise StageError("lora: this model has no linear layer to adapt")
    if missing := [each for each in targets if each not in {*known, ALL_LINEAR}]:
        raise StageError(f"lora: target_modules: this model has no layer {missing[0]!r}; it has {', '.join(known)}")
    return [name for name in layers if ALL_LINEAR in targets or _last(name) in targets]


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _adapted(model: Any) -> list[tuple[str, Any]]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]


def _is_linear(module: Any) -> bool:
    return isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
