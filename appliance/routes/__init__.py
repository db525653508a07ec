"""HTTP: one file a group of endpoints; a handler reads the request, makes one call and writes the reply."""
