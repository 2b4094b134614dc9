"""Visual Genome: region phrases, objects, entity spans. homes.cs.washington.edu/~ranjay/visualgenome

image_data.json and region_descriptions.json are needed; objects.json, attributes.json (of those objects)
and region_graphs.json (v1.0, v1.2 or v1.4) are read where they are. Boxes of regions are "r<region_id>", of
objects "o<object_id>". The phrase of a region describes that region as a whole; region graphs add character
spans inside the phrase. There are no official splits.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw, Struct

from contract.params import Strict, convert
from data_pipeline.reading.json_stream import (
    DECODE_ERRORS,
    Int32,
    decode_each,
    id_of,
    members_of_array,
    problem,
)
from data_pipeline.reading.sources import At, Source, flag, reject
from data_pipeline.tables import Entity, Finding, Image, Region, Row, Text

FOLDERS = ("VG_100K", "VG_100K_2")
OFFICIAL = "{} of the Visual Genome download page"


class Options(Strict, frozen=True):
    """Visual Genome takes no options."""


class Metadata(Struct):
    image_id: int
    width: Int32
    height: Int32
    url: str = ""
    coco_id: int | None = None
    flickr_id: int | str | None = None


class PictureMembers(Struct):
    """A picture's entry in any of the other files; the root key was "id" once."""

    image_id: int | None = None
    id: int | None = None
    regions: list[Raw] = []
    objects: list[Raw] = []
    attributes: list[Raw] = []

    @property
    def picture(self) -> str:
        return str(self.id if self.image_id is None else self.image_id)


class RegionDescription(Struct):
    region_id: int
    x: float
    y: float
    width: float
    height: float
    phrase: str


class Thing(Struct, kw_only=True):
    """An object as any file lists it; v1.0 calls its id "id"."""

    object_id: int | None = None
    id: int | None = None

    @property
    def key(self) -> int | None:
        return self.id if self.object_id is None else self.object_id


class SceneObject(Thing, kw_only=True):
    """An object of objects.json."""

    x: float
    y: float
    w: float
    h: float
    names: list[str] = []
    merged_object_ids: list[int] = []


class Described(Thing, kw_only=True):
    """An object of attributes.json; about a third of them have none."""

    attributes: list[str] | None = None


class Synset(Struct):
    entity_name: str
    synset_name: str
    entity_idx_start: Int32
    entity_idx_end: Int32


class GraphObject(Struct):
    """An object as a region graph lists it."""

    object_id: int
    x: float
    y: float
    w: float
    h: float
    name: str = ""
    synsets: list[str] = []


class RegionGraph(Struct):
    region_id: int
    x: float
    y: float
    width: float
    height: float
    phrase: str | None = None
    synsets: list[Synset] = []
    objects: list[GraphObject] = []


class _Listed(Struct):
    """What objects.json says about one picture. of: object id or merged id → object id."""

    of: dict[int, int] = {}
    inline: set[int] = set()  # listed by a region graph only, already reported


Index = dict[str, list[tuple[At, Raw]]]  # picture → its undecoded entries in a file
_metadata = msgspec.json.Decoder(Metadata)
_members = msgspec.json.Decoder(PictureMembers)
_description = msgspec.json.Decoder(RegionDescription)
_object = msgspec.json.Decoder(SceneObject)
_described = msgspec.json.Decoder(Described)
_graph = msgspec.json.Decoder(RegionGraph)


def read(source: Source) -> Iterator[Row]:
    """Pictures, then phrases with their boxes, then objects, then the spans inside the phrases."""
    convert(dict(source.options), Options, f"{source.where}.options")
    pictures: set[str] = set()
    yield from _pictures(source, _needed(source, "image_data.json"), pictures)
    descriptions = _needed(source, "region_descriptions.json")
    yield from _phrases(source, descriptions, pictures)
    objects = _optional(source, "objects.json", "no boxes of objects")
    listed = _picture_index(objects) if objects else {}
    if objects:
        described: Index = {}
        if attributes := _optional(source, "attributes.json", "no attributes of objects"):
            yield from _index(attributes, source.at(attributes), described)
        yield from _objects(source, objects, described, pictures)
    if graphs := _optional(source, "region_graphs.json", "no spans inside phrases"):
        yield from _graphs(graphs, source.at(graphs), listed, _picture_index(descriptions))


def _needed(source: Source, name: str) -> Path:
    return source.find(name, official=OFFICIAL.format(name))


def _optional(source: Source, name: str, without: str) -> Path | None:
    if (source.root / name).exists():
        return _needed(source, name)
    source.note(f"{source.root} holds no {name}: {without}")
    return None


def _pictures(source: Source, path: Path, pictures: set[str]) -> Iterator[Image | Finding]:
    file = source.at(path)
    for number, raw in members_of_array(path):
        at = file.inside(number)
        try:
            found = _metadata.decode(raw)
        except DECODE_ERRORS as error:
            yield reject("images", id_of(raw, "image_id"), "malformed", at, raw, problem(error))
            continue
        picture = str(found.image_id)
        pictures.add(picture)
        name = source.file(_file_of(source, picture, found.url))
        yield Image(picture, name, "", found.width, found.height, _ids(found), *at)


def _ids(found: Metadata) -> list[str]:
    others = {"coco": found.coco_id, "flickr": found.flickr_id}
    return [
        f"vg:{found.image_id}",
        *(f"{place}:{name}" for place, name in others.items() if name is not None),
    ]


def _file_of(source: Source, picture: str, url: str = "") -> str:
    """The folder is the one in the url; without a url, the one that holds the file."""
    folder = PurePosixPath(urlsplit(url).path).parent.name
    if folder in FOLDERS:
        return f"{folder}/{picture}.jpg"
    places = [f"{folder}/{picture}.jpg" for folder in FOLDERS]
    return next((place for place in places if (source.root / place).exists()), places[0])


def _undeclared(source: Source, picture: str, at: At, pictures: set[str]) -> Iterator[Image | Finding]:
    """A picture that has annotations and no row in image_data.json: declared by its annotations."""
    if picture in pictures:
        return
    pictures.add(picture)
    yield flag("images", picture, "no_metadata", at, {"image_id": picture})
    file = source.file(_file_of(source, picture))
    yield Image(picture, file, "", None, None, [f"vg:{picture}"], *at)


def _entries(path: Path, file: At, table: str) -> Iterator[tuple[At, PictureMembers | Finding]]:
    """Each picture's entry of a file: decoded, or the finding that says why not."""
    for number, raw in members_of_array(path):
        at = file.inside(number)
        try:
            yield at, _members_of(raw)
        except DECODE_ERRORS as error:
            name = id_of(raw, "image_id", "id") or at.name
            yield at, reject(table, name, "malformed", at, raw, problem(error))


def _members_of(raw: Raw) -> PictureMembers:
    """A picture's entry; one that names no picture is as bad as one that is no object."""
    found = _members.decode(raw)
    if found.image_id is None and found.id is None:
        raise msgspec.ValidationError("Object missing required field `image_id`")
    return found


def _phrases(source: Source, path: Path, pictures: set[str]) -> Iterator[Row]:
    for at, entry in _entries(path, source.at(path), "texts"):
        if isinstance(entry, Finding):
            yield entry
            continue
        yield from _undeclared(source, entry.picture, at, pictures)
        for index, found, wrong in decode_each(entry.regions, _description):
            here = at.inside("regions", str(index))
            if found is None:
                raw = entry.regions[index]
                yield reject("texts", id_of(raw, "region_id"), "malformed", here, raw, wrong)
            else:
                yield from _phrase(entry.picture, found, here)


def _phrase(picture: str, found: RegionDescription, at: At) -> Iterator[Region | Text]:
    region, name = f"r{found.region_id}", str(found.region_id)
    yield Region(picture, region, found.x, found.y, found.width, found.height, "", [], False, [], *at)
    yield Text(name, picture, "phrase", found.phrase, None, "", [], [], [region], [], "", *at)


def _picture_index(path: Path) -> dict[str, Raw]:
    """Picture → its undecoded entry in the file, for the region graphs."""
    index = {}
    for _, raw in members_of_array(path):
        with suppress(*DECODE_ERRORS):  # reported where the rows are read
            index[_members_of(raw).picture] = raw
    return index


def _index(path: Path, file: At, index: Index) -> Iterator[Finding]:
    """Fill `index`; an entry that names no picture describes no box and takes none away."""
    for number, raw in members_of_array(path):
        at = file.inside(number)
        try:
            index.setdefault(_members_of(raw).picture, []).append((at, raw))
        except DECODE_ERRORS as error:
            yield flag("images", id_of(raw, "image_id", "id"), "malformed", at, raw, problem(error))


def _attributes(picture: str, entries: list[tuple[At, Raw]], said: dict[int, list[str]]) -> Iterator[Finding]:
    """Fill `said`: object id → attributes."""
    for at, entry in entries:
        things = _members.decode(entry).attributes
        for number, found, wrong in decode_each(things, _described):
            if found is None or found.key is None:
                raw, here = things[number], at.inside("attributes", str(number))
                name = f"{picture}/o{id_of(raw, 'object_id', 'id')}"
                yield flag("regions", name, "malformed", here, raw, wrong or "no object_id")
            else:
                said.setdefault(found.key, []).extend(found.attributes or [])


def _undescribed(picture: str, said: dict[int, list[str]], at: At) -> Iterator[Finding]:
    """Attributes of objects that objects.json lacks."""
    for key, attributes in said.items():
        if attributes:
            yield flag("regions", f"{picture}/o{key}", "object_unlisted", at, {"attributes": attributes})


def _objects(source: Source, path: Path, described: Index, pictures: set[str]) -> Iterator[Row]:
    for at, entry in _entries(path, source.at(path), "regions"):
        if isinstance(entry, Finding):
            yield entry
            continue
        yield from _undeclared(source, entry.picture, at, pictures)
        said: dict[int, list[str]] = {}
        yield from _attributes(entry.picture, described.pop(entry.picture, []), said)
        for index, found, wrong in decode_each(entry.objects, _object):
            here = at.inside("objects", str(index))
            if found is None or found.key is None:
                raw = entry.objects[index]
                name = f"{entry.picture}/o{id_of(raw, 'object_id', 'id')}"
                yield reject("regions", name, "malformed", here, raw, wrong or "no object_id")
            else:
                yield _object_region(entry.picture, found.key, found, said, here)
        yield from _undescribed(entry.picture, said, at)
    for picture, entries in described.items():
        said = {}
        yield from _attributes(picture, entries, said)
        yield from _undescribed(picture, said, entries[0][0])


def _object_region(picture: str, key: int, found: SceneObject, said: dict[int, list[str]], at: At) -> Region:
    """With the attributes of the object and of those that were merged into it, which leave `said`."""
    words = [word for one in (key, *found.merged_object_ids) for word in said.pop(one, [])]
    return _region(picture, key, found, next(iter(found.names), ""), list(dict.fromkeys(words)), at)


def _region(
    picture: str, key: int, found: SceneObject | GraphObject, name: str, attributes: list[str], at: At
) -> Region:
    return Region(picture, f"o{key}", found.x, found.y, found.w, found.h, name, attributes, False, [], *at)


def _graphs(path: Path, file: At, listed: dict[str, Raw], described: dict[str, Raw]) -> Iterator[Row]:
    for at, entry in _entries(path, file, "entities"):
        if isinstance(entry, Finding):
            yield entry
            continue
        known, phrases = _listed(listed.get(entry.picture)), _phrases_of(described.get(entry.picture))
        for index, found, wrong in decode_each(entry.regions, _graph):
            here = at.inside("regions", str(index))
            if found is None:
                raw = entry.regions[index]
                yield reject("entities", id_of(raw, "region_id"), "malformed", here, raw, wrong)
                continue
            for thing in found.objects:
                yield from _graph_object(entry.picture, found, thing, known, here)
            for span in _entities(found, known, here):
                differs = found.phrase not in (None, phrases.get(found.region_id, found.phrase))
                yield _of_another_phrase(found, span, here) if differs else span


def _phrases_of(raw: Raw | None) -> dict[int, str]:
    """Region → its phrase as region_descriptions.json has it: the text that spans are to lie in."""
    regions = [] if raw is None else _members.decode(raw).regions
    every = [found for _, found, _ in decode_each(regions, _description) if found is not None]
    return {found.region_id: found.phrase for found in reversed(every)}  # the first of an id is the kept one


def _of_another_phrase(graph: RegionGraph, span: Entity, at: At) -> Finding:
    name, record = f"{span.text}/{span.span}", msgspec.json.encode(graph)
    return reject("entities", name, "phrase_differs", at, record, f"here: {graph.phrase}")


def _listed(raw: Raw | None) -> _Listed:
    known = _Listed({}, set())
    if raw is None:
        return known
    for _, found, _ in decode_each(_members.decode(raw).objects, _object):
        if found is not None and found.key is not None:
            known.of[found.key] = found.key
            known.of.update(dict.fromkeys(found.merged_object_ids, found.key))
    return known


def _graph_object(
    picture: str, region: RegionGraph, thing: GraphObject, known: _Listed, at: At
) -> Iterator[Region | Finding]:
    """An object that objects.json lacks becomes a region of its own, once."""
    record = msgspec.json.encode(thing)
    name = f"{picture}/o{known.of.get(thing.object_id, thing.object_id)}"
    if thing.object_id not in known.of and thing.object_id not in known.inline:
        known.inline.add(thing.object_id)
        yield flag("regions", name, "object_unlisted", at, record)
        yield _region(picture, thing.object_id, thing, thing.name, [], at)
    if not _touch(region, thing):
        yield flag("regions", name, "object_outside_region", at, record, f"region {region.region_id}")


def _touch(region: RegionGraph, thing: GraphObject) -> bool:
    """Whether the two boxes share some area."""
    across = thing.x < region.x + region.width and region.x < thing.x + thing.w
    down = thing.y < region.y + region.height and region.y < thing.y + thing.h
    return across and down


def _entities(graph: RegionGraph, known: _Listed, at: At) -> Iterator[Entity]:
    """Spans over the phrase as stored, linked to the region's objects of the same synset or name."""
    times = Counter(synset.synset_name for synset in graph.synsets)
    for synset in graph.synsets:
        linked = _objects_of(synset, graph.objects) if times[synset.synset_name] == 1 else []
        regions = [f"o{known.of.get(thing, thing)}" for thing in linked]
        start, end = synset.entity_idx_start, synset.entity_idx_end
        text, span = str(graph.region_id), f"{start}:{end}"
        regions = list(dict.fromkeys(regions))
        yield Entity(text, start, end, span, synset.entity_name, regions, "annotated", *at)


def _objects_of(synset: Synset, objects: list[GraphObject]) -> list[int]:
    """Ids of the objects with the synset, else of those with the name.

    Two entities of one synset ("a man beside a man") leave open which object is which: no link then.
    """
    same = [thing.object_id for thing in objects if synset.synset_name in thing.synsets]
    return same or [thing.object_id for thing in objects if thing.name == synset.entity_name]
