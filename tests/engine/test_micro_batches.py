"""Micro-batches: the cheapest cut of a step, and one bf16 copy of each weight for all of them."""

from __future__ import annotations

import itertools
import random

import pytest

torch = pytest.importorskip("torch")
from harness.components import Compute  # noqa: E402
from harness.engine.batching import cheapest_batches  # noqa: E402
from harness.engine.micro_batches import MicroBatches  # noqa: E402
from harness.engine.models import autocast, autocast_cache  # noqa: E402
from harness.errors import StageError  # noqa: E402

pytestmark = pytest.mark.torch


def test_a_cut_by_hand():
    # One batch costs 3 · 10 + 4 = 34; cut after the first row 10 + 4 + 2 · 3 + 4 = 24; three batches 10 + 3 + 3 + 12 = 28.
    assert cheapest_batches([3, 10, 3], max_rows=8, max_tokens=100, overhead=4) == [[1], [0, 2]]
    assert cheapest_batches([3, 10, 3], max_rows=8, max_tokens=100, overhead=20) == [[1, 0, 2]]
    assert cheapest_batches([3, 10, 3], max_rows=8, max_tokens=100, overhead=0) == [[1], [0, 2]]
    assert cheapest_batches([], max_rows=8, max_tokens=100, overhead=4) == []


def test_no_cut_of_the_sorted_rows_costs_less():
    draw = random.Random(3)
    for _ in range(30):
        lengths = [draw.randint(1, 40) for _ in range(draw.randint(1, 9))]
        rows, tokens, overhead = draw.randint(1, 5), draw.randint(20, 90), draw.randint(0, 30)

        def cost(batches, overhead=overhead):
            return sum(len(batch) * max(batch) + overhead for batch in batches)

        def allowed(batches, rows=rows, tokens=tokens):
            return all(len(batch) == 1 or (len(batch) <= rows and len(batch) * max(batch) <= tokens) for batch in batches)

        ordered = sorted(lengths, reverse=True)
        cuts = (c for count in range(len(ordered)) for c in itertools.combinations(range(1, len(ordered)), count))
        every = [[ordered[a:b] for a, b in itertools.pairwise([0, *cut, len(ordered)])] for cut in cuts]
        best = min(cost(batches) for batches in every if allowed(batches))
        found = cheapest_batches(lengths, rows, tokens, overhead)
        assert sorted(itertools.chain(*found)) == list(range(len(lengths)))
        as_lengths = [[lengths[row] for row in batch] for batch in found]
        assert allowed(as_lengths)
        assert cost(as_lengths) == best


def test_weights_are_cast_once_and_gradients_stay_the_same():
    compute = Compute("cpu", "bf16", 1)
    inputs = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(1))

    def gradient():
        layer = torch.nn.Linear(8, 8)
        with torch.no_grad():
            layer.weight.copy_(torch.arange(64).reshape(8, 8) / 64)
            layer.bias.zero_()
        for part in inputs:
            with autocast(compute):
                output = layer(part)
            output.float().square().sum().backward()
        return layer.weight.grad

    plain = gradient()
    with autocast_cache(), torch.profiler.profile() as profile:
        cached = gradient()
    casts = sum(event.count for event in profile.key_averages() if event.key == "aten::_to_copy")
    assert torch.equal(plain, cached)
    assert plain.abs().sum() > 0
    with torch.profiler.profile() as profile:
        gradient()
    assert casts < sum(event.count for event in profile.key_averages() if event.key == "aten::_to_copy")


def test_the_cache_ends_with_its_block():
    compute = Compute("cpu", "bf16", 1)
    layer, one = torch.nn.Linear(2, 2, bias=False), torch.ones(1, 2)
    with autocast_cache(), autocast(compute):
        layer(one)
    with torch.no_grad():
        layer.weight.fill_(3.0)
    with autocast(compute):
        assert layer(one).tolist() == [[6.0, 6.0]]


def test_a_gpu_is_started_seldom_for_a_small_model_and_spared_tokens_of_a_large_one():
    small, large = (torch.nn.Linear(2**14, rows, bias=False, device="meta") for rows in (2**13, 2**19))
    assert [MicroBatches.of(each, 8, Compute("cpu", "fp32", 1)).overhead for each in (small, large)] == [64, 64]
    # 2^43 tokens × weights, of 2^27 (134 million) and 2^33 (8.6 billion) weights.
    there = [MicroBatches.of(each, 8, Compute("cuda", "fp32", 1)) for each in (small, large)]
    assert [each.overhead for each in there] == [65536, 1024]
    # Together 4 · 900 + 1024 = 4624; apart 900 + 3 · 210 + 2 · 1024 = 3578.
    assert [each.cut([60, 900, 200, 210]) for each in there] == [[[1, 3, 2, 0]], [[1], [3, 2, 0]]]


class Gradient:
    """Adds up row numbers, on a device that has room for so many padded tokens at once."""

    def __init__(self, lengths, room):
        self.lengths, self.room, self.added, self.cleared = lengths, room, [], 0

    def clear(self):
        self.added.clear()
        self.cleared += 1

    def add(self, places):
        self.added += places  # what a backward pass leaves behind before it runs out of memory
        if len(places) * max(self.lengths[place] for place in places) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_gradient_begins_anew_in_smaller_pieces_when_memory_runs_out():
    compute, told = Compute("cpu", "fp32", 1), []
    compute.memory.on_halved = told.append
    gradient = Gradient([30, 100, 100, 20], room=250)
    batches = MicroBatches(8, 10_000, compute)
    batches.accumulate(gradient.lengths, gradient.clear, gradient.add)
    assert sorted(gradient.added) == [0, 1, 2, 3]
    assert gradient.cleared == 2
    # Four rows of 100 did not fit: 4096 is halved until it is below 400.
    assert told == ["out of memory with 400 tokens in a batch: the token budget falls from 4096 to 256"]
    assert batches.cut(gradient.lengths) == [[1, 2], [0, 3]]  # it has learned


def test_a_row_that_does_not_fit_alone_ends_the_training():
    gradient = Gradient([30, 100], room=50)
    batches = MicroBatches(8, 0, Compute("cpu", "fp32", 1))
    with pytest.raises(StageError, match="a single row of 100 tokens"):
        batches.accumulate(gradient.lengths, gradient.clear, gradient.add)
