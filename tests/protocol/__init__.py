"""Tests of the protocol core: no sockets, no sleeping, no clock but the one set by hand."""
