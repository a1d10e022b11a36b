from msgspec import Struct
from msgspec.structs import replace

from eventstore import END, After, Cancel, Process, ProcessContext, Send
from eventstore.processes import Reaction
from shop.customer import RecordPurchase
from shop.order import (
    CancelOrder,
    ConfirmOrder,
    ExpireOrder,
    OrderCancelled,
    OrderConfirmed,
    OrderPaid,
    OrderPlaced,
)
from shop.stock import ReleaseStock, ReserveStock, StockRefused, StockReserved


class Fulfilment(Struct, frozen=True):
    article: str = ""
    reserved: bool | None = None  # None: the stock has not answered yet
    paid: bool = False
    cancelled: bool = False


fulfilment = Process("fulfilment", initial=Fulfilment, key="order")


@fulfilment.starts
def placed(_state: Fulfilment, event: OrderPlaced, context: ProcessContext) -> Reaction:
    needed = ReserveStock(order=context.key, quantity=event.quantity)
    return [Send(needed, event.article), After(ExpireOrder(), minutes=15)]


@fulfilment.reacts
def paid(state: Fulfilment, _event: OrderPaid) -> Reaction:
    return [Cancel(ExpireOrder), *([ConfirmOrder()] if state.reserved else [])]


@fulfilment.reacts
def reserved(state: Fulfilment, _event: StockReserved, context: ProcessContext) -> Reaction:
    if state.cancelled:
        return [Send(ReleaseStock(order=context.key), state.article), END]
    return ConfirmOrder() if state.paid else None


@fulfilment.reacts
def refused(state: Fulfilment, event: StockRefused) -> Reaction:
    return END if state.cancelled else CancelOrder(reason=f"only {event.available} in stock")


@fulfilment.reacts
def cancelled(state: Fulfilment, _event: OrderCancelled, context: ProcessContext) -> Reaction:
    if state.reserved is None:
        return None  # the stock will answer, and then it ends
    return [
        *([Send(ReleaseStock(order=context.key), state.article)] if state.reserved else []),
        END,
    ]


@fulfilment.ends
def confirmed(
    _state: Fulfilment, event: OrderConfirmed, context: ProcessContext
) -> Send[RecordPurchase]:
    return Send(RecordPurchase(order=context.key, total=event.total), event.customer)


@fulfilment.evolves
def ordered(_state: Fulfilment, event: OrderPlaced) -> Fulfilment:
    return Fulfilment(article=event.article)


@fulfilment.evolves
def answered(state: Fulfilment, event: StockReserved | StockRefused) -> Fulfilment:
    return replace(state, reserved=isinstance(event, StockReserved))


@fulfilment.evolves
def settled(state: Fulfilment, _event: OrderPaid) -> Fulfilment:
    return replace(state, paid=True)


@fulfilment.evolves
def given_up(state: Fulfilment, _event: OrderCancelled) -> Fulfilment:
    return replace(state, cancelled=True)
