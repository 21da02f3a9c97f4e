"""Batches by a token budget, and what happens when memory runs out."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from harness.components import Compute  # noqa: E402
from harness.engine.batching import length_batches  # noqa: E402
from harness.engine.generate import decode_tokens, generate  # noqa: E402
from harness.engine.inference import cast_once, pass_tokens, run_batches  # noqa: E402
from harness.errors import StageError  # noqa: E402

pytestmark = pytest.mark.torch


def test_batches_hold_at_most_the_budget_in_padded_tokens():
    # Sorted: 9 (row 1), 5 (0), 5 (3), 2 (4), 1 (2). 2 · 9 > 15; 3 · 5 = 15 fits with the row of 2; the row of 1 is left.
    assert length_batches([5, 9, 1, 5, 2], None, 15) == [[1], [0, 3, 4], [2]]
    assert length_batches([5, 9, 1, 5, 2], None, 4) == [[1], [0], [3], [4, 2]]
    assert length_batches([5, 9, 1, 5, 2], 2, 15) == [[1], [0, 3], [4, 2]]
    assert length_batches([], None, 15) == []


class SmallDevice:
    """Work that runs out of memory above some padded tokens, as a GPU does."""

    def __init__(self, lengths, room):
        self.lengths, self.room, self.done = lengths, room, []

    def __call__(self, rows):
        if len(rows) * max(self.lengths[row] for row in rows) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.done.append(rows)


def test_out_of_memory_halves_the_budget_says_so_and_goes_on():
    compute, told = Compute("cpu", "fp32", 1), []
    compute.memory.on_halved = told.append
    work = SmallDevice([10] * 20 + [2] * 10, room=50)
    run_batches(work.lengths, 160, compute, work)
    # 160 and 80 are too much; with 40, four rows of 10 and then all ten of 2 fit.
    assert list(map(len, work.done)) == [4] * 5 + [10]
    assert sorted(row for rows in work.done for row in rows) == list(range(30))
    assert compute.memory.halvings == 2
    assert told == [
        "out of memory with 160 tokens in a batch: the token budget falls from 160 to 80",
        "out of memory with 80 tokens in a batch: the token budget falls from 80 to 40",
    ]

    later = SmallDevice([10] * 8, room=50)
    run_batches(later.lengths, 160, compute, later)
    assert (list(map(len, later.done)), compute.memory.halvings) == ([4, 4], 2)  # it has learned


def test_a_budget_far_above_what_the_batch_held_is_halved_at_once():
    compute, told = Compute("cpu", "fp32", 1), []
    compute.memory.on_halved = told.append
    work = SmallDevice([10] * 4, room=30)
    run_batches(work.lengths, 1024, compute, work)
    assert told == ["out of memory with 40 tokens in a batch: the token budget falls from 1024 to 32"]
    assert work.done == [[0, 1, 2], [3]]


def test_what_was_done_before_is_kept():
    work = SmallDevice([8, 8, 8, 8], room=32)
    short = iter([32, 8])

    def shrinking(rows):
        work.room = next(short, 16)
        work(rows)

    run_batches(work.lengths, 16, Compute("cpu", "fp32", 1), shrinking)
    assert [row for rows in work.done for row in rows] == [0, 1, 2, 3]


def test_a_row_that_does_not_fit_alone_is_an_error_of_the_stage():
    work = SmallDevice([100, 10], room=50)
    with pytest.raises(StageError, match="a single row of 100 tokens"):
        run_batches(work.lengths, 200, Compute("cpu", "fp32", 1), work)


def test_answers_survive_an_out_of_memory(policy, compute):
    model, tokenizer = policy
    prompts = [[3, 20 + row, 30] for row in range(12)]
    options = {"max_new_tokens": 8, "stop": {1}, "pad_id": tokenizer.pad_token_id}
    expected = generate(model, prompts, range(12), compute, **options)

    def refuse(module, args, kwargs):
        if len(kwargs["input_ids"]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    small = Compute("cpu", "fp32", 1)
    handle = model.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        answers = generate(model, prompts, range(12), small, max_tokens=128, **options)
    finally:
        handle.remove()
    assert answers == expected
    assert small.memory.halvings == 2  # 11 rows of 3 + 8 tokens, then 5, then 2


@pytest.mark.parametrize("trained", [True, False])
def test_weights_are_cast_once(trained):
    layer = torch.nn.Linear(4, 4).requires_grad_(trained)
    rows = torch.ones(2, 4)
    with torch.no_grad(), cast_once(layer, Compute("cpu", "bf16", 1)):
        first = layer(rows)
        layer.weight.data.add_(100)
        assert torch.equal(layer(rows), first)  # the second pass used the copy that the first one made
        layer.weight.data.sub_(100)
    assert first.dtype == torch.bfloat16
    assert layer.weight.requires_grad == trained


def test_a_gpu_is_given_more_at_once():
    """Rows that are decoded together, and padded tokens of a pass without a cache: twice or more is no sooner on a CPU."""
    cpu, gpu = Compute("cpu", "fp32", 1), Compute("cuda", "fp32", 1)
    assert (decode_tokens(cpu), decode_tokens(gpu)) == (16384, 65536)
    assert (pass_tokens(cpu), pass_tokens(gpu)) == (1024, 16384)
