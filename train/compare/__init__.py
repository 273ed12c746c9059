"""Many runs beside each other: sweeps, tables, plots, the page."""
