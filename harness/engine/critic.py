"""Critics of PPO: a model of its own, or a value head on the policy; and the value head's way to disk and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import UsageError
from .models import reward_model_from, score_head

if TYPE_CHECKING:
    from ..components import Compute

VALUE_HEAD = "value_head.safetensors"


def value_head(policy: Any, device: str | torch.device) -> torch.nn.Linear:
    """A linear layer (H → 1) for the policy's last hidden states, in fp32. All zero: its first values are 0 everywhere.

    A random head would hand its noise to the first advantages and, through the shared backbone, to the policy.
    """
    head = torch.nn.Linear(policy.get_output_embeddings().weight.shape[1], 1)
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    return head.to(device)


def head_values(head: torch.nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
    """Values (N,) of hidden states (N, H), computed in the head's precision also under autocast."""
    with torch.autocast(hidden.device.type, enabled=False):
        values: torch.Tensor = head(hidden.to(head.weight.dtype)).squeeze(-1)
    return values


def save_value_head(head: torch.nn.Linear, folder: Path, reward: str, mean: float = 0.0, deviation: float = 1.0) -> None:
    """Write the head beside the policy's weights, as safetensors, with the key of the reward whose scores it foretells.

    Its values are written in the unit of those scores, from deviations off their mean: the next training scales them anew.
    """
    weight, bias = (parameter.detach().cpu() * deviation for parameter in (head.weight, head.bias))
    save_file({"weight": weight, "bias": bias + mean}, folder / VALUE_HEAD, {"reward": reward})


def load_value_head(folder: Path, policy: Any, device: str | torch.device, reward: str) -> torch.nn.Linear | None:
    """The value head of a model folder, in the unit of the scores of `reward`; None where it has none for that reward.

    Raises UsageError for one that does not fit the model.
    """
    if not (folder / VALUE_HEAD).exists():
        return None
    head = value_head(policy, device)
    try:
        with safe_open(folder / VALUE_HEAD, framework="pt") as file:
            if (file.metadata() or {}).get("reward") != reward:
                return None
            head.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (RuntimeError, SafetensorError) as error:
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
