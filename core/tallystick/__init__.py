"""The core of Tallystick, an open loyalty engine."""
