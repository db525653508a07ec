"""What outlives the serving process: the journal of accepted work. The audit log comes later."""
