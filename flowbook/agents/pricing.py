"""Pricing: what a call of a model costs.

Owns: the price of a turn, and that a budget in USD is only taken where every model has one. Refuses: counting.
"""

from __future__ import annotations

from flowbook.agents.settings import Model
from flowbook.errors import DeclarationError


def cost(model: Model, given: int, made: int, cached: int = 0) -> float | None:
    """USD of a call with so many tokens in (``cached`` of them read from the provider's cache) and out; None: unknown.

    The prices are those that came with the package genai-prices: nothing is looked up at run time.
    """
    if model.price is not None:
        return (given * model.price[0] + made * model.price[1]) / 1e6
    if model.base_url is not None:
        return None  # somebody else's server may call its model as it likes
    import genai_prices

    usage = genai_prices.Usage(input_tokens=given, cache_read_tokens=cached, output_tokens=made)
    try:
        return float(genai_prices.calc_price(usage, model_ref=model.name).total_price)
    except LookupError:
        return None


def check_priced(models: tuple[Model, ...]) -> None:
    """Raise `DeclarationError` for a model without a price: a budget would never count it."""
    for model in models:
        if cost(model, 1, 1) is None:
            raise DeclarationError(
                f"budget=Budget(usd=...) with model {model.name!r}, whose price is not known: say what it costs, "
                f"fb.Model({model.name!r}, price=(in, out)) in USD per million tokens, or set a budget in tokens"
            )
