"""What the processes of a run did, for the log and the checkpoints of the first."""

import msgspec
from msgspec import Struct

from training.distributed import World
from training.optimizing.checkpoint import State, Sums
from training.stream import Stream


class Account(Struct):
    """Of all processes. sums: since the last line of the log; the rest since they began.

    waited: seconds that each stood still for data. spent: seconds of their readers, by cause. truncated:
    texts that were cut. skipped: what `Stream.left_out` gives, of the whole run.
    """

    sums: Sums
    waited: list[float]
    spent: dict[str, float]
    truncated: int
    skipped: dict[str, str]

    def take(self, other: "Account") -> None:
        """Add what another process did in the same steps."""
        self.sums.take(other.sums)
        self.waited += other.waited
        self.spent = {cause: seconds + other.spent[cause] for cause, seconds in self.spent.items()}
        self.truncated += other.truncated
        self.skipped = other.skipped | self.skipped


def gather(sums: Sums, stream: Stream, world: World) -> Account:
    """The account of all, on every process."""
    own = Account(sums, [stream.waited], dict(stream.meter.seconds), stream.truncated, stream.left_out())
    first, *others = (
        msgspec.msgpack.decode(told, type=Account) for told in world.gather(msgspec.msgpack.encode(own))
    )
    for other in others:
        first.take(other)
    return first


def agree(state: State, world: World) -> State:
    """Where the first process stands, with whose scores all go on; its sums stay its own."""
    first = msgspec.msgpack.decode(world.gather(msgspec.msgpack.encode(state))[0], type=State)
    return first if world.first else msgspec.structs.replace(first, sums=Sums())
