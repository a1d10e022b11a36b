"""The command line: the only package that prints, and with `application` that builds components."""

import sys

__all__ = ["main"]

_INTERRUPTED = 130


def main(application: object = None) -> None:
    """The console script; Ctrl-C ends it without a word, also while it is still being imported."""
    try:
        from eventstore.cli import app, applications

        program = app.app
        if application is not None:
            program = app.program_of(applications.use_application(application))
        app.main(program)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
