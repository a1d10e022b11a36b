from datetime import date

from msgspec import Struct
from sqlalchemy import func, insert, select, update

from eventstore import Listed, ListQuery, Query, RecordedEvent
from eventstore.projections import Projection, Statement
from eventstore.projections.queries import QueryHandlers, Rows, equals
from shop.order import OrderCancelled, OrderConfirmed, OrderPlaced, Status
from shop.tables import order, sale

orders = Projection("orders", tables=[order])
sales = Projection("sales", tables=[sale])


@orders.handles
def placed(event: OrderPlaced, recorded: RecordedEvent) -> Statement:
    return insert(order).values(
        id=recorded.aggregate_id,
        customer=event.customer,
        article=event.article,
        quantity=event.quantity,
        amount=event.total.amount,
        currency=event.total.currency,
        status="placed",
    )


@orders.handles
def confirmed(_event: OrderConfirmed, recorded: RecordedEvent) -> Statement:
    return update(order).where(order.c.id == recorded.aggregate_id).values(status="confirmed")


@orders.handles
def cancelled(event: OrderCancelled, recorded: RecordedEvent) -> Statement:
    own = update(order).where(order.c.id == recorded.aggregate_id)
    return own.values(status="cancelled", reason=event.reason)


@sales.handles
def sold(event: OrderConfirmed, recorded: RecordedEvent) -> Statement:
    return insert(sale).values(
        order=recorded.aggregate_id,
        day=date.fromisoformat(recorded.envelope.timestamp[:10]),
        amount=event.total.amount,
        currency=event.total.currency,
    )


class OrderView(Struct):
    id: str
    customer: str
    article: str
    quantity: int
    amount: int
    currency: str
    status: Status
    reason: str | None


class GetOrder(Query[OrderView], subject="order.get"):
    """Show an order."""

    id: str


class ListOrders(ListQuery[OrderView], subject="order.list"):
    """List orders, of a customer for example."""

    customer: str | None = None
    status: Status | None = None


class DaySales(Struct):
    day: date
    currency: str
    orders: int
    revenue: int


class ListDailySales(ListQuery[DaySales], subject="sales.daily"):
    """List each day's confirmed orders and revenue."""


order_queries = QueryHandlers(orders)
sales_queries = QueryHandlers(sales)


@order_queries.answers
def get_order(query: GetOrder, rows: Rows) -> OrderView:
    return rows.one(query, select(order).where(order.c.id == query.id), f"order {query.id}")


@order_queries.answers
def list_orders(query: ListOrders, rows: Rows) -> Listed[OrderView]:
    wanted = equals(order.c.customer, query.customer), equals(order.c.status, query.status)
    return rows.page(query, select(order).where(*wanted), by=(order.c.id,))


@sales_queries.answers
def list_daily_sales(query: ListDailySales, rows: Rows) -> Listed[DaySales]:
    by = sale.c.day, sale.c.currency
    number, revenue = func.count().label("orders"), func.sum(sale.c.amount).label("revenue")
    return rows.page(query, select(*by, number, revenue).group_by(*by), by=by)
