from pathlib import Path

from eventstore import Application
from eventstore.projections.database import Migrations
from shop import customer, fulfilment, order, reading, stock

app = Application(
    "shop",
    [order.order, stock.stock, customer.customer],
    projections=[reading.orders, reading.sales],
    queries=[reading.order_queries, reading.sales_queries],
    processes=[fulfilment.fulfilment],
    migrations=Migrations(Path(__file__).parent / "migrations"),
    version="1.0.0",
)
