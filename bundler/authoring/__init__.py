"""What `lifeboat profile` does for whoever writes a profile: new, check, explain."""
