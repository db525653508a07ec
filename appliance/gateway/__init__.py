"""The gateway: which rung serves a request, and the wire to upstreams. The local engine is one more upstream."""
