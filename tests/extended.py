"""What a package can do that was changed as docs/extending.md says. `tests/test_extending.py` runs
it with the folder of that package."""

import sys
from types import SimpleNamespace

import numpy as np

import steer
from steer.data.corpus import Corpus
from steer.evaluation import measure, table
from steer.evaluation.estimate import draws
from steer.evaluation.sets import Labelled
from steer.guidance import Contexts, Stream, build_streams
from steer.methods import find_method
from steer.runs.panels import Panels

assert steer.__file__.startswith(sys.argv[1]), steer.__file__

far, blank = find_method("steer-far", False), find_method("blank", False)
assert far.guidance == steer.Guidance(eta=0.4)
assert build_streams(blank.guidance, Contexts("p")) == (
    Stream("expert", 1.5, True, "p"),
    Stream("contrast", -0.5, False, ""),
)

texts = [f"{a} and {a} and {b}" for a in "xyz" for b in "uvw"]
tools = SimpleNamespace(
    settings=steer.EvaluationSettings(bootstrap=100),
    equal_words=40,
    reference=Labelled(texts),
    vectors=lambda some: np.eye(len(some)),
)
row = SimpleNamespace(texts=texts, rows=np.eye(9), draws=draws(9, 100, 0, "row"))
measured = measure._diversity(tools, row, measure.Measured())
assert measured["variety"].value == 3 / 5
assert list(measured) == [each.key for each in table.COLUMNS if each.group == "diversity"]

real = Corpus.of([f"text {n}" for n in range(7)])
rows = np.eye(7) + 9 * np.eye(7)[0]  # all lean towards the first
embedder = SimpleNamespace(embed=lambda asked: [rows[int(text[-1])] for text in asked])
config = steer.RunConfig(n=4, panel_size=3, panel_selection="central")
drawn = Panels(config, steer.Task("p"), real, None, embedder).draw(None, 4, 0)
assert {panel.negative[0] for panel in drawn} == {"real:0"}
assert all(len(set(panel.negative)) == 3 for panel in drawn)
