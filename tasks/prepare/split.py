"""Which row goes into which split. Hashes decide, so a row stays where it is when others come or go."""

import hashlib
from collections import Counter

from tasks.prepare.rows import Row, Splits
from tasks.recipe.schema import Data

NAMES = ("train", "validation", "test")
PAIRS = tuple((a, b) for i, a in enumerate(NAMES) for b in NAMES[i + 1 :])


def arrange(given: Splits, data: Data, seed: int, dropped: Counter[str]) -> Splits:
    """Train, validation and test, with no example in two of them.

    Splits that the source has are kept as they are; the missing ones are cut from train by the hash of `Row.home`, so
    that rows of one group stay together. The cut does not depend on the seed; the choice of `data.limit` does.

    Args:
        given: the source's splits; at least train.
        data: shares, limit, whether to drop duplicates.
        seed: of the choice of `data.limit`.
        dropped: counts of `duplicates`, `leaked` and `limit` are added to it.
    """
    splits = {name: _unique(rows, dropped) if data.deduplicate else rows for name, rows in given.items()}
    splits = _without_leaks(_cut(splits, data), dropped)
    if data.limit is None:
        return splits
    limited = {name: _sample(rows, data.limit, seed) for name, rows in splits.items()}
    dropped["limit"] += sum(len(splits[name]) - len(limited[name]) for name in NAMES)
    return limited


def overlap(splits: Splits) -> dict[str, int]:
    """How many different examples each two splits share, and how many groups lie in more than one split."""
    keys = {name: {row.key for row in rows} for name, rows in splits.items()}
    homes = Counter(home for rows in splits.values() for home in {row.home for row in rows})
    return {**{f"{a}/{b}": len(keys[a] & keys[b]) for a, b in PAIRS}, "groups": sum(n > 1 for n in homes.values())}


def position(purpose: str, key: str) -> float:
    """A number in [0, 1) that depends on nothing else: the first 53 bits of a sha256."""
    digest = hashlib.sha256(f"{purpose}\0{key}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _unique(rows: list[Row], dropped: Counter[str]) -> list[Row]:
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.key, row)
    dropped["duplicates"] += len(rows) - len(first)
    return list(first.values())


def _cut(splits: Splits, data: Data) -> Splits:
    test = 0.0 if "test" in splits else data.test
    validation = 0.0 if "validation" in splits else data.validation
    out: Splits = {"train": [], "validation": splits.get("validation", []), "test": splits.get("test", [])}
    out = {name: list(rows) for name, rows in out.items()}
    for row in splits["train"]:
        at = position("split", row.home)
        out["test" if at < test else "validation" if at < test + validation else "train"].append(row)
    return out


def _without_leaks(splits: Splits, dropped: Counter[str]) -> Splits:
    """Takes out of validation what is in test, and out of train what is in either."""
    seen: set[str] = set()
    out: Splits = {}
    for name in reversed(NAMES):
        out[name] = [row for row in splits[name] if row.key not in seen]
        dropped["leaked"] += len(splits[name]) - len(out[name])
        seen.update(row.key for row in out[name])
    return {name: out[name] for name in NAMES}


def _sample(rows: list[Row], limit: int, seed: int) -> list[Row]:
    """At most `limit` rows, in their order; those with the smallest hash."""
    chosen = sorted(range(len(rows)), key=lambda i: (position(f"limit {seed}", rows[i].key), i))[:limit]
    return [rows[i] for i in sorted(chosen)]
