"""The documentation's pages: their code runs, their commands exist, their links lead somewhere."""
