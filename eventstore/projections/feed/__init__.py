"""The feed: publishes every event of the log on its public subject, exactly once and in order.

The only writer of `{DOMAIN}_EVENT`.
"""

from eventstore.projections.feed.feed import Feed
from eventstore.projections.feed.supervisor import FeedSupervisor

__all__ = ["Feed", "FeedSupervisor"]
