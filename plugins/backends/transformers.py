"""Answers by a model in this process, sampled in batches by `harness.engine`."""

from __future__ import annotations

from collections.abc import Sequence

import harness


class Transformers(harness.Backend):
    """Opens the model with transformers; what does not fit into its context loses its oldest turns."""

    name = "transformers"

    def generate(
        self,
        model: harness.Artifact,
        prompts: Sequence[harness.Prompt],
        options: harness.GenerateOptions,
        seeds: Sequence[int],
        compute: harness.Compute,
    ) -> list[harness.Generation]:
        """One answer per prompt, in order. Raises DataError for a prompt that cannot be made to fit."""
        from harness.engine.chat import context_length, decode_answer, fit_prompts, stop_ids
        from harness.engine.generate import generate
        from harness.engine.models import load_policy, use_threads

        use_threads(compute)
        policy, tokenizer = load_policy(model.path, compute)
        encoded = fit_prompts(tokenizer, prompts, options.max_new_tokens, context_length(policy))
        stop = stop_ids(tokenizer, policy)
        answers = generate(
            policy,
            encoded,
            seeds,
            compute,
            max_new_tokens=options.max_new_tokens,
            stop=stop,
            pad_id=tokenizer.pad_token_id,
            temperature=options.temperature,
            top_p=options.top_p,
        )
        return [
            harness.Generation(decode_answer(tokenizer, answer.ids, stop), answer.ids, answer.finish) for answer in answers
        ]
