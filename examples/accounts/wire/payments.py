"""Payments as clients see them."""

from typing import Annotated

from pydantic import BaseModel, Field

from examples.accounts.wire.reply import Reply

PATH = "/payments/{payment}"
"""Where a payment is."""

Payment = Annotated[int, Field(ge=1, le=1_000_000)]
"""A payment's number."""


class PaymentPath(BaseModel):
    """What stands in the path.

    Attributes:
        payment: the number.
    """

    payment: Payment


class PaymentView(BaseModel):
    """How a payment stands."""

    status: str


def shown(status: str) -> Reply:
    """Answer with a payment."""
    return Reply(200, PaymentView(status=status).model_dump_json().encode())
