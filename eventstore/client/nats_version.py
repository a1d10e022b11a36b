"""Which nats-py is installed, and whether its private names are those that are corrected here."""

from __future__ import annotations

import logging
from functools import cache
from importlib.metadata import version

import nats.aio.client

from eventstore.errors import ConfigurationError
from eventstore.messages.text import make_log_records_safe

KNOWN = "2.16"
"""The minor version that the corrections are tested with."""

NEEDED = (
    *("_attempt_reconnect", "_build_message", "_connect_command", "_connect_to_server"),
    *("_current_server", "_error_cb", "_flush_pending", "_flush_queue", "_max_payload"),
    *("_max_pending_size", "_pending", "_pending_data_size", "_pongs", "_process_connect_init"),
    *("_process_err", "_process_headers", "_process_info", "_process_msg", "_process_op_err"),
    *("_process_ping", "_process_pong", "_ps", "_read_loop", "_remove_sub", "_send_ping"),
    *("_send_publish", "_send_unsubscribe", "_server_info", "_sid", "_transport"),
)
"""The private names of its client that `connection` and `protocol` use or replace."""

_INSTALL = f"pip install 'nats-py[nkeys]>={KNOWN},<2.17'"

_logger = make_log_records_safe(logging.getLogger(__name__))


@cache
def check_nats_py() -> None:
    """Warn, once, of a nats-py that this release does not know.

    Raises `ConfigurationError` for one that lacks a name that it needs.
    """
    installed = version("nats-py")
    check(installed, nats.aio.client.Client())


def check(installed: str, client: object) -> None:
    """Check a version, and a client of it."""
    if installed == KNOWN or installed.startswith(f"{KNOWN}."):
        return
    missing = [name for name in NEEDED if not hasattr(client, name)]
    if missing:
        raise ConfigurationError(
            f"nats-py {installed} does not fit this release, which corrects {KNOWN}: its client "
            f"has no {', '.join(missing)}. Install one that does: {_INSTALL}"
        )
    _logger.warning(
        "nats-py %s is not known to this release, which corrects and is tested with %s: %s",
        *(installed, KNOWN, _INSTALL),
    )
