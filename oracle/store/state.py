"""The state folder: private to one user, held by one process.

Input: a path. Output: a folder of mode 0700 and a lock that lives as long as the process holds it. Faults are the
operator's to fix, so they are ConfigurationErrors that name the folder and the remedy.
"""

import errno
import fcntl
import os
import stat
from pathlib import Path

from oracle.core.errors import ConfigurationError

DATABASE_NAME = "oracle.db"
JOURNAL_FOLDER = "journal"
LOCK_NAME = "lock"
FOLDER_MODE = 0o700
FILE_MODE = 0o600


def prepare_folder(folder: Path) -> None:
    """Make the state folder, or check that an existing one can be used.

    A folder that is empty or already ours is made private (0700); any other folder that people besides the owner may
    enter is refused rather than changed.

    Raises:
        ConfigurationError: it cannot be made, read, written or kept private.
    """
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        names = set(os.listdir(folder))
        loose = stat.S_IMODE(folder.stat().st_mode) & 0o077
        if loose and (not names or names & {LOCK_NAME, DATABASE_NAME}):
            folder.chmod(FOLDER_MODE)
        elif loose:
            raise ConfigurationError(
                "state", f"folder {folder} holds other files and is open to other users", f"run: chmod 700 {folder}"
            )
    except OSError as error:
        raise unusable(folder, error) from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigurationError("state", f"folder {folder} cannot be read and written", "fix its owner and mode")


def make_private(path: Path) -> None:
    """Make sure that the file exists with mode 0600.

    Raises:
        ConfigurationError: it cannot be made or is another user's.
    """
    try:
        path.touch(mode=FILE_MODE)
        path.chmod(FILE_MODE)
    except OSError as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: OSError) -> ConfigurationError:
    """Word an operating-system error about the state folder or a file in it."""
    return ConfigurationError(
        "state", f"{path} cannot be used ({error.strerror or error})", "choose a folder that this user may write"
    )


class StateLock:
    """An exclusive lock on ``<folder>/lock``; the file holds the owner's pid. The kernel drops it with the process."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock or say who has it.

        Raises:
            ConfigurationError: another process holds it, or the file cannot be written.
        """
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise unusable(self._path, error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise unusable(self._path, error) from error
            raise ConfigurationError(
                "state",
                f"folder {self._path.parent} is in use by process {holder}",
                "stop that process or choose another state folder",
            ) from None
        self._fd = fd

    def release(self) -> None:
        """Let go; harmless when not held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def require_free(folder: Path) -> None:
    """Check that no other process holds the folder, before anything else is touched or connected.

    Raises:
        ConfigurationError: it is held, or cannot be used.
    """
    prepare_folder(folder)
    lock = StateLock(folder)
    lock.acquire()
    lock.release()
