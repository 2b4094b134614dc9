"""Numbers that a caller of the stream gives, refused at the door: inside, some would hang it."""

from numbers import Integral

from contract.errors import ParamsError

SHARES = ("development",)  # what need not be whole; all else counts something


def within(low: float, high: float | None = None, **given: float | None) -> None:
    """ParamsError for the first number outside [low, high], or not whole where it counts something.

    None, as a number or as `high`, is no limit.
    """
    for name, number in given.items():
        if number is None:
            continue
        if name not in SHARES and not isinstance(number, Integral):
            raise _refused(name, number, "a whole number")
        if not (low <= number and (high is None or number <= high)):
            raise _refused(name, number, f"at least {low}" if high is None else f"from {low} to {high}")


def above(low: float, **given: float) -> None:
    """ParamsError for the first number that is not above `low`."""
    for name, number in given.items():
        if not number > low:
            raise _refused(name, number, f"above {low}")


def _refused(name: str, number: float, expected: str) -> ParamsError:
    return ParamsError(name, "is a number that no stream can have", found=number, expected=expected)
