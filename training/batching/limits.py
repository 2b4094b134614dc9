"""Numbers that a caller of the stream gives, refused at the door: inside, some would hang it."""

from contract.errors import ParamsError


def within(low: float, high: float | None = None, **given: float | None) -> None:
    """ParamsError for the first number outside [low, high]; None, as a number or as `high`, is no limit."""
    for name, number in given.items():
        if number is not None and not (low <= number and (high is None or number <= high)):
            raise _refused(name, number, f"at least {low}" if high is None else f"from {low} to {high}")


def above(low: float, **given: float) -> None:
    """ParamsError for the first number that is not above `low`."""
    for name, number in given.items():
        if not number > low:
            raise _refused(name, number, f"above {low}")


def _refused(name: str, number: float, expected: str) -> ParamsError:
    return ParamsError(name, "is a number that no stream can have", found=number, expected=expected)
