"""The models on this computer: where a configured one comes from, what is installed, and which is current."""
