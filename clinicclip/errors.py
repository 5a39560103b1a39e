"""The one exception a user is meant to read."""


class UserError(Exception):
    """A fault the user can mend; its single-line message names what was wrong and what to do about it."""
