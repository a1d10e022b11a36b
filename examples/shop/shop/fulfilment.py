from eventstore import CommandClient, RecordedEvent, Subscriber
from shop.customer import RecordPurchase
from shop.order import CancelOrder, ConfirmOrder, OrderConfirmed, OrderPlaced
from shop.stock import ReserveStock, StockRefused, StockReserved

fulfilment = Subscriber("fulfilment")


@fulfilment.handles
async def reserve(event: OrderPlaced, recorded: RecordedEvent, *, commands: CommandClient) -> None:
    needed = ReserveStock(order=recorded.aggregate_id, quantity=event.quantity)
    await commands.send(needed, event.article)


@fulfilment.handles
async def confirm(
    event: StockReserved, _recorded: RecordedEvent, *, commands: CommandClient
) -> None:
    await commands.send(ConfirmOrder(), event.order)


@fulfilment.handles
async def cancel(event: StockRefused, _recorded: RecordedEvent, *, commands: CommandClient) -> None:
    await commands.send(CancelOrder(reason=f"only {event.available} in stock"), event.order)


@fulfilment.handles
async def record(
    event: OrderConfirmed, recorded: RecordedEvent, *, commands: CommandClient
) -> None:
    purchase = RecordPurchase(order=recorded.aggregate_id, total=event.total)
    await commands.send(purchase, event.customer)
