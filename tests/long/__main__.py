"""``python -m tests.long [name ...]``: the harnesses in their long form, one after the other, with what each took.

Each runs for minutes up to more than an hour.  ``python -m tests.long --list`` names them.
"""

import os
import subprocess
import sys
import time

RELIABILITY = "tests/reliability/test_"
#: name -> the size, and the tests of that size
FORMS = {
    "crashes": ({"TALLY_CRASHES": "1000"}, f"{RELIABILITY}crashes.py"),
    "server": ({"TALLY_CRASHES": "1000"}, f"{RELIABILITY}server_killed.py"),
    "power": ({"TALLY_CUTS": "20000", "TALLY_SERVER_CUTS": "0"}, f"{RELIABILITY}power_loss.py"),
    "power-postgresql": ({"TALLY_CUTS": "0", "TALLY_SERVER_CUTS": "500"}, f"{RELIABILITY}power_loss.py"),
    "failover": ({"TALLY_FAILOVERS": "50"}, f"{RELIABILITY}failover.py"),
    "soak": ({"TALLY_SOAK": "100000"}, f"{RELIABILITY}soak.py"),
    "clocks": ({"TALLY_JUMPS": "200"}, f"{RELIABILITY}clocks.py"),
    "relays": ({"TALLY_RELAYS": "1000"}, f"{RELIABILITY}relays.py"),
    "switching": ({"TALLY_TOGGLES": "200"}, f"{RELIABILITY}switching.py"),
    "order": ({"TALLY_ORDERS": "20000"}, f"{RELIABILITY}order.py"),
    "tampering": ({"TALLY_EDITS": "20000"}, f"{RELIABILITY}tampering.py"),
    "simulator": ({"TALLY_SEEDS": "1000"}, f"{RELIABILITY}simulator.py"),
    "partners": ({"TALLY_PARTNERS_KILLED": "200"}, f"{RELIABILITY}two_deployments.py"),
    "planted": ({}, "tests/planted"),
}


def main(names: list[str]) -> int:
    if names == ["--list"]:
        print("\n".join(FORMS))  # noqa: T201 - asked for
        return 0
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
