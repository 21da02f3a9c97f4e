"""Critics of PPO: a model of its own, or a value head on the policy; and the value head's way to disk and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from ..errors import UsageError
from .models import reward_model_from, score_head

if TYPE_CHECKING:
    from ..components import Compute

VALUE_HEAD = "value_head.safetensors"


def value_head(policy: Any, device: str | torch.device) -> torch.nn.Linear:
    """A linear layer (H → 1) for the policy's last hidden states, in fp32. All zero: its first values are 0 everywhere.

    A random head would hand its noise to the first advantages and, through the shared backbone, to the policy.
    """
    head = torch.nn.Linear(policy.config.get_text_config().hidden_size, 1)
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    return head.to(device)


def head_values(head: torch.nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
    """Values (N,) of hidden states (N, H), computed in the head's precision also under autocast."""
    with torch.autocast(hidden.device.type, enabled=False):
        values: torch.Tensor = head(hidden.to(head.weight.dtype)).squeeze(-1)
    return values


def save_value_head(head: torch.nn.Linear, folder: Path) -> None:
    """Write the head beside the policy's weights, as safetensors."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}, folder / VALUE_HEAD)


def load_value_head(folder: Path, policy: Any, device: str | torch.device) -> torch.nn.Linear:
    """The value head of a model folder; a fresh one where it has none. Raises UsageError for one of another size."""
    head = value_head(policy, device)
    if (folder / VALUE_HEAD).exists():
        try:
            head.load_state_dict(load_file(folder / VALUE_HEAD))
        except RuntimeError as error:
            raise UsageError(
                f"{folder}: its {VALUE_HEAD} does not fit its model; remove it, and a fresh one is used"
            ) from error
    return head


def critic_from(policy: Path, compute: Compute) -> Any:
    """A critic of its own on the policy's weights, without dropout, whose first values are 0 everywhere.

    For rewards that come from no reward model; where there is one, a copy of it is the better start (Huang et al., 2024).
    """
    model, _ = reward_model_from(policy, compute, seed=0, disable_dropout=True)
    torch.nn.init.zeros_(score_head(model).weight)
    return model
