"""`eventstore serve`: run the service."""

from __future__ import annotations

from eventstore.application.process import serving
from eventstore.cli.options import ServeSession
from eventstore.cli.output.terminal import say
from eventstore.service.json_logs import log_times


async def serve(session: ServeSession) -> None:
    """Run the service until Ctrl-C or SIGTERM.

    If no server is named, it runs on an embedded one. A server that does not answer yet is waited
    for, for a minute unless the configuration file has another value (nats.retry.first_connect_ms).

    With --processes 2, projections, queries, the feed and subscribers run in a second process, and
    commands are carried out in this one: two cores are used. It is one service still. A crash of
    the second process is logged, health reports it, and the process is started again.

    Prints one line when it is ready, and logs to standard error, with times in UTC. A second
    Ctrl-C ends the process immediately. Ends with status 0 when it is stopped, 2 for an error, 130
    for Ctrl-C before it is ready.
    """
    log_times()
    await serving(session.app, session.settings, session.directory, say=say)
