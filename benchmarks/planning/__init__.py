"""A large cluster in one process: real nodes, links in memory, and what each thing costs there."""
