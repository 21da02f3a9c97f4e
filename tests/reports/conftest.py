"""A run folder that looks like a real one, with hostile text wherever a model, a data set or a plugin could put it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.records import (
    Estimate,
    HealthVerdict,
    Judgement,
    Message,
    Observation,
    PairScore,
    Sample,
    Score,
    write_json,
    write_records,
    write_text,
)
from harness.rundir import RunFolder

EVIL = '<script>alert(1)</script><img src="http://evil.example/x.png" onerror="alert(2)"></pre></svg><b onclick=x>$\\frac$'
Estimator = Callable[..., Estimate]


def estimate(model: str, metric: str, value: float, low: float, high: float, **fields: Any) -> Estimate:
    """An estimate with a number of prompts, a level and a unit to go with it."""
    given: dict[str, Any] = {
        "suite": "heldout",
        "unit": "share of prompts",
        "standard_error": (high - low) / 3.92,
        "level": 0.95,
        "n": 200,
        "clusters": 200,
        "method": "bca",
        "seed": 17,
    }
    return Estimate(model=model, metric=metric, value=value, low=low, high=high, **(given | fields))


def win_rate(model: str, value: float, low: float, high: float, judge: str = "truth", **fields: Any) -> Estimate:
    """A win rate against sft; the exact test agrees with the interval unless it is given."""
    p_value = 0.5 if low <= 0.5 <= high else 0.001
    return estimate(model, "win-rate", value, low, high, judge=judge, **({"baseline": "sft", "p_value": p_value} | fields))


def warning(stage: str, rule: str, **fields: Any) -> HealthVerdict:
    """A health verdict."""
    given: dict[str, Any] = {
        "level": "warning",
        "step": 20,
        "value": 12.5,
        "threshold": "kl is 10 nats per answer at most",
        "text": "its KL is 12.5 nats per answer",
        "advice": "Raise kl_coef.",
    }
    return HealthVerdict(stage=stage, rule=rule, **(given | fields))


STAGES: dict[str, dict[str, Any]] = {
    "sft": {"aligner": "sft", "gives": "model", "slots": {"init": "base", "data": "hh.train"}},
    "reward": {
        "aligner": "reward",
        "gives": "reward-model",
        "slots": {"init": "sft", "data": "hh.train", "valid": "hh.valid"},
    },
    "referee": {
        "aligner": "reward",
        "gives": "reward-model",
        "slots": {"init": "sft", "data": "hh.judge", "valid": "hh.valid"},
    },
    "dpo": {"aligner": "dpo", "gives": "model", "slots": {"init": "sft", "data": "hh.train"}},
    "ppo": {"aligner": "ppo", "gives": "model", "slots": {"init": "sft", "reward": "reward", "data": "hh.train"}},
}


def lock() -> dict[str, Any]:
    """plan.lock.json of a comparison of DPO and PPO with SFT."""
    return {
        "plan": {
            "name": "phase2",
            "seed": 17,
            "base": "example/base",
            "stages": {name: {"aligner": stage["aligner"], **stage["slots"]} for name, stage in STAGES.items()},
            "evaluate": {
                "baseline": "sft",
                "candidates": ["dpo", "ppo"],
                "suites": {"heldout": {"data": "hh.test"}},
                "judges": {"truth": {}, "referee": {}, "reward": {}},
                "metrics": ["win-rate", "kl"],
            },
            "report": {"title": "SFT, DPO and PPO " + EVIL},
        },
        "stages": {
            name: stage | {"options": {"learning_rate": 1e-5}, "set": ["learning_rate", "beta"]}
            for name, stage in STAGES.items()
        },
        "judges": {
            "truth": {"judge": "toy-truth", "models": {}},
            "referee": {"judge": "reward-model", "models": {"model": "referee"}},
            "reward": {"judge": "reward-model", "models": {"model": "reward"}},
        },
        "data": {"hh.train": {"rows": 980, "roots": 900, "dropped": {"no answer " + EVIL: 20}}},
        "versions": {"torch": "2.13.0", "alignment-harness": "0.1.0"},
    }


def run_json(**fields: Any) -> dict[str, Any]:
    """run.json of a finished run."""
    return {
        "name": "phase2",
        "status": "done",
        "started": "2026-01-02T03:04:05.678",
        "seconds": 421.5,
        "host": {
            "platform": "Linux",
            "python": "3.11.7",
            "cpu": "Some CPU " + EVIL,
            "cores": 8,
            "memory_bytes": 34359738368,
        },
        "device": "cpu",
        "precision": "fp32",
        "stages": {
            name: {
                "status": "done",
                "seconds": 60.0,
                "peak_memory_bytes": 2**30,
                "parameters": 1_300_000,
                "tokens": 600_000,
            }
            for name in STAGES
        },
        "evaluation": {
            "samples/dpo/heldout": {"status": "done", "seconds": 12.5},
            "samples/ppo/heldout": {"status": "reused", "seconds": 10.5},
        },
        "warnings": ["judge `reward` lies upstream of ppo " + EVIL],
        "gates": [
            {
                "text": "dpo win-rate: low >= 0.5 " + EVIL,
                "status": "pass",
                "estimate": win_rate("dpo", 0.68, 0.61, 0.74).model_dump(),
            },
            {"text": "dpo length: value <= 9", "status": "missing", "estimate": None},
        ],
    } | fields


def estimates() -> list[Estimate]:
    """DPO clearly ahead of SFT, PPO too, the two alike; the referee better than chance and length, the reward model not."""
    return [
        win_rate("dpo", 0.68, 0.61, 0.74),
        win_rate("dpo", 0.66, 0.59, 0.72, judge="referee"),
        win_rate("ppo", 0.64, 0.57, 0.70),
        win_rate("ppo", 0.93, 0.89, 0.96, judge="reward"),
        estimate("dpo", "win-rate-difference", 0.04, -0.03, 0.11, judge="truth", baseline="ppo", p_value=0.3),
        estimate("dpo", "kl", 3.2, 2.9, 3.6, unit="nats per answer"),
        estimate("ppo", "kl", 9.8, 8.9, 10.7, unit="nats per answer"),
        estimate("ppo", "empty", 0.005, 0.001, 0.02),
        estimate("ppo", "repetition", 0.3, 0.25, 0.36),
        estimate("dpo", "a-metric-nobody-knows", 12.0, 11.0, 13.0, unit="furlongs " + EVIL),
        estimate("dpo", "length", 31.0, 12.0, 50.0, unit="characters per answer", baseline="sft"),
        estimate("referee", "accuracy", 0.72, 0.68, 0.76, suite="hh.valid", unit="share of pairs"),
        estimate(
            "referee", "accuracy-vs-longer", 0.12, 0.06, 0.18, suite="hh.valid", baseline="longer", unit="share of pairs"
        ),
        estimate("referee", "spearman", 0.8, 0.7, 0.86, judge="truth", unit="rank correlation"),
        estimate("reward", "accuracy", 0.66, 0.62, 0.70, suite="hh.valid", unit="share of pairs"),
        estimate("reward", "accuracy-ceiling", 0.78, 0.77, 0.79, suite="hh.valid", unit="share of pairs"),
    ]


def events() -> list[dict[str, Any]]:
    """Logged scalars: falling losses and a rising reward; health verdicts on PPO, and what was checked."""
    logged: list[dict[str, Any]] = []
    for stage in STAGES:
        for step in range(30):
            values = {"loss": 2 * math.exp(-step / 15) + 0.05 * math.sin(step), "grad_norm": 1 + 0.2 * math.sin(3 * step)}
            if stage == "ppo":
                values |= {
                    "reward": step / 10 + math.sin(step) / 5,
                    "kl": step / 4,
                    "learning_rate": 1e-6,
                    "odd $x_1$ " + EVIL: 1.0,
                }
            if step % 10 == 0:
                values["valid_loss"] = 2 * math.exp(-step / 20)
            logged.append(
                {"time": "2026-01-02T03:04:05", "event": "scalars", "stage": stage, "step": step, "values": values}
            )
    verdicts = [
        warning("ppo", "kl"),
        warning("ppo", "hacking", step=None, value=-0.5, text="its score rose while `truth` sees a loss " + EVIL),
        warning("dpo", "both-rewards-fall", level="note", text="both rewards fell", advice="This is normal."),
    ]
    told = [{"time": "2026-01-02T03:04:05", "event": "health", **verdict.model_dump()} for verdict in verdicts]
    checked = {"stage": "ppo", "judged": ["hacking", "kl", "entropy", "skips"], "unjudged": ["fluency", "negative-kl"]}
    return [*logged, *told, {"time": "2026-01-02T03:04:05", "event": "health_checked", **checked}]


def records(folder: Path, prompts: int = 30) -> None:
    """Answers, scores, judgements, scored pairs and observations, with hostile text in all of them."""
    ids = [f"p{number}" for number in range(prompts)]
    question = (Message(role="user", content="What is a report? " + EVIL),)
    for model in ("sft", "dpo", "ppo"):
        write_records(
            folder / "samples" / model / "heldout.jsonl",
            [
                Sample(
                    prompt_id=each,
                    suite="heldout",
                    model=model,
                    prompt=question,
                    answer="" if number == 3 else f"Answer {number} of {model}. {EVIL}",
                    finish="length" if number == 4 else "stop",
                    tokens=12,
                    logprob=-20.0,
                    seed=number,
                )
                for number, each in enumerate(ids)
            ],
        )
        write_records(
            folder / "scores" / "truth" / model / "heldout.jsonl",
            [Score(prompt_id=each, suite="heldout", judge="truth", model=model, score=n / 7) for n, each in enumerate(ids)],
        )
    for model in ("dpo", "ppo"):
        write_records(
            folder / "judgements" / "truth" / f"{model}--sft" / "heldout.jsonl",
            [
                Judgement(
                    prompt_id=each,
                    suite="heldout",
                    judge="truth",
                    candidate=model,
                    baseline="sft",
                    preference=1.0 if number % 3 else 0.0,
                    candidate_length=10,
                    baseline_length=9,
                )
                for number, each in enumerate(ids)
            ],
        )
    write_records(
        folder / "pairs" / "referee" / "hh.valid.jsonl",
        [
            PairScore(
                prompt_id=each,
                root=each,
                suite="hh.valid",
                model="referee",
                prompt=question,
                chosen="Good " + EVIL,
                rejected="Bad " + EVIL,
                chosen_score=number / 5,
                rejected_score=1.5 if number % 4 else 3 * number / 5,
                probability=0.8,
            )
            for number, each in enumerate(ids, 1)
        ],
    )
    write_records(
        folder / "observations.jsonl",
        [Observation(prompt_id="p5", root="p5", suite="heldout", model="ppo", metric="repetition", value=0.9)],
    )


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunFolder]:
    """Write a run folder; what is not given is that of a finished run."""

    def make(found: Sequence[Estimate] | None = None, **fields: Any) -> RunFolder:
        folder = tmp_path / "runs" / "phase2" / "1"
        write_json(folder / "run.json", run_json(**fields))
        write_json(folder / "plan.lock.json", lock())
        write_text(folder / "plan.yaml", "name: phase2  # " + EVIL + "\n")
        write_text(folder / "events.jsonl", "".join(json.dumps(each) + "\n" for each in events()))
        chosen = estimates() if found is None else found
        write_json(folder / "metrics.json", {"estimates": [each.model_dump() for each in chosen]})
        records(folder)
        return RunFolder(folder)

    return make
