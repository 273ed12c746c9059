"""Learns from normal sound what the daemon loads. Runs from a checkout, never on a device.

The rooms in the order in which a data set passes them: ``corpus`` (recordings and what is said of them), ``method``
(one file each), ``teach`` (recipe, run, loop), ``pack`` (back ends, graph, bundle), ``judge`` (the DCASE protocol),
``compare`` (many runs, one page).
"""
