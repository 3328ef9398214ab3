"""The core's steps from one version of its tables to the next; see :mod:`tallystick.migrate`."""
