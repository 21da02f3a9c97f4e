"""Optimizers and schedules, by the names of transformers' TrainingArguments."""

from __future__ import annotations

import inspect
import math
import re
from typing import TYPE_CHECKING, Any

import torch
from transformers import get_scheduler

from ..errors import StageError
from ..options import EngineArguments
from .models import first_line

if TYPE_CHECKING:
    from ..components import TrainingConfig


def make_optimizer(
    model: Any, config: TrainingConfig, *, learning_rate: float | None = None, adam_epsilon: float = 1e-8
) -> torch.optim.Optimizer:
    """The optimizer of a stage over the parameters of `model` that learn; AdamW, unless `args` has another `optim`.

    Biases and the weights of normalisations do not decay. `learning_rate` and `adam_epsilon` stand in for what the options
    do not say. Raises StageError for an optimizer whose package is missing, or that the options do not fit.
    """
    rate = config.learning_rate if learning_rate is None else learning_rate
    groups = _parameter_groups(model, config.weight_decay)
    said = EngineArguments.model_validate({"adam_epsilon": adam_epsilon, **config.args})
    if "optim" not in config.args and "optim_args" not in config.args:
        betas = (said.adam_beta1, said.adam_beta2)
        return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=said.adam_epsilon, fused=True)

    from transformers import Trainer, TrainingArguments

    try:
        arguments = TrainingArguments(
            output_dir="unused",
            report_to="none",
            learning_rate=rate,
            weight_decay=config.weight_decay,
            use_cpu=next(model.parameters()).device.type == "cpu",
            **said.model_dump(include={"optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon"}),
        )
        kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
        return kind(groups, **options)
    except Exception as error:  # other packages' optimizers raise what they like
        raise StageError(f"optimizer {said.optim!r}: {first_line(error)}; look at `args`") from error


def make_scheduler(optimizer: torch.optim.Optimizer, config: TrainingConfig, steps: int) -> Any:
    """The learning rate's schedule over `steps` steps. `warmup_steps` below 1 is a share of them. Raises StageError."""
    warmup = config.warmup_steps
    try:
        return get_scheduler(
            config.lr_scheduler_type,
            optimizer,
            math.ceil(warmup * steps) if warmup < 1 else int(warmup),
            max(steps, 1),
            scheduler_specific_kwargs=config.args.get("lr_scheduler_kwargs"),
        )
    except (TypeError, ValueError) as error:
        raise StageError(f"lr_scheduler_type {config.lr_scheduler_type!r}: {first_line(error)}") from error


def advance(scheduler: Any, loss: float) -> None:
    """Take a schedule one step on. `loss`, that of the step, is for the few kinds that go by it."""
    if "metrics" in inspect.signature(scheduler.step).parameters:
        scheduler.step(loss)
    else:
        scheduler.step()


def _parameter_groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay, vectors, biases and norms do not; a group that is empty is left out."""
    learned = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for name, parameter in learned if _decays(name, parameter)], "weight_decay": weight_decay},
        {"params": [parameter for name, parameter in learned if not _decays(name, parameter)], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _decays(name: str, parameter: torch.Tensor) -> bool:
    """Not only by shape: the biases of experts are matrices, one row each, and so are norms with a row for each head."""
    return parameter.ndim > 1 and not re.search(r"bias|norm\.", name.lower())
