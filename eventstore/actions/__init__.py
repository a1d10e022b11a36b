"""Administrative actions: recorded before they are carried out, and listed for the audit.

The only writer of `{DOMAIN}_ACTION`.
"""

from eventstore.actions.log import ActionLog
from eventstore.actions.queries import (
    ActionStatus,
    ActionView,
    ListActions,
    action_answers,
    list_actions,
)

__all__ = [
    "ActionLog",
    "ActionStatus",
    "ActionView",
    "ListActions",
    "action_answers",
    "list_actions",
]
