"""Settings: what makes an agent besides its tools, as data.

Owns: `Model`, `Budget` and `Settings`, plain values that are stored with the definition. Refuses: keys and clients: a
key is never part of a value that is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

from flowbook.errors import DeclarationError
from flowbook.graph.durations import Duration, seconds
from flowbook.secret import Secret, named_by


@dataclass(frozen=True, slots=True)
class Model:
    """A model on an OpenAI-compatible endpoint: ``fb.Model("qwen3", base_url="http://127.0.0.1:8000/v1")``."""

    name: str
    base_url: str | None = None
    """None: ``OPENAI_BASE_URL``, else OpenAI's own."""
    api: Literal["chat", "responses"] = "chat"
    price: tuple[float, float] | None = None
    """USD per million tokens (in, out); None: as genai-prices knows it."""
    api_key: Secret | str | None = None
    """``fb.Secret("MY_KEY")``, or the key itself, of which only a name is kept; None: ``OPENAI_API_KEY``."""

    def __post_init__(self) -> None:
        if isinstance(self.api_key, str):
            where = named_by(self.api_key, f"api_key of {self.name} at {self.base_url or 'OpenAI'}")
            object.__setattr__(self, "api_key", where)


@dataclass(frozen=True, slots=True)
class Budget:
    """What an agent may use: ``fb.Budget(usd=0.50)``. Checked before each call of a model.

    It is the budget of one run. With ``shared="team"`` all runs of the namespace whose budgets have that name spend it
    together, whichever process carries them: ``usd`` and ``tokens`` are then counted in the database, and before each
    call what it will probably use is set aside, so the limit is passed by the calls under way at most.
    """

    usd: float | None = None
    tokens: int | None = None
    """In and out together."""
    time: Duration | None = None
    """Since the run was started, by the database's clock, what it waits for people included; of each run by itself."""
    shared: str | None = None
    """The name of the budget; None: it is the run's own."""

    def __post_init__(self) -> None:
        for name in ("usd", "tokens"):
            value: Any = getattr(self, name)
            if value is not None and (type(value) not in (int, float) or value <= 0):
                raise DeclarationError(f"Budget({name}={value!r}): a number above 0, or None for no limit")
        if self.time is not None:
            seconds(self.time)
        if self.shared == "":
            raise DeclarationError(f"Budget(shared={self.shared!r}): the name of a budget")
        if self.shared is not None and self.usd is None and self.tokens is None:
            raise DeclarationError(f"Budget(shared={self.shared!r}): without usd= or tokens= it limits nothing")

    @property
    def stored(self) -> dict[str, Any]:
        """As plain data; time in seconds."""
        return asdict(self) | {"time": None if self.time is None else seconds(self.time)}


@dataclass(frozen=True, slots=True)
class Settings:
    """An agent, but for its tools, as it is stored."""

    name: str
    instructions: str
    models: tuple[Model, ...]
    """The first one that answers is taken."""
    max_turns: int
    budget: Budget

    @property
    def stored(self) -> dict[str, Any]:
        """As plain data: reading it needs no class of ours."""
        models = [asdict(m) for m in self.models]
        return asdict(replace(self, budget=Budget())) | {"models": models, "budget": self.budget.stored}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """The settings that were stored."""
        models = tuple(Model(**{**m, "price": m["price"] and tuple(m["price"])}) for m in stored["models"])
        return cls(
            stored["name"], stored["instructions"], models, stored["max_turns"], Budget(**dict(stored["budget"]))
        )


def asked_instead(settings: Settings, model: Any, instructions: Any) -> Settings:
    """Settings with what a run was given in their place (None: nothing). A name is a model where the agent's own is.

    Raises `DeclarationError`.
    """
    if instructions is not None and not isinstance(instructions, str):
        raise DeclarationError(f"instructions={instructions!r}: they are a text")
    if isinstance(model, Mapping):
        model = Model(**model)
    if isinstance(model, str) and model:
        model = replace(settings.models[0], name=model, price=None)
    models = settings.models if model is None else models_of(model, ())
    return replace(
        settings, models=models, instructions=settings.instructions if instructions is None else instructions
    )


def models_of(model: str | Model, fallback: Sequence[str | Model]) -> tuple[Model, ...]:
    """All models of an agent, in the order in which they are tried. Raises `DeclarationError`."""
    for one in (model, *fallback):
        if not one or type(one) not in (str, Model):
            raise DeclarationError(f"model={one!r}: a model's name, or fb.Model(name, base_url=...)")
    found = tuple(Model(one) if isinstance(one, str) else one for one in (model, *fallback))
    for one in found:
        if one.api not in ("chat", "responses"):
            raise DeclarationError(f'Model({one.name!r}, api={one.api!r}): it is "chat" or "responses"')
    return found
