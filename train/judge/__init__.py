"""What a bundle is worth: metrics, the DCASE protocol, its files, and what others published."""
