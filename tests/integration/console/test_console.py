"""The console over ASGI, of a service that runs, on a real server."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from eventstore.application.service import RunningApplication
from eventstore.config import ConsoleSettings
from eventstore.console import Console, Visitor, serve_console
from eventstore.errors import ConfigurationError
from eventstore.parking import ParkedMessages
from eventstore.projections.control import ListProjections
from eventstore.server.embedded import EmbeddedServer
from tests.connection import settings_for
from tests.integration.console.guests import CheckIn, Move, hotel
from tests.integration.console.visits import (
    BOUND,
    RunningService,
    confirmed,
    text_of,
    until,
    visiting,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = "<script>alert(1)</script>'\"><b>\x1b[31m\u202egpj"
SHOWN = "&lt;script&gt;alert(1)&lt;/script&gt;&#39;"
LARGE = "x" * 900_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hotel_running(
    nats_server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningService]:
    """A hotel with guests, one of them hostile, rejections, and what is parked."""
    app = hotel(f"h{secrets.token_hex(4)}")
    settings = settings_for(nats_server.url, app.name)
    async with app.running(settings, directory=tmp_path_factory.mktemp("hotel")) as service:
        await service.execute(CheckIn(name="Ann"), "ann", actor="desk")
        await service.execute(CheckIn(name="Bob"), "ann", actor="desk")
        for room in ("1", "2", "cellar", "3"):
            await service.execute(Move(room=room), "ann", actor="desk")
        await service.execute(Move(room=HOSTILE), "eve", actor="\u202eeve<b>")
        last = await service.execute(Move(room=LARGE), "large")
        body = b'{"name": "' + HOSTILE.encode() + b'", "no": 1}'
        for own in ("x-1", "x-2"):
            headers = {"X-Aggregate-ID": own, "X-Actor": "eve"}
            await service.client.request(f"{app.name}.cmd.guest.check_in", body, headers=headers)
        assert last.position is not None
        await service.wait(last.position, "audit")
        await service.wait(last.position, "rooms")
        await until(lambda: parked(service), [1, 2])
        await until(lambda: indexed_rejections(service), 1)
        yield RunningService(app, settings, service)


async def parked(service: RunningApplication) -> list[int]:
    messages = ParkedMessages(service.client, service.domain.codec.subjects)
    return [each.sequence async for each in messages.read()]


async def indexed_rejections(service: RunningApplication) -> int:
    from eventstore.audit import SearchAudit

    return len((await service.ask(SearchAudit(status="rejected"))).items)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(hotel_running: RunningService) -> AsyncIterator[httpx.AsyncClient]:
    """A visitor who may do everything."""
    async with visiting(hotel_running) as client:
        yield client


PAGES = (
    *("/", "/stories", "/aggregates", "/projections", "/parked", "/timers", "/processes"),
    *("/actions", "/live", "/schemas"),
)


async def test_every_page_is_there_and_protected(browser: httpx.AsyncClient) -> None:
    for path in PAGES:
        answer = await browser.get(path)
        assert answer.status_code == 200, text_of(answer)
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert re.findall(r"<script(?![^>]*src=)|\son\w+=|\sstyle=", answer.text) == []


async def test_the_overview_says_how_the_services_are(browser: httpx.AsyncClient) -> None:
    shown = text_of(await browser.get("/"))

    for each in ("degraded", "projections", "rooms", "events parked", "commands", "1.2.3"):
        assert each in shown
    assert "Parked 2" in shown


async def test_a_story_is_a_tree_and_a_timeline(browser: httpx.AsyncClient) -> None:
    found = await browser.get("/stories", params={"type": "CheckIn", "actor": "desk"})
    assert text_of(found).count("CheckIn") >= 2
    story = re.search(r'href="(/stories/[0-9a-f-]{36})"', found.text)
    assert story is not None
    tree = await browser.get(story[1])

    assert "Commands 1" in text_of(tree)
    assert "unchanged" in tree.text
    timeline = await browser.get(story[1], params={"view": "timeline"})
    assert "<rect" in timeline.text
    opened = await browser.get("/stories", params={"id": story[1][-36:]}, follow_redirects=True)
    assert opened.url.path == story[1]


async def test_the_search_is_paged(browser: httpx.AsyncClient, monkeypatch: Any) -> None:
    monkeypatch.setattr("eventstore.console.pages.stories.PAGE", 3)
    first = await browser.get("/stories", params={"kind": "event", "aggregate_id": "ann"})
    link = re.search(r'href="([^"]*after=[^"]*)"', first.text)
    assert link is not None
    second = await browser.get(link[1].replace("&amp;", "&"))

    assert first.text.count("<time") == 3
    assert second.text.count("<time") == 2


async def test_an_aggregate_is_shown_at_any_version(browser: httpx.AsyncClient) -> None:
    now = text_of(await browser.get("/aggregates/guest/ann"))
    then = text_of(await browser.get("/aggregates/guest/ann", params={"at": 2}))

    assert "Version 5" in now
    assert "verified" in now
    assert "already_here" in now
    assert "&#34;room&#34;: &#34;3&#34;" in now
    assert "State at version 2" in then
    assert "&#34;room&#34;: &#34;1&#34;" in then
    assert "cellar" not in then


async def test_a_long_history_is_listed_until_it_is_asked_for(
    browser: httpx.AsyncClient, monkeypatch: Any
) -> None:
    monkeypatch.setattr("eventstore.console.pages.aggregates.MAX_FOLDED", 3)
    monkeypatch.setattr("eventstore.console.pages.aggregates.STEPS", 2)
    listed = await browser.get("/aggregates/guest/ann")
    assert "there is no snapshot near version 5" in text_of(listed)
    assert "Moved" in listed.text
    older = re.search(r'href="([^"]*after=[^"]*)"', listed.text)
    assert older is not None
    assert "Moved" in (await browser.get(older[1])).text
    more = text_of(await browser.get("/aggregates/guest/ann?read=more"))
    assert "State at version 5" in more
    whole = text_of(await browser.get("/aggregates/guest/ann?read=all"))
    assert "State at version 5" in whole
    assert "verified 5 events" in whole
    assert "read is more, or all" in text_of(await browser.get("/aggregates/guest/ann?read=x"))


async def test_hostile_texts_are_shown_as_texts(browser: httpx.AsyncClient) -> None:
    for path in ("/aggregates/guest/eve", "/stories?aggregate_id=eve", "/parked/2", "/parked"):
        answer = await browser.get(path)
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text
        assert "<b>" not in answer.text
        assert not set("\x1b\u202e") & set(answer.text), path
    assert SHOWN in (await browser.get("/aggregates/guest/eve")).text
    assert "\\u202eeve&lt;b&gt;" in (await browser.get("/stories?aggregate_id=eve")).text
    assert "\\u202egpj" in (await browser.get("/parked/2")).text


async def test_what_is_large_is_cut_and_can_be_downloaded(browser: httpx.AsyncClient) -> None:
    shown = await browser.get("/aggregates/guest/large")
    assert shown.status_code == 200
    assert len(shown.text) < 40_000
    link = re.search(r'href="(/events/\d+)"', shown.text)
    assert link is not None
    message = await browser.get(link[1])
    assert "Only the beginning is shown" in message.text
    assert len(message.text) < 40_000
    payload = await browser.get(f"{link[1]}/payload")
    assert len(payload.content) > 900_000
    assert payload.headers["content-disposition"].startswith("attachment")


FORGED = [
    ("/stories/forged", 404, "is not an id"),
    ("/stories/00000000-0000-4000-8000-000000000000", 404, "has the id"),
    ("/stories?after=forged", 400, "is not a cursor"),
    ("/stories?status=<b>", 400, "status is one of"),
    ("/stories?since=soon", 400, "is not a time"),
    ("/stories?actor=%00", 400, "actor"),
    ("/aggregates/none/x", 404, "known are guest"),
    ("/aggregates/guest/nobody", 404, "no events"),
    ("/aggregates/guest/a%20b", 400, "is not allowed"),
    ("/aggregates/guest/ann?at=x", 400, "whole number"),
    ("/events/999999", 404, "nothing at position"),
    ("/events/0", 400, "whole number"),
    ("/projections/none", 404, "there are rooms, audit"),
    ("/parked/99", 404, "nothing is parked there"),
    ("/timers/none", 404, "no timer none"),
    ("/actions?after=forged", 400, "is not a cursor"),
    ("/actions?since=soon", 400, "is not a time"),
    ("/processes?process=none", 404, "there is no process none"),
    ("/processes?status=odd", 400, "status is failed"),
    ("/processes?before=x", 400, "whole number"),
    ("/processes/none/k", 404, "there is no process none"),
    ("/act/process-retry", 400, "does not say to what"),
    ("/schemas?name=None", 404, "no command, event or query"),
    ("/act/none", 404, "no such action"),
    ("/act/parked-retry", 400, "does not say to what"),
    ("/nothing", 404, "no page at this address"),
]
"""Addresses, the statuses of their pages, and what these say."""


async def test_what_is_forged_gets_a_page_that_says_so(browser: httpx.AsyncClient) -> None:
    for path, status, words in FORGED:
        answer = await browser.get(path)
        assert (answer.status_code, words in text_of(answer)) == (status, True), text_of(answer)
        assert "Traceback" not in answer.text


async def test_a_parked_command_is_discarded_by_an_operator_and_that_is_recorded(
    browser: httpx.AsyncClient, hotel_running: RunningService, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        done = await confirmed(browser, "/act/parked-discard?number=1")
    failed = await confirmed(browser, "/act/parked-retry?number=1")
    recorded = text_of(await browser.get("/actions", params={"actor": "local", "since": "1h"}))

    assert "Parked message 1 was discarded." in text_of(done)
    assert await parked(hotel_running.service) == [2]
    assert "console: parked-discard of 1 by local" in caplog.text
    assert failed.status_code == 404
    assert "local parked-retry 1 failed not_parked" in recorded
    assert "local parked-discard 1 done" in recorded
    assert "Nothing was found" in text_of(await browser.get("/actions?actor=bob"))
    assert (await browser.get("/parked/1")).status_code == 404
    again = await browser.get("/parked?done=Forged&sign=0")
    assert "Forged" not in again.text


async def test_a_projection_is_paused_resumed_and_rebuilt(
    browser: httpx.AsyncClient, hotel_running: RunningService, caplog: pytest.LogCaptureFixture
) -> None:
    service = hotel_running.service
    await confirmed(browser, "/act/projection-pause?name=rooms")
    assert service.projections is not None
    await until(lambda: state_of(service, "rooms"), True)
    assert "paused" in text_of(await browser.get("/projections/rooms"))
    await confirmed(browser, "/act/projection-resume?name=rooms")
    await until(lambda: state_of(service, "rooms"), False)
    with caplog.at_level(logging.WARNING):
        done = await confirmed(browser, "/act/projection-rebuild?name=rooms")
        assert "was requested" in text_of(done)
        async with asyncio.timeout(BOUND):
            while "rooms: rebuilt to position" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    assert "projection rooms: rebuild, requested by local" in caplog.text


async def state_of(service: RunningApplication, name: str) -> bool:
    found = (await service.ask(ListProjections())).projections
    return next(each.state for each in found if each.name == name) == "paused"


async def test_parked_events_of_a_projection_are_retried_and_discarded(
    browser: httpx.AsyncClient,
) -> None:
    shown = text_of(await browser.get("/projections/rooms"))
    assert "nobody lives in the cellar" in shown
    assert "waits for an older event" in shown
    position = re.search(
        r"projection=?|number=(\d+)", (await browser.get("/projections/rooms")).text
    )
    assert position is not None
    own = re.findall(r"name=rooms&amp;number=(\d+)", (await browser.get("/projections/rooms")).text)
    failed = await confirmed(browser, f"/act/projection-retry?name=rooms&number={own[0]}")
    assert "0 applied, 2 stay parked" in text_of(failed)
    await confirmed(browser, f"/act/projection-discard?name=rooms&number={own[0]}")
    applied = await confirmed(browser, "/act/projection-retry?name=rooms")
    assert "1 applied, 0 stay parked" in text_of(applied)


async def test_who_only_looks_cannot_act_and_sees_no_personal_data(
    hotel_running: RunningService,
) -> None:
    async with visiting(hotel_running, ConsoleSettings()) as browser:
        aggregate = await browser.get("/aggregates/guest/ann")
        message = await browser.get("/parked/2")
        refused = await browser.get("/act/parked-discard?number=2")
        posted = await browser.post("/act/parked-discard?number=2")
        payload = await browser.get("/parked/2/payload")
        event = await browser.get("/events/1")
        stored = await browser.get("/events/1/payload")

    assert "Ann" not in aggregate.text
    assert "(personal data)" in aggregate.text
    assert "alert(1)" not in message.text
    assert "Discard" not in message.text
    assert "may have personal data" in event.text
    assert {each.status_code for each in (refused, posted, payload, stored)} == {403}
    assert "console.operators" in text_of(refused)
    assert 2 in await parked(hotel_running.service)


async def test_a_form_of_another_site_is_refused(
    browser: httpx.AsyncClient, hotel_running: RunningService
) -> None:
    path = "/act/parked-discard?number=2"
    token = re.search(r'name="form_token" value="([0-9a-f]+)"', (await browser.get(path)).text)
    assert token is not None
    own = {"form_token": token[1]}
    attempts: list[tuple[dict[str, str], dict[str, str]]] = [
        ({}, {}),
        ({"form_token": "forged"}, {}),
        (own, {"sec-fetch-site": "cross-site"}),
        (own, {"origin": "http://evil.example"}),
    ]
    for data, headers in attempts:
        assert (await browser.post(path, data=data, headers=headers)).status_code == 403
    large = await browser.post(path, data={**own, "more": "x" * 20_000})
    assert large.status_code == 413
    assert 2 in await parked(hotel_running.service)


async def test_a_login_gives_a_strict_cookie_and_the_rights_of_its_name(
    hotel_running: RunningService, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("# names\nann 0123456789abcdefghij\nbob abcdefghij0123456789\n")
    logins = ConsoleSettings(tokens_file=tokens, operators=("ann",))
    async with visiting(hotel_running, logins, is_local=False) as browser:
        first = await browser.get("/parked?after=0")
        assert first.status_code == 303
        assert first.headers["location"] == "/login?to=%2Fparked%3Fafter%3D0"
        wrong = await browser.post("/login", data={"token": "guessed", "to": "/parked"})
        assert (wrong.status_code, "Nobody has this token" in wrong.text) == (401, True)
        elsewhere = await browser.post(
            "/login", data={"token": "abcdefghij0123456789", "to": "//evil.example"}
        )
        assert elsewhere.headers["location"] == "/"
        cookie = elsewhere.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "bob" in (await browser.get("/parked")).text
        assert (await browser.get("/act/parked-discard?number=2")).status_code == 403
        await browser.post("/login", data={"token": "0123456789abcdefghij"})
        assert (await browser.get("/act/parked-discard?number=2")).status_code == 200
        name, _, value = cookie.partition(";")[0].partition("=")
        forged = {"cookie": f"{name}={value[:-2]}00"}
        browser.cookies.clear()
        assert (await browser.get("/parked", headers=forged)).status_code == 303


async def test_a_reverse_proxy_says_who_it_is(hotel_running: RunningService) -> None:
    proxied = ConsoleSettings(login_header="X-User")
    async with visiting(hotel_running, proxied, is_local=False) as browser:
        nobody = await browser.get("/")
        somebody = await browser.get("/", headers={"X-User": "carol"})
        twice = await browser.get("/", headers=[("X-User", "carol"), ("X-User", "dave")])

    assert (nobody.status_code, somebody.status_code, twice.status_code) == (401, 200, 401)
    assert "carol" in somebody.text


async def test_without_logins_it_is_not_open_to_the_network(hotel_running: RunningService) -> None:
    for address in ("0.0.0.0:0", "[::]:0", "example.org:0", "192.0.2.1:0"):
        settings = hotel_running.settings_of(ConsoleSettings(address=address))
        with pytest.raises(ConfigurationError, match="needs logins"):
            await serve_console(hotel_running.app, settings).__aenter__()
    with pytest.raises(ConfigurationError, match="needs logins"):
        Console(hotel_running.app, hotel_running.settings)


async def test_it_answers_to_the_names_of_this_machine_only(hotel_running: RunningService) -> None:
    settings = hotel_running.settings_of(ConsoleSettings(address="127.0.0.1:0"))
    async with serve_console(hotel_running.app, settings) as url, httpx.AsyncClient() as client:
        own = await client.get(f"{url}schemas")
        other = await client.get(f"{url}schemas", headers={"Host": "evil.example"})

    assert (own.status_code, other.status_code) == (200, 421)


async def test_it_can_be_mounted_in_another_application(hotel_running: RunningService) -> None:
    def visitor(request: Request) -> Visitor | None:
        return Visitor("carol", may_act=True) if "who" in request.headers else None

    console = Console(hotel_running.app, hotel_running.settings, visitor=visitor)
    web = Starlette(routes=[Mount("/ops/console", console)])
    transport = httpx.ASGITransport(web)
    async with console, httpx.AsyncClient(transport=transport, base_url="http://web") as client:
        who = {"who": "carol"}
        page = await client.get("/ops/console/schemas", headers=who)
        style = re.search(r'href="(/ops/console/static/console.css[^"]*)"', page.text)
        assert style is not None
        assert (await client.get(style[1])).status_code == 200
        assert page.headers["set-cookie"].count("Path=/ops/console") == 1
        links = set(re.findall(r'(?:href|action|src)="(/[^"]*)"', page.text))
        assert [link for link in links if not link.startswith("/ops/console/")] == []
        assert (await client.get("/ops/console/schemas")).status_code == 401


async def test_live_events_are_sent_as_they_come_and_filtered(
    hotel_running: RunningService,
) -> None:
    service = hotel_running.service
    settings = hotel_running.settings_of(ConsoleSettings(address="127.0.0.1:0"))
    async with (
        asyncio.timeout(BOUND),
        serve_console(hotel_running.app, settings) as url,
        httpx.AsyncClient(base_url=url, timeout=BOUND) as client,
    ):
        while (await client.get("live")).status_code == 503:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        async with client.stream("GET", "live/events", params={"actor": "me"}) as stream:
            lines = stream.aiter_lines()
            while "state" not in await anext(lines):
                pass
            await service.execute(Move(room="9"), "ann", actor="desk")
            await service.execute(Move(room=HOSTILE), "zoe", actor="me")
            while "<tr" not in (line := await anext(lines)):
                pass
    assert "zoe" in line
    assert "Moved" in line


async def test_a_server_that_is_away_is_shown_as_that(hotel_running: RunningService) -> None:
    away = settings_for("nats://127.0.0.1:1", hotel_running.app.name)
    console = Console(hotel_running.app, away, is_local=True)
    transport = httpx.ASGITransport(console)
    async with console, httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        page = await client.get("/stories")
        overview = await client.get("/")

    assert (page.status_code, page.headers["refresh"]) == (503, "5")
    assert "Not reachable" in text_of(page)
    assert (overview.status_code, "Not reachable" in text_of(overview)) == (200, True)
