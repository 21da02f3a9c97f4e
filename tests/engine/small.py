"""What the tests of training share: tiny models of three architectures, random rows of token ids, and a stage's context."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

import harness
from harness.components import Compute
from harness.engine.chat import TokenizedConversation, TokenizedPair

VOCABULARY, PAD = 97, 0
COMPUTE = Compute("cpu", "fp32", 1)
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


def llama(**options: Any) -> Any:
    return _fresh(LlamaForCausalLM, LlamaConfig(**SIZES, vocab_size=VOCABULARY, pad_token_id=PAD, **options))


def reward_llama(**options: Any) -> Any:
    config = LlamaConfig(**SIZES, vocab_size=VOCABULARY, pad_token_id=PAD, num_labels=1, **options)
    return _fresh(LlamaForSequenceClassification, config)


def gpt2(**options: Any) -> Any:
    """Linear layers that are Conv1D, an output layer that is the embedding, and dropout of 10 %."""
    return _fresh(GPT2LMHeadModel, GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=VOCABULARY, **options))


def gpt_neox(**options: Any) -> Any:
    """One layer for queries, keys and values, and an output layer of another name."""
    return _fresh(GPTNeoXForCausalLM, GPTNeoXConfig(**SIZES, vocab_size=VOCABULARY, **options))


def _fresh(kind: Any, config: Any) -> Any:
    """Weights as trained models have them, of order one: fresh ones give the same probability to every token."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = kind(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(6)
    return model


def conversations(count: int) -> list[TokenizedConversation]:
    draw = random.Random(7)
    return [TokenizedConversation(_ids(draw, 2, 9), _ids(draw, 1, 12)) for _ in range(count)]


def pairs(count: int) -> list[TokenizedPair]:
    draw = random.Random(8)
    return [TokenizedPair(_ids(draw, 2, 9), _ids(draw, 1, 12), _ids(draw, 1, 12), margin=row / 8) for row in range(count)]


def _ids(draw: random.Random, low: int, high: int) -> list[int]:
    return [draw.randrange(1, VOCABULARY) for _ in range(draw.randint(low, high))]


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same_bits(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Recorder(harness.StageContext):
    """Keeps what a stage says, and forgets what it is told to."""

    name, seed, compute = "stage", 11, COMPUTE

    def __init__(self, folder: Path) -> None:
        self.output, self.checkpoints = folder / "output", folder / "checkpoints"
        for path in (self.output, self.checkpoints):
            path.mkdir(parents=True, exist_ok=True)
        self.logged: dict[int, dict[str, float]] = {}
        self.notes: list[str] = []
        self.rewound: list[int] = []

    def log(self, step: int, values: Mapping[str, float], total: int | None = None) -> None:
        self.logged[step] = self.logged.get(step, {}) | dict(values)

    def rewind(self, step: int) -> None:
        self.rewound.append(step)
        self.logged = {at: values for at, values in self.logged.items() if at <= step}

    def note(self, text: str) -> None:
        self.notes.append(text)


class Line:
    """The objective of a model (3 → 1) with squared error: small enough for arithmetic by hand. Remembers what it was asked."""

    def __init__(self, model: torch.nn.Linear, count: int) -> None:
        draw = torch.Generator().manual_seed(3)
        self.model = model
        self.inputs, self.targets = torch.randn(count, 3, generator=draw), torch.randn(count, generator=draw)
        self.lengths = [3] * count
        self.asked: list[int] = []

    def weight(self, rows: Sequence[int]) -> float:
        return len(rows)

    def losses(self, rows: Sequence[int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        self.asked += rows
        losses = (self.model(self.inputs[list(rows)]).squeeze(-1) - self.targets[list(rows)]).square()
        return losses, {"loss": losses}

    def summary(self, measured: Mapping[str, torch.Tensor]) -> dict[str, float]:
        return {name: float(values.mean()) for name, values in measured.items()}


def line(count: int = 8) -> tuple[torch.nn.Linear, Line]:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = torch.nn.Linear(3, 1)
    return model, Line(model, count)
