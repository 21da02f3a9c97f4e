"""Packed weights: the same numbers, and a model that is as it was afterwards."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from harness.components import Compute  # noqa: E402
from harness.engine import packing  # noqa: E402
from harness.engine.generate import generate  # noqa: E402
from harness.engine.likelihood import TokenSequence, answer_divergence, token_logprobs  # noqa: E402
from harness.engine.packing import packed_weights  # noqa: E402

pytestmark = pytest.mark.torch

FP32 = Compute("cpu", "fp32", 1)


@pytest.fixture
def any_size(monkeypatch):
    monkeypatch.setattr(packing, "PACKED_WEIGHTS", range(1, 2**20))


class Tied(torch.nn.Module):
    """An output layer that shares its weight with another, a bias, and a product that is no linear layer's."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Linear(24, 40)
        self.head = torch.nn.Linear(24, 40, bias=False)
        self.head.weight = self.body.weight

    def forward(self, states):
        return self.body(states) + self.head(states) @ torch.ones(40, 40)


def packed(model):
    return [name for name, layer in model.named_modules() if "forward" in vars(layer)]


@pytest.mark.parametrize("shape", [(1, 24), (7, 24), (3, 5, 24)])
@pytest.mark.usefixtures("any_size")
def test_products_are_the_same_but_for_rounding(shape):
    torch.manual_seed(0)
    model, states = Tied(), torch.randn(shape)
    expected = model(states)
    with torch.no_grad(), packed_weights(model, FP32):
        if not packed(model):
            pytest.skip("oneDNN does not pack here")
        assert packed(model) == ["body", "head"]
        found = model(states)
        model.body.weight.add_(1)
        assert torch.equal(model(states), found)  # the copy was made once
        model.body.weight.sub_(1)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("any_size")
def test_afterwards_the_layers_are_as_they_were():
    model = Tied()
    with pytest.raises(KeyError), packed_weights(model, FP32):
        raise KeyError
    assert packed(model) == []
    model(torch.ones(1, 24)).sum().backward()
    assert model.body.weight.grad is not None


@pytest.mark.usefixtures("any_size")
def test_packed_twice_is_packed_once():
    model = Tied()
    with packed_weights(model, FP32):
        before = packed(model)
        with packed_weights(model, FP32):
            assert packed(model) == before
        assert packed(model) == before
    assert packed(model) == []


@pytest.mark.parametrize("compute", [Compute("cpu", "bf16", 1), Compute("cuda", "fp32", 1)])
@pytest.mark.usefixtures("any_size")
def test_other_precisions_and_devices_are_left_alone(compute):
    model = Tied()
    with packed_weights(model, compute):
        assert packed(model) == []


def test_small_models_are_left_alone():
    model = Tied()
    with packed_weights(model, FP32):
        assert packed(model) == []


@pytest.mark.usefixtures("any_size")
def test_weights_of_another_dtype_are_left_alone():
    model = Tied().double()
    with packed_weights(model, FP32):
        assert packed(model) == []


def test_sampling_and_reading_go_through_packed_weights(policy, compute, monkeypatch):
    model, tokenizer = policy
    products, plain_product = [], packing._product

    def counted(*arguments):
        products.append(arguments)
        return plain_product(*arguments)

    def numbers(size):
        monkeypatch.setattr(packing, "PACKED_WEIGHTS", range(1, size))
        counts, options = [len(products)], {"pad_id": tokenizer.pad_token_id}
        answers = generate(
            model, [[3, 20], [3, 30, 40]], [0, 1], compute, max_new_tokens=6, stop=(), logprobs=True, **options
        )
        counts.append(len(products))
        sequences = [TokenSequence([3, 20], answer.ids) for answer in answers]
        logprobs = token_logprobs(model, sequences, compute, **options)
        counts.append(len(products))
        divergence = answer_divergence(model, model, sequences, compute, **options)
        counts.append(len(products))
        values = [value for answer in answers for value in answer.logprobs]
        return torch.tensor([*values, *torch.cat(logprobs).tolist(), *(each.logprob for each in divergence)]), counts

    monkeypatch.setattr(packing, "_product", counted)
    expected, counts = numbers(1)
    assert set(counts) == {0}
    found, counts = numbers(2**20)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    if not packing._can_pack(compute):
        pytest.skip("oneDNN does not pack here")
    assert counts == sorted(set(counts))  # each of the three adds to them
