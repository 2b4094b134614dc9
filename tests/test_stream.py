"""The stream: complete, the same whatever the threads and the start, and never silently wrong."""

from pathlib import Path

import pytest
import synthetic
import torch

from contract.errors import MismatchError, ShardError
from contract.index import index_path
from training.config import Masking
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
    for suffix in (".tar", ".tar.idx"):
        a, b = (own / "features" / "vit" / f"toy-00{n}{suffix}" for n in (0, 1))
        content = a.read_bytes()
        a.write_bytes(b.read_bytes())
        b.write_bytes(content)
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


def test_negatives_outside_the_given_shards_are_counted(own):
    stream = Stream(
        open_shards([str(own / "data" / "toy-000.tar")], ["vit"]), ["vqa"], batch=4, negatives=2, stop=4
    )
    list(stream)
    assert stream.planner.unresolved == 0 and stream.planner.wanted == 8
