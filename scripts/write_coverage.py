"""Write docs/coverage.md from a sweep over timm: `make coverage`.

The sweep (`make sweep`) has examined every architecture at its own configuration, by shapes; what
the proofs of tests/adapters/test_families.py hold on smallest members is said beside it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import timm

from visattn.adapters import ADAPTERS

Line = dict[str, Any]
CONTROLS = {"random", "center"}
LIBRARIES = ("torchvision", "transformers", "open_clip")
TITLE = f"""# What visattn covers

Written by `make coverage` from a sweep over all architectures of timm {timm.__version__}, each
built at its own configuration on torch's meta device and run under observation (`make sweep`).

- *attention*: architectures in which attention operations were observed.
- *fits*: of these, those whose operations all have the windows, queries and keys that the family's
  adapter declares.
- *walk refused*: those without a walk from head to image, by name; methods that need none apply.
- *tokens*: what the adapter describes. *methods*: those that apply to all (in brackets: to some).

The smallest members of every family are proven on numbers by `tests/adapters/test_families.py`:
outputs unchanged bit for bit, weights times values give the outputs, rows sum to one, a changed
patch changes the tokens that the layout places on it, the head reads the declared tokens, walks
agree with dense matrices, batches do not mix.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweep", type=Path, default=Path("out/sweep/architectures.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("docs/coverage.md"))
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.sweep.read_text(encoding="utf-8").splitlines()]
    options.out.write_text(page(lines), encoding="utf-8")
    return 0


def page(lines: Iterable[Line]) -> str:
    families: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        families[line["family"]].append(line)
    attending = {name: found for name, found in families.items() if any_attention(found)}
    rest = {name: found for name, found in families.items() if name not in attending}
    every = [line for found in families.values() for line in found]
    return "\n".join(
        [
            TITLE,
            *table(attending),
            "",
            total(every),
            "",
            "## Without attention operations",
            "",
            *(f"- {alone(name, found)}" for name, found in sorted(rest.items())),
            "",
            "## Other libraries",
            "",
            "Built from configurations with random weights in the tests, at small sizes:",
            "",
            *(f"- `{name}`" for name in ADAPTERS.names() if name.startswith(LIBRARIES)),
            "",
            "## Gates",
            "",
            *gates(every),
            "",
        ]
    )


def any_attention(found: list[Line]) -> bool:
    return any(line["operations"] for line in found)


def table(families: dict[str, list[Line]]) -> list[str]:
    heads = (
        "family", "files of timm", "smallest", "architectures", "attention", "fits", "walk refused",
        "tokens", "methods",
    )  # fmt: skip
    rows = [row(name, found) for name, found in sorted(families.items())]
    return [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *rows]


def row(name: str, found: list[Line]) -> str:
    attending = [line for line in found if line["operations"]]
    fits = [line for line in attending if not line["misfits"] and placed(line)]
    refused = [line for line in found if line["refusal"]]
    words = list(dict.fromkeys(word for line in found for word in line["layout"]))
    cells = [
        f"`{name}`",
        ", ".join(sorted({line["file"] for line in found})),
        f"`{min(attending, key=lambda line: line['parameters'])['architecture']}`",
        str(len(found)),
        str(len(attending)),
        str(len(fits)),
        str(len(refused)),
        ", ".join(words) or "-",
        methods(found),
    ]
    return f"| {' | '.join(cells)} |"


def placed(line: Line) -> bool:
    """Whether the adapter says where the operations stand: it has a chain, walked or not."""
    return bool(line["layout"]) or line["refusal"] is None


def methods(found: list[Line]) -> str:
    sets = [set(line["methods"]) - CONTROLS for line in found]
    everywhere, somewhere = set.intersection(*sets), set.union(*sets)
    names = sorted(everywhere) + [f"({name})" for name in sorted(somewhere - everywhere)]
    return ", ".join(names)


def total(every: list[Line]) -> str:
    attending = [line for line in every if line["operations"]]
    gated = [line for line in every if line["gates"]]
    fits = [line for line in attending if not line["misfits"] and placed(line)]
    refused = [line for line in attending if line["refusal"]]
    homeless = [line["architecture"] for line in attending if line["family"] == "unknown"]
    return (
        f"{len(every)} architectures: {len(attending)} with attention operations, of which "
        f"{len(fits)} fit and {len(refused)} refuse the walk; without an adapter: "
        f"{', '.join(homeless) or 'none'}. {len(gated)} have modules of a gate class."
    )


def gates(every: list[Line]) -> list[str]:
    """Say in which architectures gates were seen, and which modules hid theirs."""
    gated = [line for line in every if line["gates"]]
    hidden = [f"{line['architecture']} ({line['missed'][0]})" for line in gated if line["missed"]]
    modules = Counter[str]()
    architectures = Counter[str]()
    for line in gated:
        modules.update(line["gates"])
        architectures.update(line["gates"].keys())
    words = (
        f"{len(gated)} architectures have {modules.total()} modules of registered gate classes "
        f"(docs/gates.md). In {len(gated) - len(hidden)} of them every module showed every gate "
        f"that its class declares; missed: {'; '.join(hidden) or 'none'}."
    )
    heads = ["| class | architectures | modules |", "|---|---|---|"]
    rows = [f"| `{kind}` | {architectures[kind]} | {modules[kind]} |" for kind in sorted(modules)]
    return [words, "", *heads, *rows]


def alone(name: str, found: list[Line]) -> str:
    kinds = sorted({kind for line in found for kind in line["others"]})
    files = ", ".join(sorted({line["file"] for line in found}))
    seen = f"; computed instead: {', '.join(kinds)}" if kinds else ""
    return f"`{name}`: {len(found)} architectures ({files}){seen}. Methods: {methods(found)}."


if __name__ == "__main__":
    raise SystemExit(main())
