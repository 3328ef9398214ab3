"""Write the pages of docs/reference/ that say what the code says, from the code.

`python .ci/reference.py` after a change of an error, a hook or an event kind; tests/test_docs.py compares.
"""

import hashlib
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import click
import msgspec
from sphinx.pycode import ModuleAnalyzer

from tallystick import (
    access,
    api,
    cli,
    config,
    discovery,
    errors,
    events,
    hookspecs,
    intake,
    manifest,
    openapi,
    problems,
    web,
)
from tallystick.events import EventKind
from tallystick.manifest import Manifest
from tallystick.schema import expected
from tallystick.words import translate
from tallystick_notify import webhook
from tallystick_notify.channels import Parcel, encode
from tallystick_notify.messages import declared
from tallystick_notify.wording import render

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
HEAD = "% Written by .ci/reference.py: change the code's docstrings, not this page.\n\n"


def pages() -> dict[str, str]:
    """The text of every generated page, by its file name."""
    plugins, broken = discovery.manifests(discovery.discover())
    assert not broken, broken
    return {
        "commands.md": HEAD + "\n".join(commands_page()),
        "errors.md": HEAD + "\n".join(errors_page(f"tallystick_{plugin}" for plugin in plugins)),
        "events.md": HEAD + "\n".join(events_page(plugins)),
        "http.md": HEAD + "\n".join(http_page()),
        "hooks.md": HEAD + "\n".join(hooks_page(plugins)),
        "messages.md": HEAD + "\n".join(messages_page(plugins)),
        "settings.md": HEAD + "\n".join(settings_page(plugins)),
    }


def commands_page() -> Iterator[str]:
    """Every command with its help."""
    yield "# Commands\n"
    yield (
        "`tallystick` is another name for `tally`. Results go to standard output, refusals with their code to standard "
        "error; the exit status is 0, 1 for a refusal and 2 for a command line that does not parse.\n"
    )
    yield from commands(click.Context(cli.cli, info_name="tally"))


def commands(context: click.Context) -> Iterator[str]:
    """The help of a command, or of every command of a group."""
    command = context.command
    if isinstance(command, click.Group):
        if command.invoke_without_command:
            yield from one_command(context)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child.context_class(child, info_name=name, parent=context, terminal_width=100))
        return
    yield from one_command(context)


def one_command(context: click.Context) -> Iterator[str]:
    """The help of a command in both languages."""
    command = context.command
    yield f"## {context.command_path}\n"
    yield translate(inspect.cleandoc(command.help or ""), "zh") + "\n"
    yield f"```text\n{command.get_help(context)}\n```\n"


def errors_page(plugins: Iterable[str]) -> Iterator[str]:
    """Every refusal under its public code."""
    yield "# Errors\n"
    yield "Every refusal has a code that is never renamed.\n"
    yield (
        "HTTP answers carry it as `code` in a problem document (RFC 9457), commands print it on standard error, "
        "and Python code catches the class.\n"
    )
    modules = [errors, *(import_module(f"{name}.errors") for name in plugins if find_spec(f"{name}.errors"))]
    for module in modules:
        for error in refusals(module):
            yield f"## {error.code}\n"
            status, chinese = next(problems.TABLE[each.code] for each in error.__mro__ if each.code in problems.TABLE)
            base = error.__mro__[1]
            kind = "" if base is errors.TallyError else f", a kind of [{base.code}](#{base.code})"
            if error.code not in problems.TABLE:
                chinese = vars(error).get("chinese", "")
            yield f"{prose(error)} {chinese}".rstrip() + "\n"
            yield f"HTTP {status}. `{error.__module__}.{error.__name__}`{kind}\n"


def refusals(module: ModuleType) -> list[type[errors.TallyError]]:
    """The classes that *module* defines, in the order of the source; their common base has no heading."""
    defined = [each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == module.__name__]
    return [each for each in defined if issubclass(each, errors.TallyError) and each is not errors.TallyError]


LANGUAGES = {"en": "English", "zh": "中文"}
POLICIES = {
    "sit_out": "the plugin sits these events out",
    "skip_and_repair": "the plugin is skipped, and the event is recorded for repair",
    "core_copies": "the rows that the other does not have are copied",
    "refuse": "the event is refused and nothing is written",
    "hold_or_mark": "what takes from a member is held, and earning goes through with a mark",
    "keep": "what was stays",
    "retry": "tried again",
    "drop_and_alarm": "dropped, with an alarm",
    "retry_and_alarm": "tried again, then an alarm",
    "report": "reported",
    "incomplete": "the erasure is not complete",
    "keep_old_generation": "the old settings stay in force",
}


def hook_line(name: str, plugins: Mapping[str, Manifest]) -> str:
    """Purity, failure policy, budget and who has it, in one line."""
    pure = name in hookspecs.PURE
    kind = "Pure; ended by the watchdog after 50 ms of CPU time" if pure else "May do I/O"
    if name == "join":
        kind = "Deterministic, without I/O"
    by = [plugin.id for plugin in plugins.values() if name in plugin.hooks]
    has = (
        f"implemented by {', '.join(f'`{plugin}`' for plugin in by)}" if by else "implemented by no first-party plugin"
    )
    return f"{kind}. When it fails: {POLICIES[hookspecs.ON_FAILURE[name]]}. Since API 1.0; {has}."


def hooks_page(plugins: Mapping[str, Manifest]) -> Iterator[str]:
    """Every hook under its signature."""
    yield "# Hooks\n"
    yield prose(hookspecs.Hooks) + "\n"
    yield f"{prose(hookspecs.impl)}\n"
    yield "Each example is a file of `docs/reference/hooks/` and is run by the tests.\n"
    for name in hookspecs.all_hooks():
        hook = getattr(hookspecs.Hooks, name)
        signature = inspect.signature(hook)
        arguments = [argument for argument in signature.parameters if argument != "self"]
        yield f"## {name}({', '.join(arguments)})\n"
        kind = "async def" if inspect.iscoroutinefunction(hook) else "def"
        yield f"```python\n{kind} {name}{signature}\n```\n".replace("'", "")
        yield prose(hook) + "\n"
        yield hook_line(name, plugins) + "\n"
        yield f"```python\n{(REFERENCE / 'hooks' / f'{name}.py').read_text()}```\n"


def events_page(plugins: Mapping[str, Manifest]) -> Iterator[str]:
    """Every kind of event under its public name, then the classes that their facts are made of."""
    yield "# Event kinds\n"
    yield "What may stand in `data` of an event, per `type`. Fields without a default are required; others are unknown and refused.\n"
    types: dict[str, Any] = {}
    docs: dict[tuple[str, str], str] = {}
    of_plugins = [kind for plugin in plugins.values() for kind in discovery.load_kinds(plugin)]
    for kind in (*events.CORE_KINDS, *of_plugins):
        schema = msgspec.json.schema(kind.facts)
        docs |= attribute_docs(kind.facts.__module__)
        own = schema["$defs"].pop(kind.facts.__name__)
        types |= schema["$defs"]
        yield f"## {kind.name}\n"
        yield f"{kind.summary['en']} {kind.summary['zh']}\n"
        yield prose(kind.facts) + "\n"
        yield facts_line(kind) + "\n"
        yield from fields(own, docs)
        yield f"```json\n{json.dumps(kind.example, indent=2, ensure_ascii=False)}\n```\n"
    yield "## Parts of facts\n"
    for name, schema in sorted(types.items()):
        yield f"### {name}\n"
        yield schema.get("description", "") + "\n"
        yield from fields(schema, docs)


def facts_line(kind: EventKind) -> str:
    """Who may send it and for whom, in one line."""
    guest = "may come without a member" if kind.guest else "names a member"
    brought = "the core" if kind.plugin == "core" else f"the plugin `{kind.plugin}`"
    return f"Brought by {brought}; {guest}; needs the permission `{kind.permission}`."


MESSAGES = """\
Messages that members get and that other systems hear of, by the plugin that asks for them.
A merchant's own words go [in front](settings.md) of those shown here.

Other systems get each as the body of a webhook, and [how to receive it](../how-to/receive-webhooks.md) is a page of its own.
"""


def messages_page(plugins: Mapping[str, Manifest]) -> Iterator[str]:
    """Every message with its words and its webhook, made by the classes that send it."""
    yield "# Messages\n"
    yield MESSAGES
    for plugin in plugins.values():
        for message in plugin.messages:
            yield f"## {message.id}\n"
            yield f"{message.summary.in_language('en')} {message.summary.in_language('zh')}\n"
            yield f"Asked for by the plugin `{plugin.id}`; purpose `{message.purpose}`.\n"
            for language, words in declared([message])[message.id].words.items():
                said = render(words, message.example, language, ZoneInfo("UTC"))
                yield f"```text\n{LANGUAGES[language]}: {said.subject}\n\n{said.text.strip()}\n```\n"
            at = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
            parcel = Parcel(
                id=f"msg_{hashlib.sha256(message.id.encode()).hexdigest()[:32]}", tenant="shop", member="m-000000004711",
                template=message.id, purpose=message.purpose, facts=message.example, created=at, now=at,
            )  # fmt: skip
            body = json.loads(encode(webhook.event(parcel)))
            yield f"```json\n{json.dumps(body, indent=2, ensure_ascii=False)}\n```\n"
    yield "## Parts of a webhook\n"
    schemas = msgspec.json.schema_components([webhook.CloudEvent])[1]
    for name, schema in schemas.items():
        yield f"### {name}\n"
        yield markdown(schema.get("description", "")) + "\n"
        yield from fields(schema, {})


HTTP = """\
Every request but those to the open pages carries a key: `Authorization: Bearer tk_...`.
`tally key create` makes one; its role and scopes say what it may do, and nothing is allowed that is not written here.
What belongs to another tenant, or to another member where the key is a member's, looks as if it did not exist.

Bodies are JSON in UTF-8, {megabytes} MiB at most for events and {kilobytes} KiB for all else, nested {depth} deep at most.
A key that stands in an object twice, a number with a fraction, NaN, minus zero, a number beyond 64 bits, a NUL character and a field nobody knows are refused, each with its place.

A refusal is a problem after RFC 9457, `application/problem+json`: `code` is for programs and never renamed (see [errors](errors.md)), `pointer` says where in the body, `title` and `detail` are for people, in English or Chinese as `Accept-Language` asks.
429 and 503 come with `Retry-After`; the same request may then be sent again.
Sending any request again is safe: what was done is not done twice, and the answer is that of the first time.
"""


def http_page() -> Iterator[str]:
    """Every door of the HTTP interface under its method and path."""
    yield "# HTTP\n"
    limits = intake.LIMITS
    yield HTTP.format(megabytes=limits.body >> 20, kilobytes=web.SMALL_BODY >> 10, depth=limits.depth)
    document = openapi.openapi_document({})
    schemas = document["components"]["schemas"]
    docs = attribute_docs(api.__name__)
    for door in (*api.DOORS, *web.GUARDED):
        yield f"## {door.method} {door.path}\n"
        yield markdown(door.about) + "\n"
        yield permission_line(door.permission) + "\n"
        operation = document["paths"][door.path][door.method.lower()]
        asked = [part for part in operation.get("parameters", ()) if part["in"] == "query"]
        for part in asked:
            yield f"- `?{part['name']}=`: {type_of(part['schema'])}. {part['schema'].get('description', '')}"
        if asked:
            yield ""
        if door.body is not None:
            yield f"Takes [{door.body.__name__}](#{door.body.__name__.lower()}).\n"
        if door.permission == api.BY_KIND:
            yield "Takes one event or an array of up to 1,000, as CloudEvents 1.0 writes them, and `member`: [Envelope](#envelope).\n"
        yield "| status | body |\n|---|---|"
        for status in door.answers:
            schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]
            yield f"| {status} | {type_of(schema)} |"
        yield "" if door.answers else "| 200 | text |\n"
    yield "## Open pages\n"
    for path, summary, _ in openapi.OPEN:
        yield f"- `GET {path}`: {summary[0].lower()}{summary[1:]}."
    yield "\n## Parts\n"
    schemas["Envelope"] = msgspec.json.schema(intake.Envelope)["$defs"]["Envelope"]
    docs |= attribute_docs(intake.__name__) | attribute_docs("tallystick.receipts")
    for name, schema in sorted(schemas.items()):
        if "properties" in schema and "title" in schema and schema["title"] == name and not name.endswith("Query"):
            yield f"### {name}\n"
            yield markdown(schema.get("description", "")) + "\n"
            yield from fields(schema, docs)


def permission_line(permission: str) -> str:
    """What a key needs, and who has it from the start."""
    if permission == api.BY_KIND:
        return "Needs the permission of the event's kind, see [event kinds](events.md)."
    roles = ", ".join(role for role in manifest.ROLES if role in access.PERMISSIONS[permission])
    return f"Needs the permission `{permission}`: {roles}."


def settings_page(plugins: Mapping[str, Manifest]) -> Iterator[str]:
    """Every key of tally.toml under its path."""
    yield "# Settings\n"
    yield (
        "What may stand in `tally.toml`. `NAME` stands for a name you choose, `[]` for each table of an array. "
        "A variable such as `TALLY__HOUSE__PORT` overrides the file, and `tally check` names every mistake with its place.\n"
    )
    yield "## The house\n"
    yield from settings("house", config.HOUSE)
    yield "## A tenant\n"
    yield from settings("tenants.NAME", config.TENANT)
    for plugin in plugins.values():
        if plugin.settings is not None:
            yield f"## Plugin {plugin.id}\n"
            schema = discovery.load(plugin.settings.schema, plugin=plugin.id)
            yield from settings(f"tenants.NAME.plugins.{plugin.id}", schema, hidden="tenants.NAME.plugins.")


def settings(path: str, found: Mapping[str, Any], *, hidden: str = "") -> Iterator[str]:
    """A heading for every key below *path*, of which *hidden* is too long to repeat, and what may stand there."""
    for key, definition in found.items():
        place = f"{path}.{key}"
        yield f"### {place.removeprefix(hidden)}\n"
        yield from setting(definition)
        match definition:
            case {"schema": {"type": "dict", "schema": inner}}:
                yield from settings(f"{place}[]", inner, hidden=hidden)
            case {"valuesrules": {"type": "dict", "schema": inner}}:
                yield from settings(f"{place}.NAME", inner, hidden=hidden)
            case {"type": "dict", "schema": inner}:
                yield from settings(place, inner, hidden=hidden)


def setting(definition: Mapping[str, Any]) -> Iterator[str]:
    """What one key means and takes."""
    meta = definition.get("meta", {})
    if "doc" in meta:
        yield markdown(meta["doc"]) + "\n"
    default = f" Default: `{json.dumps(definition['default'])}`." if "default" in definition else ""
    required = " Required." if definition.get("required") else ""
    yield f"Expected: {expected(definition)}.{default}{required}\n"


def fields(schema: Mapping[str, Any], docs: Mapping[tuple[str, str], str]) -> Iterator[str]:
    """A table of the fields of one class."""
    if not schema["properties"]:
        return
    yield "| field | type | default | meaning |\n|---|---|---|---|"
    for name, field in schema["properties"].items():
        default = f"`{json.dumps(field['default'])}`" if "default" in field else ""
        meaning = docs.get((schema["title"], name)) or field.get("description", "")
        yield f"| `{name}` | {type_of(field)} | {default} | {meaning} |"
    yield ""


def type_of(field: Mapping[str, Any]) -> str:
    """What may stand in a field, in words."""
    match field:
        case {"$ref": reference}:
            name = reference.rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        case {"anyOf": choices}:
            return " or ".join(type_of(choice) for choice in choices)
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values)
        case {"type": "array", "items": items}:
            return f"list of {type_of(items)}{bounds(field, 'Items', '')}"
        case {"type": "string"}:
            return f"string{bounds(field, 'Length', ' characters')}"
        case {"type": kind}:
            return f"{kind}{bounds(field, 'imum', '')}"
    return "anything"


def bounds(field: Mapping[str, Any], suffix: str, unit: str) -> str:
    """The least and the most of a field; "imum" completes minimum and maximum."""
    low, high = field.get(f"min{suffix}"), field.get(f"max{suffix}")
    if high is None and "exclusiveMaximum" in field:
        high = field["exclusiveMaximum"] - 1
    found = (
        f"{low:,} to {high:,}" if low and high else f"at most {high:,}" if high else f"at least {low:,}" if low else ""
    )
    return f", {found}{unit}" if found else ""


def attribute_docs(module: str) -> dict[tuple[str, str], str]:
    """The `#:` comments of a module's classes, by class and attribute."""
    found = ModuleAnalyzer.for_module(module).find_attr_docs()
    return {key: markdown(" ".join(line for line in lines if line)) for key, lines in found.items()}


def prose(documented: Any) -> str:
    """A docstring as Markdown."""
    return markdown(inspect.getdoc(documented) or "")


def markdown(text: str) -> str:
    """The little reStructuredText that docstrings use, as Markdown."""
    text = re.sub(r":\w+:`~?([\w.]+)`", lambda match: f"`{match[1].rpartition('.')[2]}`", text)
    return text.replace("``", "`").replace("|", "\\|")


def write(found: Iterable[tuple[str, str]]) -> None:
    """Write the pages that changed."""
    REFERENCE.mkdir(exist_ok=True)
    for name, text in found:
        (REFERENCE / name).write_text(text)
        sys.stdout.write(f"docs/reference/{name}\n")


if __name__ == "__main__":
    write(pages().items())
