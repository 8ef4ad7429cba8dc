"""The server: its sessions, the actions of clients, and the shared state."""
