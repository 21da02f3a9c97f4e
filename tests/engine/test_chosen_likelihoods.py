"""The likelihood of chosen answers: of each prompt's own pair, its stop token included, whatever the suite's limit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from harness import Artifact, Dataset, Message, Preference  # noqa: E402
from harness.engine.chat import encode_answer, encode_prompt  # noqa: E402
from harness.engine.models import save_model  # noqa: E402
from harness.evaluation.steps import chosen_likelihoods  # noqa: E402
from harness.evaluation.suites import load_suite  # noqa: E402
from harness.plan.model import Suite  # noqa: E402

pytestmark = pytest.mark.torch


def preference(name: str, prompt: str, chosen: str) -> Preference:
    turns = (Message(role="user", content=prompt),)
    return Preference(id=name, root=name, prompt=turns, chosen=chosen, rejected="no")


def test_each_prompt_has_the_sum_over_its_chosen_answers_tokens(policy: Any, compute: Any, tmp_path: Path) -> None:
    model, tokenizer = policy
    save_model(model, tokenizer, tmp_path / "model")
    rows = (
        preference("a", "how are you", "the lazy dog"),
        preference("b", "how are you", "never asked: the prompt is there already"),
        preference("c", "what is it", "the quick brown fox jumps over the dog"),
        preference("long", "what is the city", "light " * 300),
        preference("d", "beyond the limit", "fox"),
    )
    data: Any = SimpleNamespace(get=lambda reference: Dataset(reference, "preferences", rows, "f"))
    suite = load_suite("held", Suite(data="toy.test", limit=3), data, tmp_path)
    found = chosen_likelihoods(Artifact("dpo", "model", tmp_path / "model", "key"), suite, compute)
    assert [(each.prompt_id, each.suite, each.model) for each in found] == [("a", "held", "dpo"), ("c", "held", "dpo")]
    for each, row in zip(found, (rows[0], rows[2]), strict=True):
        prompt, answer = encode_prompt(tokenizer, row.prompt), encode_answer(tokenizer, row.chosen)
        assert answer[-1] == tokenizer.eos_token_id
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0]
        expected = sum(logits[len(prompt) - 1 + place].log_softmax(-1)[token].item() for place, token in enumerate(answer))
        assert each.tokens == len(answer)
        assert each.logprob == pytest.approx(expected, abs=1e-3)
