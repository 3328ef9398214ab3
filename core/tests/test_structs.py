"""Threads read structs of a class for the first time, all at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

CROWD = """
import sys, threading
import msgspec
from tallystick.structs import learn, learn_more

KNOWN = sys.argv[1]
fields = "".join(f"    f{n}: 'list[str]' = []\\n" for n in range(20))
parts = "".join(f"    g{n}: 'Part | None' = None\\n" for n in range(30))
text = f"class Part(msgspec.Struct):\\n{fields}class Whole(msgspec.Struct):\\n{parts}"
body = msgspec.json.encode({f"g{n}": {"f1": ["x"]} for n in range(30)})
sys.setswitchinterval(1e-6)
if KNOWN == "from the start":
    class Early(msgspec.Struct): pass
    learn()
for _ in range(300):
    exec(text)
    {"from the start": learn_more, "just in time": learn, "never": lambda: None}[KNOWN]()
    together = threading.Barrier(4)
    def read():
        together.wait()
        msgspec.json.decode(body, type=Whole)
    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print("alive")
"""


@pytest.mark.parametrize("known", ["from the start", "just in time"])
def test_structs_that_threads_read_at_once_do_not_bring_the_process_down(known: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CROWD, known], check=False, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
