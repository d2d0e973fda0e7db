"""A quarter with all four strategies: in process, again with every early end switched on, and a week over sockets.

What is judged is read from the databases that the runs leave: every trade over, every account comparison without a
difference, one entry order a trade, no leg left. Time and peak memory are those of each run's own process.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from oracle.core.instruments import is_option
from oracle.core.sessions import MINUTE_NS
from oracle.markets import DEFAULT_DATE, table_around

STRATEGIES = ("iron_condor", "iv_mean_reversion", "momentum_scalping", "opening_range_breakout")
# What a broker may do to options of its own accord; names are the exchange's settings.
EARLY_ENDS = "behaviour={early_assignment=0.25,pin_risk_sell_out=0.5,activities_next_day=true}"
# Condors are held until they expire, or the broker could end none: every plan of ours leaves well before.
HELD = {"flat_at": "16:00", "short_delta_stop": "0.95", "stop_fraction": "10", "target_fraction": "0.95"}
# Days of higher implied volatility, on which premium is worth selling; they halve every few sessions.
SHOCKS = ((4, "SPY"), (6, "QQQ"), (5, "IWM"), (24, "QQQ"), (25, "SPY"), (26, "IWM"), (44, "SPY"), (45, "QQQ"))
# Exits are judged every few seconds instead of each: over sockets, and in the other tests, it is each.
STEP_S = 5
CASH_USD = 250_000
# Over sockets an operator closes what is open this long before the last close: straddles are held for weeks.
FLATTEN_BEFORE_NS = 60 * MINUTE_NS


@dataclass
class Judged:
    """What one run came to. ``problems`` is empty when all that the quarter promises was kept."""

    name: str
    sessions: int
    trades: dict[str, int]
    structures: int
    exits: dict[str, int]
    settlements: dict[str, int]
    orphans_closed: int
    comparisons: int
    wall_s: float
    peak_mb: float
    problems: list[str] = field(default_factory=list)


def judge(name: str, state: Path, returned: int, wall_s: float, peak_mb: float) -> Judged:
    """Read a run's database and name everything that is not as it must be."""
    with sqlite3.connect(f"file:{state / 'oracle.db'}?mode=ro", uri=True) as db:
        trades = Counter(row[0] for row in db.execute("SELECT strategy FROM trades"))
        rules = Counter(row[0] or "none" for row in db.execute("SELECT exit_rule FROM trades WHERE closed_ns NOT NULL"))
        ended = Counter(row[0] for row in db.execute("SELECT ending FROM position_settlements"))
        orphans = _one(db, "SELECT count(DISTINCT trade_id) FROM exit_events WHERE rule = 'orphan_leg'")
        found = Judged(
            name=name, sessions=_one(db, "SELECT count(*) FROM sessions"), trades=dict(sorted(trades.items())),
            structures=_one(db, "SELECT count(*) FROM trades WHERE symbol LIKE '%:%'"),
            exits=dict(sorted(rules.items())),
            settlements=dict(sorted(ended.items())), orphans_closed=orphans,
            comparisons=_one(db, "SELECT count(*) FROM reconciliations"), wall_s=wall_s, peak_mb=peak_mb,
        )  # fmt: skip
        found.problems = _problems(db, returned)
    return found


def _problems(db: sqlite3.Connection, returned: int) -> list[str]:
    out = [] if returned == 0 else [f"the run ended with code {returned}"]
    out += [
        f"trade {t} of {s} is still open"
        for t, s in db.execute("SELECT trade_id, symbol FROM trades WHERE closed_ns IS NULL")
    ]
    out += [
        f"differs: {text}"
        for (text,) in db.execute("SELECT differences FROM reconciliations WHERE differences <> '[]'")
    ]
    sessions, compared = (
        _one(db, "SELECT count(*) FROM sessions"),
        _one(
            db,
            "SELECT count(*) FROM sessions s WHERE EXISTS (SELECT 1 FROM reconciliations r"
            " WHERE r.at_ns >= s.close_ns AND r.at_ns < s.close_ns + 3600000000000)",
        ),
    )
    if compared != sessions:
        out.append(f"only {compared} of {sessions} sessions were compared after their close")
    for trade, entries in db.execute(
        "SELECT trade_id, count(*) FROM orders WHERE purpose = 'entry' GROUP BY trade_id HAVING count(*) <> 1"
    ):
        out.append(f"trade {trade} has {entries} entry orders")
    out += [
        f"{strategy} failed: {error}" for strategy, error in db.execute("SELECT strategy, error FROM strategy_failures")
    ]
    return out + _not_closed(db)


def _not_closed(db: sqlite3.Connection) -> list[str]:
    """Contracts that were neither closed nor settled, and shares that did not go again."""
    bought = "sum(CASE side WHEN 'buy' THEN contracts ELSE -contracts END)"
    traded = Counter(dict(db.execute(f"SELECT symbol, {bought} FROM fills GROUP BY symbol")))
    left = Counter({symbol: abs(n) for symbol, n in traded.items() if is_option(symbol)})
    shares = Counter({symbol: n for symbol, n in traded.items() if not is_option(symbol)})
    rows = db.execute("SELECT symbol, contracts, shares_symbol, shares FROM position_settlements")
    for symbol, contracts, shares_symbol, delivered in rows:
        left[symbol] -= contracts
        shares[shares_symbol] += delivered
    rest = [*left.items(), *shares.items()]
    return [f"{n} of {symbol} were never closed nor settled" for symbol, n in sorted(rest) if n != 0]


def _one(db: sqlite3.Connection, query: str) -> int:
    return int(db.execute(query).fetchone()[0])


def run(name: str, arguments: Sequence[str], state: Path, flatten_ns: int | None = None) -> Judged:
    """Run one command of ours in a process of its own and judge what it leaves.

    Args:
        flatten_ns: when in the market's time an operator closes what is open, as a backtest does when its data end.
    """
    began = time.monotonic()
    command = [sys.executable, "-m", "oracle", *arguments, "--state", str(state), "--json"]
    with open(os.devnull, "wb") as quiet:
        child = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, quiet.fileno(), 1)])
        if flatten_ns is not None:
            _flatten_at(state, flatten_ns, child)
        _, status, usage = os.wait4(child, 0)
    wall_s = time.monotonic() - began
    return judge(name, state, os.waitstatus_to_exitcode(status), round(wall_s, 1), round(usage.ru_maxrss / 1024, 1))


def _flatten_at(state: Path, at_ns: int, child: int) -> None:
    """Ask a running daemon, by its own command, to close everything once its market has come so far."""
    database = state / "oracle.db"
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.2)  # another process's progress: its database tells it
        if not database.exists():
            continue
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
            if _has_equity(db) and (_one(db, "SELECT coalesce(max(at_ns), 0) FROM equity_snapshots")) >= at_ns:
                ask = [sys.executable, "-m", "oracle", "flatten", "--why", "the last session", "--state", str(state)]
                # A wing that nobody bids for cannot be sold and leaves the command unconfirmed: the books are judged.
                subprocess.run(ask, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
                return


def _has_equity(db: sqlite3.Connection) -> bool:
    """Whether the schema has been made."""
    return _one(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'equity_snapshots'") == 1


def chosen(strategies: Sequence[str] = STRATEGIES) -> list[str]:
    """The arguments of a backtest that choose strategies."""
    return [word for name in strategies for word in ("--strategy", name)]


def held() -> list[str]:
    """The arguments that hold condors until they expire."""
    return [word for name, value in HELD.items() for word in ("--set", f"strategies.iron_condor.{name}={value}")]


def dates(sessions: int) -> tuple[str, str]:
    """The first and last of so many sessions."""
    table = table_around(DEFAULT_DATE, DEFAULT_DATE)
    days = [s.date for s in table.sessions if s.date >= DEFAULT_DATE]
    return days[0], days[sessions - 1]


def quarter(sessions: int, sockets: int, seed: int, folder: Path, at_once: int) -> list[Judged]:
    """All runs, so many at once."""
    first, last = dates(sessions)
    base = [
        "backtest",
        "--simulated",
        "--step",
        str(STEP_S),
        "--from",
        first,
        "--to",
        last,
        "--seed",
        str(seed),
        "--cash",
        str(CASH_USD),
    ]
    runs: list[tuple[str, list[str], Path, int | None]] = []
    if sessions:
        plain = [*base, *chosen(), *plants(sessions)]
        runs.append(("in process", plain, folder / "plain", None))
        runs.append(("with early ends", [*plain, *held(), "--exchange", EARLY_ENDS], folder / "early", None))
    if sockets:
        names = [word for name in STRATEGIES for word in ("--set", f"strategies.{name}={{}}")]
        arguments = ["demo", "--sessions", str(sockets), "--seed", str(seed), "--momentum", *plants(sockets), *names]
        session = next(s for s in table_around(DEFAULT_DATE, DEFAULT_DATE).sessions if s.date == dates(sockets)[1])
        runs.append(("over sockets", arguments, folder / "sockets", session.close_ns - FLATTEN_BEFORE_NS))
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda row: run(*row), runs))


def plants(sessions: int) -> list[str]:
    """The arguments that plant the shocks of the first so many sessions."""
    shocks = [
        f"vol_shock:{symbol}:session={day},jump=0.7,half_life_sessions=6" for day, symbol in SHOCKS if day <= sessions
    ]
    return [word for shock in shocks for word in ("--plant", shock)]


def show(rows: Sequence[Judged], console: Console) -> None:
    """Print a table of the runs, and every problem."""
    table = Table(box=None, pad_edge=False)
    for name in ("run", "sessions", "trades", "structures", "settled", "orphans closed", "compared", "s", "peak MB"):
        table.add_column(name, justify="left" if name == "run" else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name, str(row.sessions), str(sum(row.trades.values())), str(row.structures),
            str(sum(row.settlements.values())), str(row.orphans_closed), str(row.comparisons), f"{row.wall_s:.1f}",
            f"{row.peak_mb:.0f}",
        )  # fmt: skip
    console.print(table)
    for row in rows:
        console.print(
            f"{row.name}: trades {row.trades}, ended by {row.exits}, settled {row.settlements}", highlight=False
        )
        for problem in row.problems:
            console.print(f"{row.name}: [red]{problem}[/red]", highlight=False, soft_wrap=True)
    if not any(row.problems for row in rows):
        console.print("every trade over, ledger and exchange equal to the cent at every comparison, no leg left")


def main() -> int:
    """Run the quarter as a command."""
    parser = argparse.ArgumentParser(prog="scripts/quarter", description=__doc__)
    parser.add_argument("--sessions", type=int, default=63, help="sessions in process (default 63; 0 leaves them out)")
    parser.add_argument("--sockets", type=int, default=5, help="sessions over sockets (default 5; 0 leaves them out)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the market")
    parser.add_argument("--at-once", type=int, default=2, help="runs at a time (default 2)")
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = quarter(asked.sessions, asked.sockets, asked.seed, Path(folder), asked.at_once)
    if asked.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        show(rows, Console())
    return 1 if any(row.problems for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
