"""A birthday gift: a plugin for Tallystick."""
