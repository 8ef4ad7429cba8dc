"""The bus in web applications."""
