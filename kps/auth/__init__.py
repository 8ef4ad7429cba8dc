"""Who clients are, by their tokens: from a file, or from JSON Web Tokens."""
