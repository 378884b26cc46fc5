"""What the commands of tasks have in common."""

import click

from sar.command_line.commands import PATH

SOURCE = (
    "SOURCE is demo (drawings), demo:base or demo:new (of half of the concepts), demo:food or so "
    "(of a dataset), demo:STYLE (line, filled, duotone, colour), or a .json with captions: "
    "Karpathy's of COCO or Flickr30k, COCO's own, or NoCaps'."
)
source_argument = click.argument("source")
images_option = click.option(
    "--images", type=PATH, metavar="DIR", help="Folder of the images. [default: the file's]"
)
clip_option = click.option(
    "--clip", default="pocket", show_default=True, metavar="NAME", help="pocket, ViT-B/16, a file."
)
train_split_option = click.option(
    "--split", default="train", show_default=True, metavar="NAME", help="Or e.g. a+b."
)
test_split_option = click.option(
    "--split", default="test", show_default=True, metavar="NAME", help="Or e.g. a+b."
)
learned_option = click.option(
    "--output", type=PATH, required=True, metavar="DIR", help="What is learned."
)
mappings_option = click.option(
    "--mapping",
    "folders",
    type=PATH,
    multiple=True,
    required=True,
    metavar="DIR",
    help="Of `caption train`; may be repeated.",
)
mapping_option = click.option(
    "--mapping", "folder", type=PATH, required=True, metavar="DIR", help="Of `caption train`."
)
own_clip_option = click.option("--clip", metavar="NAME", help="[default: as it was trained with]")
own_lm_option = click.option("--lm", metavar="NAME", help="[default: as it was trained with]")
output_option = click.option(
    "--output", type=PATH, metavar="FILE", help="Write the figures as JSON, too."
)
