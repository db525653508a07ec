"""How a container registry is spoken to: where it is, who asks, and what passes."""
