"""Several servers as one, without sockets."""
