"""The frame every command stands in: options all have, texts in two languages, answers and refusals."""

from __future__ import annotations

import functools
import gc
import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click
import msgspec
from msgspec.structs import replace

from . import discovery
from .discovery import Installed
from .errors import InvalidRequest, NotFound, TallyError, Unavailable, UnknownTenant
from .later import later
from .problems import Language, problem_document
from .words import complaint, translate

if TYPE_CHECKING:
    from . import config as configuration
    from . import database, house
    from .config import Config
    from .house import House
else:
    configuration, database, house = later("config", "database", "house")


def chosen_language(argv: Sequence[str], environ: Mapping[str, str]) -> Language:
    """``--lang`` if it is there, else what the environment says (TALLY_LANG, LC_ALL, LC_MESSAGES, LANG), else English."""
    asked = next((argv[n + 1] for n, each in enumerate(argv[:-1]) if each == "--lang"), "")
    asked = next((each.partition("=")[2] for each in argv if each.startswith("--lang=")), asked)
    for said in (asked, *(environ.get(name, "") for name in ("TALLY_LANG", "LC_ALL", "LC_MESSAGES", "LANG"))):
        if said:
            return "zh" if said.lower().startswith("zh") else "en"
    return "en"


def language() -> Language:
    """The language of the command that runs."""
    context = click.get_current_context(silent=True)
    found: Language = context.find_root().meta.get("tallystick.language", "en") if context is not None else "en"
    return found


class _Count(int):
    """A number that brings its noun: ``{found:event|events}`` is "1 event" and "2,000 events"."""

    def __format__(self, form: str) -> str:
        one, either, many = form.partition("|")
        return f"{int(self):,} {one if self == 1 else many}" if either else format(int(self), form)


def say(text: str, **words: Any) -> str:
    """A sentence in the language of the user, with its words filled in; a number may bring its noun in both forms."""
    if not words:
        return translate(text, language())
    counted = {name: _Count(word) if type(word) is int else word for name, word in words.items()}
    return translate(text, language()).format(**counted)


class _Formatter(click.HelpFormatter):
    """click's help with its own headings translated."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, prefix=f"{say('Usage:')} " if prefix is None else prefix)

    def write_heading(self, heading: str) -> None:
        super().write_heading(say(heading))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl([(name, say(text)) for name, text in rows], col_max, col_spacing)


class _Context(click.Context):
    formatter_class = _Formatter


class Option(click.Option):
    """An option whose help speaks the language of the user."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        plain, self.help = self.help, say(self.help or "")
        try:
            return super().get_help_record(ctx)
        finally:
            self.help = plain


class Command(click.Command):
    """A command whose help speaks the language of the user."""

    context_class = _Context

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        plain, self.help = self.help, say(inspect.cleandoc(self.help or ""))
        try:
            super().format_help_text(ctx, formatter)
        finally:
            self.help = plain

    def get_short_help_str(self, limit: int = 45) -> str:  # noqa: ARG002  a cut sentence says nothing
        return say((self.help or "").partition("\n\n")[0].replace("\n", " "))


class Group(Command, click.Group):
    """Commands that belong together."""

    command_class = Command


class Root(Group):
    """All commands; refusals end here."""

    def invoke(self, ctx: click.Context) -> Any:
        """Refusals become one line with their code on standard error, and exit status 1."""
        try:
            return super().invoke(ctx)
        except TallyError as error:
            refuse(error)
        except click.ClickException as error:
            return ctx.exit(complain(error))
        except Exception as error:
            refusal = None if _of_click(error) else database.refusal(error) or _of_the_system(error)
            if refusal is None:
                raise
            if words := database.server_said(error):
                refusal.message = f"{refusal.message} ({words})"
            refuse(refusal)
        return ctx.exit(1)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        # before anything is parsed: help and complaints about the words themselves are texts, too
        context = self.context_class(self, info_name=info_name, parent=parent, **{**self.context_settings, **extra})
        context.meta["tallystick.language"] = chosen_language(args, os.environ)
        context.meta["tallystick.json"] = "--json" in args
        with context.scope(cleanup=False):
            try:
                self.parse_args(context, args)
            except click.ClickException as error:
                context.exit(complain(error))
        return context


def complain(error: click.ClickException) -> int:
    """Say in the language of the user which words cannot be taken, as any refusal is said; the exit status."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        raise error  # no complaint: it shows the help
    context = getattr(error, "ctx", None)
    if context is not None and not context.find_root().meta["tallystick.json"]:
        click.echo(context.get_usage(), err=True)
        click.echo(say("Try '{command} --help' for help.", command=context.command_path) + "\n", err=True)
    refuse(InvalidRequest(complaint(error.format_message(), language())))
    return error.exit_code


def _of_click(error: Exception) -> bool:
    """Whether click says it: the end, or a reader of the output who went away."""
    return isinstance(error, (click.Abort, click.exceptions.Exit, BrokenPipeError))


def _of_the_system(error: Exception) -> TallyError | None:
    """The refusal for a file or an address that the system keeps from us; None for a mistake."""
    if not isinstance(error, OSError):
        return None
    sentence = ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
    wrong = isinstance(error, (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError))
    return InvalidRequest(sentence) if wrong else Unavailable(sentence)


def _first_line(error: TallyError) -> str:
    return (type(error).__doc__ or "").strip().partition("\n")[0]


def _document(error: TallyError) -> dict[str, Any]:
    """The problem in the language of the user."""
    document = problem_document(error, language())
    if language() == "zh" and document["detail"] == document["title"] and error.message != _first_line(error):
        # nobody has said just this in Chinese: then what happened stands beside what kind of refusal it is
        translated = any("\u4e00" <= letter <= "\u9fff" for letter in error.message)
        document["detail"] = error.message if translated else f"{document['title']}（{error.message}）"
    return document


def in_words(error: TallyError) -> str:
    """A refusal as one sentence with its place, in the language of the user."""
    place = f" ({error.pointer})" if error.pointer else ""
    return f"{_document(error)['detail']}{place}"


def refuse(error: TallyError) -> None:
    """Say no on standard error: the code, then the sentence; the whole problem as JSON for programs."""
    if click.get_current_context().find_root().meta.get("tallystick.json"):
        click.echo(json.dumps(_document(error), ensure_ascii=False), err=True)
        return
    click.echo(f"tally: {error.code}: {in_words(error)}", err=True)


@attrs.define
class Desk:
    """What a command works with: where the configuration is, and how to answer."""

    path: Path
    as_json: bool
    _installed: Mapping[str, Installed] | None = None

    def config(self) -> Config:
        """The checked configuration; a relative SQLite file lies where tally.toml does.  Raises InvalidConfig."""
        if not self.path.exists():
            raise NotFound(
                say("there is no {file} here: `tally init` writes one, and --config names another", file=self.path)
            )
        found = configuration.load(self.path, installed=self.installed(), environ=os.environ)
        url = beside(found.house.database, self.path.parent)
        return replace(found, house=replace(found.house, database=url))

    def installed(self) -> Mapping[str, Installed]:
        """The installed plugins, looked for once."""
        if self._installed is None:
            self._installed = discovery.discover()
        return self._installed

    def house(self) -> AbstractContextManager[House]:
        """The house for a command: it alone records, in its own thread, and nothing runs by the clock meanwhile."""
        return self._house(alone=True)

    def serving(self, found: Config | None = None) -> AbstractContextManager[House]:
        """The house as it serves: events come through its writer, and jobs run when they are due.

        *found* is the configuration, where it was read a moment ago.
        """
        return self._house(found, alone=False)

    @contextmanager
    def _house(self, found: Config | None = None, *, alone: bool) -> Iterator[House]:
        built = house.build_house(found or self.config(), installed=self.installed(), alone=alone)
        gc.freeze()  # what is here by now stays: nobody looks through it for garbage
        with built:
            yield built

    def answer(self, document: Any, *lines: str) -> None:
        """The result: *document* for programs, *lines* for people."""
        if self.as_json:
            click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
            return
        for line in lines:
            click.echo(line)


def beside(url: str, folder: Path) -> str:
    """A database URL with the path of a SQLite file taken as relative to *folder*."""
    head, name = "sqlite:///", url.removeprefix("sqlite:///")
    if not url.startswith(head) or not name or name == ":memory:" or Path(name).is_absolute():
        return url
    return f"{head}{(folder.resolve() / name).as_posix()}"


def tenant_of(config: Config, wanted: str | None) -> str:
    """The tenant that is meant.  Raises UnknownTenant, and InvalidRequest if there are several and none was named."""
    if wanted is None:
        if len(config.tenants) == 1:
            return next(iter(config.tenants))
        raise InvalidRequest(f"name one of the tenants with --tenant: {', '.join(config.tenants)}")
    if wanted not in config.tenants:
        raise UnknownTenant(f"no tenant {wanted!r} in {config.file}")
    return wanted


option = functools.partial(click.option, cls=Option)
tenant_option = option("--tenant", help="The tenant, if there are several.")


def command(
    group: click.Group, name: str, *, cls: type[click.Command] = Command, **more: Any
) -> Callable[[Callable[..., None]], click.Command]:
    """A command of *group* whose function gets a :class:`Desk` first; all have ``--config`` and ``--json``."""

    def wrap(function: Callable[..., None]) -> click.Command:
        @functools.wraps(function)
        def run(*, config: Path, as_json: bool, **arguments: Any) -> None:
            click.get_current_context().find_root().meta["tallystick.json"] = as_json
            function(Desk(config, as_json), **arguments)

        path = click.Path(dir_okay=False, path_type=Path)
        run = option(
            "--config",
            type=path,
            default="tally.toml",
            envvar="TALLY_CONFIG",
            show_default=True,
            help="The configuration file.",
        )(run)
        run = option(
            "--json", "as_json", is_flag=True, help="Print one JSON document on standard output and nothing else."
        )(run)
        return group.command(name, cls=cls, **more)(run)

    return wrap
