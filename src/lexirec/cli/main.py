"""The command line: one file per group of commands, errors turned into exit codes here."""

import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from lexirec import __version__
from lexirec.cli.terminal import printable
from lexirec.errors import LexirecError

app = typer.Typer(
    name="lexirec",
    help="A recommender from a catalogue's own words and an interaction log.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"lexirec {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    _: Annotated[bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    pass


def _register() -> None:
    from lexirec.cli import data, demo, doctor, embed, finetune, models, profile, recommend, report, results, settings

    commands: list[Callable[..., Any]] = [
        demo.demo,
        embed.embed,
        finetune.finetune,
        profile.profile,
        models.fit,
        results.evaluate,
        results.bench,
        results.compare,
        report.report,
        recommend.recommend,
        recommend.similar,
        models.tune,
        settings.settings,
        doctor.doctor,
    ]
    for command in commands:
        app.command()(command)
    app.add_typer(data.app, name="data")


_register()
GOES_ON = {
    "fit": "; an unfinished run goes on with the same command and --resume",
    "finetune": "; an unfinished tuning goes on with the same command and --resume",
    **dict.fromkeys(("bench", "tune", "profile"), "; the same command goes on"),
}
"""What may be said after Ctrl-C of the commands that keep what they have done."""
INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of the signal, as shells have it."""


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 failed, 2 bad usage or bad input, 130 interrupted."""
    shown = warnings.showwarning
    warnings.showwarning = _show_warning
    try:
        return _run(arguments)
    finally:
        warnings.showwarning = shown


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """A line of its own, without the source line that Python adds: no line of the user's is to blame here."""
    _say(f"warning: {message}")


def _say(message: str) -> None:
    """On stderr; a message may have several lines and quote anything."""
    print("\n".join(map(printable, message.split("\n"))), file=sys.stderr)


def _run(arguments: list[str] | None) -> int:
    try:
        code = app(args=arguments, standalone_mode=False)
        if code == INTERRUPTED:  # the parser's answer to Ctrl-C
            _say("interrupted" + GOES_ON.get((arguments or sys.argv[1:] or [""])[0], ""))
    except LexirecError as error:
        _say(f"error: {error}")
        return error.exit_code
    except typer.Exit as stop:
        return stop.exit_code
    except OSError as error:
        _say(f"error: {error}")
        return 1
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # a usage error of the parser
            _say(f"error: {error.format_message()}")
            return 2
        raise
    return code if isinstance(code, int) else 0
