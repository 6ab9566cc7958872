"""Levels: how far a trial is made, from a cut in one shot to all rounds; and the work up to there."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.search.figures import Figures
from flows.search.jobs import jobs, view
from flows.search.place import timing, working
from flows.search.stages import TIMES, draft, judge, measure, moments, table
from flows.search.store import ensure
from tasks.allocate.times import FILE
from tasks.core.files import read_json, tree_hash
from tasks.core.rounds import PASSED, last_good
from tasks.recipe.job import Job
from tasks.recipe.load import changed
from tasks.recipe.pruning import COSTS
from tasks.recipe.schema import Recipe

Work = Callable[[Job], None]
SPEED, FORETOLD = "speed", "foretold"
"""The figure that says where those of speed are from, and what it is where they were not measured."""
STUDENT = "student"
"""As `search.model` says it: a trial is trained, not cut."""


def at_level(recipe: Recipe, level: float) -> Recipe:
    """The recipe that makes a trial up to `level`: below 1 what all rounds remove goes in one, and trains shorter."""
    if level == 1:
        return recipe
    if recipe.search.model == STUDENT:
        return changed(recipe, {"distill.epochs": recipe.distill.epochs * level})
    settings = recipe.prune.model_dump(mode="json")["rounds"]
    rounds = [settings["cubic"]] if isinstance(settings, dict) else settings
    last = rounds[-1]
    by_kind = [entry for entry in rounds if isinstance(entry, dict) and not entry.keys() & set(COSTS)]
    if last in by_kind:  # kinds that an earlier round ended with
        last = {kind: amount for entry in by_kind for kind, amount in entry.items()}
    values: dict[str, Any] = {"prune.rounds": [last]}
    if level:
        values["finetune.epochs"] = recipe.finetune.epochs * level
    return changed(recipe, values)


class Bench:
    """Where one trial is made, level by level."""

    def __init__(self, workspace: Path, home: Path, shared: Path, work: Work) -> None:
        """Keeps in `home` what is the trial's own, in `shared` what others may need.

        Args:
            workspace: Whose code, sources and finished outs are used.
            work: Does a job.
        """
        self.workspace, self.home, self.shared, self.work = workspace, home, shared, work
        self.roots: list[Path] = []

    def reach(self, recipe: Recipe, name: str, level: float, timed: bool, *, exact: bool = False) -> Figures:
        """Makes the trial up to a level, and says what it is worth.

        Args:
            recipe: the trial's.
            name: of the directory that it is made in.
            level: see `at_level`.
            timed: speed is asked for: measured, but of a draft read off the table of what units cost.
            exact: what is cut in one shot is refitted layer by layer and timed too; otherwise it is a draft.

        Returns:
            The figures of a round's `verdict.json`; of a timed one also those of `times.json`; `model`, its path in
            the view, and `sha256` of all that lies there. SPEED says where speed is from.
        """
        root = view(self.workspace, self.home / name, at_level(recipe, level))
        stages = jobs(self.workspace, root, at_level(recipe, level))
        like, drafted = stages["train"], not level and not exact and recipe.prune.drafted
        model = self._make(stages, recipe, level, drafted=drafted)
        graph = self._graph(stages, recipe) if level == 1 and recipe.search.quantized else None
        if timed and drafted and "table@dense" not in stages:
            self._ensure(table(like), timed=True)
        texts = recipe.search.draft_rows if drafted else None
        judged = judge(model, like, graph, by_table=timed and drafted, texts=texts)
        self._ensure(judged)
        found: Figures = dict(read_json(root / judged.outs[0] / "verdict.json"))
        for name in ("round", "state", "because"):
            found.pop(name)
        if timed and drafted:
            found |= {SPEED: FORETOLD, **read_json(root / judged.outs[0] / "times.json")}
        elif timed:
            measured = measure(model, like, graph)
            self._ensure(measured, timed=True)
            found |= {SPEED: "measured", **read_json(root / measured.outs[0] / "times.json")["models"]["candidate"]}
        if timed:
            found["latency_share"] = 1 / float(found["speedup_b1"] or 1.0)
        self.roots.append(root)
        return {**found, "model": graph or model, "sha256": tree_hash(root / (graph or model))}

    def settle(self, chosen: str, name: str) -> None:
        """Of all that was made, by a worker that was killed too, the one in `chosen` stays, in the directory `name`."""
        for other in self.home.iterdir():
            if other.name != chosen:
                shutil.rmtree(other)
        self.roots = [(self.home / chosen).rename(self.home / name)]

    def times(self, recipe: Recipe) -> Any:
        """The table of times that a recipe's rounds hang on."""
        root = view(self.workspace, self.home / "times", recipe)
        stages = jobs(self.workspace, root, recipe)
        for name in ("prepare", "train", "table@dense"):
            self._ensure(stages[name], timed=name == "table@dense")
        return read_json(root / TIMES / FILE)

    def _make(self, stages: dict[str, Job], recipe: Recipe, level: float, *, drafted: bool) -> str:
        """The path of the checkpoint that the stages up to `level` lead to."""
        self._ensure(stages["prepare"])
        self._ensure(stages["train"])
        if recipe.search.model == STUDENT:
            self._ensure(stages["distill"])
            return stages["distill"].outs[0]
        if "table@dense" in stages:
            self._ensure(stages["table@dense"], timed=True)
        rounds = [name.partition("@")[2] for name in stages if name.startswith("finetune@")]
        if not level:
            cut = stages["prune@r1"]
            self._ensure(stages["score@r1"])
            changed = cut.root / "data/scores/r1/model"  # the moments are those of the dense model
            if drafted and not changed.is_dir():
                self._ensure(moments(cut))
                cut = draft(cut)
            self._ensure(cut)
            return "models/cut/r1"
        judged = len(rounds) > 1 or recipe.search.quantized
        for name in rounds:
            for group in ("score", "prune", "finetune"):
                self._ensure(stages[f"{group}@{name}"])
            if judged:  # what a round is worth decides whether there is another, and what is quantized
                self._ensure(stages[f"evaluate@{name}"], timed=True)
        root = stages["train"].root
        made = [name for name in rounds if not (root / "models/rounds" / name / PASSED).is_file()]
        good = last_good(root / "data/rounds", rounds) if judged else None
        return f"models/rounds/{good or made[-1]}"

    def _graph(self, stages: dict[str, Job], recipe: Recipe) -> str | None:
        """The path of the quantized form of that checkpoint; None where no round was good enough for one."""
        quantized = stages[f"quantize@{recipe.search.model}"]
        self._ensure(quantized)
        out = quantized.outs[0]
        return None if (quantized.root / out / PASSED).is_file() else f"{out}/{recipe.quantize.methods[0]}"

    def _ensure(self, job: Job, *, timed: bool = False) -> None:
        with timing() if timed else working():
            ensure(job, self.shared, [*reversed(self.roots), self.workspace], self.work)
