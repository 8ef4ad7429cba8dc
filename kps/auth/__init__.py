"""Identifies clients by their tokens: from a file, or JSON Web Tokens."""
