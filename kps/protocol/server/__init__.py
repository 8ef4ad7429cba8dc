"""The server: its sessions, what each action does, and what they share."""
