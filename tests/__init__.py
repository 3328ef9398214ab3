"""Stories through the whole house, and what all tests of the workspace share."""
