"""Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290), and the losses that came after it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

import harness

if TYPE_CHECKING:
    import torch

LOSS_TYPES = ("sigmoid", "robust", "ipo", "hinge", "simpo", "orpo")
"""What the engine has; `engine: trl` takes whatever TRL has."""

SMOOTHED = {"harness": {"sigmoid", "robust", "simpo"}, "trl": {"robust", "exo_pair", "aot", "aot_unpaired"}}
"""The loss types that read `label_smoothing`, by engine."""

REFERENCE_FILE = "logprobs.npy"


class DPO(harness.Aligner):
    """-log sigmoid(beta · (log-ratio of chosen - log-ratio of rejected)), against the frozen `init`.

    A larger beta keeps the policy closer to the reference. Several `loss_type`s are added up with their `loss_weights`; `simpo`
    and `orpo` need no reference.
    """

    name = "dpo"
    takes = {"init": "model", "data": "preferences"}  # noqa: RUF012
    gives = "model"

    class Config(harness.TrainingConfig):
        """Options of the loss."""

        learning_rate: float = Field(default=1e-6, gt=0)
        beta: float = Field(default=0.1, gt=0)
        loss_type: str | list[str] = Field(default="sigmoid", description=f"one or several of {', '.join(LOSS_TYPES)}")
        loss_weights: list[float] | None = Field(default=None, description="one for each loss_type; 1, where left out")
        label_smoothing: float = Field(default=0.0, ge=0, lt=0.5, description="share of labels taken to be flipped")
        simpo_gamma: float = Field(default=0.5, ge=0, description="simpo's target margin")
        checkpoints: int = Field(default=0, ge=0, description="policies along the way to evaluate, the last one included")
        engine: Literal["harness", "trl"] = Field(default="harness", description="trl trains with TRL's DPOTrainer")

        @property
        def loss_types(self) -> list[str]:
            """`loss_type` as a list."""
            return [self.loss_type] if isinstance(self.loss_type, str) else self.loss_type

        @model_validator(mode="after")
        def _losses(self) -> DPO.Config:
            types = self.loss_types
            unknown = [kind for kind in types if kind not in LOSS_TYPES]
            if unknown and self.engine == "harness":
                raise ValueError(
                    f"loss_type: there is no {unknown[0]!r} here, but {', '.join(LOSS_TYPES)}; engine: trl has others"
                )
            if not types:
                raise ValueError("loss_type: name one, or several")
            if self.loss_weights is not None and len(self.loss_weights) != len(types):
                raise ValueError("loss_weights: one weight for each loss_type")
            if self.engine == "trl" and self.checkpoints:
                raise ValueError("checkpoints: engine: trl keeps none; leave one of the two out")
            if self.engine == "trl" and {"simpo", "orpo"} & set(types):
                raise ValueError("loss_type: TRL's DPOTrainer has neither simpo nor orpo; leave `engine` out")
            smoothed = SMOOTHED[self.engine]
            if self.label_smoothing and not {*types} <= smoothed:
                raise ValueError(f"label_smoothing: only {', '.join(sorted(smoothed))} read it")
            if "simpo_gamma" in self.model_fields_set and "simpo" not in types:
                raise ValueError("simpo_gamma: only simpo reads it; leave it out")
            return self

    def run(self, config: Config, inputs: Mapping[str, Any], context: harness.StageContext) -> None:
        """Train on the pairs. Raises DataError if too many are over-long."""
        import torch

        from harness.engine.chat import tokenize_preferences
        from harness.engine.models import load_policy, save_model, seed_everything, use_threads

        from .rows import tell_counts, tell_layout, usable_length

        use_threads(context.compute)
        seed_everything(context.seed)
        model, tokenizer = load_policy(inputs["init"].path, context.compute, disable_dropout=True)
        data: harness.Dataset = inputs["data"]
        max_length = usable_length(config, context, model)
        pairs, counts = tokenize_preferences(data.rows, tokenizer, max_length)  # type: ignore[arg-type]
        tell_counts(len(pairs), counts, data, context)
        if config.engine == "trl":
            from .trl_training import train_dpo

            reference, _ = load_policy(inputs["init"].path, context.compute)
            train_dpo(model, reference, tokenizer, pairs, config, context)
            save_model(model, tokenizer, context.output)
            return
        from harness.engine.learning import PairPreference
        from harness.engine.pairs import choose_layout, pair_logprobs
        from harness.engine.preference_losses import REFERENCE_FREE, LossOptions, PairLogprobs, preference_loss
        from harness.engine.training import RowOrder, rows_to_take, train
        from harness.engine.trajectory import Trajectory

        pad_id, compute = tokenizer.pad_token_id, context.compute
        layout = choose_layout(model, pair_logprobs, pad_id, compute, max_length)
        tell_layout(layout, context)
        types, weights = config.loss_types, config.loss_weights or [1.0] * len(config.loss_types)
        options = LossOptions(config.beta, config.label_smoothing, config.simpo_gamma)

        def loss(logprobs: PairLogprobs) -> torch.Tensor:
            return preference_loss(logprobs, types, weights, options)

        reference = None
        if not set(types) <= REFERENCE_FREE:
            rows = sorted(set(RowOrder(len(pairs), context.seed).rows(0, rows_to_take(config, len(pairs)))))
            key = {"model": inputs["init"].key, "tokens": _digest(pairs[row] for row in rows), "rows": rows}
            reference = torch.full((len(pairs), 2), torch.nan)
            reference[rows] = _reference_logprobs(model, [pairs[row] for row in rows], layout, pad_id, key, context)
        objective = PairPreference(model, pairs, layout, pad_id, compute, loss, config.beta, reference)
        trajectory = Trajectory(model, tokenizer, config.checkpoints, context)
        train(model, objective, config, context, trajectory.keep)
        save_model(model, tokenizer, context.output)
        trajectory.collect()


def _digest(pairs: Iterable[Any]) -> str:
    """What tells pairs apart by their tokens; of the same data a chat template that tells the day makes others tomorrow."""
    found = hashlib.sha256()
    for pair in pairs:
        found.update(repr((pair.prompt_ids, pair.chosen_ids, pair.rejected_ids)).encode())
    return found.hexdigest()


def _reference_logprobs(
    model: Any, pairs: Sequence[Any], layout: Any, pad_id: int, key: Mapping[str, Any], context: harness.StageContext
) -> torch.Tensor:
    """What `model`, not trained yet, says of `pairs`, (n, 2): computed once, and kept in the store for every other beta."""
    import numpy as np
    import torch

    from harness.engine.pairs import pair_logprobs, read_all

    def build(folder: Path) -> None:
        logprobs = read_all(pair_logprobs, model, pairs, layout, pad_id, context.compute)
        np.save(folder / REFERENCE_FILE, logprobs.numpy())

    folder = context.keep("reference log-probabilities", key, build)
    return torch.from_numpy(np.load(folder / REFERENCE_FILE))
