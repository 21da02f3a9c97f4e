"""What a training loop minimises for each kind of data: answers, pairs of answers under a policy, pairs under a reward model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from .chat import TokenizedConversation, TokenizedPair
from .likelihood import TokenSequence, chosen_logprobs, collate, measure_answers
from .models import autocast
from .pairs import PairLayout, pair_logprobs, pair_scores
from .preference_losses import PairLogprobs, bradley_terry_loss

if TYPE_CHECKING:
    from ..components import Compute
    from .training import Measured


class AnswerLikelihood:
    """Negative log-likelihood of answers, in nats, a mean over the answer tokens of a step."""

    def __init__(self, model: Any, rows: Sequence[TokenizedConversation], pad_id: int, compute: Compute) -> None:
        self.model, self.pad_id, self.compute = model, pad_id, compute
        self.sequences = [TokenSequence(row.prompt_ids, row.answer_ids) for row in rows]
        self.lengths = [len(row.prompt_ids) + len(row.answer_ids) for row in rows]

    def weight(self, rows: Sequence[int]) -> float:
        """The number of answer tokens."""
        return sum(len(self.sequences[row].answer_ids) for row in rows)

    def losses(self, rows: Sequence[int]) -> tuple[torch.Tensor, Measured]:
        """One loss per answer, summed over its tokens."""
        batch = collate([self.sequences[row] for row in rows], self.pad_id, self.compute.device)
        with autocast(self.compute):
            logprobs, correct = measure_answers(self.model, batch, _logprob_and_match).unbind(-1)
        sizes = batch.answer_mask.sum(-1)

        def by_answer(values: torch.Tensor) -> torch.Tensor:
            return torch.stack([part.sum() for part in values.split(sizes.tolist())])

        losses = by_answer(-logprobs)
        return losses, {"loss": losses.detach(), "correct": by_answer(correct.detach()), "answer_tokens": sizes}

    def summary(self, measured: Measured) -> dict[str, float]:
        """Loss and accuracy per answer token."""
        count = float(measured["answer_tokens"].sum())
        return {
            "loss": float(measured["loss"].sum()) / count,
            "mean_token_accuracy": float(measured["correct"].sum()) / count,
        }


def _logprob_and_match(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """(N, 2): the log-probabilities of `ids`, and whether they are the likeliest tokens."""
    logprobs = chosen_logprobs(logits, ids)
    return torch.stack([logprobs, (logits.argmax(-1) == ids).to(logprobs)], dim=-1)


class PairPreference:
    """A loss of the log-probabilities that a policy gives to chosen and rejected answers, a mean over pairs.

    `loss` maps them to (B,). `reference` (n, 2) holds the reference's log-probabilities of all pairs, chosen first. The implicit
    reward of an answer is β (log π − log π_ref) (Rafailov et al., 2023, eq. 5), without a reference β times the mean
    log-probability of its tokens (Meng et al., 2024, eq. 4).
    """

    def __init__(
        self,
        model: Any,
        pairs: Sequence[TokenizedPair],
        layout: PairLayout,
        pad_id: int,
        compute: Compute,
        loss: Callable[[PairLogprobs], torch.Tensor],
        beta: float,
        reference: torch.Tensor | None = None,
    ) -> None:
        self.model, self.pairs, self.layout, self.pad_id, self.compute = model, pairs, layout, pad_id, compute
        self.loss, self.beta, self.reference = loss, beta, reference
        self.lengths = layout.lengths(pairs)

    def weight(self, rows: Sequence[int]) -> float:
        """The number of pairs."""
        return len(rows)

    def losses(self, rows: Sequence[int]) -> tuple[torch.Tensor, Measured]:
        """One loss per pair, and what TRL logs of it under the same names."""
        pairs, device = [self.pairs[row] for row in rows], self.compute.device
        chosen, rejected = pair_logprobs(self.model, pairs, self.layout, self.pad_id, self.compute)
        reference = None if self.reference is None else self.reference[list(rows)].to(device)
        logprobs = PairLogprobs(
            chosen,
            rejected,
            torch.tensor([len(pair.chosen_ids) for pair in pairs], device=device),
            torch.tensor([len(pair.rejected_ids) for pair in pairs], device=device),
            *([None, None] if reference is None else reference.unbind(-1)),
        )
        losses = self.loss(logprobs)
        with torch.no_grad():
            good, bad = (self.beta * each for each in (logprobs.averages() if reference is None else logprobs.log_ratios()))
        return losses, {
            "loss": losses,
            "rewards/chosen": good,
            "rewards/rejected": bad,
            "rewards/margins": good - bad,
            "rewards/accuracies": (good > bad).float(),
            "logps/chosen": chosen,
            "logps/rejected": rejected,
        }

    def summary(self, measured: Measured) -> dict[str, float]:
        """Means over pairs."""
        return {name: float(values.mean()) for name, values in measured.items()}


class PairReward:
    """Bradley-Terry loss of a reward model's scores, a mean over pairs; see `bradley_terry_loss`.

    With `use_margin` every pair has a margin that its scores should differ by.
    """

    def __init__(
        self,
        model: Any,
        pairs: Sequence[TokenizedPair],
        layout: PairLayout,
        pad_id: int,
        compute: Compute,
        centering: float = 0.0,
        use_margin: bool = False,
    ) -> None:
        self.model, self.pairs, self.layout, self.pad_id, self.compute = model, pairs, layout, pad_id, compute
        self.centering, self.use_margin = centering, use_margin
        self.lengths = layout.lengths(pairs)

    def weight(self, rows: Sequence[int]) -> float:
        """The number of pairs."""
        return len(rows)

    def losses(self, rows: Sequence[int]) -> tuple[torch.Tensor, Measured]:
        """One loss per pair."""
        pairs = [self.pairs[row] for row in rows]
        chosen, rejected = pair_scores(self.model, pairs, self.layout, self.pad_id, self.compute)
        margin = torch.tensor([pair.margin or 0.0 for pair in pairs], device=chosen.device) if self.use_margin else 0.0
        losses = bradley_terry_loss(chosen, rejected, margin, self.centering)
        shorter = [(len(pair.chosen_ids), len(pair.rejected_ids)) for pair in pairs]
        return losses, {
            "loss": losses,
            "chosen": chosen,
            "rejected": rejected,
            "shorter_wins": torch.tensor([0.5 if a == b else float(a < b) for a, b in shorter]),
        }

    def summary(self, measured: Measured) -> dict[str, float]:
        """Loss, accuracy, margins and scores; and how often the chosen answer was the shorter one, ties half."""
        chosen, rejected = measured["chosen"], measured["rejected"]
        margins, scores = chosen - rejected, torch.cat([chosen, rejected])
        return {
            "loss": float(measured["loss"].mean()),
            "accuracy": float((margins > 0).float().mean()),
            "margin": float(margins.mean()),
            "margin_std": float(margins.std(correction=0)),
            "mean_reward": float(scores.mean()),
            "min_reward": float(scores.min()),
            "max_reward": float(scores.max()),
            "shorter_wins": float(measured["shorter_wins"].mean()),
        }
