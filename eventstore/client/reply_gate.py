"""The reply gate: decides whether a reply subject may be answered.

The requester names the subject on which the answer is published, with our permissions and not its
own. So only inboxes are answered; otherwise anybody who may request our health could write to the
log, or call JetStream's API, by a request.
"""

from __future__ import annotations

import logging
import re
import time

from eventstore.config import NatsSettings
from eventstore.messages.text import make_log_records_safe

_USUAL = ("_INBOX", "_R_")  # the latter is the server's, for replies that cross accounts
_TOKEN = "[A-Za-z0-9_-]{1,64}"  # noqa: S105  # of a subject
_REPORT_SECONDS = 60.0
_MAX_SHOWN = 100

_logger = make_log_records_safe(logging.getLogger(__name__))


class ReplyGate:
    """Admits reply subjects below `_INBOX`, `_R_`, or one of the settings' prefixes.

    Never one below a protected domain, nor a wildcard, nor one with a character that inboxes do not
    have.
    """

    def __init__(self, settings: NatsSettings) -> None:
        prefixes = {settings.inbox_prefix, *settings.reply_prefixes}
        usual = rf"(?:{'|'.join(_USUAL)})(?:\.{_TOKEN}){{1,4}}"
        named = "|".join(re.escape(prefix) for prefix in sorted(prefixes - {*_USUAL}))
        # One prefix may be that of many users, each with some tokens of its own.
        others = rf"|(?:{named})(?:\.{_TOKEN}){{1,8}}" if named else ""
        self._admitted = re.compile(f"{usual}{others}")
        self._domains = {settings.subject_prefix}
        self._reported: dict[str, float] = {}
        self.refused = 0

    def protect(self, domain: str) -> None:
        """Never admit a subject of this domain, whatever the prefixes."""
        self._domains.add(domain)

    def admits(self, reply: str) -> bool:
        """Whether this is an inbox that may be answered."""
        if self._admitted.fullmatch(reply) is None:
            return False
        return reply.partition(".")[0] not in self._domains

    def passes(self, reply: str, what: str) -> bool:
        """The same; refusals are counted, and logged once a minute for each `what`."""
        if self.admits(reply):
            return True
        self.refused += 1
        now = time.monotonic()
        if now - self._reported.get(what, -_REPORT_SECONDS) >= _REPORT_SECONDS:
            self._reported[what] = now
            _logger.warning(
                "%s: not answered, because the reply subject %r is no inbox; if it should be one, "
                "add its prefix to nats.reply_prefixes (%d refused so far)",
                *(what, reply[:_MAX_SHOWN], self.refused),
            )
        return False
