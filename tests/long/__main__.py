"""``python -m tests.long [name ...]``: the harnesses in their long form, one after the other, with what each took.

Names: crashes, power, tampering, simulator, planted.  Each runs for minutes up to more than an hour.
"""

import os
import subprocess
import sys
import time

FORMS = {
    "crashes": ({"TALLY_CRASHES": "1000"}, "tests/reliability/test_crashes.py"),
    "power": ({"TALLY_CUTS": "20000"}, "tests/reliability/test_power_loss.py"),
    "tampering": ({"TALLY_EDITS": "20000"}, "tests/reliability/test_tampering.py"),
    "simulator": ({"TALLY_SEEDS": "1000"}, "tests/reliability/test_simulator.py"),
    "planted": ({}, "tests/planted"),
}


def main(names: list[str]) -> int:
    failed = 0
    for name in names or FORMS:
        environment, tests = FORMS[name]
        begun = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests]
        code = subprocess.run(command, env=os.environ | environment, check=False).returncode
        print(f"{name}: {'red' if code else 'green'} after {time.monotonic() - begun:.0f} s", flush=True)  # noqa: T201
        failed += bool(code)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
