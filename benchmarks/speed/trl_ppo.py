"""One run of TRL 1.12's PPOTrainer, by an interpreter that has it: python trl_ppo.py SETTINGS.json

Imports nothing of this package: the peer's environment does not have it. See `harness_benchmarks.speed.ppo`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any


def main(path: Path) -> None:
    """Train as the settings say; write when each step ended, peak memory and versions to the path that they name."""
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    options = settings["options"]
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    ended: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Notes when a step has ended, and keeps the policy at the steps that are asked for."""

        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            ended.append(time.perf_counter())
            if len(ended) in settings["keep"]:
                folder = Path(settings["output"]) / f"step-{len(ended)}"
                trainer.policy_model.save_pretrained(folder)
                tokenizer.save_pretrained(folder)

    tokenizer = AutoTokenizer.from_pretrained(settings["init"], padding_side="left")
    policy, reference = (AutoModelForCausalLM.from_pretrained(settings["init"], dtype=torch.float32) for _ in range(2))
    reward, value = (
        AutoModelForSequenceClassification.from_pretrained(settings["reward"], dtype=torch.float32) for _ in range(2)
    )
    prompts = json.loads(Path(settings["prompts"]).read_text(encoding="utf-8"))
    data = Dataset.from_list([{"input_ids": ids} for ids in prompts])
    configuration = PPOConfig(
        output_dir=settings["output"],
        seed=settings["seed"],
        total_episodes=options["rollout_batch_size"] * options["max_steps"],
        per_device_train_batch_size=options["per_device_train_batch_size"],
        gradient_accumulation_steps=options["rollout_batch_size"] // options["per_device_train_batch_size"],
        local_rollout_forward_batch_size=64,
        num_mini_batches=options["num_mini_batches"],
        num_ppo_epochs=options["num_ppo_epochs"],
        learning_rate=options["learning_rate"],
        lr_scheduler_type=options["lr_scheduler_type"],
        adam_epsilon=1e-5,
        weight_decay=0.0,
        response_length=options["response_length"],
        temperature=options["temperature"],
        stop_token="eos",
        missing_eos_penalty=options["missing_eos_penalty"],
        kl_coef=options["kl_coef"],
        cliprange=options["cliprange"],
        cliprange_value=options["cliprange_value"],
        vf_coef=options["vf_coef"],
        gamma=options["gamma"],
        lam=options["lam"],
        whiten_rewards=False,
        num_sample_generations=0,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        eval_strategy="no",
        logging_steps=10**6,
        disable_tqdm=True,
    )
    trainer = PPOTrainer(
        configuration,
        tokenizer,
        policy,
        reference,
        reward,
        data,
        value,
        eval_dataset=data.select(range(1)),
        callbacks=[Clock()],
    )
    started = time.perf_counter()
    trainer.train()
    result = {
        "ended": [each - started for each in ended],
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": {name: importlib.metadata.version(name) for name in ("trl", "torch", "transformers")},
        "configuration": {
            name: value
            for name, value in sorted(configuration.to_dict().items())
            if isinstance(value, bool | int | float | str)
        },
    }
    Path(settings["result"]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1"}
    main(Path(sys.argv[1]))
