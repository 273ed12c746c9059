"""How the daemon is watched: Prometheus metrics, systemd, logs."""
