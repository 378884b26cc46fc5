"""The configuration keys that all trainers share, with their defaults.

A trainer's own are in its file (`extend_cfg`). What numbers and lists may be is below, in VALUES;
names are checked against what is registered (`sar.toolbox.validation`).
"""

from yacs.config import CfgNode

from .rules import Number, Rule, Several

cfg_default = CfgNode()
cfg_default.VERSION = 1
# Where log.txt, checkpoints and TensorBoard files go.
cfg_default.OUTPUT_DIR = "./output"
# Folder of checkpoints to continue from; empty: OUTPUT_DIR, if it has any.
cfg_default.RESUME = ""
# Negative: not seeded.
cfg_default.SEED = -1
# False keeps everything on the CPU even where a GPU is available.
cfg_default.USE_CUDA = True
cfg_default.VERBOSE = True

cfg_default.INPUT = CfgNode()
# (height, width) in pixels; empty: what the CLIP in use takes, and nothing else may be given.
cfg_default.INPUT.SIZE = ()
cfg_default.INPUT.INTERPOLATION = "bilinear"
# Training transforms by name, see sar/toolbox/data/transforms.py. "normalize" also applies in test.
cfg_default.INPUT.TRANSFORMS = ()
# Of red, green and blue from 0 to 1; empty: those of the images that the CLIP in use has learned.
cfg_default.INPUT.PIXEL_MEAN = []
cfg_default.INPUT.PIXEL_STD = []
# random_crop: pixels of padding before the crop.
cfg_default.INPUT.CROP_PADDING = 4
# random_resized_crop: least and greatest fraction of the picture's area.
cfg_default.INPUT.RRCROP_SCALE = (0.08, 1.0)
# colorjitter: brightness, contrast, saturation, hue.
cfg_default.INPUT.COLORJITTER_B = 0.4
cfg_default.INPUT.COLORJITTER_C = 0.4
cfg_default.INPUT.COLORJITTER_S = 0.4
cfg_default.INPUT.COLORJITTER_H = 0.1
# randomgrayscale: probability.
cfg_default.INPUT.RGS_P = 0.2
# gaussian_blur: probability and kernel size (odd).
cfg_default.INPUT.GB_P = 0.5
cfg_default.INPUT.GB_K = 21

cfg_default.DATASET = CfgNode()
# Folder that holds the datasets' own folders.
cfg_default.DATASET.ROOT = ""
cfg_default.DATASET.NAME = ""
# What one's own pictures are called in folders, tables and reports; empty: by their folder's name.
cfg_default.DATASET.TITLE = ""
# ImageFolder, ImageCSV: file with the base, new and novel classes; empty: classes.yaml beside the
# pictures, if there is one.
cfg_default.DATASET.CLASSES = ""
cfg_default.DATASET.SOURCE_DOMAINS = ()
cfg_default.DATASET.TARGET_DOMAINS = ()
# Training images per class; below 1: all.
cfg_default.DATASET.NUM_SHOTS = -1
# all | base (first half of the classes by label, rounded up) | new (the rest, relabelled from 0).
cfg_default.DATASET.SUBSAMPLE_CLASSES = "all"

cfg_default.DATALOADER = CfgNode()
# 0 loads in the training process, which is fastest for small images.
cfg_default.DATALOADER.NUM_WORKERS = 4
# Views of a training image, each transformed anew; more than 1 make "img" a list of them.
cfg_default.DATALOADER.K_TRANSFORMS = 1
# Views of a training image that are drawn once and seen in turn, one in an epoch; 0: a new one in
# every epoch, as in the published protocols.
cfg_default.DATALOADER.VIEWS = 0
cfg_default.DATALOADER.TRAIN_X = CfgNode()
cfg_default.DATALOADER.TRAIN_X.SAMPLER = "RandomSampler"
cfg_default.DATALOADER.TRAIN_X.BATCH_SIZE = 32
cfg_default.DATALOADER.TEST = CfgNode()
cfg_default.DATALOADER.TEST.SAMPLER = "SequentialSampler"
cfg_default.DATALOADER.TEST.BATCH_SIZE = 32

cfg_default.MODEL = CfgNode()
# Checkpoint whose weights replace the initial ones (a prompt learner's, for CoOp).
cfg_default.MODEL.INIT_WEIGHTS = ""
cfg_default.MODEL.BACKBONE = CfgNode()
# A released CLIP (ViT-B/16, RN50, ...), a path to weights, or "pocket".
cfg_default.MODEL.BACKBONE.NAME = ""
cfg_default.MODEL.HEAD = CfgNode()
# Accepted for the sake of train.py's --head; CLIP has no classification head.
cfg_default.MODEL.HEAD.NAME = ""

cfg_default.OPTIM = CfgNode()
cfg_default.OPTIM.NAME = "adam"
cfg_default.OPTIM.LR = 0.0003
cfg_default.OPTIM.WEIGHT_DECAY = 5e-4
cfg_default.OPTIM.MOMENTUM = 0.9
cfg_default.OPTIM.SGD_DAMPNING = 0.0
cfg_default.OPTIM.SGD_NESTEROV = False
cfg_default.OPTIM.RMSPROP_ALPHA = 0.99
cfg_default.OPTIM.ADAM_BETA1 = 0.9
cfg_default.OPTIM.ADAM_BETA2 = 0.999
# single_step | multi_step | cosine, one step per epoch.
cfg_default.OPTIM.LR_SCHEDULER = "single_step"
# Epochs at which the rate is multiplied by GAMMA; single_step reads the last, -1 means MAX_EPOCH.
cfg_default.OPTIM.STEPSIZE = (-1,)
cfg_default.OPTIM.GAMMA = 0.1
cfg_default.OPTIM.MAX_EPOCH = 10
# Epochs of warm-up; below 1: none.
cfg_default.OPTIM.WARMUP_EPOCH = -1
# linear (from WARMUP_MIN_LR) | constant (at WARMUP_CONS_LR)
cfg_default.OPTIM.WARMUP_TYPE = "linear"
cfg_default.OPTIM.WARMUP_CONS_LR = 1e-5
cfg_default.OPTIM.WARMUP_MIN_LR = 1e-5
# True: the schedule begins at its own epoch 0 after the warm-up; False: the warm-up counts.
cfg_default.OPTIM.WARMUP_RECOUNT = True

cfg_default.TRAIN = CfgNode()
# Keep a checkpoint every so many epochs; 0: only the last (and one now and then, to resume from).
cfg_default.TRAIN.CHECKPOINT_FREQ = 0
# Batches between two progress lines.
cfg_default.TRAIN.PRINT_FREQ = 10

cfg_default.TEST = CfgNode()
cfg_default.TEST.EVALUATOR = "Classification"
cfg_default.TEST.PER_CLASS_RESULT = False
# Write the confusion matrix to OUTPUT_DIR/cmat.pt.
cfg_default.TEST.COMPUTE_CMAT = False
cfg_default.TEST.NO_TEST = False
# Of the learned text features in those that classify; the rest is the hand-crafted prompt's. 1: the
# trained method alone, 0: what it learned about images alone. Needs no training of its own.
cfg_default.TEST.LEARNED_SHARE = 1.0
# test | val
cfg_default.TEST.SPLIT = "test"
# last_step | best_val (validated after every epoch; needs validation images)
cfg_default.TEST.FINAL_MODEL = "last_step"

cfg_default.TRAINER = CfgNode()
cfg_default.TRAINER.NAME = ""

_COUNT = Number(least=1, whole=True)
_SHARE = Number(least=0, most=1)
_DECAY = Number(least=0, most=1, below=True)
_RATE = Number(least=0, most=1000, above=True)
VALUES: dict[str, Rule] = {
    "SEED": Number(most=2**32 - 1, whole=True),
    "INPUT.SIZE": Several(_COUNT, (0, 2)),
    "INPUT.PIXEL_MEAN": Several(Number(least=-1000, most=1000), (0, 3)),
    "INPUT.PIXEL_STD": Several(Number(least=1e-6, most=1000), (0, 3)),
    "INPUT.CROP_PADDING": Number(least=0, most=10_000, whole=True),
    "INPUT.RRCROP_SCALE": Several(Number(least=0, most=1, above=True), (2,), rising=True),
    "INPUT.COLORJITTER_B": Number(least=0, most=1000),
    "INPUT.COLORJITTER_C": Number(least=0, most=1000),
    "INPUT.COLORJITTER_S": Number(least=0, most=1000),
    "INPUT.COLORJITTER_H": Number(least=0, most=0.5),
    "INPUT.RGS_P": _SHARE,
    "INPUT.GB_P": _SHARE,
    "INPUT.GB_K": Number(least=1, most=10_000, whole=True),
    "DATALOADER.NUM_WORKERS": Number(least=0, most=1024, whole=True),
    "DATALOADER.K_TRANSFORMS": Number(least=1, most=1024, whole=True),
    "DATALOADER.VIEWS": Number(least=0, most=1024, whole=True),
    "DATALOADER.TRAIN_X.BATCH_SIZE": _COUNT,
    "DATALOADER.TEST.BATCH_SIZE": _COUNT,
    "OPTIM.LR": _RATE,
    "OPTIM.WEIGHT_DECAY": Number(least=0, most=1000),
    "OPTIM.MOMENTUM": _DECAY,
    "OPTIM.SGD_DAMPNING": _SHARE,
    "OPTIM.RMSPROP_ALPHA": _SHARE,
    "OPTIM.ADAM_BETA1": _DECAY,
    "OPTIM.ADAM_BETA2": _DECAY,
    "OPTIM.STEPSIZE": Several(Number(whole=True)),
    "OPTIM.GAMMA": _RATE,
    "OPTIM.MAX_EPOCH": Number(least=1, most=10**6, whole=True),
    "OPTIM.WARMUP_CONS_LR": Number(least=0, most=1000),
    "OPTIM.WARMUP_MIN_LR": Number(least=0, most=1000),
    "TRAIN.PRINT_FREQ": _COUNT,
    "TEST.LEARNED_SHARE": _SHARE,
}
