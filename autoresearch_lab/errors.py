"""The two ways in which a verb can end badly; the command line turns them into exit codes."""


class LabError(Exception):
    """Bad input or an unusable state that the user can mend. One line; exit code 2."""


class LabFailure(Exception):
    """The lab understood the request and the work failed for a reason of its own. One line; exit code 1."""
