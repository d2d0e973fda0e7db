"""Start the embedded exchange as a child process and stop it again.

Inputs: arguments of ``oracle exchange``. Output: its address. Invariant: the child ends with its parent, however
the parent ends, because it watches a pipe from it.
"""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

import orjson

from oracle.core.errors import ConfigurationError, RemoteError

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
EXIT_CONFIG = 78


class ExchangeProcess:
    """``async with ExchangeProcess([...]) as exchange: exchange.url``."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._environment = {**os.environ, **(environment or {})}
        self._arguments = [*arguments, "--json", "--until-stdin-closes"]
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""

    async def __aenter__(self) -> "ExchangeProcess":
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "oracle",
            "exchange",
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            # An interrupt from the terminal is the daemon's to handle; it then ends its exchange itself.
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        self._errors: list[str] = []
        self._drain = asyncio.create_task(self._drain_errors(process.stderr))
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                line = await process.stdout.readline()
        except TimeoutError:
            await self.__aexit__()
            raise RemoteError(f"exchange: did not answer within {START_TIMEOUT_S:.0f} s") from None
        if not line:
            await process.wait()
            await self._drain
            # Our own line if there is one: an interpreter's warning may follow it.
            said = [line for line in self._errors if line.startswith("oracle: ")] or self._errors or ["it said nothing"]
            text = said[-1].removeprefix("oracle: ")
            await self.__aexit__()
            if process.returncode == EXIT_CONFIG:
                field, _, rest = text.partition(": ")
                problem, _, fix = rest.rpartition("; ")
                raise ConfigurationError(field, problem, fix)
            raise RemoteError(f"exchange: ended with code {process.returncode}: {text}")
        self.url = orjson.loads(line)["url"]
        return self

    @property
    def pid(self) -> int:
        """The child's process id."""
        if self._process is None:
            raise RemoteError("exchange: not started")
        return self._process.pid

    async def _drain_errors(self, stream: asyncio.StreamReader) -> None:
        """Keep the last lines of the child's log: they say why it ended."""
        while line := await stream.readline():
            self._errors.append(line.decode(errors="replace").rstrip())
            del self._errors[:-50]

    async def __aexit__(self, *_: object) -> None:
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        await self._drain
