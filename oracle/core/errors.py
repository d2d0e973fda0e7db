"""Who is wrong, as exception types: configuration, our protocol use, the remote, the store, an invariant.

Business outcomes (a refusal, a rejected order) are messages, never exceptions.

    OracleError
    ├── ConfigurationError   the operator's input: names the field and the fix; exit code 78
    ├── ProtocolError        we used a part of the program wrongly (a bug of ours)
    │   └── InvariantError   a state that must not exist; the process ends
    ├── RemoteError          the remote sent what cannot be used
    │   └── TransientError   the remote may answer if asked again later
    ├── StoreError           the database or the journal cannot be written or read
    └── DerivedError         figures that are made from the books could not be refreshed; the books are as they were
"""


class OracleError(Exception):
    """Base of everything this program raises on purpose."""


class ConfigurationError(OracleError):
    """Say which setting is wrong and what to do about it.

    Args:
        field: the setting, option, file or variable at fault.
        problem: what is wrong with it, in words.
        fix: what the operator should do.
    """

    def __init__(self, field: str, problem: str, fix: str) -> None:
        super().__init__(f"{field}: {problem}; {fix}")
        self.field = field
        self.problem = problem
        self.fix = fix


class ProtocolError(OracleError):
    """A part of this program was used against its contract."""


class InvariantError(ProtocolError):
    """A state that must not exist was reached; nothing after it can be trusted."""


class RemoteError(OracleError):
    """The other side sent something that cannot be used."""


class TransientError(RemoteError):
    """The other side failed in a way that may pass."""


class StoreError(OracleError):
    """The database or journal could not be read or written."""


class DerivedError(OracleError):
    """Rows that are derived from the books could not be made or written; nothing that was booked is touched."""
