"""Damage is noticed before a number of it is trained on; and left out only where the run was told so."""

import argparse
import gc
import io
import json
import os
import shutil
import signal
import tarfile
from collections.abc import Callable, Iterator
from contextlib import chdir, closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import codec, index, tar
from contract.errors import FuselineError, ShardError, TrainingError
from contract.index import index_path
from contract.record import Text
from data_pipeline.stages import export, verify
from training import fit
from training.batching.emptiness import Emptiness
from training.batching.faults import POLICIES
from training.batching.mixture import endless, whole_epoch
from training.reading.members import Member, Reader
from training.reading.tars import Tars
from training.shards import open_shards
from training.stream import Stream

Damage = Callable[[bytearray, index.Index, int], bytes | bytearray]


def flipped(content: bytearray, place: int) -> bytearray:
    content[place] ^= 4
    return content


def zeroed(content: bytearray, start: int, size: int) -> bytearray:
    content[start : start + size] = bytes(len(content[start : start + size]))
    return content


def start(known: index.Index, row: int, member: int = 0) -> int:
    return int(known.rows["offset"][row, member])


# The nine of a published comparison of readers. A record tar stands for one of JPEGs: a payload is a payload.
# Each damages the second sample; `at` is the member of a sample that is meant.
NINE: dict[str, Damage] = {
    "cut at a sample boundary": lambda content, known, at: content[: start(known, 1)],
    "cut between members": lambda content, known, at: content[: start(known, 1, -1)],
    "cut inside a payload": lambda content, known, at: content[: payload(known, 1, at) + 3],
    "an empty file": lambda content, known, at: b"",
    "one bit in a header": lambda content, known, at: flipped(content, start(known, 1, at) + 3),
    "1 MiB of zeros over headers": lambda content, known, at: zeroed(content, start(known, 1), 1 << 20),
    "one bit in a payload": lambda content, known, at: flipped(content, payload(known, 1, at) + 20),
    "one bit near its end": lambda content, known, at: flipped(content, payload(known, 1, at, end=True) - 3),
    "a zeroed page": lambda content, known, at: zeroed(content, *last_half(known, 1, at)),
}
BITS = {"one bit in a payload", "one bit near its end", "a zeroed page"}  # what no header can tell
PLACES = {  # what is damaged → its folder, the member, and the folder of records that is opened
    "a record shard": ("data", "json", "data"),
    "a feature column": ("features/vit", "vit.npy", "data"),
    "the negatives": ("negatives", "neg.json", "data"),
    "the record in an export": ("out", "json", "out"),
    "the features in an export": ("out", "vit.npy", "out"),
    "the negatives in an export": ("out", "neg.json", "out"),
}


def payload(known: index.Index, row: int, member: int, end: bool = False) -> int:
    """Where the content of a member begins, or ends."""
    return start(known, row, member) + tar.BLOCK + int(known.rows["size"][row, member]) * end


def last_half(known: index.Index, row: int, member: int) -> tuple[int, int]:
    """Where the second half of a member's content begins, and its length: up to a page of it."""
    size = int(known.rows["size"][row, member])
    return payload(known, row, member) + size // 2, min(4096, size - size // 2)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family, with two members a sample in its columns, and its export. Read only."""
    folder = tmp_path_factory.mktemp("sound")
    synthetic.build(folder, train=8, val=4, shards=2, dtype="int8")
    with chdir(folder):
        export.run(argparse.Namespace(out=Path("out"), shards=["data"], columns=None, workers=1))
    return folder


@pytest.fixture
def broken(sound: Path, tmp_path: Path, fault: str, place: str) -> Path:
    """A copy with one fault; the shard of it."""
    folder, member, _ = PLACES[place]
    path = Path(shutil.copytree(sound, tmp_path / "broken"), folder, "toy-000.tar")
    damage(path, fault, member)
    return path


def damage(path: Path, fault: str, member: str) -> None:
    known = index.load(path)
    path.write_bytes(NINE[fault](bytearray(path.read_bytes()), known, known.member(member, path)))


def read(path: Path, place: str) -> list[str]:
    """The notes, after an epoch of the records that the place belongs to."""
    folder, _, records = PLACES[place]
    opened = open_shards([str(path.parents[len(Path(folder).parts)] / records)], ["vit", "esam"])
    list(Stream(opened, ["vqa"], batch=3, stop=8, negatives=1))
    return opened.notes


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", NINE)
class TestEachOfTheNineFaults:
    """fault × where it is × who reads."""

    def test_stops_the_run(self, broken: Path, place: str) -> None:
        with pytest.raises(FuselineError, match=r"toy-000\.tar"):
            read(broken, place)

    def test_stops_it_without_an_index_or_is_said_to_be_unchecked(
        self, broken: Path, place: str, fault: str
    ) -> None:
        index_path(broken).unlink()
        try:
            notes = read(broken, place)
        except FuselineError as error:
            assert "toy-000.tar" in str(error)
        else:
            assert fault in BITS
            assert any(f"{broken.parent}/ without an index: payload bits" in note for note in notes)

    def test_is_found_by_verify(
        self, broken: Path, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder, _, records = PLACES[place]
        monkeypatch.chdir(broken.parents[len(Path(folder).parts)])
        assert verify.run(argparse.Namespace(data=Path(records), deep=False, workers=1)) == 1
        assert f"{folder}/toy-000.tar: " in capsys.readouterr().out


@pytest.fixture
def own(tmp_path) -> Path:
    synthetic.build(tmp_path, train=8, val=4, shards=2, dtype="int8")  # two members a sample
    return tmp_path


def epoch(folder: Path, **options) -> list[str]:
    """The anchors of an epoch of two batches and a bit, in their order."""
    opened = open_shards([str(folder / "data")], ["vit", "esam"])
    stream = Stream(opened, ["vqa"], batch=3, stop=8, **options)
    return [key for batch in stream for key in batch.keys]


def rewrite(own: Path, changed: Callable[[np.ndarray], np.ndarray], indexed: bool = True) -> None:
    """The picture p0004 of a float16 column gets another array; hashes and manifest agree with it."""
    synthetic.build(own, train=8, val=4, shards=2)
    arrays = {synthetic.key(n): synthetic.features(n, "vit").astype(np.float16) for n in (0, 2, 4, 6)}
    arrays[synthetic.key(4)] = changed(arrays[synthetic.key(4)])
    folder = own / "features" / "vit"
    replace(folder, ["vit.npy"], {key: [codec.encode_array(array)] for key, array in arrays.items()})
    if not indexed:
        index_path(folder / "toy-000.tar").unlink()


def replace(folder: Path, suffixes: list[str], members: dict[str, list[bytes]]) -> None:
    """Another toy-000, whose index and manifest agree with it."""
    facts: dict = {}
    synthetic.write(facts, folder / "toy-000.tar", suffixes, "train", members)
    known = json.loads((folder / "manifest.json").read_text())
    known["shards"]["toy-000"] = msgspec.to_builtins(facts["toy-000"])
    (folder / "manifest.json").write_text(json.dumps(known))


def lost_column(own: Path) -> None:
    shutil.rmtree(own / "features" / "esam")


def lost_tar(own: Path) -> None:
    (own / "features" / "esam" / "toy-001.tar").unlink()


def lost_member(own: Path) -> None:
    keys = index.load(own / "data" / "toy-000.tar").keys()
    replace(own / "features" / "vit", ["vit.npy"], dict.fromkeys(keys, [b""]))


def other_pictures(own: Path) -> None:
    replace(own / "features" / "vit", ["vit.npy", "vit.scale.npy"], {"p0099": [b"", b""]})


def record_of_another_schema(own: Path) -> None:
    records = {synthetic.key(number): codec.encode(synthetic.picture(number)) for number in (0, 2, 4, 6)}
    replace(own / "data", ["json"], {key: [raw[:-1] + b',"new":1}'] for key, raw in records.items()})


def no_record(own: Path) -> None:
    keys = index.load(own / "data" / "toy-000.tar").keys()
    replace(own / "data", ["txt"], dict.fromkeys(keys, [b"a cube"]))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lost_column, r"features/esam/manifest\.json: no such manifest"),
        (lost_tar, r"features/esam/toy-001\.tar: no such shard"),
        (lost_member, r"features/vit/toy-000\.tar: has no member \.vit\.scale\.npy"),
        (other_pictures, r"features/vit/toy-000\.tar: keys: not the same pictures"),
        (no_record, r"data/toy-000\.tar: has no member \.json"),
    ],
)
def test_what_does_not_belong_together_is_refused_at_the_door(own, fault, said):
    fault(own)
    with pytest.raises(FuselineError, match=said):
        open_shards([str(own / "data")], ["vit", "esam"])


def test_a_record_of_another_schema_is_named_with_its_field(own):
    record_of_another_schema(own)
    for path in (own / "data").glob("*.idx"):  # without counts of texts the records are read at once
        path.unlink()
    with pytest.raises(ShardError, match=r"toy-000\.tar: p0000\.json: does not follow the schema.*`new`"):
        epoch(own)


@pytest.mark.parametrize("shape", [(16, 8), (17, 9), (8, 17), (17, 8, 1)])
def test_an_array_of_another_shape_is_refused(own, shape):
    rewrite(own, lambda _: np.zeros(shape, np.float16))
    with pytest.raises(
        ShardError, match=r"p0004\.vit\.npy: (is not of the column's shape|has an npy header)"
    ):
        epoch(own)


def test_an_array_of_another_type_is_refused(own):
    rewrite(own, lambda array: array.astype(np.int8).repeat(2, 1))
    with pytest.raises(ShardError, match="not of the column's shape[\\s\\S]*int8"):
        epoch(own)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused_where_no_hash_vouches_for_them(own, value):
    rewrite(own, lambda array: np.where(np.arange(8) == 3, value, array).astype(np.float16), indexed=False)
    with pytest.raises(ShardError, match=r"p0004\.vit\.npy: holds numbers that are not finite"):
        epoch(own)


def test_numbers_that_a_hash_vouches_for_are_refused_by_the_loss_with_their_pictures(own, monkeypatch):
    """Looking at every number would cost as much as copying it; `verify --deep` looks."""
    rewrite(own, lambda array: np.full_like(array, np.nan))
    monkeypatch.chdir(own)
    with pytest.raises(TrainingError, match=r"the loss is nan[\s\S]*pictures .*p0004"):
        fit.main(["--run", "runs/a", "--set", "optim.epochs=1", "development=0"])
    assert verify.run(argparse.Namespace(data=Path("data"), deep=True, workers=1)) == 1


def test_a_shard_that_is_cut_in_mid_epoch_is_named(own):
    opened = open_shards([str(own / "data")], ["vit"])
    batches = iter(Stream(opened, ["vqa"], batch=2, stop=24, ahead=1))
    next(batches)
    for shard in opened.shards:
        os.truncate(shard.columns["vit"].path, 700)
    with pytest.raises(ShardError, match=r"features/vit/toy-00[01]\.tar: is cut at byte 700"):
        list(batches)


@given(st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), max_size=4), st.integers(0, 6000))
def test_a_damaged_tar_of_a_stranger_is_scanned_or_refused(tmp_path_factory, changes, end):
    body = b"".join(tar.extent(f"{key}.{name}", bytes(300)) for key in "ab" for name in ("json", "vit.npy"))
    content = bytearray(body + tar.trailer(len(body)))
    for place, value in changes:
        content[place % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "stranger.tar"
    path.write_bytes(content[: end or None])
    with suppress(ShardError):
        known = index.scan(path)
        assert known.tar_bytes == len(content[: end or None])
        assert (known.rows["offset"] + known.rows["size"] <= known.tar_bytes).all()


def test_a_pickle_in_an_array_is_never_loaded(own):
    folder = own / "features" / "vit"
    path = folder / "toy-000.tar"
    known, content = index.load(path), bytearray(path.read_bytes())
    place = content.index(b"'|i1'", start(known, 0))
    content[place : place + 5] = b"'|O8'"
    path.write_bytes(content)
    index_path(path).unlink()
    with pytest.raises(ShardError, match=r"npy header that cannot be used"):
        epoch(own)


def test_a_shard_that_vanishes_is_named(own):
    opened = open_shards([str(own / "data")], ["vit"])
    opened.shards[0].columns["vit"].path.unlink()
    with pytest.raises(ShardError, match=r"vit/toy-000\.tar: vanished while the run was reading it"):
        list(Stream(opened, ["vqa"], batch=4, stop=8))


def damaged_picture(own: Path, number: int, part: str = "features/vit") -> str:
    """One bit of one picture of one column."""
    path = own / part / f"toy-{number % 2:03d}.tar"
    known, content = index.load(path), bytearray(path.read_bytes())
    path.write_bytes(flipped(content, start(known, known.keys().index(synthetic.key(number))) + 600))
    return synthetic.key(number)


@pytest.mark.parametrize("part", ["data", "features/vit"])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_skipped_picture_leaves_the_order_of_the_rest_as_it_was(own, part, threads):
    whole = epoch(own)
    gone = {damaged_picture(own, number, part) for number in (3, 4)}
    assert epoch(own, on_error="skip", threads=threads) == [key for key in whole if key not in gone]


def test_a_start_after_a_skipped_picture_gives_the_same_batches(own):
    damaged_picture(own, 3)
    opened = open_shards([str(own / "data")], ["vit"])
    options = {"batch": 3, "on_error": "skip", "seed": 2}
    batches = [(b.position, b.keys) for b in Stream(opened, ["vqa"], stop=24, **options)]
    for position, _ in batches[:-1]:
        later = Stream(opened, ["vqa"], stop=24, position=position, **options)
        assert [(b.position, b.keys) for b in later] == [b for b in batches if b[0] > position]


def test_a_skipped_picture_is_counted_and_named(own):
    key = damaged_picture(own, 3)
    stream = Stream(open_shards([str(own / "data")], ["vit"]), ["vqa"], batch=4, stop=24, on_error="skip")
    list(stream)
    (error,) = stream.faults.found.values()
    assert f"toy-001.tar: member {key}.vit.npy is damaged" in str(error)


def test_a_damaged_negative_gives_way_to_the_next(own):
    gone = damaged_picture(own, 3)
    stream = Stream(
        open_shards([str(own / "data")], ["vit"]), ["vqa"], batch=8, stop=8, negatives=1, on_error="skip"
    )
    (batch,) = stream
    assert gone not in batch.keys and len(batch.keys) == 7
    pairs = zip(batch.text_picture.tolist(), batch.neg_picture[:, 0].tolist(), strict=True)
    near = {batch.keys[anchor]: batch.keys[other] for anchor, other in pairs}
    assert near[synthetic.key(2)] == synthetic.key(4)


def test_an_edit_whose_target_is_damaged_is_left_out(own):
    records = {synthetic.key(n): synthetic.picture(n) for n in (0, 2, 4, 6)}
    for key, target in (("p0000", "p0002"), ("p0004", "p0006")):
        records[key].texts.append(Text(f"{key}-e", "edit", "left", [2], target=[target]))
    facts: dict = {}
    contents = {key: [codec.encode(record)] for key, record in records.items()}
    synthetic.write(facts, own / "data" / "toy-000.tar", ["json"], "train", contents, records)
    known = json.loads((own / "data" / "manifest.json").read_text())
    known["shards"]["toy-000"] = msgspec.to_builtins(facts["toy-000"])
    (own / "data" / "manifest.json").write_text(json.dumps(known))
    damaged_picture(own, 2)
    stream = Stream(open_shards([str(own / "data")], ["vit"]), ["cir"], batch=2, stop=2, on_error="skip")
    (batch,) = stream
    assert batch.text_id == ["p0004-e"] and "p0002" not in batch.keys


def test_a_batch_of_which_nothing_is_left_is_passed_over(own):
    gone = {damaged_picture(own, number) for number in range(8)} - {damaged_picture(own, 5)}  # mended again
    kept = epoch(own, on_error="skip")
    assert kept == ["p0005"] and len(gone) == 7


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """TimeoutError in what would hang."""

    def give_up(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("options", [{}, {"rank": 1, "world": 2}, {"shuffle": "none", "batch": 64}])
def test_training_on_nothing_that_can_be_read_ends(own, options):
    for number in range(8):
        damaged_picture(own, number)
    opened = open_shards([str(own / "data")], ["vit"])
    stream = Stream(opened, ["vqa"], **{"batch": 2, "on_error": "skip", **options})
    with at_most(60), pytest.raises(ShardError, match="nothing of toy can be read"):
        list(stream)


@pytest.mark.parametrize("stop", [8, 6, 10, 20])
def test_a_pass_of_nothing_that_can_be_read_is_no_empty_pass(own, stop):
    for number in range(8):
        damaged_picture(own, number)
    opened = open_shards([str(own / "data")], ["vit"])
    stream = Stream(opened, ["vqa"], batch=2, on_error="skip", stop=stop)
    with pytest.raises(ShardError, match=f"nothing of toy can be read up to position {min(stop, 16)}"):
        list(stream)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("good", "stop"), [(5, 8), (1, 8), (1, 10), (1, 80)])
def test_a_pass_with_good_pictures_ends_quietly_from_any_position_that_it_gave(own, seed, good, stop):
    for number in range(good, 8):
        damaged_picture(own, number)
    opened = open_shards([str(own / "data")], ["vit"])

    def rest(position: int) -> list[tuple[int, list[str]]]:
        stream = Stream(opened, ["vqa"], batch=2, seed=seed, on_error="skip", position=position, stop=stop)
        return [(batch.position, batch.keys) for batch in stream]

    whole = rest(0)
    assert len({key for _, keys in whole for key in keys}) == good
    for number, (position, _) in enumerate(whole):
        assert rest(position) == whole[number + 1 :]


def in_stored_order(own: Path, **options) -> Stream:
    """Two pictures a turn, of two processes."""
    opened = open_shards([str(own / "data")], ["vit"])
    return Stream(opened, ["vqa"], batch=2, shuffle="none", on_error="skip", world=2, **options)


def test_a_process_that_reads_nothing_of_a_shared_pass_says_nothing(own):
    """The other one reads, and would wait for it."""
    for number in (0, 2, 1, 3):  # turns 0 and 2 of four
        damaged_picture(own, number)
    read = [[batch.keys for batch in in_stored_order(own, stop=8, rank=rank)] for rank in (0, 1)]
    assert read == [[], [["p0004", "p0006"], ["p0005", "p0007"]]]


def test_a_process_gives_up_only_after_an_epoch_of_turns_of_its_own(tmp_path):
    """Of three turns an epoch it has two, and in the next the third."""
    synthetic.build(tmp_path, train=6, val=4, shards=2, dtype="int8")
    for number in (0, 2, 3, 5):  # turns 0 and 2
        damaged_picture(tmp_path, number)
    with closing(iter(in_stored_order(tmp_path, rank=0))) as batches:
        assert next(batches).keys == ["p0004", "p0001"]


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 4)), min_size=1, max_size=3),
    st.integers(1, 4),
    st.integers(0, 20),
)
def test_a_run_has_an_epoch_of_every_dataset_within_so_many_rows_of_anywhere(datasets, batch, at):
    rows, weights = zip(*datasets, strict=True)
    within = whole_epoch(rows, weights, batch)
    taken = [0] * len(rows)
    for span in islice(endless(weights, batch, at * batch), within // batch):
        taken[span.dataset] += span.rows
    assert all(seen >= of for seen, of in zip(taken, rows, strict=True))


@given(st.integers(1, 9), st.integers(0, 5), st.lists(st.booleans(), max_size=30))
def test_nothing_is_given_up_before_every_picture_has_given_nothing(within, begun, empty):
    emptiness, since = Emptiness(within, begun), begun
    for position, nothing in enumerate(empty, begun + 1):
        since = since if nothing else position
        assert emptiness.everywhere(position, nothing) == (position - since >= within)


def turns(folder: Path, **options) -> dict[int, tuple]:
    """Position → the pictures and negatives of the batches up to position 24."""
    opened = open_shards([str(folder / "data")], ["vit"])
    options = {"batch": 2, "seed": 1, "negatives": 2, "on_error": "skip", **options}
    found = {}
    with closing(iter(stream := Stream(opened, ["vqa"], **options))) as batches:
        while stream.position < 24:
            batch = next(batches)
            found[batch.position] = (batch.keys, batch.text_id, batch.neg_picture.tolist())
    return {end: of for end, of in found.items() if end <= 24}


@settings(max_examples=10)
@given(
    st.sets(st.integers(0, 7), min_size=1, max_size=3),
    st.sets(st.integers(0, 7), max_size=2),
    st.integers(0, 9),
    st.integers(1, 3),
)
def test_damage_gives_the_same_batches_from_any_start_in_any_world(sound, negatives, features, begin, world):
    with TemporaryDirectory() as folder:
        own = Path(shutil.copytree(sound, Path(folder, "own")))
        for part, numbers in (("negatives", negatives), ("features/vit", features)):
            for number in numbers:
                damaged_picture(own, number, part)
        whole = turns(own)
        shared = [turns(own, position=2 * begin, rank=rank, world=world) for rank in range(world)]
        assert {end: of for one in shared for end, of in one.items()} == {
            end: of for end, of in whole.items() if end > 2 * begin
        }
        known = Stream(open_shards([str(own / "data")], ["vit"]), ["vqa"], batch=8, stop=8, on_error="skip")
        list(known)
        assert turns(own, position=2 * begin, skipped=known.left_out()).items() <= whole.items()


def test_damaged_negatives_cost_an_anchor_and_no_named_picture(own):
    gone = damaged_picture(own, 3, "negatives")
    opened = open_shards([str(own / "data")], ["vit"])
    options = {"batch": 8, "stop": 8, "negatives": 1}
    first = Stream(opened, ["vqa"], on_error="skip", **options)
    (batch,) = first
    assert batch.keys.index(gone) == 7 and 7 not in batch.text_picture
    assert list(first.left_out()) == ["1:1:anchor"]
    (again,) = Stream(opened, ["vqa"], skipped=first.left_out(), **options)
    assert again.keys == batch.keys


def test_the_limit_is_for_all_processes_together(own):
    stream = Stream(
        open_shards([str(own / "data")], ["vit"]), ["vqa"], batch=4, on_error="skip", max_skipped=2
    )
    others = {"0:1": "", "1:2": "", "1:2:anchor": ""}
    stream.faults.check(others)
    with pytest.raises(ShardError, match=r"in all processes together[\s\S]*3 of them[\s\S]*at most 2"):
        stream.faults.check({**others, "1:0": "is damaged"})


def test_more_than_the_limit_stop_the_run(own):
    for number in (1, 2, 3):
        damaged_picture(own, number)
    with pytest.raises(ShardError, match="at most 2[\\s\\S]*train.max_skipped"):
        epoch(own, on_error="skip", max_skipped=2)
    assert len(epoch(own, on_error="skip", max_skipped=3)) == 5


def test_an_unknown_policy_is_refused(own):
    with pytest.raises(FuselineError, match="did you mean 'skip'"):
        epoch(own, on_error="skipp")
    assert set(POLICIES) == {"stop", "skip"}


def test_empty_members_without_number_are_refused(tmp_path):
    path = tmp_path / "many.tar"
    one = tar.extent("a.json", b"")
    path.write_bytes(one * 20_000 + tar.trailer(20_000 * len(one)))
    with pytest.raises(ShardError, match="key a twice"):
        index.scan(path)


def test_a_header_that_claims_the_impossible_is_refused(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT):
        info = tarfile.TarInfo("a.json")
        info.size = 1 << 60
        buffer.write(info.tobuf(tarfile.GNU_FORMAT))
    path = tmp_path / "huge.tar"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ShardError):
        index.scan(path)


@given(st.binary(max_size=3000), st.booleans())
def test_no_bytes_make_the_readers_do_anything_but_refuse(tmp_path_factory, content, tarred):
    """Index, headers and records of anybody: a ShardError or a result, and no other exception."""
    path = tmp_path_factory.getbasetemp() / "any.tar"
    path.write_bytes(tar.extent("a.json", content) + tar.trailer(0) if tarred else content)
    for read in (
        lambda: index.parse(content, path, len(content)),
        lambda: codec.decode_record(content, "any"),
        lambda: codec.decode_array(content, "any"),
        lambda: Reader(Tars()).payload(Member(path, index.scan(path), "json"), 0),
    ):
        try:
            read()
        except (ShardError, IndexError) as error:
            assert isinstance(error, ShardError) or not tarred


@given(st.integers(0, 255), st.integers(0, 127))
def test_any_damage_to_an_npy_header_is_refused_or_harmless(byte, place):
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    content = bytearray(codec.encode_array(array))
    content[place] = byte
    try:
        read = codec.decode_array(bytes(content), "any")
    except ShardError:
        return
    assert read.nbytes == array.nbytes and read.dtype in (np.float16, np.float32, np.int8)


def test_few_files_are_open_at_once(own):
    opened = open_shards([str(own / "data")], ["vit", "esam"])
    tars = Tars(most=2)
    for shard in [*opened.shards, *opened.shards]:
        for column in shard.columns.values():
            Reader(tars).payload(Member(column.path, column.index, column.index.suffixes[0]), 0)
            assert len(tars._open) <= 2
    tars.close()


def test_a_file_in_use_stays_open(own):
    one, two, three = sorted((own / "features").rglob("*.tar"))[:3]
    tars = Tars(most=1)
    first, second = tars.open(one), tars.open(two)
    tars.open(three)
    assert len(tars._open) == 1
    for held, path in ((first, one), (second, two)):
        assert os.pread(held.descriptor, 512, 0) == path.read_bytes()[:512]
    descriptor = first.descriptor
    del first, held
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(descriptor)


def test_a_stream_that_ended_leaves_no_file_open(own):
    gc.collect()  # streams that other tests left behind would be closed meanwhile
    before = set(Path("/dev/fd").iterdir())
    streams = [Stream(open_shards([str(own / "data")], ["vit"]), ["vqa"], batch=2, stop=8) for _ in range(3)]
    for stream in streams:
        list(stream)
        next(iter(stream), None)
    assert set(Path("/dev/fd").iterdir()) == before
