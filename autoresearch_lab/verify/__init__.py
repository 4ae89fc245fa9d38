"""Is the kernel right? Inputs, oracle, tolerances and verdict stay here; the candidate runs elsewhere (`sandbox`)."""
