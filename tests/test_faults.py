"""Damage is noticed before a number of it is trained on; and left out only where the run was told so."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from contract import codec, index, tar
from contract.errors import FuselineError, ShardError
from contract.index import index_path
from contract.record import Text
from training.batching.faults import POLICIES
from training.reading.tars import Tars, read_member
from training.shards import open_shards
from training.stream import Stream

Damage = Callable[[bytearray, index.Index], bytes | bytearray]


def flipped(content: bytearray, place: int) -> bytearray:
    content[place] ^= 4
    return content


def zeroed(content: bytearray, start: int, size: int) -> bytearray:
    content[start : start + size] = bytes(len(content[start : start + size]))
    return content


def start(known: index.Index, row: int, member: int = 0) -> int:
    return int(known.rows["offset"][row, member])


# The nine of a published comparison of readers. A record tar stands for one of JPEGs: a payload is a payload.
NINE: dict[str, Damage] = {
    "cut at a sample boundary": lambda content, known: content[: start(known, 1)],
    "cut between members": lambda content, known: content[: start(known, 1, -1)],
    "cut inside a payload": lambda content, known: content[: start(known, 1) + tar.BLOCK + 3],
    "an empty file": lambda content, known: b"",
    "one bit in a header": lambda content, known: flipped(content, start(known, 1) + 3),
    "1 MiB of zeros over headers": lambda content, known: zeroed(content, start(known, 1), 1 << 20),
    "one bit in a payload": lambda content, known: flipped(content, start(known, 1) + tar.BLOCK + 20),
    "one bit near its end": lambda content, known: flipped(content, start(known, 2) - 520),
    "a zeroed page": lambda content, known: zeroed(content, start(known, 1) + tar.BLOCK + 8, 4096),
}
PAYLOAD = {"one bit in a payload", "one bit near its end"}  # what a scan of the headers cannot see


@pytest.fixture
def own(tmp_path) -> Path:
    synthetic.build(tmp_path, train=8, val=4, shards=2, dtype="int8")  # two members a sample
    return tmp_path


def epoch(folder: Path, **options) -> list[str]:
    """The anchors of an epoch of two batches and a bit, in their order."""
    opened = open_shards([str(folder / "data")], ["vit", "esam"])
    stream = Stream(opened, ["vqa"], batch=3, stop=8, **options)
    return [key for batch in stream for key in batch.keys]


def damage(path: Path, fault: str) -> None:
    known = index.load(path)
    path.write_bytes(NINE[fault](bytearray(path.read_bytes()), known))


@pytest.mark.parametrize("part", ["data", "features/vit"])
@pytest.mark.parametrize("fault", NINE)
def test_each_of_the_nine_faults_stops_the_run(own, fault, part):
    damage(own / part / "toy-000.tar", fault)
    with pytest.raises(FuselineError, match=r"toy-000\.tar"):
        epoch(own)


@pytest.mark.parametrize("fault", [fault for fault in NINE if fault not in PAYLOAD])
def test_without_an_index_damage_to_the_structure_stops_it_too(own, fault):
    path = own / "features" / "vit" / "toy-000.tar"
    damage(path, fault)
    index_path(path).unlink()
    with pytest.raises(FuselineError, match=r"toy-000\.tar"):
        epoch(own)


def rewrite(own: Path, changed: Callable[[np.ndarray], np.ndarray], indexed: bool = True) -> None:
    """The picture p0004 of a float16 column gets another array; hashes and manifest agree with it."""
    synthetic.build(own, train=8, val=4, shards=2)
    arrays = {synthetic.key(n): synthetic.features(n, "vit").astype(np.float16) for n in (0, 2, 4, 6)}
    arrays[synthetic.key(4)] = changed(arrays[synthetic.key(4)])
    folder, facts = own / "features" / "vit", {}
    members = {key: [codec.encode_array(array)] for key, array in arrays.items()}
    synthetic.write(facts, folder / "toy-000.tar", ["vit.npy"], "train", members)
    known = json.loads((folder / "manifest.json").read_text())
    known["shards"]["toy-000"] = msgspec.to_builtins(facts["toy-000"])
    (folder / "manifest.json").write_text(json.dumps(known))
    if not indexed:
        index_path(folder / "toy-000.tar").unlink()


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
    with pytest.raises(ShardError, match="must ascend"):
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
        lambda: read_member(Tars(), path, index.scan(path), 0, 0),
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
            read_member(tars, column.path, column.index, 0, 0)
            assert len(tars._open) <= 2
    tars.close()


def test_a_file_in_use_stays_open(own):
    one, two, three = sorted((own / "features").rglob("*.tar"))[:3]
    tars = Tars(most=1)
    with tars.descriptor(one) as first, tars.descriptor(two) as second, tars.descriptor(one) as again:
        assert first == again != second
    with tars.descriptor(three):
        assert len(tars._open) == 1
    tars.close()
