"""One parser a document format: bytes in, title and blocks out. Runs only inside the confined child."""
