"""A checker: real clients, a real service and real faults, and a judge that knows neither.

`load` sends commands and writes down what it was told; `faults` break the `system` meanwhile;
`raw` reads what is left, with plain nats-py and sqlite3; `judge` compares the two with rules of its
own (`fold`). The judge's modules (`history`, `fold`, `judge`, `raw`) import nothing of the library.
"""
