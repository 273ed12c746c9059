"""Machines rendered by physics, healthy and faulty: pure numpy, seeded."""
