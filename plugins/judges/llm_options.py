"""Options of a judge that asks a language model, and the list prices of some."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, model_validator

import harness

from .llm_account import Price

OPENAI = "https://api.openai.com/v1"
LIST_PRICES = {
    "gpt-4o": Price(2.5, 10.0),
    "gpt-4o-mini": Price(0.15, 0.6),
    "gpt-4.1": Price(2.0, 8.0),
    "gpt-4.1-mini": Price(0.4, 1.6),
    "gpt-4.1-nano": Price(0.1, 0.4),
}
"""OpenAI's list prices of 2025, in dollars for a million tokens; used only where its own endpoint is asked."""

SET_HERE = {
    "messages",
    "model",
    "stream",
    "temperature",
    "logprobs",
    "top_logprobs",
    "n",
    "max_tokens",
    "max_completion_tokens",
}


class PerMillion(harness.Options):
    """Prices in dollars for a million tokens."""

    input: float = Field(ge=0, description="dollars for a million tokens that are read")
    output: float = Field(ge=0, description="dollars for a million tokens that are written")


class EndpointOptions(harness.Options):
    """What every judge behind an OpenAI-compatible endpoint understands.

    A call is one request; a retry is a call of its own. The budgets are those of one run; what is in the store costs nothing.
    """

    model: str = Field(min_length=1, description="the model as the API names it; a dated name stays the same model")
    base_url: str = Field(default=OPENAI, description="the endpoint's address, up to and with its version")
    api_key_env: str | None = Field(
        default=None, description="the environment variable that holds the key; none is sent where it is left out"
    )
    budget_usd: float | None = Field(default=None, ge=0, description="dollars that a run spends at most")
    budget_calls: int | None = Field(default=None, ge=0, description="calls that a run makes at most")
    price_per_million: PerMillion | None = Field(
        default=None, description="{input: …, output: …} in dollars for a million tokens; known for some models of OpenAI"
    )
    concurrency: int = Field(default=8, ge=1, le=256, description="calls under way at a time")
    timeout: float = Field(default=60.0, gt=0, description="seconds until a call counts as failed")
    max_retries: int = Field(default=4, ge=0, le=20, description="retries of a call that failed, with growing pauses")
    temperature: float = Field(default=0.0, ge=0, le=2, description="of the judge's own sampling")
    max_tokens: int = Field(default=512, ge=1, description="the longest reply; one that is cut off is unscored")
    max_tokens_field: str = Field(
        default="max_tokens",
        pattern="^max_(completion_)?tokens$",
        description="the request's field for it; some models want max_completion_tokens",
    )
    top_logprobs: int = Field(
        default=20, ge=0, le=20, description="alternatives whose log-probabilities are asked for; 0 asks for none"
    )
    extra: dict[str, Any] = Field(default_factory=dict, description="other fields of the request, such as reasoning_effort")
    judgements: str | None = Field(
        default=None, description="a file or folder of kept replies: they are all that is used, and nothing is asked"
    )

    @model_validator(mode="after")
    def _endpoint(self) -> EndpointOptions:
        # None of these texts may quote the value: somebody may have put the key there.
        url = urlsplit(self.base_url)
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise ValueError("base_url: expected an address such as https://host/v1")
        if url.username or url.password or url.query:
            raise ValueError("base_url: holds more than an address; a key belongs in the variable that `api_key_env` names")
        if self.api_key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.api_key_env):
            raise ValueError(
                "api_key_env: expected the name of an environment variable, in capitals, and not the key itself"
            )
        if self.api_key_env is None and self.base_url.rstrip("/") == OPENAI and self.judgements is None:
            raise ValueError(
                "api_key_env: is missing; name the environment variable that holds the key, or give `base_url`"
            )
        if self.budget_usd is not None and self.price() is None:
            raise ValueError("budget_usd: needs `price_per_million`; the price of this model is not known")
        if taken := sorted(SET_HERE.intersection(self.extra)):
            raise ValueError(f"extra: {taken[0]} is set by the judge's own options")
        return self

    def price(self) -> Price | None:
        """What tokens cost; None where it is not known."""
        if self.price_per_million is not None:
            return Price(self.price_per_million.input, self.price_per_million.output)
        return LIST_PRICES.get(self.model) if self.base_url.rstrip("/") == OPENAI else None

    def sampling(self) -> dict[str, Any]:
        """What of the options a reply depends on, besides the model and what it reads."""
        return {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "top_logprobs": self.top_logprobs,
            **({"extra": self.extra} if self.extra else {}),
        }
