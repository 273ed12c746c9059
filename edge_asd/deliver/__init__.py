"""What leaves the device: the wire contract and the MQTT client."""
