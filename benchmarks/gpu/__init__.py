"""Everything that wants a GPU, in one call: see `main`."""
