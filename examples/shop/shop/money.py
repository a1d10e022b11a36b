from typing import Annotated

from msgspec import Meta, Struct


class Money(Struct, frozen=True):
    amount: Annotated[int, Meta(ge=0)]  # in the currency's smallest unit, cents for example
    currency: Annotated[str, Meta(pattern=r"\A[A-Z]{3}\Z")]

    def times(self, number: int) -> "Money":
        return Money(self.amount * number, self.currency)
