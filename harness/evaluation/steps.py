"""The steps of an evaluation that need models: each turns its inputs into records, and imports torch only when it runs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from statistics import pstdev
from typing import Any

from ..components import Artifact, Backend, Compute, GenerateOptions, Generation
from ..errors import StageError
from ..judges import Judge, JudgeContext, Pair, ScoringJudge
from ..records import Judgement, Likelihood, Order, PairScore, Preference, Prompt, Sample, Score
from .keep import Records
from .suites import LoadedSuite

ROUNDING = 0.01
"""What batches of another composition may do to a score, as a share of the standard deviation of all scores: bf16 has
eight bits."""


def prompt_seed(seed: int, prompt_id: str) -> int:
    """The seed of one prompt's answer. It is the same for every model, so that their answers share their luck."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{prompt_id}".encode()).digest()[:4], "big") >> 1


def sample_answers(
    model: Artifact, suite: LoadedSuite, backend: Backend, options: GenerateOptions, seed: int, compute: Compute
) -> list[Sample]:
    """One model's answers to a suite, with their log-probabilities and the exact KL from its reference."""
    prompts = [row.messages() for row in suite.rows]
    seeds = [prompt_seed(seed, row.id) for row in suite.rows]
    answers = backend.generate(model, prompts, options, seeds, compute)
    return _samples(model.name, model, model.reference, suite, answers, seeds, options, compute)


def best_of_n(
    name: str,
    model: Artifact,
    reward: Artifact,
    max_length: int,
    n: int,
    suite: LoadedSuite,
    backend: Backend,
    options: GenerateOptions,
    seed: int,
    compute: Compute,
) -> list[Sample]:
    """Of n answers of a model to each prompt the one that a reward model scores highest; of equal ones the first.

    The first of the n is the answer that the model gives without a choice. One that is too long to be scored is never the best.
    """
    from ..engine.models import load_reward_model
    from ..engine.score import score_answers

    prompts = [row.messages() for row in suite.rows for _ in range(n)]
    seeds = [prompt_seed(seed, f"{row.id}\0{draw}" if draw else row.id) for row in suite.rows for draw in range(n)]
    answers = backend.generate(model, prompts, options, seeds, compute)
    chooser, tokenizer = load_reward_model(reward.path, compute)
    scores = score_answers(chooser, tokenizer, prompts, [each.text for each in answers], max_length, compute)
    ranks = [-math.inf if score is None else score for score in scores]
    best = [max(range(start, start + n), key=ranks.__getitem__) for start in range(0, len(prompts), n)]
    kept, kept_seeds = [answers[place] for place in best], [seeds[place] for place in best]
    samples = _samples(name, model, None, suite, kept, kept_seeds, options, compute)
    return [each.model_copy(update={"best_of": n}) for each in samples]


def _samples(
    name: str,
    model: Artifact,
    reference: Artifact | None,
    suite: LoadedSuite,
    answers: Sequence[Generation],
    seeds: Sequence[int],
    options: GenerateOptions,
    compute: Compute,
) -> list[Sample]:
    """Answers with what their tokens cost under the model that wrote them and, where there is one, under a reference."""
    from ..engine.chat import context_length, fit_prompts
    from ..engine.likelihood import TokenSequence, answer_divergence, token_logprobs
    from ..engine.models import load_policy

    prompts = [row.messages() for row in suite.rows]
    policy, tokenizer = load_policy(model.path, compute)
    fitted = fit_prompts(tokenizer, prompts, options.max_new_tokens, context_length(policy))
    sequences = [TokenSequence(prompt, answer.token_ids) for prompt, answer in zip(fitted, answers, strict=True)]
    pad_id = tokenizer.pad_token_id
    costs: list[dict[str, Any]]
    if reference is not None:
        other, _ = load_policy(reference.path, compute)
        costs = [
            {"logprob": each.logprob, "ref_logprob": each.ref_logprob, "kl": each.kl, "kl_k3": each.k3}
            for each in answer_divergence(policy, other, sequences, compute, pad_id=pad_id)
        ]
    else:
        costs = [{"logprob": float(each.sum())} for each in token_logprobs(policy, sequences, compute, pad_id=pad_id)]
    return [
        Sample(
            prompt_id=row.id,
            suite=suite.name,
            model=name,
            prompt=prompt,
            answer=answer.text,
            finish=answer.finish,
            tokens=len(answer.token_ids),
            seed=each_seed,
            **cost,
        )
        for row, prompt, answer, each_seed, cost in zip(suite.rows, prompts, answers, seeds, costs, strict=True)
    ]


def score_samples(
    name: str,
    judge: ScoringJudge,
    config: Any,
    models: dict[str, Artifact],
    samples: Sequence[Sample],
    context: JudgeContext,
) -> Records[Score]:
    """A scoring judge's number for each sample."""
    prompts, answers = [each.prompt for each in samples], [each.answer for each in samples]
    ratings = judge.ratings(prompts, answers, config, models, context)
    scores = [
        Score(
            prompt_id=sample.prompt_id,
            suite=sample.suite,
            judge=name,
            model=sample.model,
            score=rating.score,
            reason=None if rating.score is not None else rating.reason or "the judge gave no score",
            parts=dict(rating.parts) if rating.parts else None,
            cost=rating.cost,
            usage=rating.usage,
        )
        for sample, rating in zip(samples, ratings, strict=True)
    ]
    return Records(scores, all(each.final for each in ratings))


def judgements_from_scores(
    candidate: Sequence[Score], baseline: Sequence[Score], lengths: dict[str, Any], temperature: float | None = None
) -> list[Judgement]:
    """The higher score wins, equal ones tie, and a pair without both scores is unscored with the reason.

    With a temperature T above 0 the preference is sigmoid((candidate - baseline) / T) instead.
    """
    others = {each.prompt_id: each for each in baseline}
    return [
        _judgement(mine, others[mine.prompt_id], lengths, temperature) for mine in candidate if mine.prompt_id in others
    ]


def share_scores(
    candidate: Sequence[Score], baseline: Sequence[Score], answers: Sequence[Sample], others: Sequence[Sample]
) -> list[Score]:
    """The candidate's scores, the baseline's where both gave the same answer: rounding must not make one of them better."""
    texts = {each.prompt_id: each.answer for each in others}
    same = {each.prompt_id for each in answers if texts.get(each.prompt_id) == each.answer}
    known = {each.prompt_id: each.score for each in baseline}
    return [
        each.model_copy(update={"score": known[each.prompt_id]}) if each.prompt_id in same else each for each in candidate
    ]


def _judgement(mine: Score, other: Score, lengths: dict[str, Any], temperature: float | None) -> Judgement:
    preference = None
    if mine.score is not None and other.score is not None:
        gap = mine.score - other.score
        preference = 0.5 * (1 + math.tanh(gap / temperature / 2)) if temperature else 1.0 * (gap > 0) + 0.5 * (gap == 0)
    return Judgement(
        prompt_id=mine.prompt_id,
        suite=mine.suite,
        judge=mine.judge,
        candidate=mine.model,
        baseline=other.model,
        preference=preference,
        reason=(mine.reason or other.reason) if preference is None else None,
        candidate_length=lengths[mine.model][mine.prompt_id],
        baseline_length=lengths[other.model][mine.prompt_id],
    )


def judge_samples(
    name: str,
    judge: Judge,
    config: Any,
    models: dict[str, Artifact],
    candidate: Sequence[Sample],
    baseline: Sequence[Sample],
    context: JudgeContext,
) -> Records[Judgement]:
    """A judge's preference for each prompt that both models answered. Raises StageError if it does not judge every pair."""
    others = {each.prompt_id: each for each in baseline}
    pairs = [(mine, others[mine.prompt_id]) for mine in candidate if mine.prompt_id in others]
    asked = [Pair(mine.prompt, mine.answer, other.answer) for mine, other in pairs]
    verdicts = judge.compare(asked, config, models, context)
    if len(verdicts) != len(pairs):
        raise StageError(
            f"judge {name!r} gave {len(verdicts)} verdicts for {len(pairs)} pairs; this is an error of its plugin"
        )
    judgements = [
        Judgement(
            prompt_id=mine.prompt_id,
            suite=mine.suite,
            judge=name,
            candidate=mine.model,
            baseline=other.model,
            preference=verdict.preference,
            orders=tuple(Order(**order) for order in verdict.orders),
            reason=verdict.reason if verdict.preference is None else None,
            candidate_length=len(mine.answer),
            baseline_length=len(other.answer),
            cost=verdict.cost,
            usage=verdict.usage,
        )
        for (mine, other), verdict in zip(pairs, verdicts, strict=True)
    ]
    return Records(judgements, all(each.final for each in verdicts))


def judge_pairs(
    name: str,
    judge: Judge,
    config: Any,
    models: dict[str, Artifact],
    candidate: Sequence[Sample],
    baseline: Sequence[Sample],
    context: JudgeContext,
    temperature: float | None = None,
) -> Records[Judgement]:
    """Judgements of pairs of answers that were not scored before, by any judge: one that scores, scores all of them at once.

    Scores that differ by no more than rounding may make them, which is little beside how much they vary, are equal.
    """
    if not isinstance(judge, ScoringJudge):
        return judge_samples(name, judge, config, models, candidate, baseline, context)
    scores = score_samples(name, judge, config, models, [*candidate, *baseline], context)
    known = [each.score for each in scores if each.score is not None]
    noise = ROUNDING * pstdev(known) if known else 0.0
    for place, (mine, other) in enumerate(zip(scores, scores[len(candidate) :], strict=False)):
        if mine.score is not None and other.score is not None and abs(mine.score - other.score) <= noise:
            scores[place] = mine.model_copy(update={"score": other.score})
    lengths: dict[str, dict[str, int]] = {}
    for each in (*candidate, *baseline):
        lengths.setdefault(each.model, {})[each.prompt_id] = len(each.answer)
    pair = scores[: len(candidate)], scores[len(candidate) :]
    return Records(judgements_from_scores(*pair, lengths, temperature), scores.final)


def chosen_likelihoods(model: Artifact, suite: LoadedSuite, compute: Compute) -> list[Likelihood]:
    """What a model makes of the chosen answer to each prompt of a suite; answers too long for its context are left out."""
    from ..engine.chat import context_length, tokenize_preferences
    from ..engine.likelihood import TokenSequence, token_logprobs
    from ..engine.models import load_policy

    rows = suite.answered()
    policy, tokenizer = load_policy(model.path, compute)
    pairs, _ = tokenize_preferences(rows, tokenizer, context_length(policy))
    sequences = [TokenSequence(pair.prompt_ids, pair.chosen_ids) for pair in pairs]
    logprobs = token_logprobs(policy, sequences, compute, pad_id=tokenizer.pad_token_id)
    return [
        Likelihood(
            prompt_id=rows[pair.row].id,
            suite=suite.name,
            model=model.name,
            tokens=len(pair.chosen_ids),
            logprob=float(each.double().sum()),
        )
        for pair, each in zip(pairs, logprobs, strict=True)
    ]


def score_pairs(
    model: Artifact, suite: str, preferences: Sequence[Preference], max_length: int, compute: Compute
) -> list[PairScore]:
    """A reward model's scores for both answers of every preference; those too long for it are left out."""
    from ..engine.chat import context_length, tokenize_preferences
    from ..engine.models import load_reward_model
    from ..engine.pairs import choose_layout, pair_scores, read_all

    reward_model, tokenizer = load_reward_model(model.path, compute)
    max_length = min(max_length, context_length(reward_model))
    pairs, _ = tokenize_preferences(preferences, tokenizer, max_length)
    pad_id = tokenizer.pad_token_id
    layout = choose_layout(reward_model, pair_scores, pad_id, compute, max_length)
    scores = read_all(pair_scores, reward_model, pairs, layout, pad_id, compute)
    return [
        PairScore(
            prompt_id=row.id,
            root=row.root,
            suite=suite,
            model=model.name,
            prompt=row.prompt,
            chosen=row.chosen,
            rejected=row.rejected,
            chosen_score=chosen,
            rejected_score=rejected,
            probability=row.probability,
        )
        for row, (chosen, rejected) in zip((preferences[pair.row] for pair in pairs), scores.tolist(), strict=True)
    ]


def chosen_scores(
    name: str,
    reference: str,
    judge: ScoringJudge,
    config: Any,
    models: dict[str, Artifact],
    preferences: Sequence[Preference],
    context: JudgeContext,
) -> list[Score]:
    """A scoring judge's scores of the answers that people chose, ascending: the scale of `helpfulness`."""
    prompts: list[Prompt] = [row.prompt for row in preferences]
    ratings = judge.ratings(prompts, [row.chosen for row in preferences], config, models, context)
    made = [
        Score(prompt_id=row.id, suite=reference, judge=name, model="chosen", score=rating.score)
        for row, rating in zip(preferences, ratings, strict=True)
        if rating.score is not None
    ]
    return sorted(made, key=lambda each: (each.score, each.prompt_id))
