"""The pages of the console, a module each: what they read, and what their templates are given."""

from eventstore.console.pages import (
    actions,
    aggregates,
    confirmation,
    events,
    live,
    login,
    overview,
    parked,
    processes,
    projections,
    schemas,
    stories,
    timers,
)

_PAGES = (
    *(overview, stories, aggregates, events, projections, parked, timers, processes),
    *(actions, live, schemas, confirmation, login),
)

ROUTES = [route for page in _PAGES for route in page.ROUTES]
"""The routes of all pages."""

__all__ = ["ROUTES"]
