"""SFT, reward model and DPO on TRL's own trainers, for comparison and for what `harness.engine` does not cover.

Rows are tokenized and fitted as for the engine; TRL's truncation, dropping and templates stay off. Pairs carry their `length`,
for `args: {train_sampling_strategy: group_by_length, remove_unused_columns: false}`.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from harness.engine.chat import TokenizedConversation, TokenizedPair

    from .dpo import DPO
    from .reward import RewardModel
    from .sft import SFT

REFUSALS = (ImportError, TypeError, ValueError)
"""What transformers and TRL raise for options that they, or this machine, cannot do."""

MARKER = "complete.json"
TOKENS = "tokens.json"


def train_sft(
    model: Any, tokenizer: Any, rows: Sequence[TokenizedConversation], config: SFT.Config, context: harness.StageContext
) -> None:
    """TRL's SFTTrainer: a mean over answer tokens."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    columns = [
        {"input_ids": [*each.prompt_ids, *each.answer_ids], "labels": [*[-100] * len(each.prompt_ids), *each.answer_ids]}
        for each in rows
    ]
    options = {"dataset_kwargs": {"skip_prepare_dataset": True}, "loss_type": "nll"}
    arguments = training_arguments(SFTConfig, config, context, **options)
    _add_adapters(model, config, context)
    dataset = Dataset.from_list(columns)
    train(lambda: SFTTrainer(model, args=arguments, train_dataset=dataset, processing_class=tokenizer), context)


def train_reward(
    model: Any, tokenizer: Any, pairs: Sequence[TokenizedPair], config: RewardModel.Config, context: harness.StageContext
) -> None:
    """TRL's RewardTrainer: a mean over pairs."""
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    columns = [
        {
            "chosen_ids": [*pair.prompt_ids, *pair.chosen_ids],
            "rejected_ids": [*pair.prompt_ids, *pair.rejected_ids],
            "length": len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)),
            **({"margin": pair.margin} if config.margin else {}),
        }
        for pair in pairs
    ]
    options = {"center_rewards_coefficient": config.center_rewards_coefficient}
    arguments = training_arguments(RewardConfig, config, context, **options)
    _add_adapters(model, config, context)
    dataset = Dataset.from_list(columns)
    train(lambda: RewardTrainer(model, args=arguments, train_dataset=dataset, processing_class=tokenizer), context)


def train_dpo(
    model: Any,
    reference: Any | None,
    tokenizer: Any,
    pairs: Sequence[TokenizedPair],
    config: DPO.Config,
    context: harness.StageContext,
) -> None:
    """TRL's DPOTrainer: a mean over pairs. No reference is needed where `args` has TRL compute its log-probabilities before."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class TokenizedDPOTrainer(DPOTrainer):  # type: ignore[misc]
        """Takes token ids as they are: TRL would tokenize the text again, and cut it its own way."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    columns = [
        {
            "prompt_ids": pair.prompt_ids,
            "chosen_ids": pair.chosen_ids,
            "rejected_ids": pair.rejected_ids,
            "length": len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)),
        }
        for pair in pairs
    ]
    options = {
        "beta": config.beta,
        "loss_type": config.loss_types,
        "loss_weights": config.loss_weights,
        "label_smoothing": config.label_smoothing,
    }
    arguments = training_arguments(DPOConfig, config, context, **options)
    _add_adapters(model, config, context)
    dataset, given = Dataset.from_list(columns), {"ref_model": reference, "processing_class": tokenizer}
    try:
        train(lambda: TokenizedDPOTrainer(model, args=arguments, train_dataset=dataset, **given), context)
    except ValueError as error:
        # TRL looks at the name of a loss where it computes it, and nowhere before.
        if "loss type" not in str(error):
            raise
        raise _refused(context, error) from error


def training_arguments(
    kind: type[Any], config: harness.AlignerConfig, context: harness.StageContext, **options: Any
) -> Any:
    """TRL's arguments from a stage's options; the stage's `args` have the last word.

    Truncation and dropping stay off: rows were fitted before. The filter that hides NaN losses is off, too.
    """
    compute = context.compute
    values = {
        "output_dir": str(context.checkpoints),
        "seed": context.seed,
        "learning_rate": config.learning_rate,
        "num_train_epochs": config.num_train_epochs,
        "max_steps": config.max_steps,
        "per_device_train_batch_size": config.per_device_train_batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "warmup_steps": config.warmup_steps,
        "lr_scheduler_type": config.lr_scheduler_type,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "logging_steps": config.logging_steps,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        # A checkpoint between two logged steps would lose what TRL has gathered since the first of them.
        "save_steps": math.ceil(config.save_steps / config.logging_steps) * config.logging_steps,
        "save_total_limit": 2,
        "bf16": compute.precision == "bf16",
        "use_cpu": compute.device == "cpu",
        "activation_checkpointing": False,
        "dataloader_pin_memory": compute.device == "cuda",
        "disable_tqdm": True,
        "report_to": "none",
        "max_length": None,
        **options,
        **config.args,
    }
    try:
        return kind(**values)
    except REFUSALS as error:
        raise _refused(context, error) from error


def _refused(context: harness.StageContext, error: Exception) -> harness.StageError:
    """What TRL says of an option that it does not take."""
    return harness.StageError(f"stage {context.name!r}: {str(error).partition(chr(10))[0]}; look at its options")


def train(make: Callable[[], Any], context: harness.StageContext) -> None:
    """Train the model of a trainer to the end, in place, from the last good checkpoint if there is one.

    Raises StageError for what `make`, which makes the trainer, or optimizer and schedule refuse of the stage's `args`.
    """
    from transformers import PrinterCallback

    from harness.engine.lora import merge_lora
    from harness.engine.models import quiet

    try:
        trainer = make()
        # Once for a look: training makes them anew.
        trainer.create_optimizer()
        trainer.create_scheduler(num_training_steps=1)
    except REFUSALS as error:
        raise _refused(context, error) from error
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_callback(trainer, context))
    checkpoint = last_good_checkpoint(context.checkpoints)
    if checkpoint is not None:
        step = _step(checkpoint)
        context.note(f"goes on from its checkpoint at step {step}")
        context.rewind(step)
        # TRL counts tokens, and keeps the count to itself.
        trainer._total_train_tokens = json.loads((checkpoint / TOKENS).read_text(encoding="utf-8"))
    with quiet():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    merge_lora(trainer.accelerator.unwrap_model(trainer.model))


def _add_adapters(model: Any, config: harness.TrainingConfig, context: harness.StageContext) -> None:
    if config.lora is not None:
        from harness.engine.lora import add_lora

        add_lora(model, config.lora, context.seed)


def last_good_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint whose files are all as they were when it was finished; those after it are removed.

    transformers writes a checkpoint in place, so that a kill leaves half of one behind. A list of files and sizes, written
    last, tells the two apart.
    """
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=_step, reverse=True):
        if _is_good(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def mark_good(checkpoint: Path) -> None:
    """Note that a checkpoint is finished."""
    sizes = {path.name: path.stat().st_size for path in sorted(checkpoint.iterdir()) if path.name != MARKER}
    temporary = checkpoint / f".{MARKER}"
    temporary.write_text(json.dumps(sizes), encoding="utf-8")
    temporary.rename(checkpoint / MARKER)


def _is_good(checkpoint: Path) -> bool:
    try:
        sizes = json.loads((checkpoint / MARKER).read_text(encoding="utf-8"))
        return bool(sizes) and all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _callback(trainer: Any, context: harness.StageContext) -> TrainerCallback:
    import torch
    from transformers import TrainerCallback

    order = torch.Generator()
    _give_order(trainer, order)

    class Report(TrainerCallback):  # type: ignore[misc]
        """Hands scalars to the stage's context, those of the last step too, and marks checkpoints once they are whole."""

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            order.manual_seed(args.seed + int(state.epoch))

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            control.should_log |= state.global_step >= state.max_steps
            return control

        def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
            values = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)}
            if "train_runtime" not in values:
                context.log(state.global_step, values, state.max_steps)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step >= state.max_steps:
                return  # transformers would take one more step from it
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (checkpoint / TOKENS).write_text(json.dumps(trainer._total_train_tokens), encoding="utf-8")
            mark_good(checkpoint)

    return Report()


def _give_order(trainer: Any, order: Any) -> None:
    """Let the sampler that groups rows by length draw from `order`: from the global generator a resumed run draws otherwise."""
    make = trainer._get_train_sampler

    def made(*arguments: Any) -> Any:
        sampler = make(*arguments)
        if type(sampler).__name__ == "LengthGroupedSampler":
            sampler.generator = order
        return sampler

    trainer._get_train_sampler = made
