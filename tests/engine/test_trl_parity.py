"""The same loss and the same gradient of every parameter as TRL's trainers, in fp32."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from datasets import Dataset  # noqa: E402
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer  # noqa: E402

from harness.components import Compute  # noqa: E402
from harness.engine.chat import TokenizedPair  # noqa: E402
from harness.engine.learning import PairPreference, PairReward  # noqa: E402
from harness.engine.models import load_policy, reward_model_from  # noqa: E402
from harness.engine.pairs import PairLayout, pair_logprobs, read_all  # noqa: E402
from harness.engine.preference_losses import LossOptions, preference_loss  # noqa: E402

pytestmark = pytest.mark.torch

CPU = Compute("cpu", "fp32", 1)
BETA = 0.3


@pytest.fixture(scope="module")
def pairs() -> list[TokenizedPair]:
    draw = torch.Generator().manual_seed(5)

    def ids(count: int) -> list[int]:
        return torch.randint(5, 290, (count,), generator=draw).tolist()

    shapes = ((9, 4, 7), (3, 6, 2), (14, 1, 5))
    return [
        TokenizedPair(ids(p), ids(c), ids(r), margin) for (p, c, r), margin in zip(shapes, (0.2, 0.0, 1.5), strict=True)
    ]


def moved(model):
    """Away from its reference, so that no log-ratio is zero."""
    torch.manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def columns(pairs, *, whole, margin=False):
    return Dataset.from_list(
        [
            {
                **({} if whole else {"prompt_ids": pair.prompt_ids}),
                "chosen_ids": [*(pair.prompt_ids if whole else []), *pair.chosen_ids],
                "rejected_ids": [*(pair.prompt_ids if whole else []), *pair.rejected_ids],
                **({"margin": pair.margin} if margin else {}),
            }
            for pair in pairs
        ]
    )


def arguments(kind, folder, **options):
    return kind(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        report_to="none",
        per_device_train_batch_size=8,
        activation_checkpointing=False,
        max_length=None,
        **options,
    )


def loss_and_gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return float(loss.detach()), {
        name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None
    }


def assert_same(ours, theirs):
    (our_loss, our_gradients), (their_loss, their_gradients) = ours, theirs
    assert our_loss == pytest.approx(their_loss, rel=1e-4)
    assert our_gradients.keys() == their_gradients.keys()
    for name, expected in their_gradients.items():
        assert float((our_gradients[name] - expected).norm()) <= 1e-4 * float(expected.norm()), name


class TokenizedTrainer(DPOTrainer):
    def _prepare_dataset(self, dataset, *_):
        return dataset


@pytest.mark.parametrize(
    ("types", "weights", "smoothing"),
    [
        (["sigmoid"], [1.0], 0.0),
        (["robust"], [1.0], 0.2),
        (["ipo"], [1.0], 0.0),
        (["hinge"], [1.0], 0.0),
        (["sigmoid", "ipo"], [0.7, 0.05], 0.0),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) and isinstance(value[0], str) else None,
)
@pytest.mark.filterwarnings("ignore")
def test_dpo(base, pairs, tmp_path, types, weights, smoothing):
    model, tokenizer = load_policy(base, CPU, disable_dropout=True)
    reference, _ = load_policy(base, CPU)
    reference_logprobs = read_all(pair_logprobs, reference, pairs, PairLayout(), tokenizer.pad_token_id, CPU)
    moved(model)
    options = {"loss_type": types, "loss_weights": weights, "label_smoothing": smoothing, "beta": BETA}
    trainer = TokenizedTrainer(
        model,
        ref_model=reference,
        args=arguments(DPOConfig, tmp_path, **options),
        train_dataset=columns(pairs, whole=False),
        processing_class=tokenizer,
    )
    batch = trainer.data_collator([dict(row) for row in trainer.train_dataset])
    theirs = loss_and_gradients(model, trainer.compute_loss(model, dict(batch)))
    objective = PairPreference(
        model,
        pairs,
        PairLayout(),
        tokenizer.pad_token_id,
        CPU,
        lambda logprobs: preference_loss(logprobs, types, weights, LossOptions(BETA, smoothing)),
        BETA,
        reference_logprobs,
    )
    losses, measured = objective.losses(range(len(pairs)))
    assert_same(loss_and_gradients(model, losses.mean()), theirs)
    assert float((measured["rewards/margins"]).abs().min()) > 1e-3  # it was a pair of different models


@pytest.mark.parametrize(("centering", "margin"), [(None, False), (0.1, False), (None, True)])
@pytest.mark.filterwarnings("ignore")
def test_reward_model(base, pairs, tmp_path, centering, margin):
    model, tokenizer = reward_model_from(base, CPU, seed=2, disable_dropout=True)
    trainer = RewardTrainer(
        model,
        args=arguments(RewardConfig, tmp_path, center_rewards_coefficient=centering),
        train_dataset=columns(pairs, whole=True, margin=margin),
        processing_class=tokenizer,
    )
    batch = trainer.data_collator([dict(row) for row in trainer.train_dataset])
    theirs = loss_and_gradients(model, trainer.compute_loss(model, dict(batch)))
    objective = PairReward(model, pairs, PairLayout(), tokenizer.pad_token_id, CPU, centering or 0.0, margin)
    losses, _ = objective.losses(range(len(pairs)))
    assert_same(loss_and_gradients(model, losses.mean()), theirs)
