"""What the box knows, apply only and no I/O: bytes in, objects out. Fitted by `bundler.fit`, used by build and box."""
