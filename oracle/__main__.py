"""The command ``oracle``: exit codes and one clear line for what is wrong; a traceback only for our own bugs.

Exit codes (sysexits): 0 done, 2 usage, 69 the broker or exchange cannot be reached, 70 a bug of ours, 74 the store
cannot be written, 78 configuration, 130 interrupted.
"""

import sys

EXIT_UNAVAILABLE, EXIT_SOFTWARE, EXIT_IO, EXIT_CONFIG, EXIT_INTERRUPTED = 69, 70, 74, 78, 130


def main() -> None:
    """Run a command and end with its exit code."""
    from oracle.cli.root import app
    from oracle.core.errors import ConfigurationError, OracleError, ProtocolError, RemoteError, StoreError

    try:
        app()
    except ConfigurationError as error:
        _say(error, EXIT_CONFIG)
    except RemoteError as error:
        _say(error, EXIT_UNAVAILABLE)
    except StoreError as error:
        _say(error, EXIT_IO)
    except ProtocolError:
        # A state that must not exist is a bug of ours: the traceback is what its report needs.
        sys.excepthook(*sys.exc_info())
        sys.exit(EXIT_SOFTWARE)
    except OracleError as error:
        _say(error, EXIT_SOFTWARE)
    except BrokenPipeError:
        sys.exit(EXIT_IO)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(EXIT_SOFTWARE)


def _say(error: Exception, code: int) -> None:
    print(f"oracle: {error}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
