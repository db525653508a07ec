"""What the box itself knows: FAQ, documents, routes and the last message, each as a rung of the ladder."""
