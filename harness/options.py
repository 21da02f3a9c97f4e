"""Options as a plan gives them: what every component shares, and what training and sampling add."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from .errors import hint

Schedule = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "reduce_lr_on_plateau",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
    "greedy",
]
"""transformers' SchedulerType."""

SCHEDULE_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "linear": (),
    "cosine": ("num_cycles",),
    "cosine_with_restarts": ("num_cycles",),
    "polynomial": ("lr_end", "power"),
    "constant": (),
    "constant_with_warmup": (),
    "inverse_sqrt": ("timescale",),
    "reduce_lr_on_plateau": ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr", "eps"),
    "cosine_with_min_lr": ("num_cycles", "min_lr", "min_lr_rate"),
    "cosine_warmup_with_min_lr": ("num_cycles", "min_lr", "min_lr_rate", "warmup_lr_rate"),
    "warmup_stable_decay": (
        "num_decay_steps",
        "num_stable_steps",
        "warmup_type",
        "decay_type",
        "min_lr_ratio",
        "num_cycles",
    ),
    "greedy": (
        "mode",
        "factor",
        "patience",
        "threshold",
        "threshold_mode",
        "cooldown",
        "warmup",
        "min_lr",
        "max_lr",
        "eps",
        "verbose",
        "smooth",
        "window_size",
        "reset_start",
    ),
}
"""What `lr_scheduler_kwargs` may hold for each schedule."""

NEEDED_SCHEDULE_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "cosine_with_min_lr": ("min_lr", "min_lr_rate"),
    "cosine_warmup_with_min_lr": ("min_lr", "min_lr_rate"),
    "warmup_stable_decay": ("num_decay_steps",),
}
"""Of which a schedule needs one, and takes no second."""

WITHOUT_WARMUP = ("constant", "reduce_lr_on_plateau", "greedy")
"""Schedules that transformers makes without a warm-up, whatever `warmup_steps` says."""

Optimizer = Literal[
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_torch_xla",
    "adamw_torch_npu_fused",
    "adafactor",
    "adamw_anyprecision",
    "adamw_torch_4bit",
    "adamw_torch_8bit",
    "ademamix",
    "sgd",
    "adagrad",
    "adamw_bnb_8bit",
    "adamw_8bit",
    "ademamix_8bit",
    "lion_8bit",
    "lion_32bit",
    "paged_adamw_32bit",
    "paged_adamw_8bit",
    "paged_ademamix_32bit",
    "paged_ademamix_8bit",
    "paged_lion_32bit",
    "paged_lion_8bit",
    "rmsprop",
    "rmsprop_bnb",
    "rmsprop_bnb_8bit",
    "rmsprop_bnb_32bit",
    "grokadamw",
    "stable_adamw",
]
"""transformers' OptimizerNames, but for those of UNDRIVEN_OPTIMIZERS."""

UNDRIVEN_OPTIMIZERS = ("adalomo", "apollo", "galore", "lomo", "schedule_free")
"""How the names of optimizers begin that project chosen layers, step within the backward pass, or have modes of their own."""


class Options(BaseModel):
    """Options of a component as a plan gives them; unknown keys, NaN, infinity, and true for a number are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where numbers are meant, which pydantic takes for 1 and 0."""
        values = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
        wrong = [each for each in values if isinstance(each, bool)]
        kinds = set(_kinds(cls.model_fields[str(info.field_name)].annotation)) if wrong else set()
        if {int, float} & kinds and bool not in kinds:
            raise ValueError(f"expected a number, not {wrong[0]}")
        return value


def _kinds(annotation: Any) -> Iterator[type]:
    """The types that an annotation names, such as `float | None`, `list[int]` or an annotated one."""
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for each in get_args(annotation):
        yield from _kinds(each)


class TinyBase(Options):
    """A fresh Llama-architecture model with a tokenizer trained on the plan's data."""

    type: Literal["tiny"]
    hidden_size: int = Field(default=128, ge=8)
    num_hidden_layers: int = Field(default=3, ge=1)
    num_attention_heads: int = Field(default=4, ge=1)
    intermediate_size: int = Field(default=384, ge=8)
    vocab_size: int = Field(default=1024, ge=300)
    max_position_embeddings: int = Field(default=512, ge=32)

    @model_validator(mode="after")
    def _heads(self) -> TinyBase:
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError("hidden_size must be a multiple of twice num_attention_heads")
        return self


class AlignerConfig(Options):
    """Options that every aligner understands, by the names of transformers' TrainingArguments.

    `args` passes any other field of TrainingArguments through.
    """

    learning_rate: float = Field(default=1e-5, gt=0, description="the highest of the schedule")
    num_train_epochs: float = Field(default=1.0, gt=0, description="passes over the data")
    max_steps: int = Field(default=-1, ge=-1, description="optimiser steps, where above 0; overrides num_train_epochs")
    per_device_train_batch_size: int = Field(default=8, ge=1, description="rows at a time")
    gradient_accumulation_steps: int = Field(default=1, ge=1, description="batches per optimiser step")
    warmup_steps: float = Field(default=0.0, ge=0, description="a number of steps, or below 1 a share of them")
    lr_scheduler_type: Schedule = Field(default="linear", description="`args.lr_scheduler_kwargs` has its options")
    weight_decay: float = Field(default=0.0, ge=0, description="of AdamW")
    max_grad_norm: float = Field(default=1.0, gt=0, description="gradients are clipped to this norm")
    max_length: int = Field(
        default=1024,
        ge=8,
        description="tokens of prompt and answer; the prompt's oldest turns are cut first, the answer never",
    )
    logging_steps: int = Field(default=10, ge=1, description="log scalars every so many steps")
    save_steps: int = Field(default=100, ge=1, description="write a checkpoint every so many steps")
    args: dict[str, Any] = Field(default_factory=dict, description="any other field of transformers' TrainingArguments")


class LoraOptions(Options):
    """Low-rank adapters instead of all weights (Hu et al., 2022).

    Linear layers are adapted. The experts and the router of a mixture are bare tensors in most models, no layers: they stay
    as they are, whatever `target_modules` says.
    """

    r: int = Field(default=16, ge=1, description="rank")
    alpha: float = Field(default=32, gt=0, description="an adapter's output is scaled by alpha / r")
    target_modules: str | list[str] = Field(
        default="all-linear",
        min_length=1,
        description="last names of the layers to adapt, such as q_proj; all-linear is all linear layers but the output layer",
    )


class CheckpointingArguments(Options, strict=True):
    """`activation_checkpointing_kwargs`: two of transformers' own, and what a plan can tell `torch.utils.checkpoint`."""

    every_n_layers: int = Field(default=1, ge=1)
    offload: bool = False
    use_reentrant: bool = False
    preserve_rng_state: bool = True
    determinism_check: Literal["default", "none"] = "default"


class EngineArguments(Options, strict=True):
    """The fields of TrainingArguments that `harness.engine` reads from `args`."""

    optim: Optimizer = "adamw_torch_fused"
    optim_args: str | None = None
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    adam_epsilon: float = Field(default=1e-8, ge=0)
    lr_scheduler_kwargs: dict[str, Any] | None = None
    activation_checkpointing: bool = False
    activation_checkpointing_kwargs: CheckpointingArguments | None = None
    torch_compile: bool = False
    torch_compile_backend: str | None = None
    torch_compile_mode: str | None = None

    @model_validator(mode="after")
    def _used(self) -> EngineArguments:
        if self.activation_checkpointing_kwargs is not None and not self.activation_checkpointing:
            raise ValueError("activation_checkpointing_kwargs: nothing reads it without activation_checkpointing: true")
        return self


ENGINE_ARGUMENTS = tuple(EngineArguments.model_fields)
"""The names of EngineArguments."""


class TrainingConfig(AlignerConfig):
    """Options of an aligner that trains with `harness.engine`: it can train adapters, and reads ENGINE_ARGUMENTS."""

    lora: LoraOptions | None = Field(default=None, description="train low-rank adapters; {} for the defaults")

    @model_validator(mode="after")
    def _schedule(self) -> TrainingConfig:
        schedule, given = self.lr_scheduler_type, self.args.get("lr_scheduler_kwargs") or {}
        if not isinstance(given, dict):
            return self
        if self.warmup_steps and schedule in WITHOUT_WARMUP:
            instead = "take constant_with_warmup" if schedule == "constant" else "take another schedule"
            raise ValueError(f"warmup_steps: {schedule} has no warm-up; leave it out, or {instead}")
        known, needed = SCHEDULE_OPTIONS[schedule], NEEDED_SCHEDULE_OPTIONS.get(schedule, ())
        if unknown := [name for name in given if name not in known]:
            said = hint(unknown[0], known) if known else "; it has none"
            raise ValueError(f"args: lr_scheduler_kwargs: {schedule} has no {unknown[0]!r}{said}")
        if needed and len([name for name in needed if given.get(name) is not None]) != 1:
            what = f"either {' or '.join(needed)}" if len(needed) > 1 else needed[0]
            raise ValueError(f"lr_scheduler_type: {schedule} needs {what} in args.lr_scheduler_kwargs")
        return self

    @model_validator(mode="after")
    def _arguments(self) -> TrainingConfig:
        if getattr(self, "engine", "harness") != "harness":
            return self
        trl = "; engine: trl reads it" if "engine" in type(self).model_fields else ""
        if unread := sorted(set(self.args) - set(ENGINE_ARGUMENTS)):
            name = unread[0].replace("gradient_", "activation_")
            meant = f"; write {name}" if name != unread[0] and name in ENGINE_ARGUMENTS else ""
            raise ValueError(
                f"args: {unread[0]} is not read here{meant}{trl}; of TrainingArguments {', '.join(ENGINE_ARGUMENTS)} are"
            )
        if str(optim := self.args.get("optim")).startswith(UNDRIVEN_OPTIMIZERS):
            raise ValueError(f"args: optim: {optim} is not driven here{trl}; take another, such as adafactor")
        try:
            EngineArguments.model_validate(self.args)
        except ValidationError as error:
            raise ValueError(f"args: {'; '.join(map(_problem, error.errors()))}") from None
        return self


def no_such_value(error: Any) -> str:
    """What pydantic's error says of a value that is none of those that an option can have."""
    known = re.findall("'([^']*)'", error["ctx"]["expected"])
    return f"there is no {error['input']!r}{hint(error['input'], known)}"


def _problem(error: Any) -> str:
    """One of pydantic's errors as `name: text`."""
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{where}: is not read here; {', '.join(CheckpointingArguments.model_fields)} are"
    if error["type"] == "literal_error":
        return f"{where}: {no_such_value(error)}"
    text, value = str(error["msg"]).removeprefix("Value error, "), repr(error["input"])
    if not where:
        return text
    return f"{where}: {text[0].lower()}{text[1:]}" + ("" if text.endswith(f"not {value}") else f", not {value}")


class GenerateOptions(Options):
    """How answers are sampled. Temperature 0 is greedy decoding."""

    max_new_tokens: int = Field(default=128, ge=1, description="the longest answer")
    temperature: float = Field(default=1.0, ge=0, description="0 takes the likeliest token")
    top_p: float = Field(default=1.0, gt=0, le=1, description="nucleus sampling; 1 is none")
    backend: str = Field(default="transformers", description="what turns prompts into answers")
