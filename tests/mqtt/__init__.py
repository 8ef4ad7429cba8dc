"""The bridge to MQTT."""
