"""The pages of the console, a module each: what they read, and what their templates are given."""

from eventstore.console.pages import (
    aggregates,
    confirmation,
    events,
    live,
    login,
    overview,
    parked,
    projections,
    schemas,
    stories,
    timers,
)

__all__ = [
    "aggregates",
    "confirmation",
    "events",
    "live",
    "login",
    "overview",
    "parked",
    "projections",
    "schemas",
    "stories",
    "timers",
]
