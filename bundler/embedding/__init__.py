"""The embedding model of a profile: chosen, converted or taken as it is, run in a child, and what it made before."""
