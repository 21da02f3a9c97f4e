"""Opening, saving and running models: fp32 weights, safetensors only, bf16 by autocast where it is asked for."""

from __future__ import annotations

import contextlib
import ctypes
import random
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
)
from transformers.utils import logging

from ..errors import UsageError

if TYPE_CHECKING:
    from ..components import Compute

Model = Any
Tokenizer = Any

UNREADABLE = (OSError, ValueError, ImportError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)
"""What transformers, tokenizers and safetensors raise for a model folder that is damaged or of another kind."""


def load_policy(path: Path | str, compute: Compute, *, disable_dropout: bool = False) -> tuple[Model, Tokenizer]:
    """A causal language model and its tokenizer, in fp32 and eval mode on `compute.device`. Raises UsageError."""
    return _load(AutoModelForCausalLM, path, compute, disable_dropout)


def load_reward_model(path: Path | str, compute: Compute, *, disable_dropout: bool = False) -> tuple[Model, Tokenizer]:
    """A sequence classifier with one output and its tokenizer, in fp32 and eval mode. Raises UsageError.

    The critic of PPO opens the same folder: `token_values` reads its head at every position.
    """
    model, tokenizer = _load(AutoModelForSequenceClassification, path, compute, disable_dropout)
    if model.config.num_labels != 1:
        raise UsageError(f"{path}: a reward model has one output, this one has {model.config.num_labels}")
    return model, tokenizer


def reward_model_from(
    policy: Path | str, compute: Compute, seed: int, *, disable_dropout: bool = False
) -> tuple[Model, Tokenizer]:
    """A reward model on the backbone of a causal language model, with a fresh scalar head drawn from `seed`.

    The head's deviation is 1/√(hidden size + 1), so that first scores are of order one (Stiennon et al., 2020). Raises
    UsageError.
    """
    model, tokenizer = _load(
        AutoModelForSequenceClassification,
        policy,
        compute,
        disable_dropout,
        new=["score.weight"],
        num_labels=1,
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    weight = score_head(model).weight
    generator = torch.Generator().manual_seed(seed)
    fresh = torch.randn(weight.shape, generator=generator) / (weight.shape[1] + 1) ** 0.5
    with torch.no_grad():
        weight.copy_(fresh)
    return model, tokenizer


def load_tokenizer(path: Path | str, *, trust_remote_code: bool = False) -> Tokenizer:
    """The tokenizer of a model folder."""
    return AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)


def save_model(model: Model, tokenizer: Tokenizer, folder: Path) -> None:
    """Write weights (safetensors), configuration and tokenizer with its chat template into `folder`."""
    with quiet():
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)


def token_values(model: Model, input_ids: torch.Tensor) -> torch.Tensor:
    """The scalar head at every position: (B, T) ids → (B, T) fp32 values.

    Rows are padded on the right, where causal attention hides the padding: no mask is needed, and an answer may well contain
    the pad token.
    """
    return scalars(model, model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state)


def scalars(model: Model, hidden: torch.Tensor) -> torch.Tensor:
    """The scalar head on hidden states: (..., H) → (...) fp32, computed in the precision of its weights under autocast, too.

    In bf16 a score of 4 comes in steps of 1/32, and margins are differences of such.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        head = score_head(model)
        return cast("torch.Tensor", head(hidden.to(head.weight.dtype)).squeeze(-1).float())


def score_head(model: Model) -> torch.nn.Linear:
    """The linear layer from hidden states to the scalar. Raises UsageError for an architecture without one."""
    head = getattr(model, "score", None)
    if not isinstance(head, torch.nn.Linear):
        raise UsageError(f"{type(model).__name__} scores no single position; use a decoder such as Llama, Qwen or Mistral")
    return head


def autocast(compute: Compute) -> contextlib.AbstractContextManager[Any]:
    """bf16 autocast where `compute.precision` asks for it. Weights, losses and log-probabilities stay fp32."""
    if compute.precision == "bf16":
        return cast(
            "contextlib.AbstractContextManager[Any]",
            torch.autocast(torch.device(compute.device).type, dtype=torch.bfloat16),
        )
    return contextlib.nullcontext()


@contextlib.contextmanager
def autocast_cache() -> Iterator[None]:
    """Let every `autocast` in this block share one bf16 copy of each trained weight; weights must not change in it."""
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()


def keep_freed_memory() -> None:
    """Let the C library keep what is freed for the next step: giving it back, and faulting it in again, took a fifth of one.

    It gives back large blocks at once otherwise. Does nothing where there is no glibc.
    """
    mmap_threshold, trim_threshold = -3, -1
    with contextlib.suppress(OSError, AttributeError):
        for option in (mmap_threshold, trim_threshold):
            ctypes.CDLL("libc.so.6").mallopt(option, 2**31 - 1)


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch, for code that draws from them."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def use_threads(compute: Compute) -> None:
    """Let torch use `compute.threads` threads. Sums in another order differ in their last bits, so a run fixes it."""
    torch.set_num_threads(compute.threads)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars, loading reports and notes on its own deprecations; what is wrong is raised."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def brings_code(error: Exception) -> bool:
    """Whether what failed is a model whose own code was not let run."""
    return "trust_remote_code=True" in str(error)


def first_line(error: Exception) -> str:
    """An error's text in one line, for a message to the user."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _load(
    kind: Any,
    path: Path | str,
    compute: Compute,
    disable_dropout: bool,
    new: Collection[str] = (),
    **overrides: Any,
) -> tuple[Model, Tokenizer]:
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder}: not a model folder, there is no config.json")
    if not any(folder.glob("*.safetensors")):
        raise UsageError(f"{folder}: no safetensors weights; pickled weights can run code and are refused, convert them")
    try:
        with quiet():
            trust = {"trust_remote_code": compute.trust_remote_code}
            config = AutoConfig.from_pretrained(folder, **trust, **overrides)
            if disable_dropout:
                _zero_dropout(config)
            model = with_all_weights(kind, folder, new, config=config, use_safetensors=True, **trust)
            tokenizer = tokenizer_of(folder, **trust)
    except UNREADABLE as error:
        code = "it brings code of its own; read it, and trust_remote_code lets it run"
        reason = code if brings_code(error) else first_line(error)
        raise UsageError(f"{folder}: cannot be opened: {reason}") from error
    return model.to(compute.device).eval(), tokenizer


def tokenizer_of(source: Path | str, **options: Any) -> Tokenizer:
    """A model's tokenizer. Raises ValueError for one that is damaged or missing; and OSError and ImportError as transformers does."""
    try:
        return AutoTokenizer.from_pretrained(source, **options)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"its tokenizer files are missing or damaged ({first_line(error)})") from error


def with_all_weights(kind: Any, source: Path | str, new: Collection[str] = (), **options: Any) -> Model:
    """`from_pretrained` in fp32 of a model that has all its weights, but those named `new`.

    Raises ValueError where weights are missing, which transformers would draw at random, or have other shapes than the
    configuration says; and whatever `from_pretrained` raises.
    """
    model, found = kind.from_pretrained(
        source, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True, **options
    )
    if missing := sorted(set(found["missing_keys"]) - set(new)):
        raise ValueError(
            f"its weights lack {missing[0]}, {len(missing)} tensors in all, which would begin at random: its config.json may be "
            "another model's"
        )
    if wrong := sorted(found["mismatched_keys"]):
        name, saved, expected = wrong[0]
        raise ValueError(
            f"{name} is {tuple(saved)} in its weights and {tuple(expected)} by its config.json, which may be another model's"
        )
    return model


def _zero_dropout(config: Any) -> None:
    """Set every rate of a configuration at which units or layers are dropped to 0; architectures name them in many ways."""
    for name, value in list(vars(config).items()):
        if isinstance(value, PreTrainedConfig):
            _zero_dropout(value)
        elif isinstance(value, float) and name.endswith(("dropout", "pdrop", "dropout_prob", "dropout_rate", "layerdrop")):
            setattr(config, name, 0.0)
