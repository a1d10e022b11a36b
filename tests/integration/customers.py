"""A shop that knows its customers: events with personal data, at schema version 2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from eventstore.decider.decider import Decider
from eventstore.decider.domain import Domain
from eventstore.errors import Rejected
from eventstore.messages.personal import Personal
from eventstore.messages.types import Command, Event


class Address(msgspec.Struct, frozen=True):
    street: str
    town: str


NOWHERE = Address("", "")


class CustomerRegistered(Event, subject="customer.registered", schema_version=2):
    email: Annotated[str, Personal()]
    phone: Annotated[str | None, Personal()] = None
    age: Annotated[int, Personal(forgotten=-1)] = -1
    newsletter: bool = False


class CustomerGreeted(Event, subject="customer.greeted"):
    words: Annotated[str, Personal()]


class CustomerSeen(Event, subject="customer.seen"):
    pass


class OrderPlaced(Event, subject="order.placed"):
    customer_id: str
    address: Annotated[Address, Personal(subject="customer_id", forgotten=NOWHERE)]
    article: str = "lamp"
    note: Any = None


class Register(Command, subject="customer.register"):
    email: str


class Greet(Command, subject="customer.greet"):
    words: str = ""


class Customer(msgspec.Struct, frozen=True):
    email: str = ""


class Order(msgspec.Struct, frozen=True):
    pass


customer = Decider("customer", initial=Customer)
order = Decider("order", initial=Order)


@customer.decides
def register(customer: Customer, command: Register) -> CustomerRegistered:
    return CustomerRegistered(email=command.email)


@customer.decides
def greet(customer: Customer, command: Greet) -> CustomerGreeted:
    if not customer.email:
        raise Rejected("nobody", "greets nobody")
    return CustomerGreeted(words=command.words or customer.email)


@customer.evolves
def registered(customer: Customer, event: CustomerRegistered) -> Customer:
    return Customer(event.email)


@customer.evolves
def nothing(customer: Customer, event: CustomerGreeted | CustomerSeen) -> Customer:
    return customer


@order.evolves
def placed(order: Order, event: OrderPlaced) -> Order:
    return order


@customer.upcasts("CustomerRegistered", 1)
def mail_is_email(data: dict[str, Any]) -> dict[str, Any]:
    return {"email": data["mail"], "phone": None, "age": -1}


@customer.upcasts("CustomerMet", 1, to=[("CustomerRegistered", 2), ("CustomerGreeted", 1)])
def met(data: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "CustomerRegistered", {"email": data["mail"]}
    yield "CustomerGreeted", {"words": f"hello {data['mail']}"}


shop = Domain("shop", [customer, order])
