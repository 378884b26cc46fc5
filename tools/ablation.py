"""The ablation page docs/ablation.md and its figure docs/tradeoff.png.

    sarclip protocol ablation                  # about 30 minutes on 2 cores; resumes
    python tools/experiment.py output/ablation --against CoOp
    python tools/ablation.py

Both are made from the record in experiments/; numbers and drawing are those of `sar.results`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recorded import DOCS, EXPERIMENTS, of_ablation, read

from sar.results import Results, to_text
from sar.results.presentations import make_plots

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
    tables = [of_ablation(table) for table in read(args.record)]
    tradeoff = make_plots(tables[0])[0]
    text = to_text(Results(args.record), "markdown", tables=tables)
    page = PAGE.format(caption=tradeoff.caption, title=tradeoff.title, tables=text)
    (args.docs / "ablation.md").write_text(page, encoding="utf-8")
    (args.docs / "tradeoff.png").write_bytes(tradeoff.image("png"))


if __name__ == "__main__":
    main()
