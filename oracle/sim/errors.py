"""Refusals of the exchange: HTTP status, Alpaca's code and words, extra fields of the body.

Pure: the exchange raises them, the server turns them into replies. Codes and statuses are the contract; wording may
change at the vendor (shared reference, section 3.4).
"""

from collections.abc import Mapping
from typing import Any


class RefusedError(Exception):
    """A request that the exchange answers with an error body.

    Args:
        status: HTTP status, 4xx.
        code: Alpaca's eight-digit code; None for bodies that carry only a message.
        message: the body's ``message``.
        extra: further fields of the body.
    """

    def __init__(self, status: int, code: int | None, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.extra: Mapping[str, Any] = extra

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        head: dict[str, Any] = {} if self.code is None else {"code": self.code}
        return {**head, "message": self.message, **self.extra}


def invalid(message: str) -> RefusedError:
    """A missing or malformed field: 422 / 40010001."""
    return RefusedError(422, 40010001, message)


def unprocessable(message: str, **extra: Any) -> RefusedError:
    """A well-formed request that the rules of options, mleg, replace or cancel refuse: 422 / 42210000."""
    return RefusedError(422, 42210000, message, **extra)


def forbidden(message: str, **extra: Any) -> RefusedError:
    """A request that the account may not make: 403 / 40310000."""
    return RefusedError(403, 40310000, message, **extra)


def not_found(message: str) -> RefusedError:
    """404 / 40410000."""
    return RefusedError(404, 40410000, message)


def bad_data_request(message: str) -> RefusedError:
    """The market-data API's 400, which carries no code."""
    return RefusedError(400, None, message)


def unauthorized() -> RefusedError:
    """The trading API's answer to missing or wrong keys."""
    return RefusedError(401, None, "unauthorized.")


def data_forbidden() -> RefusedError:
    """The market-data API's answer to missing or wrong keys."""
    return RefusedError(403, None, "forbidden.")


def too_many_requests() -> RefusedError:
    """429 / 42910000."""
    return RefusedError(429, 42910000, "rate limit exceeded")
