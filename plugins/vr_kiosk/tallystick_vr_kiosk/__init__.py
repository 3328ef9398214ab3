"""Kiosks, printers and walk-in virtual showrooms: devices that members touch, safe in public space, working without network."""
