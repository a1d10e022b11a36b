from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from eventstore import Command, Decider, Event, Rejected
from shop.money import Money

Id = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,128}\Z")]
Quantity = Annotated[int, Meta(gt=0, lt=2**31)]
LARGEST = 1_000_000  # in the currency's smallest unit
Status = Literal["placed", "confirmed", "cancelled"]


class PlaceOrder(Command, subject="order.place", creates=True):
    customer: Id
    article: Id
    quantity: Quantity
    price: Money


class PayOrder(Command, subject="order.pay"):
    pass


class ExpireOrder(Command, subject="order.expire"):
    pass


class ConfirmOrder(Command, subject="order.confirm"):
    pass


class CancelOrder(Command, subject="order.cancel"):
    reason: str


class OrderPlaced(Event, subject="order.placed"):
    customer: str
    article: str
    quantity: int
    total: Money


class OrderPaid(Event, subject="order.paid"):
    pass


class OrderConfirmed(Event, subject="order.confirmed"):
    customer: str
    total: Money


class OrderCancelled(Event, subject="order.cancelled"):
    reason: str


class Order(Struct, frozen=True):
    placed: OrderPlaced | None = None
    status: Status = "placed"
    paid: bool = False


order = Decider("order", initial=Order)


@order.decides
def place(order: Order, command: PlaceOrder) -> OrderPlaced:
    total = command.price.times(command.quantity)
    if order.placed:
        raise Rejected("already_placed", "this order was placed before")
    if total.amount > LARGEST:
        raise Rejected("too_large", f"an order is worth at most {LARGEST} {total.currency}")
    return OrderPlaced(
        customer=command.customer, article=command.article, quantity=command.quantity, total=total
    )


@order.decides
def pay(order: Order, _command: PayOrder) -> OrderPaid | None:
    still_open(order)
    return None if order.paid else OrderPaid()


@order.decides
def expire(order: Order, _command: ExpireOrder) -> OrderCancelled:
    still_open(order)
    if order.paid:
        raise Rejected("already_paid", "this order is paid")
    return OrderCancelled(reason="not paid in time")


@order.decides
def confirm(order: Order, _command: ConfirmOrder) -> OrderConfirmed:
    placed = still_open(order)
    if not order.paid:
        raise Rejected("not_paid", "this order is not paid")
    return OrderConfirmed(customer=placed.customer, total=placed.total)


@order.decides
def cancel(order: Order, command: CancelOrder) -> OrderCancelled:
    still_open(order)
    return OrderCancelled(reason=command.reason)


def still_open(order: Order) -> OrderPlaced:
    if order.placed is None or order.status != "placed":
        raise Rejected("not_open", "there is no such order, or it was dealt with before")
    return order.placed


@order.evolves
def placed(_order: Order, event: OrderPlaced) -> Order:
    return Order(placed=event)


@order.evolves
def paid(order: Order, _event: OrderPaid) -> Order:
    return replace(order, paid=True)


@order.evolves
def confirmed(order: Order, _event: OrderConfirmed) -> Order:
    return replace(order, status="confirmed")


@order.evolves
def cancelled(order: Order, _event: OrderCancelled) -> Order:
    return replace(order, status="cancelled")
