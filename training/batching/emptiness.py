"""When to give up on shards of which nothing can be read, but which never end."""


class Emptiness:
    """Since which position nothing was read. within: rows in which every picture comes once."""

    def __init__(self, within: int, position: int) -> None:
        self._within, self._since = within, position

    def everywhere(self, position: int, empty: bool) -> bool:
        """Whether, with what ends at this position, every picture has given nothing."""
        if not empty:
            self._since = position
        return position - self._since >= self._within
