"""The reply gate: the one decision whether a reply subject may be answered.

Whoever asks names the subject that the answer is published on, with our rights and not with his
own. So nothing is answered but inboxes; otherwise a request would be a way to write the log, or to
call JetStream's API, for everybody who may ask for our health.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable

from eventstore.config import NatsSettings
from eventstore.text import make_log_records_safe

__all__ = ["ReplyGate"]

_USUAL = ("_INBOX", "_R_")  # the server makes the latter where a reply crosses accounts
_TOKEN = "[A-Za-z0-9_-]{1,64}"  # noqa: S105  # of a subject
_REPORT_SECONDS = 60.0
_LONGEST_SHOWN = 100

_logger = make_log_records_safe(logging.getLogger(__name__))


class ReplyGate:
    """Lets pass what begins with `_INBOX.`, `_R_.`, or with one of the prefixes that are given.

    Never what is below `domain`, nor a wildcard, nor what has a character that inboxes have not.
    """

    def __init__(self, prefixes: Iterable[str] = (), *, domain: str = "") -> None:
        usual = rf"(?:{'|'.join(_USUAL)})(?:\.{_TOKEN}){{1,4}}"
        named = "|".join(re.escape(prefix) for prefix in sorted({*prefixes} - {*_USUAL}))
        # One prefix may stand for those of many users, each with some tokens of his own.
        others = rf"|(?:{named})(?:\.{_TOKEN}){{1,8}}" if named else ""
        outside = rf"(?!{re.escape(domain)}\.)" if domain else ""
        self._admitted = re.compile(f"{outside}(?:{usual}{others})")
        self._reported: dict[str, float] = {}
        self.refused = 0

    @classmethod
    def of(cls, settings: NatsSettings) -> ReplyGate:
        """As the settings say."""
        prefixes = (settings.inbox_prefix, *settings.reply_prefixes)
        return cls(prefixes, domain=settings.subject_prefix)

    def admits(self, reply: str) -> bool:
        """Whether this is an inbox, which may be answered."""
        return self._admitted.fullmatch(reply) is not None

    def passes(self, reply: str, what: str) -> bool:
        """The same; a refusal is counted, and logged once a minute for each `what` is answered."""
        if self.admits(reply):
            return True
        self.refused += 1
        now = time.monotonic()
        if now - self._reported.get(what, -_REPORT_SECONDS) >= _REPORT_SECONDS:
            self._reported[what] = now
            _logger.warning(
                "%s: not answered, for the reply subject %r is no inbox; where it should be one, "
                "name its prefix in nats.reply_prefixes (%d refused so far)",
                *(what, reply[:_LONGEST_SHOWN], self.refused),
            )
        return False
