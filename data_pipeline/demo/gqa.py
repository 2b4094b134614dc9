"""Generated GQA in the official files: balanced questions, scene graphs v1.1, images/<id>.jpg."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from contract.params import DemoGqa
from contract.seeds import rng, uniform
from data_pipeline.demo.question import Question
from data_pipeline.demo.questions import ask
from data_pipeline.demo.relations import related
from data_pipeline.demo.scene import Mode, Scene, sample_scene

Json = dict[str, Any]
GREY = 0.03  # share of greyscale pictures
FIRST_PICTURE = {"train": 2_315_001, "val": 2_400_001, "testdev": 160_001}
FIRST_QUESTION = {"train": 1_000_000, "val": 5_000_000, "testdev": 20_100_000}
FIRST_OBJECT = 700_000


@dataclass
class Gqa:
    """Per split: scenes and scene graphs by picture id, question records by question id (in file order)."""

    scenes: dict[str, dict[str, Scene]] = field(default_factory=dict)
    graphs: dict[str, dict[str, Json]] = field(default_factory=dict)
    questions: dict[str, dict[str, Json]] = field(default_factory=dict)

    def files(self) -> dict[str, Any]:
        """The annotation files: name → content."""
        questions = {f"{split}_balanced_questions.json": records for split, records in self.questions.items()}
        return questions | {f"{split}_sceneGraphs.json": graphs for split, graphs in self.graphs.items()}


def generate(settings: DemoGqa, count: int, seed: int, borrowed: list[Scene]) -> Gqa:
    """A sound GQA with `count` questions a picture.

    borrowed: scenes of another dataset that the last train pictures show, each of them once.
    """
    world = Gqa()
    for split in ("train", "val", "testdev"):
        number = getattr(settings, split)
        scenes = {picture_id(split, index): _scene(seed, split, index) for index in range(number)}
        if split == "train":
            scenes |= dict(zip(list(scenes)[number - len(borrowed) :], borrowed, strict=True))
        world.scenes[split] = scenes
        world.questions[split] = _questions(scenes, split, count, seed)
        if split != "testdev":  # withheld there, as in the real files
            world.graphs[split] = {picture: scene_graph(scene) for picture, scene in scenes.items()}
    return world


def picture_id(split: str, index: int) -> str:
    """Train and val pictures bear Visual Genome ids, those of testdev COCO test ids."""
    return f"{'n' if split == 'testdev' else ''}{FIRST_PICTURE[split] + 3 * index}"


def image_file(picture: str) -> str:
    """The path of a picture in the world's folder."""
    return f"gqa/images/{picture}.jpg"


def scene_graph(scene: Scene) -> Json:
    """One scene graph, with every relation that is clear to see."""
    relations = defaultdict(list)
    for subject, relation, anchor in related(scene):
        relations[subject.id].append({"name": relation, "object": str(anchor.id)})
    objects = {}
    for thing in scene.things:
        x, y, w, h = thing.box
        place = {"x": x, "y": y, "w": w, "h": h}
        about = {"name": thing.name, "attributes": scene.attributes(thing), "relations": relations[thing.id]}
        objects[str(thing.id)] = place | about
    return {"width": scene.width, "height": scene.height, "objects": objects}


def question_id(split: str, number: int) -> str:
    """A string; every second one begins with 0."""
    return f"{'0' if number % 2 else ''}{FIRST_QUESTION[split] + number}"


def _scene(seed: int, split: str, index: int) -> Scene:
    key = f"gqa-{picture_id(split, index)}"
    first = {"train": FIRST_OBJECT, "val": FIRST_OBJECT * 2}.get(split)
    mode: Mode = "L" if uniform(seed, "grey", key) < GREY else "RGB"
    return sample_scene(seed, key, 0 if first is None else first + 8 * index, mode)


def _questions(scenes: dict[str, Scene], split: str, count: int, seed: int) -> dict[str, Json]:
    records: dict[str, Json] = {}
    for picture, scene in scenes.items():
        asked = ask(rng(seed, "questions", picture), scene, count)
        ids = [question_id(split, len(records) + number) for number in range(len(asked))]
        for qid, question in zip(ids, asked, strict=True):
            same = [
                other
                for other, one in zip(ids, asked, strict=True)
                if one.fact == question.fact and other != qid
            ]
            records[qid] = question_record(qid, picture, question, same)
    return records


def question_record(qid: str, picture: str, question: Question, entailed: list[str]) -> Json:
    """One question as the official files have it. A "no" entails nothing that is asked here."""
    structural, semantic, detailed = question.types
    answer = {} if question.answer_thing is None else {"0": str(question.answer_thing)}
    return {
        "semantic": question.program,
        "entailed": [] if question.answer == "no" else entailed,
        "equivalent": [qid],
        "question": question.text.text,
        "imageId": picture,
        "isBalanced": True,
        "groups": {"global": question.group, "local": question.local},
        "answer": question.answer,
        "semanticStr": "->".join(_spoken(step) for step in question.program),
        "annotations": {
            "answer": answer,
            "question": question.text.annotations(),
            "fullAnswer": question.full.annotations(),
        },
        "types": {"detailed": detailed, "semantic": semantic, "structural": structural},
        "fullAnswer": question.full.text,
    }


def _spoken(step: Json) -> str:
    depends = f" {step['dependencies']}" if step["dependencies"] else ""
    return f"{step['operation']}: {step['argument']}{depends}"
