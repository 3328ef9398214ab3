"""What commands say, in Chinese: the English sentence is the key, so code reads as it speaks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from .problems import Language


def translate(text: str, language: Language) -> str:
    """The sentence in *language*; English where nobody has translated it."""
    return CHINESE.get(text, text) if language == "zh" else text


def complaint(text: str, language: Language) -> str:
    """What click says of words it cannot take, in *language*; English where its wording is not known."""
    if language == "zh":
        for pattern, chinese in CLICK:
            if found := re.fullmatch(pattern, text, re.DOTALL):
                return chinese.format(*[complaint(part or "", language) for part in found.groups()])
    return text


#: click's complaints, each with its Chinese; what stands in parentheses may be a complaint itself.
CLICK: Final[Sequence[tuple[str, str]]] = (
    (r"No such option '(.+?)'\..*", "没有选项 {0}"),
    (r"No such command '(.+?)'\..*", "没有命令 {0}"),
    (r"Missing command\.", "缺少命令"),
    (r"Missing (?:argument|option|parameter) '(.+?)'\..*", "缺少 {0}"),
    (r"Got unexpected extra arguments? \((.+)\)", "多余的参数：{0}"),
    (r"Option '(.+?)' requires an argument\.", "选项 {0} 需要一个值"),
    (r"Option '(.+?)' does not take a value\.", "选项 {0} 不带值"),
    (r"Invalid value for (.+?): (.+)", "{0} 的值不可接受：{1}"),
    (r"'(.*)' is not one of (.+)\.", "{0} 不在 {1} 之中"),
    (r"'(.*)' is not a valid (?:integer|integer range)\.", "{0} 不是整数"),
    (r"(.+) is not in the range (.+)\.", "{0} 不在 {1} 的范围内"),
    (r"\w+ '(.+)' does not exist\.", "{0} 不存在"),
    (r"\w+ '(.+)' is a directory\.", "{0} 是目录"),
    (r"\w+ '(.+)' is a file\.", "{0} 是文件"),
    (r"(?:Could not open file )?'(.+?)': No such file or directory", "{0} 不存在"),
    (r"Could not open file '(.+?)': (.+)", "无法打开 {0}：{1}"),
)

#: Sentences of the command line, by their English wording.
CHINESE: Final[Mapping[str, str]] = {
    # click's own
    "Usage:": "用法：",
    "Options": "选项",
    "Commands": "命令",
    "Show this message and exit.": "显示本帮助并退出。",
    "Show the version and exit.": "显示版本并退出。",
    "Try '{command} --help' for help.": "运行 '{command} --help' 查看帮助。",
    # tally dev
    "Reload a plugin's project on every save and show what it proposes otherwise for the tenant's last events.\n\n"
    "Nothing is written.  Where there is no tally.toml, it is asked about made-up events.": (
        "每次保存时重新载入插件项目，并显示它对租户最近事件的提议有何变化。\n\n不写入任何内容。没有 tally.toml 时，用虚构的事件提问。"
    ),
    "How many recorded events it is asked about.": "用多少条已记录的事件提问。",
    "Say what it proposes now, and end.": "说出它现在的提议，然后结束。",
    "Watching {folder}; Ctrl-C ends it.": "正在监视 {folder}；按 Ctrl-C 结束。",
    "saved {files}": "已保存 {files}",
    "No event is recorded yet: nothing to ask about.": "还没有已记录的事件：无可提问。",
    "{n:other event|other events} as before": "其他 {n} 条事件与之前相同",
    "{n:recorded event|recorded events}, {effects:proposal|proposals}": "{n} 条已记录的事件，{effects} 条提议",
    "{n:made-up event|made-up events}, {effects:proposal|proposals}": "{n} 条虚构的事件，{effects} 条提议",
    # options
    "The configuration file.": "配置文件。",
    "Print one JSON document on standard output and nothing else.": "只在标准输出打印一个 JSON 文档。",
    "The language of texts: en or zh; by default that of the environment.": "界面语言：en 或 zh；默认取自环境变量。",
    "Measure this machine: a table of rates, each beside a yardstick of the same minute.": "测量这台机器：各项速率与同一分钟内的基准并列成表。",
    "An empty database to measure with; by default a SQLite file, thrown away.": "用于测量的空数据库；默认用一个随后丢弃的 SQLite 文件。",
    "Events per round.": "每轮的事件数。",
    "work": "工作",
    "per second: min / median / max of 3": "每秒：三轮的最小 / 中位 / 最大",
    "commits/s": "提交/秒",
    "ratio": "比值",
    "CPU us": "CPU 微秒",
    "besides": "其他",
    "A million additions in Python took {speed} ms of processor time.": "Python 一百万次加法用了 {speed} 毫秒处理器时间。",
    "Print how far every writer has come; signed, it proves later that nothing was cut off or rewritten.": (
        "打印每个写入者的进度；签名后，可在日后证明账目未被截断或改写。"
    ),
    "Sign it, to be kept where nobody who can change the books can change it.": "签名，并保存在能改账的人改不到的地方。",
    "Print the verifier key, by which others check what this house signed.": "打印验证公钥，他人用它核对本系统的签名。",
    "The verifier key the house has published; by default that of this house.": "系统公布的验证公钥；默认为本系统的公钥。",
    "Write the receipt of an entry: a small file that proves it without the database.": "写出一条流水的凭证：无需数据库即可证明它的小文件。",
    "Check a receipt, without the database if the key is given.": "核对凭证；给出公钥时无需数据库。",
    "{entry} stands in the books as {name} signed them:": "{entry} 在 {name} 签名的账目之中：",
    "give the verifier key of the house that wrote the receipt with --key": "请用 --key 给出出具凭证的系统的验证公钥",
    "Copy the whole database at one instant to a file, while the house serves.": "在服务不停的情况下，把某一时刻的整个数据库复制到文件。",
    "{file}: {size:byte|bytes}": "{file}：{size:,} 字节",
    "Fill an empty database from a backup, forget again who was forgotten since, and prove the books.": (
        "用备份填充空数据库，再次删除其后要求删除的会员，并核对账目。"
    ),
    "the database is not empty: a restore never replaces books; name another database": "数据库不为空：恢复绝不覆盖账目；请指定另一个数据库",
    "Restored {entries:entry|entries}; {forgotten:erasure was|erasures were} done again.": "已恢复 {entries:,} 条流水；重新执行了 {forgotten} 次删除。",
    "Write balances, lots, counters and orders anew from the journal.  The house must not serve meanwhile.": (
        "由流水重新写出余额、批次、计数和订单。期间系统不得提供服务。"
    ),
    "Write everything of {tenant} anew?": "重新写出 {tenant} 的全部数据？",
    "{found:difference|differences} before, none now.": "之前有 {found} 处差异，现在没有了。",
    "a house serves these books: stop it first": "有系统正在使用这些账目：请先停止它",
    "A signed head from earlier: then it is also found if the end was cut off or everything rewritten.": (
        "先前签名的进度文件：据此还能发现末尾被截断或全部被改写。"
    ),
    "The verifier key of whoever signed the head; by default this house's.": "签名者的验证公钥；默认为本系统的公钥。",
    "How many processes answer, instead of as many as configured.": "应答的进程数，代替配置中的数目。",
    "The tenant, if there are several.": "商户；只有一个时可省略。",
    # groups and commands
    "Tallystick, an open loyalty engine: every point is explained, every balance can be proved.": (
        "Tallystick，开放的会员积分引擎：每一分都有出处，每个余额都能证明。"
    ),
    "Write a first tally.toml, create its database and print the first admin key, once.": (
        "写出第一份 tally.toml，建立数据库，并仅此一次显示第一个管理员密钥。"
    ),
    "Check a configuration and name every mistake with its place.": "检查配置，指出每处错误及其位置。",
    "Serve HTTP until interrupted.": "提供 HTTP 服务，直到被中断。",
    "Look whether everything this deployment needs is in order.": "检查本部署所需的一切是否正常。",
    "Sweep lots that are due.": "清理已到期的积分批次。",
    "Hooks of one you trust less can run in a process of their own: worker_lane in tally.toml.": (
        "不太信任的插件，其钩子可在独立进程中运行：见 tally.toml 的 worker_lane。"
    ),
    "{tenant}: {plugin} failed in {hook}; {entries:entry waits|entries wait} for `tally repair`": (
        "{tenant}：{plugin} 在 {hook} 中出错；{entries} 条流水等待 `tally repair`"
    ),
    "{plugin} decides about spending and names no kinds in [interests]: purchases of guests would be refused.": (
        "{plugin} 决定消费，却没有在 [interests] 中写明事件类型：游客的购买会被拒绝。"
    ),
    "Switch it off for every tenant; everything it keeps stays.": "对所有商户停用；其保存的一切保留。",
    "Also write what it keeps to this file.": "并将其保存的内容写入该文件。",
    "Also take out what it keeps; FILE is its export. Refused while somebody holds something by it.": (
        "并清除其保存的内容；FILE 为其导出文件。仍有人持有由它而来的东西时拒绝。"
    ),
    "Let a plugin run for nobody any more, before its wheel is taken away.": "在移除安装包之前，停止插件对所有商户的运行。",
    "Let a plugin run for nobody any more, before its wheel is taken away.\n\nWhat it gave stays in the journal.": (
        "在移除安装包之前，停止插件对所有商户的运行。\n\n它已发放的内容保留在流水中。"
    ),
    "say one of --keep, --export FILE and --purge FILE": "请选择 --keep、--export FILE 或 --purge FILE 之一",
    "{plugin} runs for nobody.": "{plugin} 已对所有商户停用。",
    "{file}: {rows:row|rows}": "{file}：{rows:,} 行",
    "Put back what a plugin kept, from its export; it is enabled and its tables are empty.": (
        "从导出文件恢复插件保存的内容；插件须已启用且其表为空。"
    ),
    "List installed plugins and what each tenant runs.": "列出已安装的插件以及各商户启用的插件。",
    "Show what runs for each kind of event.": "显示每种事件运行哪些插件钩子。",
    "Explain an entry: which rule did what, in which version, with which numbers, line by line.": (
        "解释一条流水：哪条规则、哪个版本、用哪些数字做了什么。"
    ),
    "Check all books: sums, lots, hashes and chains.": "核对全部账目：合计、批次、哈希与链。",
    "Tenants of this deployment.": "本部署的商户。",
    "List the tenants.": "列出商户。",
    "Add a tenant to tally.toml.": "在 tally.toml 中增加一个商户。",
    "API keys.": "API 密钥。",
    "List a tenant's keys; secrets are never shown again.": "列出商户的密钥；密钥内容不会再次显示。",
    "Make a key and show it, once.": "创建一个密钥，仅显示这一次。",
    "Make a key open nothing any more.": "吊销一个密钥。",
    "Make a key's successor; the old one goes on working for some hours.": "轮换密钥；旧密钥在若干小时内仍然有效。",
    "Members.": "会员。",
    "Let somebody join.": "登记一位会员。",
    "Show a member with balances and lots.": "显示会员及其余额和积分批次。",
    "Let a member be found by another external id.": "为会员关联另一个外部编号。",
    "Hand everything MEMBER has over to INTO, who is the same person.": "将 MEMBER 的一切并入 INTO（两者为同一人）。",
    "Part two merged members again, as far as nothing was spent meanwhile; ENTRY is the merge's.": "在其间未消费的范围内，将已合并的两位会员重新分开；ENTRY 为合并时的流水号。",
    "Why, for the journal.": "原因，记入流水。",
    "Write everything the house keeps of a member.": "导出系统保存的该会员的全部数据。",
    "Forget a member: destroy the key under which everything personal is kept.": "删除会员：销毁其个人数据的加密密钥。",
    "The database.": "数据库。",
    "Show how far the database has come.": "显示数据库迁移的进度。",
    "Make good what broken plugins kept from members: judge these events again as of then and post what is missing.": (
        "补记插件出错时会员未得到的部分：按当时的情况重新评估这些事件，并记入缺少的部分。"
    ),
    "Make good what broken plugins kept from members: judge these events again as of then and post what is missing.\n\nNothing is ever taken, and run again it does what is left.": (
        "补记插件出错时会员未得到的部分：按当时的情况重新评估这些事件，并记入缺少的部分。\n\n从不倒扣；再次运行只做剩下的部分。"
    ),
    "Say what would be given, and record nothing.": "只说明将补发什么，不作记录。",
    "{given} made good, {nothing} owed nothing, {waiting} wait.": "补记 {given} 条，{nothing} 条无需补记，{waiting} 条仍在等待。",
    "Bring the database to this version.": "将数据库升级到当前版本。",
    "Show the SQL that `db upgrade` would run.": "显示 `db upgrade` 将执行的 SQL。",
    "Write the books as JSONL or CSV.": "将账目导出为 JSONL 或 CSV。",
    "Play a year of a grocery chain through the house and report what a merchant would want to know.": (
        "用一家连锁超市一整年的公开数据跑完整个系统，并打印商户关心的报告。"
    ),
    "Import events from a JSONL, CSV or Parquet file; - reads JSONL from standard input.\n\nAn import that was interrupted goes on where it stopped, and what was recorded before is never counted twice.": (
        "从 JSONL、CSV 或 Parquet 文件导入事件；- 从标准输入读取 JSONL。\n\n中断的导入会从停止处继续，已记录的事件绝不会重复计算。"
    ),
    "Show a programme in numbers: points, rules, months, members.": "用数字展示积分计划：积分、规则、月份、会员。",
    "Let a plugin run for a tenant, at once and in every process.\n\nIt is tried on recorded purchases first; if anything is wrong, what ran before goes on.": (
        "为商户启用插件，在所有进程中立即生效。\n\n启用前先用已记录的购物试运行；如有问题，原有设置继续有效。"
    ),
    "Let a plugin run no more for a tenant; its settings and all it gave stay.": "为商户停用插件；其设置与已发放的一切保留。",
    "Show the settings of a plugin, or change them at once and in every process.": "显示插件的设置，或在所有进程中立即更改。",
    "Write plugins.lock: who runs in which order; say what changed since it was last written.": (
        "写出 plugins.lock：哪些插件按什么顺序运行；并说明自上次写出以来的变化。"
    ),
    "Begin something.": "新建。",
    "Write a plugin that works, is tested and certified as it comes, to be changed from there.": "生成一个可运行、已测试、可认证的插件，供您在此基础上修改。",
    "Compute a plugin's level, bronze to platinum, from checks; PLUGIN is an installed one's id or a project's folder.": (
        "通过检查计算插件的等级（bronze 至 platinum）；PLUGIN 为已安装插件的标识或项目文件夹。"
    ),
    "Rules, read aloud.": "朗读规则。",
    "List all rules, each as a sentence.": "列出全部规则，每条一句话。",
    "Show a rule as a sentence, and what it does just below, at and just above each of its thresholds.": (
        "用一句话说明一条规则，并显示在每个门槛之下、之上与正好之处的结果。"
    ),
    "Say why a rule did not fire, and the smallest change that would make it fire.": "说明一条规则为何未触发，以及最小改动多少就会触发。",
    "Look for rules that cannot be meant: they never fire, never count, or give more than they take.\n\nThe exit status is 1 if one of them is certainly wrong.": (
        "查找不可能是本意的规则：从不触发、从不生效，或送出多于收取。\n\n若有肯定错误的规则，退出状态为 1。"
    ),
    # options of commands
    "Whom it is about.": "所问的会员。",
    "The rule's public name, such as points.base.": "规则的公开名称，例如 points.base。",
    "An entry, or a JSON file with an event; by default the member's last one that the rule is about.": (
        "一条流水，或含一个事件的 JSON 文件；默认为该会员与此规则有关的最近一条流水。"
    ),
    "What else it brings: tables, jobs, routes, page; separated by commas.": "还包含什么：tables、jobs、routes、page，用逗号分隔。",
    "Where to; by default a folder of the plugin's name.": "生成到哪里；默认为插件名称的文件夹。",
    "The URL of an empty PostgreSQL database, for gold.": "一个空 PostgreSQL 数据库的 URL，gold 需要。",
    "Ask no more than this level does.": "只做到这一等级的检查。",
    "Refuse with exit status 1 below this level.": "低于此等级时以状态 1 退出。",
    "Only this tenant.": "只看这个商户。",
    "KEY=VALUE, with the value as TOML writes it; repeatable.": "KEY=VALUE，值按 TOML 书写；可重复。",
    "A TOML file with all settings of the plugin.": "包含该插件全部设置的 TOML 文件。",
    "Write nothing; refuse if something would run otherwise.": "不写文件；如运行方式有变则拒绝。",
    "A TOML file that says how rows become events.": "说明各行如何变成事件的 TOML 文件。",
    "Play the past: each event is received when it happened, and days end as they did.": (
        "重演过去：每个事件在其发生时被接收，日期依次推进。"
    ),
    "Let members nobody knows join at their first event.": "未知会员在其首个事件时自动登记。",
    "Where refused rows are listed; by default beside the file.": "被拒绝的行写到哪里；默认与文件同目录。",
    "How the rows are written.": "行的写出格式。",
    "Where the demo lives.": "演示所用的文件夹。",
    "A database URL instead of a SQLite file in the folder.": "数据库 URL，代替文件夹中的 SQLite 文件。",
    "Only the first so many baskets.": "只用前若干笔购物。",
    "Go on with serving HTTP, or end.": "完成后继续提供 HTTP 服务，或结束。",
    "The port to listen on.": "监听端口。",
    "The first tenant's id.": "第一个商户的标识。",
    "The merchant's name; by default the id.": "商户名称；默认与标识相同。",
    "The programme's time zone.": "积分计划所在时区。",
    "The programme's currency, ISO 4217.": "积分计划的货币（ISO 4217）。",
    "The language members are addressed in.": "面向会员的语言。",
    "The address to listen on, instead of the configured one.": "监听地址，代替配置中的地址。",
    "The port to listen on, instead of the configured one.": "监听端口，代替配置中的端口。",
    "What the key is for, for people.": "密钥的用途，供人阅读。",
    "What the key's owner may do.": "密钥持有者的角色。",
    "A permission the key is narrowed to; repeatable.": "将密钥限制到某项权限；可重复。",
    "Whose key it is: a member's, for the role member.": "角色为 member 时，密钥属于哪位会员。",
    "How many hours the old key goes on working.": "旧密钥继续有效的小时数。",
    "The member's name.": "会员姓名。",
    "The member's phone number.": "会员电话。",
    "The member's e-mail address.": "会员电子邮箱。",
    "Birthday, YYYY-MM-DD or MM-DD.": "生日，YYYY-MM-DD 或 MM-DD。",
    "The file to write; - is standard output.": "写入的文件；- 表示标准输出。",
    "Do it without asking.": "不询问，直接执行。",
    "Name the plugin behind each hook, in the order of calls.": "按调用顺序列出每个钩子背后的插件。",
    "Only this kind of event.": "只看这一种事件。",
    # what commands say
    "plugins": "插件",
    "dependencies": "依赖",
    "database": "数据库",
    "migrations": "迁移",
    "disk": "磁盘",
    "secrets": "机密文件",
    "nobody lacks anything": "一样不缺",
    "for the owner's eyes only": "仅所有者可读",
    "none": "无",
    "{name} needs {other}, which is not installed": "{name} 需要 {other}，但它没有安装",
    "{name} needs {other}, and {there} is installed": "{name} 需要 {other}，但安装的是 {there}",
    "there are no books in {file}": "{file} 中没有账本",
    "run `tally db upgrade`": "请运行 `tally db upgrade`",
    "{free:,} MiB free in {folder}": "{folder} 中尚有 {free:,} MiB 可用",
    "readable by others: {files}; run `chmod 600`": "其他人也可读：{files}；请运行 `chmod 600`",
    "{file} is in order.": "{file} 正确无误。",
    "there is no {file} here: `tally init` writes one, and --config names another": (
        "这里没有 {file}：`tally init` 可写出一份，--config 可指定另一份"
    ),
    "{file} exists already; nothing was changed": "{file} 已存在，未作任何改动",
    "Wrote {file}; the secret is in tally.secret, the books in tally.db.": "已写出 {file}；密钥在 tally.secret，账本在 tally.db。",
    "The first admin key, shown this once:": "第一个管理员密钥，仅显示这一次：",
    "Start with: tally serve": "启动服务：tally serve",
    "Serving on {url}; stop with Ctrl-C": "服务地址 {url}；按 Ctrl-C 停止",
    "Keep it: nobody can show it again.": "请妥善保存：无法再次显示。",
    "Forget {member} for ever?": "确定永久删除 {member} 吗？",
    "{file} could not be read, so nobody knows what ran: {why}": "无法读取 {file}，无从得知此前运行的内容：{why}",
    "nothing was done": "未作任何改动",
    "not complete: {plugins} did not forget the member; erase it again": "尚未完成：{plugins} 未删除该会员的数据，请再次执行删除",
    "{count:member|members} had points that expired": "{count:,} 位会员的积分已过期",
    "  not asked, for it was late and they had been switched off: {plugins}": "  未询问（事件迟到，插件已停用）：{plugins}",
    "tenant {tenant}": "商户 {tenant}",
    "Plugins run inside the house: install only code you trust.": "插件在系统进程内运行：请只安装可信的代码。",
    "Nothing runs otherwise than {file} says.": "运行方式与 {file} 一致。",
    "Its tests send requests: pip install httpx2": "其测试会发送请求：pip install httpx2",
    "Test it: cd {folder} && python -m pytest": "测试：cd {folder} && python -m pytest",
    "Certify it: tally certify {folder}": "认证：tally certify {folder}",
    "{file} is new.": "{file} 是新写的。",
    "{tenant}: generation {generation} is in force, tried on {tried:purchase|purchases}": (
        "{tenant}：第 {generation} 代设置已生效，已用 {tried} 笔购物试运行"
    ),
    "{recorded:event|events} recorded, {repeated:,} known before, {refused:,} refused": (
        "已记录 {recorded:,} 个事件，{repeated:,} 个此前已知，{refused:,} 个被拒绝"
    ),
    "Refused rows are listed in {file}.": "被拒绝的行列在 {file} 中。",
    "there are no rules": "没有规则",
    "No change of a single fact would make it fire.": "只改变任何一项都不会使它触发。",
    "Nothing is suspicious about the rules.": "规则没有可疑之处。",
    "error": "错误",
    "warning": "警告",
    "note": "提示",
    "row {row}": "第 {row} 行",
    "Nothing is to be done.": "无需任何操作。",
    "a year of purchases": "一年的购物",
    "{baskets} baskets worth {dollars} USD, {eligible} of it earning": "{baskets} 笔购物，金额 {dollars} 美元，其中 {eligible} 可积分",
    "{speed} events a second, {micro} CPU microseconds each": "每秒 {speed} 个事件，每个耗用 {micro} 微秒 CPU",
    "The books add up: {entries:entry|entries}, {transfers:transfer|transfers}, {batches:batch|batches}.": (
        "账目相符：{entries:,} 条流水，{transfers:,} 笔转账，{batches:,} 个批次。"
    ),
    # the report
    "Members": "会员",
    "Entries": "流水",
    "issued": "已发放",
    "spent": "已使用",
    "expired": "已过期",
    "taken back by refunds": "退款收回",
    "outstanding": "未使用余额",
    "due to expire": "即将过期",
    "issued per month": "每月发放",
    "Tiers": "等级",
    "Busiest rules": "最活跃的规则",
    "Best members": "最佳会员",
    "nothing runs": "没有插件运行",
    # commands of plugins
    "{tenant} does not run {plugin}": "{tenant} 未启用 {plugin}",
    "{value} is no date such as 2026-01-01": "{value} 不是形如 2026-01-01 的日期",
}
