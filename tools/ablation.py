"""The ablation page docs/ablation.md and its figure docs/tradeoff.png.

    sarclip protocol ablation                  # about 30 minutes on 2 cores; resumes
    python tools/experiment.py output/ablation --against CoOp
    python tools/ablation.py

Both are made from the record in experiments/; numbers and drawing are those of `sar.results`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ending import run
from recorded import DOCS, EXPERIMENTS, first_plot, of_ablation, read_ablation

from sar.results import Results, to_text
from sar.storage.files import write_file

PAGE = """# Ablation

Made by `tools/ablation.py` from a record of `sarclip protocol ablation`
([experiments](../experiments/README.md)): pocket CLIP, 16 shots, the datasets that settings are
chosen on. A setting differs from the defaults of
`TRAINER.SAR` in what it is named after. {caption}

![{title}](tradeoff.png)

{tables}"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Write docs/ablation.md and docs/tradeoff.png.")
    parser.add_argument("record", type=Path, nargs="?", default=EXPERIMENTS / "ablation")
    parser.add_argument("docs", type=Path, nargs="?", default=DOCS, help="default: %(default)s")
    args = parser.parse_args()
    tables = [of_ablation(table) for table in read_ablation(args.record)]
    tradeoff = first_plot(tables[0])
    text = to_text(Results(args.record), "markdown", tables=tables)
    page = PAGE.format(caption=tradeoff.caption, title=tradeoff.title, tables=text)
    image = tradeoff.image("png")
    write_file(args.docs / "ablation.md", page)
    write_file(args.docs / "tradeoff.png", image)


if __name__ == "__main__":
    run(main)
