"""The rules of the bank once more, as the judge knows them: on JSON, and without the library."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

Data = dict[str, Any]


@dataclass(frozen=True)
class Account:
    """The state of an account after some of its events."""

    is_open: bool = False
    balance: int = 0
    limit: int = 0


@dataclass(frozen=True)
class Decision:
    """What a command has to lead to: events with their data, or a rejection with its code."""

    events: tuple[tuple[str, Data], ...] = ()
    rejection: str = ""


_SIGNS = {"Deposited": 1, "Received": 1, "Refunded": 1, "Withdrawn": -1, "Sent": -1}


def movement(event: str, data: Data) -> int | None:
    """By how much an event changes the balance; None if it is no movement."""
    return _SIGNS[event] * int(data["amount"]) if event in _SIGNS else None


def evolve(account: Account, event: str, data: Data) -> Account:
    """The state after an event."""
    if event == "Opened":
        return replace(account, is_open=True, limit=data["limit"])
    if event == "LimitChanged":
        return replace(account, limit=data["limit"])
    return replace(account, balance=account.balance + _SIGNS[event] * data["amount"])


def decide(name: str, account: Account, action: str, data: Data) -> Decision:
    """What a command has to lead to on the account `name` in this state."""
    if action == "open":
        if account.is_open:
            return Decision(rejection="already_open")
        return Decision((("Opened", {"limit": data["limit"]}),))
    if action == "refund":  # of what was taken from it: always possible
        return Decision((("Refunded", data),))
    if not account.is_open:
        return Decision(rejection="not_open")
    match action:
        case "deposit":
            return Decision(tuple(("Deposited", {"amount": each}) for each in data["amounts"]))
        case "receive":
            return Decision((("Received", data),))
        case "change_limit":
            return _limit(account, data["limit"])
        case _:
            return _taken(name, account, action, data)


def _limit(account: Account, limit: int) -> Decision:
    if account.balance + limit < 0:
        return Decision(rejection="too_low")
    return Decision(() if limit == account.limit else (("LimitChanged", {"limit": limit}),))


def _taken(name: str, account: Account, action: str, data: Data) -> Decision:
    if account.balance + account.limit < data["amount"]:
        return Decision(rejection="not_covered")
    if action == "withdraw":
        return Decision((("Withdrawn", data),))
    return Decision((("Sent", {"source": name, **data}),))
