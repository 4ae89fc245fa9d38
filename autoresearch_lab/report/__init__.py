"""What the ledger says, for people: one self-contained HTML page, and summary tables on the terminal."""
