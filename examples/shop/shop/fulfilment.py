from eventstore import CommandClient, RecordedEvent, Subscriber
from shop.customer import RecordPurchase
from shop.order import CancelOrder, ConfirmOrder, OrderConfirmed, OrderPlaced
from shop.stock import ReleaseStock, ReserveStock, StockRefused, StockReserved

fulfilment = Subscriber("fulfilment")


@fulfilment.handles
async def reserve(event: OrderPlaced, recorded: RecordedEvent, *, commands: CommandClient) -> None:
    needed = ReserveStock(order=recorded.aggregate_id, quantity=event.quantity)
    await commands.send(needed, event.article)


@fulfilment.handles
async def confirm(
    event: StockReserved, recorded: RecordedEvent, *, commands: CommandClient
) -> None:
    outcome = await commands.execute(ConfirmOrder(), event.order)
    if outcome.status == "rejected":  # for the customer has cancelled the order meanwhile
        await commands.send(ReleaseStock(order=event.order), recorded.aggregate_id)


@fulfilment.handles
async def cancel(event: StockRefused, _recorded: RecordedEvent, *, commands: CommandClient) -> None:
    await commands.send(CancelOrder(reason=f"only {event.available} in stock"), event.order)


@fulfilment.handles
async def record(
    event: OrderConfirmed, recorded: RecordedEvent, *, commands: CommandClient
) -> None:
    purchase = RecordPurchase(order=recorded.aggregate_id, total=event.total)
    await commands.send(purchase, event.customer)
