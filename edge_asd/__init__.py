"""Hears a machine going wrong: the daemon that runs beside it."""
