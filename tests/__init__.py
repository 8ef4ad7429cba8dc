"""The tests of KPS. Packages, so that test files in different folders may share a name."""
