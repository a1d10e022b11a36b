"""Pictures of the console's pages for the documentation: `python -m tests.browser.pictures`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Literal

from playwright.async_api import async_playwright

from tests.browser.running import CHROMIUM, running_shop
from tests.browser.shop import FIRST, ROOT, sell

PICTURES = ROOT / "docs" / "pictures"
MAX_BYTES = 150_000

PAGES = {
    "overview": "/",
    "stories": "/stories",
    "story": f"/stories/{FIRST}",
    "timeline": f"/stories/{FIRST}?view=timeline",
    "aggregate": "/aggregates/stock/tea?at=6",
    "projections": "/projections",
    "projection": "/projections/orders",
    "parked": "/parked",
    "timers": "/timers",
    "processes": "/processes",
    "process": "/processes/fulfilment/o-1",
    "actions": "/actions",
    "live": "/live",
    "schemas": "/schemas?name=OrderPlaced",
    "confirm": "/act/projection-rebuild?name=orders",
}
"""The pages that are shown, by the names of their pictures."""

_TURNS = 24
_SECONDS = 2.5
_SIZES = {"desktop": (1120, 760), "narrow": (320, 720)}
_SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


async def draw(url: str, folder: Path, names: list[str]) -> None:
    """A picture of each page, in each size and scheme."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM)
        for (size, (width, height)), scheme in product(_SIZES.items(), _SCHEMES):
            context = await browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
                device_scale_factor=1,
            )
            page = await context.new_page()
            for name in names:
                answer = await page.goto(url + PAGES[name])
                assert answer is not None
                assert answer.ok, name
                await page.wait_for_load_state("load")
                file = folder / f"{name}-{size}-{scheme}.png"
                await page.screenshot(path=file)
                assert file.stat().st_size < MAX_BYTES, f"{file.name} is too large"
            await context.close()
        await browser.close()


def main() -> None:
    """Draw all pictures into the documentation, or those that are named."""
    names = sys.argv[1:] or [*PAGES]
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, running_shop(Path(folder)) as shop:
        asyncio.run(_sell_for_a_while(shop.nats_url))
        asyncio.run(draw(shop.url, PICTURES, names))


async def _sell_for_a_while(nats_url: str) -> None:
    """Sell more and less by turns, so that the charts of the overview have something to show."""
    for turn in range(_TURNS):
        await asyncio.gather(*(sell(nats_url, f"a-{n}") for n in range(2 + 5 * (turn % 7))))
        await asyncio.sleep(_SECONDS)


if __name__ == "__main__":
    main()
