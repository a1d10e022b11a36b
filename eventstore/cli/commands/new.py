"""`eventstore new`: make a project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eventstore.cli.output.terminal import say
from eventstore.errors import ConfigurationError
from eventstore.scaffold import project_files


def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of the application and its folder: shop.")
    ],
) -> None:
    """Make a project, with one example of each part.

    It runs, and has tests. It is made in a new folder of that name: `make run` there runs the
    service, and `make test` the tests. Ends with status 0, or 2 for an error.
    """
    made = project_files(name)
    folder = Path(name)
    try:
        folder.mkdir()
        for path, text in made.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except FileExistsError as error:
        raise ConfigurationError(f"{name} exists already: choose another name") from error
    except OSError as error:
        raise ConfigurationError(f"{name} cannot be made: {error.strerror}") from error
    for path in made:
        say(f"{folder / path}")
    say(f"\nnext: cd {name} && make test && make run")
