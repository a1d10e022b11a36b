from msgspec import Struct
from msgspec.structs import replace

from eventstore import Command, Decider, Event
from shop.order import Id, Quantity


class ReceiveStock(Command, subject="stock.receive", creates=True):
    quantity: Quantity


class ReserveStock(Command, subject="stock.reserve"):
    order: Id
    quantity: Quantity


class ReleaseStock(Command, subject="stock.release"):
    order: Id


class StockReceived(Event, subject="stock.received"):
    quantity: int


class StockReserved(Event, subject="stock.reserved"):
    order: str
    quantity: int


class StockReleased(Event, subject="stock.released"):
    order: str
    quantity: int


class StockRefused(Event, subject="stock.refused"):
    order: str
    available: int


class Stock(Struct, frozen=True):
    available: int = 0
    reserved: dict[str, int] = {}  # quantities by order


stock = Decider("stock", initial=Stock)


@stock.decides
def receive(_stock: Stock, command: ReceiveStock) -> StockReceived:
    return StockReceived(quantity=command.quantity)


@stock.decides
def reserve(stock: Stock, command: ReserveStock) -> StockReserved | StockRefused | None:
    if command.order in stock.reserved:
        return None
    if command.quantity > stock.available:
        return StockRefused(order=command.order, available=stock.available)
    return StockReserved(order=command.order, quantity=command.quantity)


@stock.decides
def release(stock: Stock, command: ReleaseStock) -> StockReleased | None:
    if command.order not in stock.reserved:
        return None
    return StockReleased(order=command.order, quantity=stock.reserved[command.order])


@stock.evolves
def received(stock: Stock, event: StockReceived) -> Stock:
    return replace(stock, available=stock.available + event.quantity)


@stock.evolves
def reserved(stock: Stock, event: StockReserved) -> Stock:
    own = {event.order: event.quantity}
    return Stock(stock.available - event.quantity, stock.reserved | own)


@stock.evolves
def released(stock: Stock, event: StockReleased) -> Stock:
    others = {order: each for order, each in stock.reserved.items() if order != event.order}
    return Stock(stock.available + event.quantity, others)


@stock.evolves
def refused(stock: Stock, _event: StockRefused) -> Stock:
    return stock
