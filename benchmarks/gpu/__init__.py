"""Everything that wants a GPU: see `main`, and `bundle` for what travels there."""
