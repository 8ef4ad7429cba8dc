"""The package as installers and indexes see it."""
