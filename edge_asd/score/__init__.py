"""From segments and clips to one calibrated number: backbone, heads, fusion, calibration."""
