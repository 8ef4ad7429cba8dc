"""The protocol core: everything that KPS decides, and nothing that it does.

House rules:

* Pure: no sockets, no event loop, no threads, no clock, no randomness, no logging. Bytes
  and times go in; events, bytes to write and deadlines come out.
* The peer can never make it raise. What a peer does wrong becomes an answer, a close code
  and an event; what the program does wrong raises :class:`kps.KPSError` and changes nothing.
* Every queue has a bound in messages and bytes, and a policy with a name.
* Not for use by several threads at once: a driver that has threads holds a lock around
  each call, and never while a socket blocks.

From the bottom up: ``frames``, ``outbox``, ``websocket`` and ``http`` (a connection);
``envelope``, ``level1`` (messages as JSON); ``bus``, ``acks``, ``subscriptions`` (who gets
what, and who answers); ``server_session`` and ``hub`` (the server), ``client_session``
(the client).
"""
