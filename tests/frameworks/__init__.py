"""KPS below and beside web frameworks, with the real ones."""
