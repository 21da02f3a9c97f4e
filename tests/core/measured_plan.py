"""A plan that trains and measures one model in seconds."""

MEASURED = """\
name: measured
base: {type: tiny, hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 8, vocab_size: 300}
device: cpu
threads: 1
data:
  toy: {source: toy, pairs: 24, split: {train: 0.6, test: 0.4}}
stages:
  sft: {aligner: sft, init: base, data: toy.train, max_steps: 1, per_device_train_batch_size: 4}
evaluate:
  baseline: base
  candidates: [sft]
  suites: {heldout: {data: toy.test, limit: 3}}
  generate: {max_new_tokens: 4}
  metrics: [length]
  bootstrap: {resamples: 100}
"""
