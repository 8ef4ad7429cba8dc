"""Messages as JSON, read and written: one module for each level of the protocol."""
