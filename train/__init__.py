"""Learns from normal sound what the daemon loads. Runs from a checkout, never on a device."""
