"""Messages for Tallystick: what plugins ask for, once, in the member's language, over the channels that the member allows."""
