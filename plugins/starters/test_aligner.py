"""The loss against arithmetic done by hand."""

from __future__ import annotations

from .aligner import pair_loss


def test_the_loss_is_what_is_missing_of_the_margin() -> None:
    """Margins of 0.5, 2 and -1 nats, where 1 is wanted: 0.5 is missing, nothing, and 2."""
    import torch

    chosen, rejected = torch.tensor([-1.0, -1.0, -3.0]), torch.tensor([-1.5, -3.0, -2.0])
    assert pair_loss(chosen, rejected, margin=1.0).tolist() == [0.5, 0.0, 2.0]
