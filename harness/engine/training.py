"""The loop that every aligner with a fixed data set shares: batches, micro-batches, one optimizer step, checkpoints.

Every random draw is a function of the seed and the step, so a resumed run has no generator to restore.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.nn.utils import clip_grad_norm_

from ..errors import StageError
from ..options import CheckpointingArguments, EngineArguments
from .checkpoints import load_checkpoint, save_checkpoint
from .lora import add_lora, load_trainable_state, merge_lora, trainable_parameters, trainable_state
from .micro_batches import MicroBatches
from .models import first_line, keep_freed_memory
from .optimization import advance, make_optimizer, make_scheduler

if TYPE_CHECKING:
    from ..components import StageContext, TrainingConfig

Measured = Mapping[str, torch.Tensor]


class Objective(Protocol):
    """What the loop minimises: a sum over rows divided by a weight, such as the number of pairs or of answer tokens.

    `lengths` are the tokens that each row takes in a batch.
    """

    @property
    def lengths(self) -> Sequence[int]:
        """One length per row."""

    def weight(self, rows: Sequence[int]) -> float:
        """What the sum of losses over `rows` is divided by."""

    def losses(self, rows: Sequence[int]) -> tuple[torch.Tensor, Measured]:
        """The losses of `rows`, summed by the caller, with their graph; and measures to log, one value per row, without.

        Among the measures is `loss`.
        """

    def summary(self, measured: Measured) -> dict[str, float]:
        """The scalars to log, from the measures of all rows since the last time."""


def train(
    model: Any,
    objective: Objective,
    config: TrainingConfig,
    context: StageContext,
    after_step: Callable[[int, int], None] = lambda _step, _steps: None,
) -> int:
    """Minimise `objective` over all weights of `model`, or over adapters where `config.lora` asks for them, in place.

    A step takes `per_device_train_batch_size` × `gradient_accumulation_steps` rows, in an order drawn anew for each pass
    over the data. It is computed in micro-batches of similar length, of at most `per_device_train_batch_size` rows; neither loss
    nor gradient depends on how it is cut, since sums are divided by the weight of the whole step. Goes on from the last
    good checkpoint; adapters are merged at the end. `after_step` is told each step and the number of steps. Returns that
    number. Raises StageError for a loss that is not finite.
    """
    keep_freed_memory()
    if config.lora is not None:
        add_lora(model, config.lora, context.seed)
    apply_arguments(model, config.args)
    parameters = trainable_parameters(model)
    batches = MicroBatches.of(model, config.per_device_train_batch_size, context.compute)
    total, size = rows_to_take(config, len(objective.lengths)), _step_size(config)
    steps = math.ceil(total / size)
    optimizer = make_optimizer(model, config)
    scheduler = make_scheduler(optimizer, config, steps)
    order = RowOrder(len(objective.lengths), context.seed)
    done, tokens, window = _resume(model, optimizer, scheduler, context)
    model.train()
    for step in range(done + 1, steps + 1):
        rows = order.rows((step - 1) * size, min(step * size, total))
        weight = objective.weight(rows)
        measured = _accumulate(objective, rows, weight, batches, optimizer, derived_seed(context.seed, "step", step))
        for name, values in measured.items():
            window.setdefault(name, []).append(values)
        tokens += sum(objective.lengths[row] for row in rows)
        norm = float(clip_grad_norm_(parameters, config.max_grad_norm))
        if not math.isfinite(norm):
            raise StageError(
                f"stage {context.name!r}: the loss or its gradient is not finite at step {step}; nothing of it was kept. Lower "
                "its learning_rate, or look at the data of that step"
            )
        rate = scheduler.get_last_lr()[0]
        optimizer.step()
        advance(scheduler, float(measured["loss"].sum()) / weight)
        optimizer.zero_grad(set_to_none=True)
        if step % config.logging_steps == 0 or step == steps:
            scalars = objective.summary({name: torch.cat(parts) for name, parts in window.items()})
            window = {}
            context.log(step, {**scalars, "grad_norm": norm, "learning_rate": rate, "num_tokens": tokens}, steps)
        after_step(step, steps)
        if step % config.save_steps == 0 and step < steps:
            state = {
                "model": trainable_state(model),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "tokens": tokens,
                "window": window,
            }
            save_checkpoint(context.checkpoints, step, state)
    merge_lora(model)
    for module in model.modules():
        # Compiled for these steps alone: `packed_weights`, which reads the model next, has products that no compiler can trace.
        module._compiled_call_impl = None
    model.eval()
    return steps


def rows_to_take(config: TrainingConfig, count: int) -> int:
    """How many rows a training takes from `count` of them: those of `max_steps` steps, or of all passes; repeats count."""
    return config.max_steps * _step_size(config) if config.max_steps > 0 else math.ceil(config.num_train_epochs * count)


def _step_size(config: TrainingConfig) -> int:
    return config.per_device_train_batch_size * config.gradient_accumulation_steps


class RowOrder:
    """A stream of row numbers: one random order of all rows after another, each a function of seed and `purpose` alone."""

    def __init__(self, count: int, seed: int, purpose: str = "order") -> None:
        self.count, self.seed, self.purpose = count, seed, purpose
        self._epoch, self._order = -1, [0]

    def rows(self, start: int, stop: int) -> list[int]:
        """The rows at places `start` to `stop` of the stream."""
        return [self._row(*divmod(place, self.count)) for place in range(start, stop)]

    def _row(self, epoch: int, offset: int) -> int:
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derived_seed(self.seed, self.purpose, epoch))
            self._epoch, self._order = epoch, torch.randperm(self.count, generator=generator).tolist()
        return self._order[offset]


def derived_seed(*parts: object) -> int:
    """A 63-bit seed that follows from its parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def _accumulate(
    objective: Objective,
    rows: Sequence[int],
    weight: float,
    batches: MicroBatches,
    optimizer: torch.optim.Optimizer,
    seed: int,
) -> Measured:
    """The gradient of one step; what was measured, in the order of the micro-batches."""
    parts: list[Measured] = []

    def clear() -> None:
        torch.manual_seed(seed)
        optimizer.zero_grad(set_to_none=True)
        parts.clear()

    def add(places: list[int]) -> None:
        losses, measured = objective.losses([rows[place] for place in places])
        (losses.sum() / weight).backward()
        parts.append(measured)

    batches.accumulate([objective.lengths[row] for row in rows], clear, add)
    return {name: torch.cat([part[name].detach().cpu() for part in parts]) for name in parts[0]}


def _resume(
    model: Any, optimizer: torch.optim.Optimizer, scheduler: Any, context: StageContext
) -> tuple[int, int, dict[str, list[torch.Tensor]]]:
    """Take up the newest good checkpoint: the steps that are done, the tokens seen, and what is measured but not logged."""
    # What is measured but not logged stays on the CPU; the rest is copied to where model and optimizer are.
    found = load_checkpoint(context.checkpoints, "cpu")
    if found is None:
        return 0, 0, {}
    step, state = found
    load_trainable_state(model, state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    context.note(f"goes on from its checkpoint at step {step}")
    context.rewind(step)
    return step, state["tokens"], state["window"]


def apply_arguments(model: Any, args: Mapping[str, Any]) -> None:
    """What `args` says of the model: trade computing for memory (in training mode, that is), or compile it.

    A backend or mode of the compiler alone asks for it, too, as with transformers. Raises StageError for what model or
    compiler refuse.
    """
    said = EngineArguments.model_validate(args)
    if said.activation_checkpointing:
        kwargs = (said.activation_checkpointing_kwargs or CheckpointingArguments()).model_dump()
        every_n_layers = kwargs.pop("every_n_layers")
        # From the CPU there is nothing to offload, and no memory to pin.
        offload = kwargs.pop("offload") and model.device.type != "cpu"
        try:
            model.activation_checkpointing_enable(kwargs, every_n_layers=every_n_layers, offload=offload)
        except ValueError as error:
            raise StageError(f"activation_checkpointing: {first_line(error)}; take it out of `args`") from error
    compiler = {"backend": said.torch_compile_backend, "mode": said.torch_compile_mode}
    options = {name: value for name, value in compiler.items() if value is not None}
    if said.torch_compile or options:
        try:
            model.base_model.compile(dynamic=True, **options)
        except RuntimeError as error:
            raise StageError(f"torch_compile: {first_line(error)}; look at `args`") from error
