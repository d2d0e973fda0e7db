"""A real headless Chromium, driven over its DevTools protocol: what a page logged, asked for, shows and measures."""

import asyncio
import base64
import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-sync",
    "--disable-dev-shm-usage", "--remote-debugging-port=0",
)  # fmt: skip
START_S, ANSWER_S = 60.0, 60.0


def find_browser() -> str | None:
    """The browser's path: ORACLE_CHROMIUM, or the first that is installed."""
    named = os.environ.get("ORACLE_CHROMIUM")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One tab. ``problems``: console errors, exceptions, security reports; ``requests``: every address asked for."""

    def __init__(self, wire: aiohttp.ClientWebSocketResponse) -> None:
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._wire = wire
        self._numbers = itertools.count(1)
        self._loaded = asyncio.Event()

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and return its result, noting events on the way."""
        number = next(self._numbers)
        await self._wire.send_json({"id": number, "method": method, "params": params})
        while True:
            message = await self._wire.receive_json(timeout=ANSWER_S)
            if message.get("id") == number:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                found: dict[str, Any] = message["result"]
                return found
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded.set()
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.problems.append(f"console: {params['args']}")
            case "Runtime.exceptionThrown":
                self.problems.append(f"exception: {params['exceptionDetails']}")
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.problems.append(f"log: {params['entry']['text']}")

    async def open(self, address: str, *, width: int, height: int, phone: bool) -> None:
        """Load an address at a width in CSS pixels, and wait until it is complete."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.ask(f"{domain}.enable")
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        self._loaded.clear()
        await self.ask("Page.navigate", url=address)
        while not self._loaded.is_set():
            self._note(await self._wire.receive_json(timeout=ANSWER_S))

    async def evaluate(self, script: str) -> Any:
        """The value of an expression in the page, by the debugger, which a page's policy does not stop."""
        found = await self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    async def screenshot(self) -> bytes:
        """A picture of the whole page, PNG."""
        found = await self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(found["data"])

    async def printed(self) -> bytes:
        """The page as a PDF."""
        found = await self.ask("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        return base64.b64decode(found["data"])


@contextlib.asynccontextmanager
async def browsing(browser: str) -> AsyncIterator[Page]:
    """Start the browser with a profile of its own and give one tab; ends the browser."""
    with tempfile.TemporaryDirectory(prefix="oracle-browser-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            browser, *ARGUMENTS, f"--user-data-dir={profile}", "about:blank",
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            port = await asyncio.wait_for(_port(process), START_S)
            async with aiohttp.ClientSession() as session:
                async with session.put(f"http://127.0.0.1:{port}/json/new?about:blank") as answer:
                    address = (await answer.json())["webSocketDebuggerUrl"]
                async with session.ws_connect(address, max_msg_size=0) as wire:
                    yield Page(wire)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()


async def _port(process: asyncio.subprocess.Process) -> int:
    assert process.stderr is not None
    told = []
    while line := await process.stderr.readline():
        told.append(line.decode(errors="replace"))
        if "DevTools listening on" in told[-1]:
            return int(told[-1].split("127.0.0.1:")[1].split("/")[0])
    raise AssertionError("the browser did not start: " + "".join(told)[-1000:])
