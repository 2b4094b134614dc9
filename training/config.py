"""The `train` section of params.yaml, typed and strict; `training.settings` reads it."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, structs

# Bounds far beyond any use: a slip of the hand is an error, and no number too large for what it goes into.
Positive = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Few = Annotated[int, Meta(ge=1, le=1000)]  # layers, threads, batches read ahead
Pictures = Annotated[int, Meta(ge=1, le=1_000_000)]  # in memory at a time
Width = Annotated[int, Meta(ge=1, le=65536)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
AboveZero = Annotated[float, Meta(gt=0.0)]
Weight = Annotated[float, Meta(gt=0.0, le=1e6)]
NotBelowZero = Annotated[float, Meta(ge=0.0, le=1e6)]
Temperature = Annotated[float, Meta(gt=0.0, le=1e4)]  # inverse
TEXT = "text"  # among the inputs: the text itself, and no column


class Strict(Struct, forbid_unknown_fields=True, frozen=True):
    """A section in which an unknown key is an error."""


class Weighted(Strict, frozen=True):
    """A task's weight in the loss. weight_end: at the end of training, if it changes on the way. rise: share
    of the run in which it grows to that from nothing.
    """

    weight: Weight = 1.0
    weight_end: NotBelowZero | None = None
    rise: Share = 0.0


class Vqa(Weighted, frozen=True):
    """Answers to questions. label_smoothing: share of the target that is spread over all answers."""

    label_smoothing: Share = 0.0


class Scale(Strict, frozen=True):
    """The inverse temperature of a contrast: where it starts, its upper limit, and whether it is learned."""

    init: Temperature = 14.3
    most: Temperature = 100.0
    learned: bool = True

    def __post_init__(self) -> None:
        if self.init > self.most:
            raise ValueError(f"init {self.init} is above most {self.most}")


class Bank(Strict, frozen=True):
    """Vectors of earlier batches as further negatives. slots: pictures or boxes, and as many texts. warmup:
    optimizer steps in which it is filled and not yet used.
    """

    slots: Positive
    warmup: Count = 0


class Itc(Weighted, frozen=True):
    """Texts against pictures, over all of a step's. width: of the space in which they meet.

    loss: softmax (InfoNCE), or sigmoid (SigLIP), which judges each pair by itself and adds to its logit a
    learned bias that starts at `bias`. mined: pictures of the negatives column that join each text's.
    momentum: of the momentum encoder, whose vectors are then the keys and the bank; alpha: the share of the
    target that it gives, reached in alpha_ramp optimizer steps.
    """

    width: Width = 128
    loss: Literal["softmax", "sigmoid"] = "softmax"
    bias: Annotated[float, Meta(ge=-1e4, le=1e4)] = -10.0
    scale: Scale = Scale()
    mined: Count = 0
    bank: Bank | None = None
    momentum: Share | None = None
    alpha: Share = 0.0
    alpha_ramp: Positive = 1000


class Sources(Strict, frozen=True):
    """Where itm's negatives come from, in these proportions. similar: the likelier the more alike itc finds
    them; mined: neighbours in the negatives column, of the picture and of the text; random: any other of
    the batch; swapped, of texts only: the text with a word changed so that the annotations make it false;
    masked, of pictures only: the text's own with all that it names hidden. A text for which a source has
    none takes another of them.
    """

    similar: NotBelowZero = 0.0
    mined: NotBelowZero = 0.0
    random: NotBelowZero = 1.0
    swapped: NotBelowZero = 0.0
    masked: NotBelowZero = 0.0


class Itm(Weighted, frozen=True):
    """Whether a text is true of a picture: each with its own, a wrong picture and a wrong text.

    gamma: of the focal loss, 0 is cross-entropy; balance: true and false pairs count the same in sum.
    two_way: the picture's tokens read the text first, which costs a picture for each pair. mined: pictures,
    and texts, of the negatives column that join the batch for each text; swapped: its changed texts. sides:
    which of the wrong pairs the loss takes; all are drawn and measured.
    """

    gamma: NotBelowZero = 0.0
    balance: bool = True
    two_way: bool = False
    sources: Sources = Sources()
    mined: Count = 0
    swapped: Count = 0
    sides: Literal["both", "picture", "text"] = "both"


class Region(Weighted, frozen=True):
    """Phrases and the boxes that they name (FG-CLIP). width: of the space in which they meet. pooling: of a
    span's tokens.

    coarse, fine: weights of the contrast over the batch and of that with texts that are false of the box, up
    to `negatives` that the dataset gives and `swapped` changed ones of the negatives column; coarse_end,
    fine_end: at the end of training, if they change on the way. contrast: supcon takes phrases of the
    same words for one class; arcface adds `margin`, in radians, to the angle of a phrase and its box.
    rank: weight of the hinge that asks a true text to be ahead of the false ones by as much as it was on
    average in the step before; intra: of what draws the ten phrases most alike apart. false_phrases: the
    false texts are negatives in the contrast too, of other pictures' boxes as well. FG-CLIP 2 is coarse 0.5,
    fine 1.5, rank 0.2, intra 0.1 and false_phrases; its two contrasts are one here.
    bank: of boxes, and as many phrases. masked: a named box of each picture is hidden in a view of it,
    and what is left in its place is no longer what its phrases name.

    The hole alone gives such a negative away, by how much is not measured: a box is read by its own cells, so
    holes elsewhere, itm's counterweight, do not show in it. A `masking.ratio` above zero puts holes into the
    true boxes too.
    """

    width: Width = 128
    pooling: Literal["mean", "max", "attention"] = "mean"
    contrast: Literal["infonce", "supcon", "arcface"] = "infonce"
    margin: Share = 0.2
    coarse: NotBelowZero = 1.0
    coarse_end: NotBelowZero | None = None
    fine: NotBelowZero = 1.0
    fine_end: NotBelowZero | None = None
    negatives: Count = 10
    swapped: Count = 0
    rank: NotBelowZero = 0.0
    intra: NotBelowZero = 0.0
    false_phrases: bool = False
    scale: Scale = Scale()
    bank: Bank | None = None
    masked: bool = False


class Cir(Weighted, frozen=True):
    """Composed retrieval (SPRC). queries: learned, they read a picture; width: of the space of the search.

    rtc, align: weights of the contrast without the picture, and of what draws the two prompts together;
    target: of the latter, the prompt as it read each text (`sample`, the paper) or as it is (`shared`, the
    code).
    gated: the reference's tokens are first fused with the text.
    static_bank: SPN4CIR's second stage, from a run with cir (--init). What reads pictures is frozen, a copy
    of it that reads the reference is trained, and by one contrast alone: with every picture of the datasets
    that are trained on, held-out ones among them as negatives, whose vectors are made once. In the log's
    training lines R@1 is then among all of these; rtc, align and target say nothing, and `scale` goes on from
    where that run left it, if it is learned.
    """

    width: Width = 128
    queries: Few = 8
    rtc: NotBelowZero = 0.4
    align: NotBelowZero = 0.4
    target: Literal["sample", "shared"] = "sample"
    gated: bool = False
    static_bank: bool = False
    scale: Scale = Scale()


class Mfm(Weighted, frozen=True):
    """The frozen features of the tokens that the mask hides, guessed from the rest."""


class Tasks(Strict, frozen=True):
    """The tasks of a run, each with its weight in the loss; what is not named is not trained."""

    vqa: Vqa | None = None
    itc: Itc | None = None
    itm: Itm | None = None
    region: Region | None = None
    cir: Cir | None = None
    mfm: Mfm | None = None

    @property
    def chosen(self) -> dict[str, Any]:
        """Name → settings, in the order above, whatever that of the file."""
        named = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: options for name, options in named.items() if options is not None}

    @property
    def mined(self) -> int:
        """How many mined pictures of each text the tasks look at."""
        return max(task.mined if task else 0 for task in (self.itc, self.itm))

    @property
    def near_texts(self) -> int:
        """How many mined texts of each text the tasks look at."""
        return self.mined if self.itm and self.itm.sources.mined else 0

    @property
    def swapped(self) -> int:
        """How many changed texts of each text the tasks look at."""
        return max(task.swapped if task else 0 for task in (self.itm, self.region))

    @property
    def hides_named(self) -> bool:
        """Whether itm looks at pictures in which what a text names is hidden."""
        return self.itm is not None and self.itm.sources.masked > 0

    @property
    def hides_objects(self) -> bool:
        """Whether any task takes a hidden object for one that is not there."""
        return self.hides_named or (self.region is not None and self.region.masked)


class Fusion(Strict, frozen=True):
    """How two inputs become one stream of picture tokens (training.fusion). alpha: of `gated`, where its
    residual scale starts. layers: of `cross_attention` and `difnet`; separate, repeats: Lf and T of `difnet`.
    """

    kind: str = "gated"
    alpha: Annotated[float, Meta(ge=-1e6, le=1e6)] = 0.1
    layers: Few = 2
    separate: Annotated[int, Meta(ge=0, le=1000)] = 1
    repeats: Annotated[int, Meta(ge=0, le=1000)] = 2


class TextModel(Strict, frozen=True):
    """The text encoder. scratch: a small transformer over the shards' tokens; hf: BERT or the text tower of
    CLIP, by a folder of its published files or by its name on the hub, over tokens of its own.

    trained: with the rest of the model, or frozen. random: its architecture alone, with fresh weights.
    """

    kind: Literal["scratch", "hf"] = "scratch"
    path: str = ""
    trained: bool = False
    random: bool = False

    def __post_init__(self) -> None:
        if (self.kind == "hf") != bool(self.path):
            raise ValueError("kind hf needs a path, and only that has one")


class Model(Strict, frozen=True):
    """Widths and depths of everything that is trained.

    checkpointing: attention blocks, those of a fusion among them, and the layers of a text encoder of
    transformers that is trained on, keep their inputs alone and are computed again for the gradient. compile:
    torch.compile, while training, of attention blocks, projections of features and gated fusion; such a text
    encoder stays as it is.
    """

    hidden: Width = 256
    heads: Few = 4
    text_layers: Few = 2
    head_layers: Few = 2
    max_tokens: Width = 48  # longer texts are cut; the log counts them
    dropout: Share = 0.1
    checkpointing: bool = False
    compile: bool = False
    text: TextModel = TextModel()


class Masking(Strict, frozen=True):
    """Masks drawn per epoch and picture. kind: training.batching.masking; fill: training.modules.filling.

    ratio: share of the picture's cells that is hidden; ratio_end: at the end of training, if it changes on
    the way.
    """

    kind: str = "random"
    ratio: Share = 0.0
    ratio_end: Share | None = None
    fill: str = "drop"

    @property
    def hides(self) -> bool:
        """Whether anything is hidden at any time."""
        return bool(self.ratio or self.ratio_end)

    @property
    def at_end(self) -> "Masking":
        """The mask of the last epoch, which stays as it is."""
        if self.ratio_end is None:
            return self
        return structs.replace(self, ratio=self.ratio_end, ratio_end=None)

    @property
    def drops(self) -> bool:
        """Whether it hides tokens that nothing attends to then."""
        return self.hides and self.fill == "drop"


class Augment(Strict, frozen=True):
    """Changes of the inputs, in training only, that leave every label true.

    token_dropout: share of each column's visible tokens that a step does not see. feature_noise: standard
    deviation of normal noise on the normalised features. synonyms: share of the things that entity spans name
    which get another word of `vocabulary`.
    """

    token_dropout: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.0
    feature_noise: Annotated[float, Meta(ge=0.0, le=100.0)] = 0.0
    synonyms: Share = 0.0
    vocabulary: str = "data_pipeline/texts/objects.yaml"


class Optim(Strict, frozen=True):
    """Batches, steps and the learning rate. batch: pictures per optimizer step, over all accumulated parts.
    The contrast of itc is over all of them; itm, region and cir contrast within a part.

    schedule: how the rate falls after `warmup`, the share of all steps in which it rises (one_cycle: SPRC).
    groups: part of the model ("trunk.text") → factor of the rate there. ema: decay of a running mean of the
    weights, which is then what is scored.
    """

    epochs: Annotated[float, Meta(gt=0.0, le=1e6)] = 10
    batch: Pictures = 64
    accumulate: Pictures = 1
    texts_per_image: Pictures | Literal["all"] = "all"
    learning_rate: AboveZero = 1e-3
    weight_decay: Annotated[float, Meta(ge=0.0)] = 0.05
    schedule: Literal["cosine", "one_cycle", "constant"] = "cosine"
    warmup: Share = 0.05
    clip: AboveZero = 1.0
    groups: dict[str, AboveZero] = {}
    ema: Annotated[float, Meta(gt=0.0, lt=1.0)] | None = None


class Train(Strict, frozen=True):
    """All of `train`. inputs: role → feature column; the first gives the grid; none is the blind model. The
    second may be `text`: each text is then fused with its picture.

    development: share of the training pictures whose texts are never trained on and that chooses the best
    checkpoint. It is drawn by key: a picture that another dataset holds under its own key may be trained on
    as that one's. Such a picture can be the target of another's edit, or of its image set.
    """

    tasks: Tasks = Tasks(vqa=Vqa())
    inputs: dict[str, str] = {}
    fusion: Fusion = Fusion()
    model: Model = Model()
    masking: Masking = Masking()
    augment: Augment = Augment()
    optim: Optim = Optim()
    development: Share = 0.05
    best: str | None = None  # "vqa/accuracy": what chooses the best checkpoint; by default of the first task
    patience: Positive | None = None  # epochs without a better `best` after which training ends
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_every: Positive = 200  # optimizer steps; an epoch's end makes one too
    log_every: Positive = 10  # optimizer steps
    datasets: dict[str, Positive] = {}  # batches of each in a round; {}: all, an epoch of each in one time
    shuffle: Literal["global", "window", "none"] = "global"  # window: for remote or spinning disks
    window: Positive = 8  # shards, of `shuffle: window`
    on_error: Literal["stop", "skip"] = "stop"  # at a picture that cannot be read
    max_skipped: Positive = 100  # pictures that `skip` may leave out before it stops too
    threads: Few = 2  # of the reader
    ahead: Few = 2  # batches read ahead

    @property
    def columns(self) -> list[str]:
        """The feature columns among the inputs."""
        return [name for name in self.inputs.values() if name != TEXT]
