"""A live view of what runs in a lab: `snapshot` reads, `draw` makes text of it, `screen` shows that on a terminal."""
