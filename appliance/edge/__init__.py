"""The box's edge: tokens, Host and Origin, TLS, limits, metrics."""
