"""What may be written on a terminal."""

import re

CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""C0 and C1 control characters, line and paragraph separators, and marks that turn the direction of the text."""


def printable(text: str) -> str:
    r"""A text from somebody's data with what would steer the terminal written out.

    >>> print(printable("Rose\x1b[2J oil\n"))
    Rose\x1b[2J oil\n
    """
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


__all__ = ["printable"]
