"""Gamification for Tallystick: members do tasks, check in, draw prizes, bring friends, answer, and see where they rank."""
