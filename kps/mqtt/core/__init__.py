"""What the bridge decides, without I/O: packets, sessions, rules, topics, payloads, books."""
