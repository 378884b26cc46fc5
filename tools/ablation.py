"""The ablation page docs/ablation.md and its figure docs/tradeoff.png.

    sarclip protocol ablation                  # about 30 minutes on 2 cores; resumes
    python tools/ablation.py output/ablation

Both are made from what the protocol left; numbers and drawing are those of `sar.results`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sar.results import collect, to_text
from sar.results.presentations import make_plots, make_tables

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = """# Ablation

Made by `tools/ablation.py` from an output folder of `sarclip protocol ablation`: pocket CLIP, 16
shots, datasets that are not in the README's table. A setting differs from the defaults of
`TRAINER.SAR` in what it is named after. {caption}

![{title}](tradeoff.png)

{tables}"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Write docs/ablation.md and docs/tradeoff.png.")
    parser.add_argument("output", type=Path, help="of sarclip protocol ablation")
    parser.add_argument("docs", type=Path, nargs="?", default=DOCS, help="default: %(default)s")
    args = parser.parse_args()
    results = collect(args.output)
    tradeoff = make_plots(make_tables(results)[0])[0]
    page = PAGE.format(
        caption=tradeoff.caption, title=tradeoff.title, tables=to_text(results, "markdown")
    )
    (args.docs / "ablation.md").write_text(page, encoding="utf-8")
    (args.docs / "tradeoff.png").write_bytes(tradeoff.image("png"))


if __name__ == "__main__":
    main()
