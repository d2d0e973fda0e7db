"""The worker's process: it answers, it says what is wrong, it is replaced when it dies and ends when it should."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oracle import jobs
from oracle.jobs import Summarise, Summary
from oracle.store.sqlite import Store
from oracle.worker import LENGTH, MAX_FRAME_BYTES, Aside, Child, JobError, Worker
from tests.unit.store_day import DATE, T0, turns

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """A database with the scripted day."""
    store = await Store.open(tmp_path, "sim", T0, token="tok", feed="opra")
    for stamped, out in turns():
        await store.commit(out, stamped)
    await store.close()
    return tmp_path


def seen_by(pid: int) -> bytes:
    """The environment of a process."""
    return Path(f"/proc/{pid}/environ").read_bytes()


def score_of(pid: int) -> int:
    """How soon the kernel ends a process where memory runs out."""
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text(encoding="ascii"))


def pid_of(child: Child) -> int:
    process = child._process
    assert process is not None
    return process.pid


@pytest.mark.parametrize("make", [Aside, Child])
async def test_a_job_is_done_beside_the_loop(state: Path, make: type[Aside | Child]) -> None:
    worker: Worker = make()
    done = await worker.run(Summarise(str(state), DATE))
    await worker.close()
    assert isinstance(done, Summary)
    assert done.facts["session"] == DATE
    assert done.facts["trades"] == 1


@pytest.mark.parametrize("make", [Aside, Child])
async def test_what_is_wrong_comes_back_in_words(tmp_path: Path, make: type[Aside | Child]) -> None:
    worker: Worker = make()
    with pytest.raises(JobError, match="does not exist"):
        await worker.run(Summarise(str(tmp_path / "nowhere"), DATE))
    await worker.close()


async def test_a_child_that_is_killed_is_told_and_replaced(state: Path) -> None:
    child, job = Child(), Summarise(str(state), DATE)
    await child.run(job)
    first = pid_of(child)
    os.kill(first, signal.SIGSTOP)  # it takes the job and never answers
    waiting = asyncio.create_task(child.run(job))
    await asyncio.sleep(0)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(JobError, match="the worker's process ended"):
        await waiting
    assert isinstance(await child.run(job), Summary)
    assert pid_of(child) != first
    await child.close()


async def test_a_child_is_reused_and_ends_with_its_input(state: Path) -> None:
    child, job = Child(), Summarise(str(state), DATE)
    await child.run(job)
    pid = pid_of(child)
    await child.run(job)
    assert pid_of(child) == pid
    await child.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    await child.close()  # harmless


async def test_a_stuck_child_is_given_up(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oracle.worker.JOB_TIMEOUT_S", 0.05)
    monkeypatch.setattr("oracle.worker.END_TIMEOUT_S", 0.05)
    child = Child()
    with pytest.raises(JobError, match="no result within"):
        await child.run(Summarise(str(state), DATE))
    assert child._process is None


async def test_a_cancelled_job_leaves_no_answer_for_the_next(state: Path) -> None:
    child = Child()
    await child.run(Summarise(str(state), DATE))
    waiting = asyncio.create_task(child.run(Summarise(str(state / "nowhere"), DATE)))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait((waiting,))
    assert isinstance(await child.run(Summarise(str(state), DATE)), Summary)
    await child.close()


async def test_stop_signals_of_the_group_leave_the_child_to_its_parent(state: Path) -> None:
    child, job = Child(), Summarise(str(state), DATE)
    await child.run(job)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(pid_of(child), number)
    assert isinstance(await child.run(job), Summary)
    await child.close()


async def test_the_child_goes_first_where_memory_runs_out(state: Path) -> None:
    child = Child()
    await child.run(Summarise(str(state), DATE))
    score = score_of(pid_of(child))
    await child.close()
    assert score == 1000


async def test_the_child_imports_nothing_from_the_folder_it_is_started_in(
    state: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "msgspec.py").write_text("raise RuntimeError('not this one')", encoding="utf-8")
    monkeypatch.chdir(folder)
    child = Child()
    assert isinstance(await child.run(Summarise(str(state), DATE)), Summary)
    await child.close()


@pytest.mark.parametrize("answer", [LENGTH.pack(3) + b"\xc1\xc1\xc1", LENGTH.pack(MAX_FRAME_BYTES + 1)])
async def test_an_answer_that_cannot_be_read_is_told_and_its_child_replaced(
    state: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    script = f"import sys; sys.stdout.buffer.write({answer!r}); sys.stdout.buffer.flush(); sys.stdin.buffer.read()"

    async def garbled() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )

    child = Child()
    with monkeypatch.context() as patched:
        patched.setattr("oracle.worker._start", garbled)
        with pytest.raises(JobError, match="cannot be read"):
            await child.run(Summarise(str(state), DATE))
    assert child._process is None
    assert isinstance(await child.run(Summarise(str(state), DATE)), Summary)
    await child.close()


async def test_the_child_sees_no_key(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORACLE_ALPACA__SECRET", "not for others")
    child = Child()
    await child.run(Summarise(str(state), DATE))
    environment = seen_by(pid_of(child))
    await child.close()
    assert b"not for others" not in environment
    assert b"PATH=" in environment


PARENT = """
import asyncio, sys
from oracle.jobs import Summarise
from oracle.worker import Child

async def main():
    child = Child()
    await child.run(Summarise(sys.argv[1], "2026-01-20"))
    print(child._process.pid, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.mark.timeout(90)
def test_a_child_does_not_outlive_a_parent_that_is_killed(state: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(state)], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        descriptor = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    try:
        # The descriptor of a process becomes readable when it ends.
        assert select.select([descriptor], [], [], 30)[0] == [descriptor]
    finally:
        os.close(descriptor)


def test_every_job_has_somebody_who_does_it() -> None:
    assert set(jobs._WORK) == set(jobs.Job.__args__)


def test_a_frame_that_is_too_long_ends_the_conversation() -> None:
    command = [sys.executable, "-m", "oracle.worker"]
    began_s = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, input=b"\xff\xff\xff\xff", capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, b"")
    assert time.monotonic() - began_s < 60
