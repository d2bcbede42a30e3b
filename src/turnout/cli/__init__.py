"""The command line: `turnout ...`."""

from __future__ import annotations

import importlib
import os
import sys

import click

from turnout._version import __version__
from turnout.core.errors import TurnoutError

__all__ = ["cli", "main"]

#: Commands in the order a newcomer meets them; each lives in the module of its name.
COMMANDS = (
    *("demo", "bench", "rank", "fit", "join", "certify", "serve", "keys", "prompts", "similar"),
    *("explain", "trace", "graph", "buy", "methods", "survey", "claims"),
)


class _Lazy(click.Group):
    """A group whose commands are imported when they are called, so that `--help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"turnout.cli.{name}").command
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="turnout")
def cli() -> None:
    """Learn where to send each input, under a budget."""


def main(args: list[str] | None = None) -> None:
    """Run the command line; an error made on purpose is one line on stderr and exit status 2."""
    try:
        cli.main(args=args, prog_name="turnout", standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except TurnoutError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        # The reader went away (such as `| head`); nothing is left to say, and to whom.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
