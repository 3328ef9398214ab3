"""``python -m tests.sim --seed N``; see :mod:`tests.sim.simulator`."""

import sys

from tests.sim.simulator import main

main(sys.argv[1:])
