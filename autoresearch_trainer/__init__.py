"""What the trainers of both engines share: configuration, schedules, reports, the run itself. No framework here."""
