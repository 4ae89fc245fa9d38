"""What the ledger holds, as types: one module per kind of record, each field documented with its unit.

`record` is the line as a whole; `profile`, `verify`, `bench`, `ab`, `promote`, `compile`, `trace` and `note` are the
`settings` (what was asked) and `results` (what was found) of a kind; `schema1` reads the lines of earlier versions.
"""
