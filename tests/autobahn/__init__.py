"""WebSocket conformance of KPS, judged by the Autobahn test suite."""
