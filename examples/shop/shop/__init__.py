"""A shop: orders, stock and customers, a saga, two read models, and a web application on top.

Run it in the folder above with `eventstore --app shop.app:app serve`, or as a web application with
`uvicorn shop.web:web`. Read `app`, `order`, `stock`, `customer`, `fulfilment`, `reading`, `web`.
"""
