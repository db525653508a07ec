"""What is asked of the models of a profile beside their bytes: statements, signatures, chat templates."""
