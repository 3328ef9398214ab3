"""The command line, on real files."""

import contextlib
import csv
import inspect
import json
import re
import sqlite3
import tomllib
from datetime import datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tallystick import words
from tallystick.cli import cli
from tallystick.house import now
from tallystick.importing import Bookmark
from tallystick.ledger import moment
from tallystick.words import CHINESE


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`tally` in an empty folder, as a user of an English terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANG", "C.UTF-8")
    for name in ("TALLY_LANG", "LC_ALL", "LC_MESSAGES", "TALLY_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    def run(*args: str, status: int = 0, **more) -> Result:
        result = CliRunner().invoke(cli, args, **more)
        assert result.exit_code == status, result.output
        return result

    return run


@pytest.fixture
def shop(run):
    """The same, after `tally init`."""
    run("init", "--zone", "America/New_York")
    return run


def document(result: Result):
    return json.loads(result.stdout)


def commands(group: click.Group, path: tuple[str, ...] = ()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_init_leaves_a_house_that_is_in_order(run, tmp_path):
    said = run(
        "init", "--tenant", "cafe", "--name", "Café am Markt", "--zone", "Europe/Berlin", "--currency", "EUR"
    ).stdout
    assert "tk_" in said
    for name in ("tally.secret", "tally.db"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert tomllib.loads((tmp_path / "tally.toml").read_text())["tenants"]["cafe"]["name"] == "Café am Markt"
    run("check")
    assert all(finding["ok"] for finding in document(run("doctor", "--json")))


def test_the_first_key_is_kept_nowhere_in_the_clear(run, tmp_path):
    key = document(run("init", "--json"))["key"]
    assert [file.name for file in tmp_path.iterdir() if key.split("_", 2)[2].encode() in file.read_bytes()] == []


def test_init_never_overwrites(shop, tmp_path):
    before = (tmp_path / "tally.toml").read_text()
    assert shop("init", status=1).stderr.startswith("tally: invalid_request: ")
    assert (tmp_path / "tally.toml").read_text() == before


def test_a_relative_database_lies_beside_its_configuration(shop, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shop("db", "status", "--config", "../tally.toml")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_check_names_every_mistake_with_its_place(shop, tmp_path):
    file = tmp_path / "tally.toml"
    file.write_text(
        file.read_text()
        .replace("port = 8080", 'port = "x"')
        .replace('currency = "USD"', 'currency = "USDD"')
        .replace("per = 100", "per = 0")
    )
    said = shop("check", status=1).stderr
    assert said.startswith("tally: invalid_config: ")
    assert [line.split(":")[1].isdigit() for line in said.removeprefix("tally: invalid_config: ").splitlines()] == [
        True
    ] * 3


def test_a_refusal_goes_to_standard_error_with_its_code(shop):
    result = shop("member", "show", "nobody", status=1)
    assert (result.stdout, result.stderr.split(":")[1]) == ("", " unknown_member")


def test_a_refusal_is_a_problem_document_for_programs(shop):
    result = shop("member", "show", "nobody", "--json", status=1)
    assert result.stdout == ""
    assert json.loads(result.stderr)["code"] == "unknown_member"


def test_a_newer_database_is_refused_untouched(shop, tmp_path):
    import sqlite3

    with sqlite3.connect(tmp_path / "tally.db") as conn:
        conn.execute("UPDATE core_schema_version SET version_num = '9999'")
    conn.close()
    assert "database_too_new" in shop("expire", status=1).stderr
    assert "database_too_new" in shop("db", "upgrade", status=1).stderr


def test_a_tenant_is_added_and_must_then_be_named(shop):
    shop("tenant", "add", "bakery", "--zone", "Asia/Shanghai", "--currency", "CNY")
    assert [row["id"] for row in document(shop("tenant", "list", "--json"))] == ["shop", "bakery"]
    assert "invalid_request" in shop("key", "list", status=1).stderr
    assert [row["role"] for row in document(shop("key", "list", "--tenant", "bakery", "--json"))] == ["owner"]


def test_a_key_is_shown_once_rotated_and_revoked(shop):
    made = document(shop("key", "create", "--role", "cashier", "--scope", "events.write", "--json"))
    following = document(shop("key", "rotate", made["id"], "--json"))
    assert following["key"] != made["key"]
    shop("key", "revoke", following["id"])
    known = {row["id"]: row for row in document(shop("key", "list", "--json"))}
    assert known[made["id"]]["active"], "until its hours are over"
    assert not known[following["id"]]["active"]
    assert made["key"].split("_", 2)[2] not in json.dumps(known)


def test_a_member_is_added_found_linked_exported_and_forgotten(shop, tmp_path):
    name = document(shop("member", "add", "C-1", "--name", "Ada", "--birthday", "05-17", "--json"))["member"]
    shop("member", "link", "C-1", "card-77")
    assert document(shop("member", "show", "card-77", "--json"))["member"] == name
    assert document(shop("member", "export", name, "--json"))["members"][0]["profile"]["name"] == "Ada"
    shop("member", "erase", "C-1", input="n\n", status=1)
    shop("member", "erase", "C-1", "--yes")
    assert "unknown_member" in shop("member", "show", "C-1", status=1).stderr
    assert name[2:].lstrip("0") in (tmp_path / "erasures.jsonl").read_text(), "to be replayed after a restore"


def test_two_members_who_are_one_person_are_merged_and_parted(shop):
    for name in ("C-1", "C-2"):
        shop("member", "add", name)
    merge = document(shop("member", "merge", "C-1", "C-2", "--reason", "same person", "--json"))["entry"]
    assert shop("member", "show", "C-1", "--json").stdout == shop("member", "show", "C-2", "--json").stdout
    assert "invalid_request" in shop("member", "merge", "C-1", "C-2", status=1).stderr
    shop("member", "unmerge", merge)
    assert shop("member", "show", "C-1", "--json").stdout != shop("member", "show", "C-2", "--json").stdout
    assert "not_found" in shop("member", "unmerge", merge, status=1).stderr


def test_an_export_tells_what_plugins_keep_as_well(shop, tmp_path):
    config = tmp_path / "tally.toml"
    config.write_text(config.read_text() + "\n[tenants.shop.plugins.notify]\n")
    shop("db", "upgrade")
    shop("member", "add", "C-1")
    assert "notify" in document(shop("member", "export", "C-1"))["members"][0]["plugins"]


def test_books_go_to_a_file_also_for_programs(shop, tmp_path):
    for name in ("C-1", "C-2"):
        shop("member", "add", name)
    file = tmp_path / "books"
    for form, before in (("jsonl", 0), ("csv", 1)):
        said = document(shop("export", "records", "--format", form, "--output", str(file), "--json"))
        assert said == {"file": str(file), "rows": 2}
        assert len(file.read_text().splitlines()) == before + 2
    assert document(shop("export", "lots", "--format", "csv", "--output", str(file), "--json"))["rows"] == 0
    rows = csv.DictReader(shop("export", "records", "--format", "csv").stdout.splitlines())
    assert all(datetime.fromisoformat(row["received"]).tzinfo for row in rows), "a spreadsheet reads dates"
    assert [row["kind"] for row in document(shop("export", "records", "--json"))] == ["member.enrolled"] * 2


def test_who_is_added_at_the_desk_has_joined_like_anybody_else(shop):
    entry = document(shop("member", "add", "C-1", "--json"))["entry"]
    assert "member.enrolled" in shop("explain", entry).stdout


def test_a_late_event_says_which_plugins_were_not_asked(shop, tmp_path):
    shop("member", "add", "C-1")
    then = moment(now()).isoformat()
    shop("plugins", "disable", "points")
    bought = {"order": "R-1", "currency": "USD", "lines": [{"sku": "TEA", "amount": 1000}]}
    event = {"id": "1", "source": "till", "type": "purchase.completed", "time": then, "member": "C-1", "data": bought}
    (tmp_path / "late.jsonl").write_text(json.dumps(event))
    shop("import", "late.jsonl")
    with contextlib.closing(sqlite3.connect(tmp_path / "tally.db")) as books:
        ((body,),) = books.execute("SELECT body FROM record ORDER BY entry DESC LIMIT 1")
    name = json.loads(body)["entry"]
    assert "switched off: points" in shop("explain", name).stdout
    assert document(shop("explain", name, "--json"))["receipt"]["off"] == ["points"]


def test_hooks_name_the_plugin_behind_each_call(shop):
    assert "earn (points)" in shop("hooks", "--explain", "--kind", "purchase.completed").stdout


def test_plugins_say_why_they_run(shop):
    found = document(shop("plugins", "--json"))
    assert found["tenants"]["shop"]["runs"]["points"] == "enabled in tally.toml"


def test_language_is_chosen_by_option_or_environment(run):
    assert "用法" in run("--lang", "zh", "--help").stdout
    assert "用法" in run("--help", env={"LANG": "zh_CN.UTF-8"}).stdout
    assert "Usage" in run("--lang", "en", "--help", env={"LANG": "zh_CN.UTF-8"}).stdout


@pytest.mark.parametrize(
    "path, command", [*commands(cli)], ids=lambda each: " ".join(each) if isinstance(each, tuple) else ""
)
def test_every_command_has_json_and_speaks_chinese(path, command):
    assert "--json" in [name for parameter in command.params for name in parameter.opts]
    texts = [
        inspect.cleandoc(command.help),
        *(parameter.help for parameter in command.params if isinstance(parameter, click.Option)),
    ]
    assert [text for text in texts if text not in CHINESE] == []


def test_no_translation_is_left_without_its_sentence():
    """Sentences broken over lines in the code are compared without their spaces and quotes."""
    files = [file for file in Path(words.__file__).parent.glob("*.py") if file.name != "words.py"]
    code = re.sub(r'["\\\s]', "", "".join(file.read_text() for file in files))
    clicks_own = {"Usage:", "Options", "Commands", "Show this message and exit."}
    assert [text for text in CHINESE if text not in clicks_own and re.sub(r'["\\\s]', "", text) not in code] == []


# --- what goes wrong on a machine -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("verify",), ("db", "status"), ("backup", "copy"), ("doctor",)], ids=" ".join)
@pytest.mark.parametrize("books", [b"\x17" * 5_000, b""], ids=["noise", "nothing"])
def test_a_database_that_is_none_is_named_without_a_traceback(shop, tmp_path, command, books):
    file = tmp_path / "tally.db"
    whole = file.read_bytes()
    file.write_bytes(books or whole[:60_000])
    said = shop(*command, status=1)
    assert "damaged" in said.output
    assert "sqlalche.me" not in said.output
    assert not (tmp_path / "copy").exists()


def test_a_backup_of_books_that_are_not_there_is_refused(shop, tmp_path):
    (tmp_path / "tally.db").unlink()
    said = shop("backup", "copy", status=1).stderr
    assert said.startswith("tally: database_not_ready: ")
    assert "tally.db" in said
    assert not (tmp_path / "copy").exists()


def test_books_that_are_not_there_are_not_called_out_of_date(shop, tmp_path):
    (tmp_path / "tally.db").unlink()
    said = shop("verify", status=1).stderr
    assert "no books in" in said
    assert "tally.db" in said
    assert "tally db upgrade" in said


@pytest.mark.parametrize("command", ["verify", "head", "doctor", "db status", "report"])
def test_whoever_looks_for_books_that_are_not_there_makes_none(shop, tmp_path, command):
    (tmp_path / "tally.db").unlink()
    shop(*command.split(), status=0 if command == "db status" else 1)
    assert not (tmp_path / "tally.db").exists()


def test_whoever_has_no_configuration_hears_how_to_get_one(run):
    said = run("verify", status=1).stderr
    assert "tally init" in said
    assert "--config" in said
    assert "tally init" in run("--lang", "zh", "verify", status=1).stderr


def test_a_database_of_a_newer_version_is_something_found(shop, tmp_path):
    with sqlite3.connect(tmp_path / "tally.db") as books:
        books.execute("UPDATE core_schema_version SET version_num = '9999'")
    assert "newer" in shop("db", "status", status=1).stdout
    assert "9999" in next(line for line in shop("doctor", status=1).stdout.splitlines() if "migrations" in line)


def test_the_doctor_says_what_it_looked_at(shop, tmp_path):
    (tmp_path / "tally.db").write_bytes(b"\x17" * 5_000)
    found = document(shop("doctor", "--json", status=1))
    assert [each["what"] for each in found if not each["ok"]] == ["database", "migrations"]


def test_the_doctor_says_what_to_do_in_the_language_of_the_user(shop, tmp_path):
    with sqlite3.connect(tmp_path / "tally.db") as books:
        books.execute("DELETE FROM core_schema_version")
    (tmp_path / "tally.secret").chmod(0o644)
    told = shop("--lang", "zh", "doctor", status=1).stdout.splitlines()
    assert [line for line in told if line.startswith("BAD")] == [
        "BAD 迁移: core: +0001; 请运行 `tally db upgrade`",
        "BAD 机密文件: 其他人也可读：tally.secret；请运行 `chmod 600`",
    ]
    assert "ok  依赖: 一样不缺" in told
    assert any(re.fullmatch(r"ok  磁盘: \S+ 中尚有 [\d,]+ MiB 可用", line) for line in told)
    (tmp_path / "tally.db").unlink()
    told = shop("--lang", "zh", "doctor", status=1).stdout.splitlines()
    assert next(line for line in told if "数据库" in line) == f"BAD 数据库: {tmp_path / 'tally.db'} 中没有账本"


@pytest.mark.parametrize("command", ["verify", "doctor", "db upgrade"])
def test_a_server_that_lets_nobody_in_is_quoted(shop, monkeypatch, postgresql, command):
    """A wrong password, a database that is not there, a pooler that will not have it: whoever runs the house must know which."""
    url = f"postgresql://{postgresql.info.user}@/nowhere?host={postgresql.info.host}"
    monkeypatch.setenv("TALLY__HOUSE__DATABASE", url)
    assert 'database "nowhere" does not exist' in shop(*command.split(), status=1).output


def test_settings_are_shown_as_toml_writes_them(shop, tmp_path):
    file = tmp_path / "points.toml"
    file.write_text(
        'earn = [{ name = "base", points = 1, per = 100, lines = "line.sku != \'A\' && line.amount > 0" }]\n'
        'pending = { days = 3 }\n'
    )  # fmt: skip
    shop("plugins", "config", "points", "--file", "points.toml")
    shown = shop("plugins", "config", "points").stdout
    assert tomllib.loads(shown) == tomllib.loads(file.read_text())


def test_a_file_that_cannot_be_written_is_a_sentence(shop):
    said = shop("backup", "nowhere/copy", status=1).stderr
    assert said.startswith("tally: invalid_request: ")
    assert "nowhere" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is a thing of Linux")
def test_a_full_disk_is_a_sentence(shop):
    said = shop("head", "--output", "/dev/full", status=1).stderr
    assert said.startswith("tally: unavailable: ")
    assert "No space left" in said


def test_what_init_could_not_finish_can_be_begun_again(run, tmp_path):
    (tmp_path / "tally.db").mkdir()
    run("init", status=1)
    assert not (tmp_path / "tally.toml").exists()
    (tmp_path / "tally.db").rmdir()
    run("init")


def test_a_tenant_that_could_not_be_added_leaves_the_file_as_it_was(shop, tmp_path):
    before = (tmp_path / "tally.toml").read_text()
    (tmp_path / "tally.db").write_bytes(b"\x17" * 5_000)
    shop("tenant", "add", "second", status=1)
    assert (tmp_path / "tally.toml").read_text() == before


def test_a_key_is_not_narrowed_to_what_nobody_may(shop):
    said = shop("key", "create", "--scope", "events.wirte", status=1).stderr
    assert said.startswith("tally: invalid_key: ")
    assert "events.write" in said
    shop("key", "create", "--scope", "events.write")


@pytest.mark.parametrize("command", [("certify", "."), ("dev", ".", "--once")], ids=" ".join)
def test_a_folder_that_holds_no_plugin_is_called_so(run, command):
    said = run(*command, status=1).output
    assert "pyproject.toml" in said
    assert "tallystick.errors" not in said


# --- words that no command takes --------------------------------------------------------------------------------------

UNTAKEN = [
    (("nope",), 2, "没有命令 nope"),
    (("member", "nope"), 2, "没有命令 nope"),
    (("import", "--nope"), 2, "没有选项 --nope"),
    (("import",), 2, "缺少 FILE"),
    (("tenant", "list", "more"), 2, "多余的参数：more"),
    (("key", "create", "--role"), 2, "选项 --role 需要一个值"),
    (("key", "create", "--json=1"), 2, "选项 --json 不带值"),
    (("key", "create", "--role", "boss"), 2, "'--role' 的值不可接受：boss 不在 'owner', 'admin'"),
    (("serve", "--port", "abc"), 2, "'--port' 的值不可接受：abc 不是整数"),
    (("serve", "--port", "99999"), 2, "'--port' 的值不可接受：99999 不在 0<=x<=65535 的范围内"),
    (("import", "gone.csv"), 2, "'FILE' 的值不可接受：gone.csv 不存在"),
    (("import", "."), 2, "'FILE' 的值不可接受：. 是目录"),
    (("export", "lots", "--output", "gone/lots"), 1, "gone/lots 不存在"),
]


@pytest.mark.parametrize("words, status, chinese", UNTAKEN, ids=[" ".join(words) for words, *_ in UNTAKEN])
def test_words_that_cannot_be_taken_are_refused_by_name_in_both_languages(shop, words, status, chinese):
    said = shop(*words, status=status)
    assert said.stdout == ""
    assert said.stderr.splitlines()[-1].startswith("tally: invalid_request: ")
    told = shop(*words, status=status, env={"LANG": "zh_CN.UTF-8"}).stderr
    assert told.splitlines()[-1].startswith(f"tally: invalid_request: {chinese}")
    assert "Try" not in told
    if status == 2 and words[-1] != "--role":  # which would take it for its value
        problem = json.loads(shop(*words, "--json", status=status).stderr)
        assert (problem["code"], problem["status"]) == ("invalid_request", 400)
        assert said.stderr.rstrip().endswith(problem["detail"])


def test_options_of_all_commands_are_complained_of_alike(run):
    said = run("--lang", "fr", "check", status=2).stderr
    assert said.splitlines()[-1].startswith("tally: invalid_request: Invalid value for '--lang': 'fr' is not one of")


@pytest.mark.parametrize("words", [(), ("member",)], ids=["tally", "tally member"])
def test_a_group_alone_shows_its_help(run, words):
    assert "Commands:" in run(*words, status=2).output


# --- events of a file -------------------------------------------------------------------------------------------------


def sale(number: int, member: str = "C-1") -> str:
    return json.dumps({
        "id": f"e{number}", "source": "till", "type": "purchase.completed", "time": f"2026-03-{number:02}T10:00:00Z", "member": member,
        "data": {"order": f"R-{number}", "currency": "USD", "lines": [{"sku": "TEA", "amount": 500}]},
    })  # fmt: skip


@pytest.mark.parametrize(
    "rows, said",
    [
        ([1], "1 event recorded, 0 known before, 0 refused\n"),
        ([2, 1], "2 events recorded, 0 known before, 0 refused\n"),
        ([], "0 events recorded, 0 known before, 0 refused\n"),
    ],
    ids=["one", "two out of order", "none"],
)
def test_events_are_taken_from_standard_input(shop, tmp_path, rows, said):
    shop("member", "add", "C-1")
    before = {*filter(Path.is_file, tmp_path.rglob("*"))}
    assert shop("import", "-", "--history", input="".join(f"{sale(n)}\n" for n in rows)).stdout == said
    assert {*filter(Path.is_file, tmp_path.rglob("*"))} == before, "nothing of what came in is left behind"
    shop("verify")


def test_refused_rows_of_standard_input_are_listed_in_the_language_of_the_user(shop, tmp_path):
    said = shop("--lang", "zh", "import", "-", "--history", input=f"{{\n{sale(1, 'nobody')}\n", status=1)
    report = tmp_path / "standard-input.refused.jsonl"
    assert [json.loads(row)["code"] for row in report.read_text().splitlines()] == ["invalid_event", "unknown_member"]
    assert said.stderr.splitlines() == [
        "tally: invalid_event: 第 1 行: 这不是 JSON",
        "tally: unknown_member: 第 2 行: 没有这个会员编号或外部编号。（no member 'nobody' here） (/member)",
    ]


def test_refused_rows_are_for_programs_where_the_report_is(shop):
    said = shop("import", "-", "--history", "--json", input="{\n", status=1)
    assert said.stderr == ""
    report = Path(document(said)["report"])
    assert [(row["row"], row["code"]) for row in map(json.loads, report.read_text().splitlines())] == [
        (1, "invalid_event")
    ]


def test_an_import_that_goes_on_adds_to_what_was_refused_before(shop, tmp_path):
    shop("member", "add", "C-1")
    file, report = tmp_path / "e.jsonl", tmp_path / "e.jsonl.refused.jsonl"
    file.write_text("".join(f"{sale(n, who)}\n" for n, who in [(1, "nobody"), (2, "C-1"), (3, "nobody"), (4, "C-1")]))
    report.write_text('{"row": 1, "code": "unknown_member"}\n')
    Bookmark(tmp_path, file, "shop", True, False, b"").write(2)  # it stopped after two rows
    found = document(shop("import", "e.jsonl", "--history", "--json", status=1))
    assert (found["skipped"], found["recorded"], found["refused"]) == (2, 1, 1)
    assert [json.loads(row)["row"] for row in report.read_text().splitlines()] == [1, 3]


def test_a_plan_without_steps_says_so(shop):
    assert shop("db", "plan").stdout == "Nothing is to be done.\n"
    assert document(shop("db", "plan", "--json")) == {"sql": ""}
