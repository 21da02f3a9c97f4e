"""The judge `llm` and `transformers serve`, with a small model whose weights are written by hand, through the same client."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("openai")
pytest.importorskip("uvicorn")

from harness_plugins.judges.llm import Llm, LlmOptions
from harness_plugins.judges.rubric import Rubric, RubricOptions

import harness
from harness.components import Compute

pytestmark = pytest.mark.torch

COMPUTE = Compute("cpu", "fp32", 1)
SIZE = 272
"""Of the vocabulary and of the hidden state: one dimension for each token."""


def write_bigram_model(folder: Path, says: str) -> None:
    """A Llama that says one thing: every character of it follows from the one before, so that a table of bigrams is enough.

    Attention and the feed-forward layer add nothing; the embedding of token i is the i-th unit vector, which RMSNorm scales by
    √SIZE; and the output weight of token j for it is 1 where j follows i.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|end|>", "<|judge|>", *alphabet]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>", additional_special_tokens=["<|judge|>"]
    )
    fast.chat_template = "{% for message in messages %}{{ message.content }}\n{% endfor %}<|judge|>"
    fast.save_pretrained(folder)

    ids = [1, *fast.encode(says, add_special_tokens=False), 0]
    assert len(set(ids[:-1])) == len(ids) - 1, "a character that stands twice has two successors"
    config = LlamaConfig(
        vocab_size=SIZE,
        hidden_size=SIZE,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(SIZE))
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        for before, after in itertools.pairwise(ids):
            model.lm_head.weight[after, before] = 1.0
    model.save_pretrained(folder)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """The address of the server, and by what they say the folders of the models that it serves."""
    folder = tmp_path_factory.mktemp("served")
    models = {says: str(folder / says[0]) for says in ("VERDICT: A", "SCORE: 4", "I can't!")}
    for says, path in models.items():
        write_bigram_model(Path(path), says)
    port = free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command, env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}, stdout=log, stderr=log
        )
    try:
        for _ in range(600):
            assert server.poll() is None, (folder / "log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", models
    finally:
        server.terminate()
        server.wait()


def pairs(count: int) -> list[harness.Pair]:
    return [
        harness.Pair((harness.Message(role="user", content=f"Question {n}?"),), f"Answer {n}", "Another answer")
        for n in range(count)
    ]


def options(served: tuple[str, dict[str, str]], says: str) -> LlmOptions:
    url, models = served
    return LlmOptions(model=models[says], base_url=url, max_tokens=32, timeout=120, concurrency=2, max_retries=1)


def test_a_verdict_is_read_and_its_tokens_are_counted(served: tuple[str, dict[str, str]]) -> None:
    verdicts = Llm().compare(pairs(3), options(served, "VERDICT: A"), {}, harness.JudgeContext(COMPUTE))
    assert [verdict.preference for verdict in verdicts] == [0.5] * 3
    assert verdicts[0].orders == ({"first": "candidate", "preference": 1.0}, {"first": "baseline", "preference": 0.0})
    usage = verdicts[0].usage
    assert usage is not None
    # Ten characters and the end, twice.
    assert (usage.replies, usage.output_tokens) == (2, 22)
    assert usage.model.startswith(served[1]["VERDICT: A"])


def test_a_reply_without_a_verdict_is_unscored(served: tuple[str, dict[str, str]]) -> None:
    verdicts = Llm().compare(pairs(2), options(served, "I can't!"), {}, harness.JudgeContext(COMPUTE))
    assert [verdict.preference for verdict in verdicts] == [None] * 2
    assert all("last line is no verdict" in str(verdict.reason) for verdict in verdicts)


def test_an_answer_is_scored_by_each_criterion(served: tuple[str, dict[str, str]]) -> None:
    given = options(served, "SCORE: 4").model_dump(exclude={"template", "rubric", "rubrics", "votes"})
    config = RubricOptions(**given, criteria={"kind": "Kindness.", "short": "Brevity."})
    (rating,) = Rubric().score([pairs(1)[0].prompt], ["Yes."], config, {}, harness.JudgeContext(COMPUTE))
    assert (rating.score, rating.parts) == (4.0, {"kind": 4.0, "short": 4.0})
