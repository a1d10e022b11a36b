"""The feed: publishes every event of the log on its public subject, exactly once and in order.

The only package of the read side that publishes.
"""

from eventstore.projections.feed.feed import Feed
from eventstore.projections.feed.subscribers_check import SubscribersCheck
from eventstore.projections.feed.supervisor import FeedSupervisor

__all__ = ["Feed", "FeedSupervisor", "SubscribersCheck"]
