"""Check oracle.service from inside a booted container: readiness, watchdog, restarts, drain, exit 78, modes.

Inputs: the installed unit and the embedded exchange's. Output: one line a check in /opt/out/result, ``ok`` or ``NOT``.
Real time throughout: a service manager has no other.
"""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

UNIT = "oracle.service"
ORACLE = "/opt/trade-oracle/.venv/bin/oracle"
RESULT = Path("/opt/out/result")
SETTINGS = Path("/etc/oracle/oracle.toml")
STATE = Path("/var/lib/private/oracle")
READY_AGAIN_S = 10.0
WATCHDOG_S = 30.0
KILLS = 3
# systemd's own limit is 5 starts in 10 s; more than that proves that ours is off.
FALLS = 6

SIM = 'mode = "sim"\n[sim]\nspeed = 1.0\n'
WRONG = 'mode = "sim"\n[sim]\nspeeed = 1.0\n'
# Nothing listens there: what a broker's outage looks like at the start.
OUTAGE = 'mode = "paper"\n[alpaca]\ntrading_url = "http://127.0.0.1:9"\n'


def say(ok: bool, text: str) -> None:
    """Write one line of the result."""
    with RESULT.open("a") as out:
        out.write(f"{'ok ' if ok else 'NOT'}  {text}\n")


def systemctl(*arguments: str) -> int:
    """Run systemctl and give its exit code."""
    done = subprocess.run(["/bin/systemctl", *arguments], check=False, capture_output=True)  # noqa: S603 - ours
    return done.returncode


def shown(name: str) -> str:
    """A property of the unit."""
    done = subprocess.run(  # noqa: S603 - ours
        ["/bin/systemctl", "show", UNIT, "--value", "-p", name], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def journal(since: str = "") -> list[dict[str, object]]:
    """What the journal has of the unit: its own lines and the manager's about it."""
    cursor = [f"--after-cursor={since}"] if since else []
    done = subprocess.run(  # noqa: S603 - ours
        ["/bin/journalctl", "-u", UNIT, "-o", "json", "--no-pager", *cursor],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def told(lines: list[dict[str, object]], text: str) -> bool:
    """Whether a line of the journal holds a text."""
    return any(text in str(line.get("MESSAGE")) for line in lines)


def wait(what: Callable[[], bool], limit_s: float) -> float | None:
    """Seconds until something holds, or None when it does not within the limit."""
    began = time.monotonic()
    while time.monotonic() - began < limit_s:
        if what():
            return time.monotonic() - began
        time.sleep(0.05)
    return None


def running_anew(old_pid: str) -> bool:
    """Whether another process than before has said that it is ready."""
    return shown("ActiveState") == "active" and shown("MainPID") not in ("0", old_pid)


def took(seconds: float | None) -> str:
    """Seconds in words, with the processor's share, because another load on the machine makes them longer."""
    if seconds is None:
        return "never"
    ticks = Path("/proc", shown("MainPID"), "stat").read_text().rpartition(")")[2].split()[11:13]
    return f"{seconds:.1f} s ({sum(map(int, ticks)) / os.sysconf('SC_CLK_TCK'):.1f} s of processor)"


def check_start() -> None:
    """READY=1 comes, with a status line that says what is live."""
    began = time.monotonic()
    code = systemctl("start", UNIT)
    seconds = time.monotonic() - began
    say(code == 0 and shown("ActiveState") == "active", f"READY=1 after {took(seconds)}")
    status = shown("StatusText")
    say(status.startswith("sim, ready; feeds: stock live, option live, trading live"), f"status line: {status}")


def check_jail() -> None:
    """The process has no rights and its records are its own."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{shown('MainPID')}/status").read_text().splitlines() if ":" in line
    )
    uid = int(fields["Uid"].split()[0])
    say(61184 <= uid <= 65519, f"runs as a dynamic user ({uid})")
    say(int(fields["CapEff"], 16) == 0 and fields["NoNewPrivs"].strip() == "1", "no capabilities, no new privileges")
    say(fields["Seccomp"].strip() == "2", "system calls are filtered")
    mode = stat.S_IMODE(STATE.stat().st_mode)
    say(mode == 0o700, f"state folder has mode {mode:04o}")
    files = {str(file.relative_to(STATE)): stat.S_IMODE(file.stat().st_mode) for file in STATE.rglob("*.db*")}
    modes = ", ".join(f"{name} {mode:04o}" for name, mode in sorted(files.items()))
    say("oracle.db" in files and set(files.values()) == {0o600}, f"database: {modes}")
    credentials = Path("/proc", shown("MainPID"), "root", "run", "credentials", UNIT)
    say({file.name for file in credentials.iterdir()} == {"alpaca-key", "alpaca-secret"}, "credentials are loaded")


def check_fed() -> None:
    """The watchdog is fed, for longer than it waits."""
    before = int(shown("WatchdogTimestampMonotonic"))
    pid = shown("MainPID")
    time.sleep(WATCHDOG_S + 4)
    after = int(shown("WatchdogTimestampMonotonic"))
    age_s = time.clock_gettime(time.CLOCK_MONOTONIC) - after / 1e6
    same = shown("MainPID") == pid and shown("NRestarts") == "0"
    text = f"watchdog fed for {(after - before) / 1e6:.1f} s with WatchdogSec={WATCHDOG_S:.0f}, last {age_s:.1f} s ago"
    say(same and after - before > WATCHDOG_S * 1e6, text)


def check_kill() -> None:
    """kill -9: ready again in time."""
    for number in range(1, KILLS + 1):
        pid = shown("MainPID")
        os.kill(int(pid), signal.SIGKILL)
        seconds = wait(lambda pid=pid: running_anew(pid), 30)
        ok = seconds is not None and seconds <= READY_AGAIN_S and shown("NRestarts") == str(number)
        say(ok, f"kill -9 number {number}: ready again after {took(seconds)} (limit {READY_AGAIN_S:.0f} s)")


def check_wedge() -> None:
    """A process that stands still is ended by the watchdog and started again."""
    pid, cursor = shown("MainPID"), str(journal()[-1]["__CURSOR"])
    os.kill(int(pid), signal.SIGSTOP)
    seconds = wait(lambda: running_anew(pid), WATCHDOG_S + 30)
    limit_s = WATCHDOG_S + 10
    ok = seconds is not None and seconds <= limit_s and shown("NRestarts") == str(KILLS + 1)
    say(ok, f"stopped process: watchdog restart, ready again after {took(seconds)} (limit {limit_s:.0f} s)")
    lines = journal(cursor)
    say(told(lines, "Watchdog timeout"), "the journal says that it was the watchdog")
    say(told(lines, "Fatal Python error: Aborted"), "the stacks of the wedged process are in the journal")


def check_control() -> None:
    """The operator's commands reach the jailed daemon from outside, and its status line follows."""
    for command, word in (("halt", "halted"), ("resume", "ready")):
        done = subprocess.run(  # noqa: S603 - ours
            [ORACLE, command, "--state", "/var/lib/oracle", "--why", "check"],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        seconds = wait(lambda word=word: shown("StatusText").startswith(f"sim, {word};"), 15)
        said = (done.stdout + done.stderr).strip().replace("\n", " ")[:90]
        say(done.returncode == 0 and seconds is not None, f"oracle {command}: exit {done.returncode}, {said}")


def check_stop() -> None:
    """SIGTERM drains."""
    cursor = str(journal()[-1]["__CURSOR"])
    began = time.monotonic()
    code = systemctl("stop", UNIT)
    seconds = time.monotonic() - began
    ok = code == 0 and shown("Result") == "success" and shown("ExecMainStatus") == "0"
    say(ok and seconds < READY_AGAIN_S, f"systemctl stop: drained and ended with 0 after {seconds:.1f} s")
    lines = journal(cursor)
    say(told(lines, '"event":"stopped"') and told(lines, "Deactivated successfully"), "the journal has the drain")
    own = [line for line in lines if line.get("SYSLOG_IDENTIFIER") == "oracle"]
    plain = bool(own) and all(str(line["MESSAGE"]).startswith("{") for line in own)
    say(plain and {line["PRIORITY"] for line in own} <= {"6", "7", "4"}, "log lines are JSON, filed by priority")


def check_wrong_settings() -> None:
    """Exit 78 is not tried again."""
    SETTINGS.write_text(WRONG)
    before = shown("NRestarts")
    systemctl("start", UNIT)
    time.sleep(6)  # six times RestartSec
    found = (shown("ActiveState"), shown("ExecMainStatus"), shown("NRestarts"))
    say(found == ("failed", "78", before), f"wrong settings: {found[0]} with {found[1]}, not restarted in 6 s")
    systemctl("reset-failed", UNIT)


def check_outage() -> None:
    """A broker that cannot be reached: tried again without end."""
    SETTINGS.write_text(OUTAGE)
    before = int(shown("NRestarts"))
    systemctl("start", "--no-block", UNIT)
    codes: set[str] = set()

    def fallen() -> bool:
        codes.add(shown("ExecMainStatus"))
        return int(shown("NRestarts")) - before >= FALLS

    seconds = wait(fallen, 150)
    text = f"broker unreachable: exit {max(codes)}, restart {FALLS} after {seconds or 0:.1f} s, no start limit"
    say(seconds is not None and "69" in codes, text)
    systemctl("stop", UNIT)


def main() -> None:
    """Run every check; the exchange stays alive throughout."""
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text("")
    SETTINGS.write_text(SIM)
    systemctl("start", "exchange.service")

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", 8787)) == 0

    say(wait(answers, 60) is not None, "the embedded exchange listens")
    for check in (
        check_start, check_jail, check_fed, check_kill, check_wedge, check_control, check_stop,
        check_wrong_settings, check_outage,
    ):  # fmt: skip
        try:
            check()
        except Exception as error:  # the rest is still worth knowing
            say(False, f"{check.__name__}: {type(error).__name__} {error}")
    say(True, "done")


if __name__ == "__main__":
    try:
        main()
    finally:
        with Path("/opt/out/journal").open("w") as out:
            subprocess.run(["/bin/journalctl", "--no-pager", "-b"], check=False, stdout=out, stderr=subprocess.STDOUT)
        sys.stdout.flush()
