"""Write core/api.lock.json, the contract with plugins, from the code; refuse what breaks plugins without an API major.

`python .ci/contract.py` after a change of a hook, effect, event or manifest key; it prints what the change asks for.
"""

import json
import sys
from pathlib import Path

from tallystick import contract

LOCK = Path(__file__).parent.parent / "core" / "api.lock.json"


def main() -> None:
    """Compare, print the semver class of each difference, and write unless that is refused."""
    now = contract.describe()
    if LOCK.exists():
        before = json.loads(LOCK.read_text())
        for weight, said in contract.compare(before, now):
            sys.stdout.write(f"{weight}: {said}\n")
        if (why := contract.refusal(before, now)) is not None:
            sys.exit(why)
    LOCK.write_text(json.dumps(now, indent=1, sort_keys=False) + "\n")


if __name__ == "__main__":
    main()
