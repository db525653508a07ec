"""Vector stores of others: what is in them, row by row, and what they answer. Readers of their files run confined."""
