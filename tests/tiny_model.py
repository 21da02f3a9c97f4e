"""The specification of a model that is built in a moment: 2 layers, a few hundred tokens."""

from __future__ import annotations

TINY = {
    "type": "tiny",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 300,
    "max_position_embeddings": 256,
}
