"""What the page prints whole, and what it cuts: a text of the data may be of any length."""

LONGEST = 600  # characters of one text of the data


class Verbatim(str):
    """Text of our own making, such as the bytes of a picture or the path of a curve: never cut."""


def cut(value: object) -> object:
    """A plain string, no longer than the page has room for; anything else as it is."""
    if type(value) is not str or len(value) <= LONGEST:
        return value
    return value[:LONGEST] + " …"
