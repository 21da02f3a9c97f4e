"""`transformers serve` on loopback, with small models whose weights are written by hand."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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


@contextmanager
def transformers_serve(folder: Path, says: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The address of the server, and by what they say the folders of the models that it serves."""
    models = {text: str(folder / text.partition(":")[0].replace(" ", "-")) for text in says}
    for text, path in models.items():
        write_bigram_model(Path(path), text)
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
