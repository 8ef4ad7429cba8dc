"""What both drivers share: options, logs, TLS, sockets that listen, system errors in words."""
