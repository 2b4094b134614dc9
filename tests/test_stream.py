"""The stream: complete, the same whatever the threads and the start, and never silently wrong."""

import json
from contextlib import closing
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pytest
import synthetic
import torch

from contract import codec
from contract.errors import MismatchError, ParamsError, ShardError
from contract.files import sha256_file
from contract.index import index_path
from contract.record import Negatives, Text
from training.batching.mined import Mined
from training.batching.steps import by_step
from training.config import Masking
from training.reading.meter import shares
from training.reading.tars import Tars
from training.shards import open_shards
from training.stream import Stream


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    synthetic.build(folder)
    return folder


@pytest.fixture
def own(tmp_path) -> Path:
    synthetic.build(tmp_path, train=8, val=4, shards=2)
    return tmp_path


def shards(folder: Path, columns=("vit", "esam"), **options):
    return open_shards([str(folder / "data")], columns, **options)


def taken(stream: Stream, batches: int):
    iterator = iter(stream)
    return [next(iterator) for _ in range(batches)]


def same(first, second) -> bool:
    tensors = ("tokens", "token_mask", "text_picture", "answer", "boxes", "spans", "span_box", "neg_picture")
    return (
        first.keys == second.keys
        and first.text_id == second.text_id
        and all(torch.equal(getattr(first, name), getattr(second, name)) for name in tensors)
        and all(torch.equal(first.features[name], second.features[name]) for name in first.features)
        and all(torch.equal(first.visible[name], second.visible[name]) for name in first.visible)
    )


def test_an_epoch_holds_every_picture_once(world):
    stream = Stream(shards(world), ["vqa"], batch=7, stop=40)
    keys = [key for batch in stream for key in batch.keys]
    assert sorted(keys) == [synthetic.key(n) for n in range(40)]
    assert stream.position == 40


def test_features_and_answers_belong_to_their_picture(world):
    for batch in Stream(shards(world), ["vqa"], batch=16, stop=40):
        for row, key in enumerate(batch.keys):
            expected = torch.from_numpy(synthetic.features(int(key[1:]), "vit").astype("float16"))
            assert torch.equal(batch.features["vit"][row], expected)
        for text, picture in zip(batch.text_id, batch.text_picture, strict=True):
            assert text.split("-")[0] == str(int(batch.keys[picture][1:]))
        assert (batch.answer >= 0).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_a_start_anywhere_continues_the_same_sequence(world, threads):
    mask = Masking(ratio=0.5)
    options = {"batch": 6, "mask": mask, "texts_per_image": 1, "negatives": 2, "seed": 5}
    whole = taken(Stream(shards(world), ["vqa"], **options), 12)
    later = Stream(shards(world), ["vqa"], position=whole[4].position, threads=threads, ahead=4, **options)
    assert all(same(a, b) for a, b in zip(whole[5:], taken(later, 7), strict=True))


def test_masks_differ_by_epoch_and_agree_between_columns(world):
    stream = Stream(shards(world), ["vqa"], batch=40, shuffle="none", mask=Masking(ratio=0.5))
    first, second = taken(stream, 2)
    assert not torch.equal(first.visible["vit"], second.visible["vit"])
    assert torch.equal(first.visible["vit"][:, 1:], first.visible["esam"])
    assert (first.visible["esam"].sum(1) == 8).all()


def test_development_and_training_pictures_are_disjoint_and_complete(world):
    parts = [
        Stream(shards(world), ["vqa"], batch=4, development=0.3, part=part)
        for part in ("train", "development")
    ]
    keys = [{key for batch in _once(part) for key in batch.keys} for part in parts]
    assert not keys[0] & keys[1] and len(keys[0] | keys[1]) == 40 and keys[1]


def _once(stream):
    stream.stop = len(stream)
    return list(stream)


def test_regions_spans_and_links_point_at_each_other(world):
    (batch,) = taken(Stream(shards(world), ["region"], batch=5), 1)
    assert len(batch.boxes) == 5 and batch.box_picture.tolist() == [0, 1, 2, 3, 4]
    for span, box in batch.span_box.tolist():
        assert batch.box_picture[box] == batch.text_picture[batch.span_text[span]]


def test_negatives_are_looked_up_once_and_belong_to_the_anchor(world):
    (batch,) = taken(Stream(shards(world), ["vqa"], batch=10, negatives=2), 1)
    assert len(batch.keys) == len(set(batch.keys)) > 10
    assert (batch.neg_picture >= 0).all()
    assert (batch.neg_picture != batch.text_picture[:, None]).all()
    assert batch.features["vit"].shape[0] == len(batch.keys)


def test_a_flipped_bit_in_a_feature_is_noticed(own):
    path = own / "features" / "vit" / "toy-000.tar"
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)
    with pytest.raises(ShardError, match="is damaged"):
        list(Stream(shards(own), ["vqa"], batch=4, stop=8))


def test_a_cut_shard_is_noticed_before_training(own):
    path = own / "data" / "toy-001.tar"
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(ShardError, match="not the file that its index describes"):
        shards(own)


def test_without_an_index_a_cut_is_still_noticed(own):
    path = own / "features" / "esam" / "toy-001.tar"
    index_path(path).unlink()
    assert len(shards(own).shards) == 2
    path.write_bytes(path.read_bytes()[:2048])
    with pytest.raises(ShardError, match="is cut"):
        shards(own)


def test_columns_of_other_pictures_are_refused(own):
    swap(own / "features" / "vit")
    with pytest.raises(MismatchError, match="not the same pictures"):
        shards(own)


def test_evaluation_shards_are_left_out_of_a_folder_and_refused_by_name(own):
    opened = shards(own)
    assert {shard.split for shard in opened.shards} == {"train"} and opened.left_out == 1
    named = [str(own / "data" / "toy-val-000.tar")]
    with pytest.raises(ShardError, match="is of split 'val'"):
        open_shards(named, [])
    assert len(open_shards(named, [], allow_split=True).shards) == 1


def test_another_schema_version_is_refused_and_named(own):
    path = own / "data" / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(MismatchError, match=r"format: another version[\s\S]*found: +2"):
        shards(own)


def test_another_tokenizer_is_refused(own):
    with (own / "data" / "tokenizer.json").open("a") as file:
        file.write(" ")
    with pytest.raises(MismatchError, match="tokenizer"):
        shards(own)


def negatives_of_half_the_split(own):
    """The first and the third neighbour of each picture lie in the shard that is not given."""
    half = open_shards([str(own / "data" / "toy-000.tar")], ["vit"])
    return Stream(half, ["vqa"], batch=4, negatives=2, stop=4)


def test_negatives_outside_the_given_shards_are_counted(own):
    stream = negatives_of_half_the_split(own)
    (batch,) = stream
    assert (stream.planner.unresolved, stream.planner.wanted) == (4, 8)
    assert (batch.neg_picture[:, 0] >= 0).all() and (batch.neg_picture[:, 1] == -1).all()


def test_too_many_negatives_outside_the_given_shards_are_an_error(own, monkeypatch):
    monkeypatch.setattr("training.batching.plan.ENOUGH", 4)
    with pytest.raises(ShardError, match=r"outside the given shards[\s\S]*at most 5%"):
        list(negatives_of_half_the_split(own))


def test_a_batch_that_is_planned_again_counts_its_negatives_once_and_no_damage_as_outside(own):
    path = own / "features" / "vit" / "toy-000.tar"
    content = bytearray(path.read_bytes())
    content[700] ^= 1  # of p0000, a neighbour that is there
    path.write_bytes(content)
    stream = Stream(shards(own), ["vqa"], batch=8, negatives=2, stop=8, on_error="skip")
    (batch,) = stream
    assert synthetic.key(0) not in batch.keys
    assert (stream.planner.unresolved, stream.planner.wanted) == (0, 16)


def test_more_negatives_than_were_mined_are_refused(own):
    with pytest.raises(MismatchError, match="fewer negatives per picture"):
        Stream(shards(own), ["vqa"], batch=4, negatives=4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch": 0}, "batch: .*"),
        ({"texts_per_image": 0}, "texts_per_image: .*"),
        ({"max_tokens": 0}, "max_tokens: .*"),
        ({"window": 0}, "window: .*"),
        ({"threads": 0}, "threads: .*"),
        ({"ahead": 0}, "ahead: .*"),
        ({"world": 0}, "world: .*"),
        ({"rank": 2, "world": 2}, "rank: .*from 0 to 1"),
        ({"rank": -1}, "rank: .*from 0 to 0"),
        ({"datasets": {"toy": 0}}, "datasets.toy: .*"),
        ({"position": -8}, "position: .*at least 0"),
        ({"batch": 2.5}, "batch: .*a whole number"),
        ({"stop": 8.0}, "stop: .*a whole number"),
        ({"stop": -1}, "stop: .*"),
        ({"negatives": -1}, "negatives: .*"),
        ({"text_negatives": -1}, "text_negatives: .*"),
        ({"swaps": -1}, "swaps: .*"),
        ({"max_skipped": -1}, "max_skipped: .*"),
        ({"development": 1.5}, "development: .*from 0 to 1"),
        ({"epochs": 0}, "epochs: .*above 0"),
        ({"epochs": float("nan")}, "epochs: .*above 0"),
        ({"part": "dev"}, "part: .*'dev'.*development, train"),
        ({"tasks": []}, "tasks: names none.*vqa"),
    ],
)
def test_numbers_that_no_stream_can_have_are_refused_at_the_door(world, options, said):
    with pytest.raises(ParamsError, match=f"(?s)^{said}"):
        Stream(shards(world), **{"tasks": ["vqa"], "batch": 4, **options})


def test_without_a_development_share_no_row_is_one_of_it(world):
    assert len(Stream(shards(world), ["vqa"], batch=4, part="development")) == 0


def test_int8_is_moved_as_it_lies_and_means_the_same(tmp_path):
    synthetic.build(tmp_path, train=8, val=4, shards=2, dtype="int8")
    (batch,) = taken(Stream(shards(tmp_path), ["vqa"], batch=8, stop=8), 1)
    assert batch.features["vit"].dtype == torch.int8 and batch.scales["vit"].shape == (8, 17)
    numbers = [int(key[1:]) for key in batch.keys]
    for name in synthetic.WIDTHS:
        truth = torch.from_numpy(np.stack([synthetic.features(n, name) for n in numbers]))
        half = batch.scales[name][..., None] / 2
        assert ((batch.tokens_of(name) - truth).abs() <= half * 1.001).all()


def test_a_damaged_scale_is_noticed(tmp_path):
    synthetic.build(tmp_path, train=8, val=4, shards=2, dtype="int8")
    opened = shards(tmp_path)
    column = opened.shards[0].columns["vit"]
    content = bytearray(column.path.read_bytes())
    content[int(column.index.rows["offset"][0, 1]) + 600] ^= 1
    column.path.write_bytes(content)
    with pytest.raises(ShardError, match=r"vit.scale.npy is damaged"):
        list(Stream(opened, ["vqa"], batch=8, stop=8))


def test_negatives_of_other_pictures_are_refused(own):
    swap(own / "negatives")
    with pytest.raises(MismatchError, match="not the same pictures"):
        list(Stream(shards(own), ["vqa"], batch=4, negatives=2, stop=4))


def test_without_an_index_the_same_pictures_are_trained_on_and_it_is_said(own):
    with_index = shards(own)
    for part in ("data", "features/vit"):
        for path in (own / part).glob("*.idx"):
            path.unlink()
    without = shards(own)
    batches = [taken(Stream(opened, ["vqa"], batch=8), 1)[0] for opened in (with_index, without)]
    assert same(*batches)
    assert with_index.notes == []
    assert without.notes == [
        f"2 shards of {own / part}/ without an index: payload bits are not checked"
        for part in ("data", "features/vit")
    ]


def test_without_an_index_a_picture_without_features_is_still_left_out(own):
    arrays = {synthetic.key(n): synthetic.features(n, "vit").astype("float16") for n in (0, 2, 4, 6)}
    arrays[synthetic.key(2)] = arrays[synthetic.key(2)][:0]
    rewrite(own, "vit", "vit.npy", {k: codec.encode_array(array) for k, array in arrays.items()})
    index_path(own / "features" / "vit" / "toy-000.tar").unlink()
    assert len(Stream(shards(own), ["vqa"], batch=4)) == 7


def rewrite(own, column, suffix, members, shard="toy-000"):
    """One shard of a column with other content, and its manifest to match."""
    folder = own / "data" if column == "data" else own / "features" / column
    facts = {}
    records = {k: codec.decode_record(m, k) for k, m in members.items()} if column == "data" else None
    contents = {k: [member] for k, member in members.items()}
    synthetic.write(facts, folder / f"{shard}.tar", [suffix], "train", contents, records)
    known = json.loads((folder / "manifest.json").read_text())
    known["shards"][shard] = msgspec.to_builtins(facts[shard])
    (folder / "manifest.json").write_text(json.dumps(known))


def swap(folder):
    """The tars and indexes of two shards change places."""
    for suffix in (".tar", ".tar.idx"):
        a, b = (folder / f"toy-00{n}{suffix}" for n in (0, 1))
        content = a.read_bytes()
        a.write_bytes(b.read_bytes())
        b.write_bytes(content)


@pytest.mark.parametrize("part", ["data", "features/vit"])
def test_a_shard_of_another_build_is_refused_although_all_its_hashes_are_right(own, tmp_path, part):
    arrays = {synthetic.key(n): synthetic.picture(n) for n in (1, 3, 5, 7)}
    if part == "data":
        arrays[synthetic.key(1)].group = "toy:x"
        members = {k: [codec.encode(r)] for k, r in arrays.items()}
        synthetic.write({}, own / part / "toy-001.tar", ["json"], "train", members, arrays)
    else:
        members = {k: [codec.encode_array(np.ones((17, 8), np.float16))] for k in arrays}
        synthetic.write({}, own / part / "toy-001.tar", ["vit.npy"], "train", members)
    with pytest.raises(MismatchError, match=r"toy-001.tar: is not the shard that its manifest describes"):
        shards(own)


def test_a_folder_must_hold_what_its_manifest_lists(own):
    for suffix in (".tar", ".tar.idx"):
        (own / "data" / f"toy-001{suffix}").unlink()
    with pytest.raises(ShardError, match=r"lacks 1 of the 2 shards of split 'train'.*: toy-001"):
        shards(own)
    assert len(open_shards([str(own / "data" / "toy-*.tar")], ["vit"]).shards) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"width": 0}, "width and height must be positive"),
        ({"tokens": [len(synthetic.WORDS)]}, "a token that the tokenizer does not know"),
        ({"box": [(0.5, 0.5, 0.5, 0.5)]}, "is not a valid xyxy"),
    ],
)
def test_a_record_that_is_unsound_is_refused_by_name(own, change, said):
    records = {synthetic.key(n): synthetic.picture(n) for n in (0, 2, 4, 6)}
    bad = records[synthetic.key(4)]
    for name, value in change.items():
        target = {"tokens": bad.texts[0], "box": bad.regions}.get(name, bad)
        setattr(target, name, value)
    rewrite(own, "data", "json", {k: codec.encode(r) for k, r in records.items()})
    with pytest.raises(ShardError, match=rf"p0004.json: [\s\S]*{said}"):
        list(Stream(shards(own), ["vqa"], batch=4, stop=8))


@pytest.mark.parametrize(
    ("field", "value"),
    [("grid", 0), ("grid", 10**6), ("width", 10**9), ("dtype", "object"), ("transform", "eval")],
)
def test_a_manifest_beyond_its_bounds_is_refused(own, field, value):
    path = own / "features" / "vit" / "manifest.json"
    known = json.loads(path.read_text()) | {field: value}
    path.write_text(json.dumps(known))
    with pytest.raises(MismatchError, match=field):
        shards(own)


def test_a_tokenizer_that_may_not_be_read_is_an_error(own):
    path = own / "data" / "tokenizer.json"
    path.unlink()
    path.mkdir()
    with pytest.raises(ShardError, match=r"tokenizer\.json: cannot be read: Is a directory"):
        shards(own, ["vit"])


def test_a_tokenizer_file_that_is_none_is_refused(own):
    path = own / "data" / "tokenizer.json"
    path.write_text("[]")
    known = json.loads((own / "data" / "manifest.json").read_text())
    known["tokenizer"]["sha256"] = sha256_file(path)
    (own / "data" / "manifest.json").write_text(json.dumps(known))
    with pytest.raises(MismatchError, match="is no tokenizer"):
        shards(own)


def test_a_batch_over_two_epochs_gives_each_row_its_own_texts(own):
    stream = Stream(shards(own), ["vqa"], batch=12, negatives=1, texts_per_image=1)
    (batch,) = taken(stream, 1)
    assert len(set(batch.keys[:12])) == 8 and sorted(batch.text_picture.tolist()) == list(range(12))
    for text, near in zip(batch.text_picture.tolist(), batch.neg_picture[:, 0].tolist(), strict=True):
        assert int(batch.keys[near][1:]) == (int(batch.keys[text][1:]) + 1) % 8


def two_datasets(own):
    """The same keys in toy-000 and toy-001, which become datasets of their own; features say which."""
    numbers = (0, 2, 4, 6)
    keys = [synthetic.key(n) for n in numbers]
    places = {"data": "json", "features/vit": "vit.npy", "negatives": "neg.json"}
    for folder, suffix in places.items():
        known = json.loads((own / folder / "manifest.json").read_text())
        for number, shard in enumerate(("toy-000", "toy-001")):
            records = {k: synthetic.picture(n) for k, n in zip(keys, numbers, strict=True)}
            near = {k: synthetic.neighbours(k, keys) for k in keys}
            members = {
                "json": {k: [codec.encode(record)] for k, record in records.items()},
                "vit.npy": {k: [codec.encode_array(np.full((17, 8), number, np.float16))] for k in keys},
                "neg.json": {k: [codec.encode(Negatives(near[k]))] for k in keys},
            }[suffix]
            facts = {}
            counted = records if suffix == "json" else None
            synthetic.write(facts, own / folder / f"{shard}.tar", [suffix], "train", members, counted)
            facts[shard].dataset = f"toy{number}"
            known["shards"][shard] = msgspec.to_builtins(facts[shard])
        (own / folder / "manifest.json").write_text(json.dumps(known))


def read_from(batch) -> set[int]:
    """The datasets of a batch of `two_datasets`: the pixels say which."""
    return set(batch.features["vit"][:, 0, 0].int().tolist())


def test_two_datasets_may_use_one_key(own):
    two_datasets(own)
    batches = taken(Stream(shards(own, ["vit"]), ["vqa"], batch=2, negatives=2), 4)
    assert all((batch.neg_picture >= 0).all() and len(read_from(batch)) == 1 for batch in batches)
    assert len({(*read_from(batch), key) for batch in batches for key in batch.keys[:2]}) == 8


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_whose_turns_are_all_unreadable_keeps_step_with_the_other(own, rank):
    """Of two datasets by turns and two processes, each process has the turns of one."""
    two_datasets(own)
    opened = shards(own, ["vit"])
    lost = next(shard for shard in opened.shards if shard.dataset == "toy0")
    lost.columns["vit"].path.unlink()
    stream = Stream(opened, ["vqa"], batch=2, on_error="skip", rank=rank, world=2)
    with closing(stream.turns(torch.device("cpu"))) as turns:
        steps = list(islice(by_step(turns, 0, rows=4, parts=2), 12))
    assert [len(step) for step in steps] in ([0] * 12, [1] * 12)
    assert stream.position == 48


def test_datasets_take_turns_by_their_weights(own):
    two_datasets(own)
    stream = Stream(shards(own, ["vit"]), ["vqa"], batch=2, datasets={"toy0": 3, "toy1": 1})
    turns = [dataset for batch in taken(stream, 8) for dataset in read_from(batch)]
    assert len(stream) == 8 and sorted(turns) == [0] * 6 + [1] * 2
    later = Stream(shards(own, ["vit"]), ["vqa"], batch=2, datasets={"toy0": 3, "toy1": 1}, position=6)
    assert [dataset for batch in taken(later, 5) for dataset in read_from(batch)] == turns[3:]


def test_a_single_pass_takes_one_dataset_after_the_other(own):
    two_datasets(own)
    stream = Stream(shards(own, ["vit"]), ["vqa"], batch=3, stop=8)
    sizes = [(read_from(batch), len(batch.keys)) for batch in stream]
    assert sizes == [({0}, 3), ({0}, 1), ({1}, 3), ({1}, 1)]


def test_a_dataset_that_is_not_there_is_refused_by_name(own):
    two_datasets(own)
    with pytest.raises(ParamsError, match="unknown dataset.*'toy2'[\\s\\S]*toy0, toy1"):
        Stream(shards(own, ["vit"]), ["vqa"], batch=2, datasets={"toy2": 1})


def test_a_window_reads_few_shards_at_a_time(world):
    opened = shards(world)
    of = {key: number for number, shard in enumerate(opened.shards) for key in map(str, shard.index.keys())}
    batches = taken(Stream(opened, ["vqa"], batch=10, shuffle="window", window=2), 4)
    keys = [key for batch in batches for key in batch.keys]
    assert sorted(keys) == sorted(of)
    assert len({of[key] for key in keys[:20]}) == len({of[key] for key in keys[20:]}) == 2


def test_targets_and_image_sets_are_rows_of_the_batch(own):
    keys = [synthetic.key(n) for n in (0, 2, 4, 6)]
    records = {}
    for number, key in zip((0, 2, 4, 6), keys, strict=True):
        others = [other for other in keys if other != key]
        edit = Text(f"{number}-e", "edit", "left", [2], target=others[:1], members=[*others, "elsewhere"])
        records[key] = synthetic.picture(number)
        records[key].texts = [*records[key].texts, edit]
    rewrite(own, "data", "json", {k: codec.encode(r) for k, r in records.items()})
    (batch,) = taken(Stream(shards(own), ["vqa", "cir"], batch=2, shuffle="none"), 1)
    for text, picture in enumerate(batch.text_picture.tolist()):
        others = [other for other in keys if other != batch.keys[picture]]
        edit = batch.text_id[text].endswith("-e")
        named = [batch.keys[row] for row in batch.members[text].tolist() if row >= 0]
        assert named == (others if edit else [])
        assert int(batch.target[text]) == (batch.keys.index(others[0]) if edit else -1)


def test_the_meter_knows_every_cause_and_its_shares_are_whole(world):
    stream = Stream(shards(world), ["vqa"], batch=8, stop=40)
    before = dict(stream.meter.seconds)
    assert sum(shares(before, stream.meter.seconds).values()) == 0
    list(stream)
    spent = shares(before, stream.meter.seconds)
    assert spent.pop("copy") == spent.pop("device") == 0  # nothing travels to the CPU
    assert all(spent.values()) and sum(spent.values()) == pytest.approx(1)


def test_decoding_of_negatives_is_metered(world):
    opened, tars = shards(world), Tars()
    Mined(opened, tars, 1, near_texts=False).read(opened.shards[0], 0)
    assert tars.meter.seconds["decode"] > 0
