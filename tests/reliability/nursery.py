"""Brings up `tally` processes that need not import anything any more: each is forked from this one, which has.

    python -m tests.reliability.nursery

Reads one command a line and answers each with one line: ``["start", FOLDER, LOG, WORDS...]`` with the process id of a
``tally WORDS`` that leads a group of its own and writes to LOG; ``["await", PID]`` with how it ended.  What is still at
work when nobody asks any more is killed.
"""

import json
import os
import signal
import sys
from contextlib import suppress

import uvicorn.lifespan.on
import uvicorn.loops.uvloop
import uvicorn.protocols.http.httptools_impl  # noqa: F401 - what is imported as late as it can be elsewhere

import tallystick_points.hooks  # noqa: F401
from tallystick import __main__, cli, discovery, server, web  # noqa: F401 - imported so that no child has to
from tallystick.database import connect


def start(folder: str, log: str, words: list[str]) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, where in ((0, nothing), (1, said), (2, said)):
            os.dup2(where, number)
        sys.argv = ["tally", *words]
        __main__.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(status)


def main() -> None:
    for url in ("sqlite://", "postgresql://nobody@localhost/nothing"):
        connect(url).dispose()  # imports the driver
    at_work: set[int] = set()
    for line in sys.stdin:
        match json.loads(line):
            case ["start", folder, log, *words]:
                answer = start(folder, log, words)
                at_work.add(answer)
            case ["await", child]:
                answer = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                at_work.discard(child)
        print(answer, flush=True)  # noqa: T201 - the answer
    for child in at_work:  # a test that failed did not come to stop them
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
