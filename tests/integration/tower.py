"""A bell tower: when a bell has rung, it is to rest; the process fails while the bell is broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from eventstore import After, Application, Command, Decider, Event, Process


class Ring(Command, subject="bell.ring"):
    pass


class Rest(Command, subject="bell.rest"):
    pass


class Rang(Event, subject="bell.rang"):
    pass


class Rested(Event, subject="bell.rested"):
    pass


def tower(name: str, is_broken: Callable[[], bool]) -> Application:
    """An application with the process `ringing`, whose timer `hour` is to ring again."""
    bell: Decider[int] = Decider("bell", initial=int, snapshot_every=1)

    @bell.decides
    def ring(_times: int, _command: Ring) -> Rang:
        return Rang()

    @bell.decides
    def rest(_times: int, _command: Rest) -> Rested:
        return Rested()

    @bell.evolves
    def rang(times: int, _event: Rang | Rested) -> int:
        return times + 1

    ringing: Process[int] = Process("ringing", initial=int, key="bell")

    @ringing.starts
    def begun(_times: int, _event: Rang) -> list[Rest | After[Ring]]:
        if is_broken():
            raise RuntimeError("<b>the bell is broken")
        return [Rest(), After(Ring(), hours=1, name="hour")]

    @ringing.reacts
    def rested(_times: int, _event: Rested) -> None:
        return None

    return Application(name, [bell], processes=[ringing])


app = tower("tower", Path("broken").exists)
"""One that is broken while there is a file of that name."""
