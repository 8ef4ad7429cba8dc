"""The protocol core: everything that KPS decides, and nothing that it does.

House rules:

* Pure: no sockets, no event loop, no threads, no clock, no randomness, no logging. Bytes
  and times go in; events, bytes to write and deadlines come out.
* The peer can never make it raise. A mistake of the peer becomes an answer, a close code
  and an event; a mistake of the program raises :class:`kps.KPSError` and changes nothing.
* Every queue has a bound in messages and bytes, and a named policy.
* It is not thread-safe: a driver with threads holds a lock around each call, and never
  while a socket blocks.

From the bottom up: ``limits`` and ``timers``; ``wire`` (a connection); ``dialect`` (messages
as JSON); ``bus`` (who gets what, and who answers); ``access`` (who may do what); ``server``
and ``client``.
"""
