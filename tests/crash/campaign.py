"""One exchange's sessions as a process of its own: ``python -m tests.crash.campaign SEED KILLS FOLDER``.

Outputs on standard output: a JSON line for each kill as it happens, and last the whole ``Session``.
"""

import asyncio
import sys
from pathlib import Path

import msgspec
import structlog

from tests.crash.harness import Kill, Play


def main() -> None:
    """Play and tell."""
    seed, kills, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

    def tell(kill: Kill) -> None:
        print(msgspec.json.encode({"kill": kill}).decode(), flush=True)

    session = asyncio.run(Play(seed, folder, tell).go(kills))
    print(msgspec.json.encode({"session": session}).decode(), flush=True)


if __name__ == "__main__":
    main()
