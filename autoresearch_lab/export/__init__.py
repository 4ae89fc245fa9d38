"""A kernel on its way out: a package that needs nothing of this project, with its evidence, in three formats."""
