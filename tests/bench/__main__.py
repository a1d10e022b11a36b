"""`make bench`: runs all benchmarks, one after another."""

import platform
from importlib.metadata import version

from eventstore.server.binary import find_server
from tests.bench import (
    backlog,
    commands,
    latency,
    projections,
    queries,
    ranges,
    reading,
    rebuild,
    snapshots,
    store,
    transfer,
    verify,
)

print(
    f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, "
    f"nats-py {version('nats-py')}, nats-server {find_server().version}"
)
for benchmark in (
    store,
    reading,
    ranges,
    commands,
    snapshots,
    backlog,
    projections,
    latency,
    rebuild,
    queries,
    verify,
    transfer,
):
    print(f"\n{benchmark.__name__.rpartition('.')[2]}")
    benchmark.main()
