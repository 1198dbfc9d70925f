import base64
import hashlib
import json
import math
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from steer.config import Guidance, RunConfig
from steer.data.catalog import load_task
from steer.data.corpus import Corpus
from steer.data.words import shared_words, words
from steer.errors import SteerError
from steer.experiments.comparison import Comparison
from steer.report.features import closest_pairs, project
from steer.report.figures import length_histograms, styles
from steer.report.material import answer_shares, read_material
from steer.report.report import ReportSettings, write_report
from steer.report.tables import _good_bounds, headlines, measure_tables
from steer.report.texts import Texts, mask
from steer.report.tradeoff import trade_offs
from steer.runs.generation import generate
from steer.runs.records import Record
from steer.runs.store import Run
from tests import stub, tiny
from tests.runs.test_correcting import NarrowEngine, WordEmbedder

HOSTILE = (
    '</script><script>alert(1)</script> & "quoted" secretword',
    "<img src=x onerror=alert(2)> %{customdata} {{ 7 * 7 }} secretword",
    "naïve \u2028 separator\n\tindented ]]> --> <!-- `${alert(3)}` secretword",
)
REAL = Corpus((*HOSTILE, *stub.corpus(40).texts), None, "real.jsonl")
LABELLED = stub.corpus(40, labels=("toxic", "non-toxic"))
OLD = Path(__file__).parent / "old-evaluation.json"
"""What an evaluation wrote before scores could be above 1, of the sets `METHODS`."""

METHODS = {"steer": Guidance(), "plain <b>": Guidance(gamma=0, eta=0), "gamma": Guidance(eta=0)}
COLUMNS = [
    ("auroc", "fidelity", "as real"),
    ("near_copies", "copying", "lower"),
    ("fidelity_score", "summary", "higher"),
    ("diversity_score", "summary", "higher"),
    ("coherence_score", "summary", "higher"),
    ("summary", "summary", "higher"),
]
VALUES = {
    "steer": (0.6, 0.02, 0.8, 0.9, 0.7, 0.79),
    "plain <b>": (0.9, 0.01, 0.5, 0.6, 0.8, 0.61),
    "gamma": (0.4, 0.03, 0.7, 0.5, 0.6, 0.59),
    "real": (0.51, 0.01, 1.0, 1.0, 1.0, 1.0),
}


class StubEmbedder:
    """Hashes character 3-grams into 16 dimensions."""

    name = "stub"

    def embed(self, texts: list[str], on_texts: Callable[[int, int], None]) -> np.ndarray:
        on_texts(len(texts), len(texts))
        rows = np.ones((len(texts), 16), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for i in range(len(text)):
                row[zlib.crc32(text[i : i + 3].encode()) % 16] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steer.report.report.load_embedder", lambda name, cache: StubEmbedder())
    monkeypatch.setattr("steer.report.features.FEW", 10_000)  # the other maps take seconds


def evaluation(names: list[str]) -> dict[str, Any]:
    def estimate(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.05, "high": value + 0.05}

    rows = [
        {"name": name}
        | {key: estimate(v) for (key, *_), v in zip(COLUMNS, VALUES[name], strict=True)}
        for name in names
    ]
    columns = [
        {"key": key, "group": group, "title": key.split("_")[0], "aim": aim, "meaning": "it"}
        for key, group, aim in COLUMNS
    ]
    return {
        "n": 10,
        "embedder": "stub",
        "judges": ["a judge"],
        "settings": {"seed": 0},
        "notes": ["a note <i>"],
        "verdict": "by the summary, plain <b> is not told apart from steer; 10 texts a row show",
        "differences": [],
        "columns": columns,
        "rows": rows,
    }


def make(
    out: Path, real: Corpus = REAL, task: dict[str, Any] | None = None, grid: bool = False
) -> Path:
    """A comparison folder of three methods, as `steer compare` leaves it."""
    methods = []
    for i, (name, guidance) in enumerate(METHODS.items()):
        labels = dict.fromkeys(real.label_names, 10)
        config = RunConfig(
            n=None if labels else 20, labels=labels, guidance=guidance, panel_size=3, seed=i
        )
        expert = stub.StubExpert(real.label_names, "Write {label}:" if labels else "Write:")
        run = f"runs/{i}"
        generate(config, real, expert, stub.StubEngine(real), out / run)
        methods.append(
            {
                "name": name,
                "run": run,
                "settings": {"eta": guidance.eta},
                "wanted": 20,
                "seconds": 3,
            }
        )
        if grid:
            methods[-1]["cell"] = {"gamma": 0.2 * (i % 2), "eta": 0.2 * (i // 2)}
    found = {
        "format": 1,
        "steer": "0.1.0",
        "command": "steer compare <expert>",
        "expert": "expert",
        "task": task or {"name": "hypotheses", "form": "text"},
        "methods": methods,
        "grid": {"x": "gamma", "y": "eta"} if grid else None,
    }
    (out / "comparison.json").write_text(json.dumps(found))
    (out / "evaluation.json").write_text(json.dumps(evaluation([*METHODS, "real"])))
    return out


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("comparison") / "out")


def write(source: Path | list[Path], out: Path, real: Corpus = REAL, **settings: Any) -> str:
    write_report(source, real, out, settings=ReportSettings(**settings))
    return out.read_text("utf-8")


def split(html: str) -> tuple[str, Any]:
    """The page without its scripts, and the data."""
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert data
    return re.sub(r"<script.*?</script>|<style>.*?</style>", "", html, flags=re.S), json.loads(
        data[1]
    )


def test_the_page_has_every_part(comparison: Path, tmp_path: Path) -> None:
    page, data = split(write(comparison, tmp_path / "report.html"))
    sections = re.findall(r'<section id="([\w-]+)"', page)
    assert sections == re.findall(r'<a href="#([\w-]+)">', page.split("<nav")[1].split("</nav>")[0])
    assert {"summary", "trade-off", "map", "rejects", "neighbours", "provenance"} <= set(sections)
    assert {name: len(made) for name, made in data["figures"].items()} == {
        "trade": 2,
        "grid": 0,
        "map": 1,
        "lengths": 3,
        "columns": 0,
    }
    for phrase in (
        "steer compare &lt;expert&gt;",
        "a note &lt;i&gt;",
        "a judge",
        "plain &lt;b&gt;",
    ):
        assert phrase in page
    assert "By the summary, plain &lt;b&gt; is not told apart from steer" in page


def test_a_run_is_shown_with_the_evaluation_that_is_named(comparison: Path, tmp_path: Path) -> None:
    """By the folder's name, which is that of its row; a file of other runs is refused."""
    run = tmp_path / "steer"
    shutil.copytree(comparison / Comparison.open(comparison).entries[0].run, run)
    table = comparison / "evaluation.json"
    page, _ = split(write(run, tmp_path / "report.html", table=table))
    assert '<section id="summary"' in page and "a judge" in page
    assert '<section id="summary"' not in split(write(run, tmp_path / "bare.html"))[0]
    other = shutil.copytree(run, tmp_path / "other")
    with pytest.raises(SteerError, match="and not other; evaluate these runs"):
        write(other, tmp_path / "other.html", table=table)
    with pytest.raises(SteerError, match="steer evaluate writes one with --json"):
        write(run, tmp_path / "none.html", table=tmp_path / "none.json")


def test_an_evaluation_of_an_older_steer_opens(comparison: Path, tmp_path: Path) -> None:
    """Its scores end at 1, it has other columns, no differences and no verdict."""
    folder = tmp_path / "out"
    shutil.copytree(comparison, folder)
    shutil.copy(OLD, folder / "evaluation.json")
    page, data = split(write(folder, tmp_path / "report.html"))
    assert "Every score runs from 0 to 1" in page and "AUROC, trees" in page
    for figure in data["figures"]["trade"]:
        for axis in ("xaxis", "yaxis"):
            low, high = figure["layout"][axis]["range"]
            assert 0 <= low < high <= 1
    old = json.loads(OLD.read_text("utf-8"))
    for row in old["rows"]:
        row["summary"] = {"value": row["summary"]["value"]}
    assert "overall" not in {each.title for each in headlines(old)}


def test_nothing_is_loaded_and_nothing_else_may_run(comparison: Path, tmp_path: Path) -> None:
    html = write(comparison, tmp_path / "report.html")
    page, _ = split(html)
    assert not re.findall(r'(?:src|href)\s*=\s*"(?!#|data:)', page)
    assert "@import" not in html.split("<style>")[1].split("</style>")[0]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy and "default-src 'none'" in policy[1]
    assert "unsafe-inline" not in policy[1].split("script-src")[1].split(";")[0]
    assert html.count("<script") == html.count("</script>") == 3
    kinds = r'<script type="(?:text/javascript|module)">(.*?)</script>'
    for script in re.findall(kinds, html, re.S):
        digest = hashlib.sha256(script.encode()).digest()
        assert f"'sha256-{base64.b64encode(digest).decode()}'" in policy[1]


class ChatEngine(stub.StubEngine):
    tokenizer = tiny.make_tokenizer()


def make_chats(out: Path) -> tuple[Path, Corpus]:
    """A run of answers, and the real chats."""
    asks = [*HOSTILE, *(f"secret ask {n}" for n in range(30))]
    turns = zip(asks, stub.corpus(33).texts, strict=True)
    real = Corpus.of_rows([{"prompt": ask, "completion": answer} for ask, answer in turns])
    config = RunConfig(n=12, guidance=Guidance(gamma=0.2), panel_size=3)
    generate(config, real, stub.StubExpert(prompt="{chat}"), ChatEngine(real), out)
    return out, real


def test_an_answer_is_read_under_what_it_answers(tmp_path: Path) -> None:
    run, real = make_chats(tmp_path / "run")
    page, data = split(write(run, tmp_path / "report.html", real))
    records = {record.id: record for record in Run.open(run).records}
    ((_, shown),) = data["records"].items()
    assert len(shown) == 12 and "alert(" not in page
    for each in shown:
        record, texts = records[each["id"]], data["texts"]
        assert texts[each["text"]] == record.text.strip("\n")
        assert texts[each["asked"]] == record.turns[-1][1].strip("\n")
    html = write(run, tmp_path / "masked.html", real, mask=True)
    assert "secret" not in json.dumps(split(html)[1])


def test_hostile_texts_stay_texts(comparison: Path, tmp_path: Path) -> None:
    html = write(comparison, tmp_path / "report.html", points=100)
    page, data = split(html)
    assert set(HOSTILE) <= set(data["texts"])
    assert "alert(" not in page.replace("</script><script>", "")
    assert "<b>" not in page


def test_a_masked_page_has_no_word_of_a_text(tmp_path: Path) -> None:
    real = Corpus((*HOSTILE, *LABELLED.texts[3:]), LABELLED.labels, "real.jsonl")
    folder = make(tmp_path / "out", real, {"name": "comments", "form": "text"})
    html = write(folder, tmp_path / "report.html", real)
    runs = [method.run for method in read_material(folder).methods]
    texts = [a.text for run in runs for a in (*run.records, *run.rejects)] + [*real.texts]
    page, data = split(html)
    written = (page + json.dumps(data, ensure_ascii=False)).casefold()
    found = {w for text in texts for w in re.findall(r"\w{4,}", text.casefold())}
    assert len(found) > 20
    own = {"script", "customdata", "here"}  # words of the page itself
    assert {word for word in found - own if re.search(rf"\b{word}\b", written)} == set()
    assert "masked" in page
    open_page, open_data = split(write(folder, tmp_path / "open.html", real, mask=False))
    assert "secretword" in json.dumps(open_data)
    assert "are masked" not in open_page


def test_masking_keeps_words_apart() -> None:
    assert mask("You are a f*ck-up, café 12!") == "Y·· a·· · ·*c·-u·, c··· 1·!"
    assert mask("f u c k") == "· · · ·"
    texts = Texts(masked=True)
    assert texts.add("ab\n\tcd\n") == texts.add("ax\n\tcy") == 0
    assert texts.shown == ["a·\n\tc·"]


def test_shared_words_are_marked() -> None:
    one, other = "The big Red dog ran home", "a big red DOG sat at home"
    assert shared_words(one, other) == "022201"
    assert shared_words(other, one) == "0222001"
    assert shared_words("a b", "c") == "00"
    assert shared_words("ran - home, x-Dog", one) == "1010"
    assert shared_words("恒星はなぜ 光る", "あの恒星はなぜ") == "20"
    for text in HOSTILE:
        assert len(shared_words(text, other)) == len(mask(" ".join(text.split())).split(" "))


def test_figures_are_valid_and_colours_stay_the_same(tmp_path: Path) -> None:
    folder = make(tmp_path / "out", grid=True)
    _, data = split(write(folder, tmp_path / "report.html"))
    assert len(data["figures"]["grid"]) == 5
    tokens: dict[str, set[str]] = {}
    for figure in (each for group in data["figures"].values() for each in group):
        for trace in figure["data"]:
            if trace["type"] != "heatmap" and trace.get("marker"):
                tokens.setdefault(trace["name"], set()).add(trace["marker"]["color"])
        plain = json.loads(re.sub(r'"@\w+"', '"#123456"', json.dumps(figure)))
        go.Figure(plain["data"], plain["layout"])
    assert all(len(found) == 1 for found in tokens.values())
    assert len(tokens) == len({token for found in tokens.values() for token in found}) == 4


def test_the_front_is_drawn_from_left_to_right(comparison: Path, tmp_path: Path) -> None:
    _, data = split(write(comparison, tmp_path / "report.html"))
    line = data["figures"]["trade"][0]["data"][0]
    assert line["name"] == "Pareto front"
    assert line["x"] == [0.6, 0.9]
    assert line["y"] == [0.8, 0.7]


def test_the_heat_map_frames_the_best_cell(tmp_path: Path) -> None:
    _, data = split(write(make(tmp_path / "out", grid=True), tmp_path / "report.html"))
    auroc = next(figure for figure in data["figures"]["grid"] if "auroc" in figure["title"])
    trace = auroc["data"][0]
    assert trace["text"] == [[".600", ".900"], [".400", ""]]
    # As real is best and the real texts have 0.51: 0.6 is nearest, and drawn lightest.
    assert trace["z"][0][0] == max(z for row in trace["z"] for z in row if z is not None)
    assert trace["z"][1][1] is None
    (frame,) = auroc["layout"]["shapes"]
    assert (frame["x0"], frame["y0"]) == (-0.5, -0.5)


def test_best_follows_the_aim() -> None:
    tables = measure_tables(evaluation([*METHODS, "real"]))
    assert tables[0].group == "summary"
    best = {
        column["key"]: {name for name, cells in table.rows.items() if cells[i].best}
        for table in tables
        for i, column in enumerate(table.columns)
    }
    assert best == {
        "auroc": {"steer"},
        "near_copies": {"plain <b>"},
        "fidelity_score": {"steer"},
        "diversity_score": {"steer"},
        "coherence_score": {"plain <b>"},
        "summary": {"steer"},
    }


def test_sorting_puts_the_best_first() -> None:
    table = next(t for t in measure_tables(evaluation([*METHODS, "real"])) if t.group == "fidelity")
    order = sorted(METHODS, key=lambda name: -(table.rows[name][0].good or 0))
    assert order == ["steer", "gamma", "plain <b>"]


def test_headlines_are_of_those_ahead_beyond_their_intervals() -> None:
    found = {each.title: each for each in headlines(evaluation([*METHODS, "real"]))}
    assert list(found) == ["overall", "diversity"]  # fidelity and coherence overlap
    assert (found["overall"].name, found["overall"].shown) == ("steer", "0.790")


def differing(key: str, *pairs: tuple[str, str, float, float]) -> list[dict[str, Any]]:
    names = ("one", "other", "low", "high")
    return [{"key": key} | dict(zip(names, pair, strict=True)) for pair in pairs]


@pytest.mark.parametrize(
    ("key", "pairs", "winner"),
    [
        ("summary", [("steer", "plain <b>", 0.1, 0.2), ("steer", "gamma", -0.01, 0.3)], None),
        ("summary", [("plain <b>", "steer", -0.2, -0.1), ("steer", "gamma", 0.01, 0.3)], "steer"),
        ("fidelity_score", [("steer", "plain <b>", 0.1, 0.5), ("steer", "gamma", 0.01, 0.2)], None),
    ],
)
def test_headlines_follow_paired_differences(
    key: str, pairs: list[tuple[str, str, float, float]], winner: str | None
) -> None:
    found = evaluation([*METHODS, "real"]) | {"differences": differing(key, *pairs)}
    names = {each.title: each.name for each in headlines(found)}
    assert names.get("overall") == (winner if key == "summary" else "steer")
    assert ("fidelity" in names) == (key == "fidelity_score")


def test_there_is_no_headline_without_intervals_or_a_rival() -> None:
    found = evaluation([*METHODS, "real"])
    for row in found["rows"]:
        for key, *_ in COLUMNS:
            row[key] = {"value": row[key]["value"]}
    assert headlines(found) == []
    assert headlines(evaluation(["steer", "real"])) == []


@pytest.mark.parametrize(
    ("aim", "bounds"),
    [("higher", (0.4, 0.9)), ("lower", (-0.9, -0.4)), ("as real", (-0.4, 0.0))],
)
def test_what_is_good_within_an_interval(aim: str, bounds: tuple[float, float]) -> None:
    found = _good_bounds(aim, {"value": 0.5, "low": 0.4, "high": 0.9}, real=0.5)
    assert found == pytest.approx(bounds)
    assert _good_bounds(aim, {"value": 0.5}, real=0.5) is None


def test_axes_keep_within_what_is_possible() -> None:
    found = evaluation([*METHODS, "real"])
    for row, value in zip(found["rows"], (0.0, 0.5, 1.2, 1.0), strict=True):
        row["diversity_score"] = {"value": value}
    looks = styles([*METHODS])
    assert trade_offs(found, looks)[0].layout["xaxis"]["range"] == pytest.approx([0, 1.368])
    same = {"one text": ["a b c"] * 9}
    assert length_histograms(same, ["a b c"], styles(["one text"]))[0].layout["yaxis"]["range"] == [
        0,
        1,
    ]


def test_what_was_not_measured_is_left_out() -> None:
    found = evaluation([*METHODS, "real"])
    for row in found["rows"]:
        row["coherence_score"] = {"value": None, "reason": "no judge: name one"}
    (summary, *_) = measure_tables(found)
    assert [column["key"] for column in summary.columns] == [
        "fidelity_score",
        "diversity_score",
        "summary",
    ]
    found["rows"][0]["summary"] = {"value": None, "reason": "why"}
    (summary, *_) = measure_tables(found)
    assert summary.rows["steer"][2].reason == "why"
    assert not summary.rows["steer"][2].best


def test_whiskers_lie_within_the_column() -> None:
    for table in measure_tables(evaluation([*METHODS, "real"])):
        for cells in table.rows.values():
            for cell in cells:
                if cell.whisker:
                    whisker = cell.whisker
                    assert 0 <= whisker.low <= whisker.at <= whisker.high <= 100


def test_pairs_are_the_nearest(comparison: Path, tmp_path: Path) -> None:
    _, data = split(write(comparison, tmp_path / "report.html", neighbours=4))
    pairs = data["pairs"]
    assert [p["cosine"] for p in pairs] == sorted((p["cosine"] for p in pairs), reverse=True)
    method = read_material(comparison).methods[0]
    rows = StubEmbedder().embed([*method.texts], lambda *_: None)
    real = StubEmbedder().embed([*REAL.texts], lambda *_: None)
    naive = sorted((max(float(a @ b) for b in real) for a in rows), reverse=True)[:4]
    found = [p["cosine"] for p in pairs if p["method"] == method.name]
    assert found == pytest.approx(naive, abs=6e-4)


def test_a_pair_shows_its_longest_run() -> None:
    run = stub.FIELDS | {"text": "one two three four five"}
    rows = np.eye(2, dtype=np.float32)
    (pair,) = closest_pairs(
        {"m": [Record(**run)]}, {"m": rows[1:]}, ["other", "x two three FOUR y"], rows, 5
    )
    assert (pair.real, pair.run, pair.cosine) == ("x two three FOUR y", 3, 1.0)


def test_the_plane_keeps_the_main_directions() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 6)) * [9, 5, 0.1, 0.1, 0.1, 0.1]
    plane = project(rows)
    assert plane is not None and plane.share > 0.99 and plane.trust > 0.99
    assert plane.method == "PCA" and plane.principal_trust == plane.trust
    apart = np.linalg.norm(rows[0] - rows[1])
    assert np.linalg.norm(plane.points[0] - plane.points[1]) == pytest.approx(apart, abs=0.5)
    assert project(np.ones((9, 4))) is None
    assert project(np.eye(3)) is not None


def knots(texts: int = 8, places: int = 12) -> np.ndarray:
    """Texts around places that are all equally far apart, which no two directions show."""
    noise = np.random.default_rng(0).normal(size=(texts * places, 40))
    return np.repeat(np.eye(40)[:places], texts, axis=0) + 0.05 * noise


@pytest.mark.parametrize("method", ["t-SNE", "UMAP"])
def test_the_map_keeps_neighbours_together_where_directions_do_not(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if method == "UMAP":
        pytest.importorskip("umap")
    else:
        monkeypatch.setattr("steer.report.features.find_spec", lambda name: None)
    monkeypatch.setattr("steer.report.features.FEW", 30)
    plane = project(knots(), seed=1)
    assert plane is not None and plane.method == method
    assert plane.share < 0.35 and plane.trust > plane.principal_trust + 0.05
    again = project(knots(), seed=1)
    assert again is not None and np.array_equal(again.points, plane.points)


def test_umap_is_used_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, fake_umap: list[Any]
) -> None:
    monkeypatch.setattr("steer.report.features.find_spec", lambda name: name)
    monkeypatch.setattr("steer.report.features.FEW", 30)
    plane = project(knots(), seed=3)
    assert plane is not None and plane.method == "UMAP"
    assert np.array_equal(plane.points, knots()[:, :2])
    assert [each["random_state"] for each in fake_umap] == [3]


def test_records_are_drawn_with_the_seed(comparison: Path, tmp_path: Path) -> None:
    def drawn(name: str, **settings: Any) -> list[str]:
        _, data = split(write(comparison, tmp_path / name, records=5, **settings))
        return [record["id"] for record in data["records"]["steer"]]

    assert drawn("a") == drawn("b") != drawn("c", seed=1)
    assert len(set(drawn("a"))) == 5
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_single_runs_do_without_an_evaluation(comparison: Path, tmp_path: Path) -> None:
    for source in (comparison / "runs/0", [comparison / "runs/0", comparison / "runs/1"]):
        page, data = split(write(source, tmp_path / "report.html"))
        assert "steer compare EXPERT --real DATA --out OUT" in page.split('id="provenance"')[1]
        assert not re.findall(r'<section id="(summary|trade-off|grid|measures)"', page)
        assert re.findall(r'<section id="([\w-]+)"', page)[0] == "map"
        assert not data["figures"]["trade"] and data["figures"]["map"]
    (comparison / "evaluation.json").rename(tmp_path / "kept")
    page, _ = split(write(comparison, tmp_path / "report.html"))
    (tmp_path / "kept").rename(comparison / "evaluation.json")
    assert "The command that makes it: <code>steer compare &lt;expert&gt;</code>" in page


def test_a_method_without_records_is_shown_with_its_rejects(tmp_path: Path) -> None:
    folder = make(tmp_path / "out")
    expert, engine = stub.StubExpert(), stub.StubEngine(REAL)
    config = RunConfig(n=5, min_chars=1000, max_attempts=8, round_size=8, panel_size=3)
    generate(config, REAL, expert, engine, folder / "runs/none")
    found = json.loads((folder / "comparison.json").read_text())
    found["methods"].append({"name": "none", "run": "runs/none", "settings": {}, "wanted": 5})
    (folder / "comparison.json").write_text(json.dumps(found))
    page, data = split(write(folder, tmp_path / "report.html"))
    assert "Too few records to be measured: none." in page
    assert data["records"]["none"] == []
    assert len(data["figures"]["lengths"]) == 3
    with pytest.raises(SteerError, match="no accepted records"):
        write(folder / "runs/none", tmp_path / "report.html")


def test_runs_of_comments_are_masked_too(tmp_path: Path) -> None:
    prompt = load_task("comments").prompt
    expert = stub.StubExpert(("non-toxic", "toxic"), prompt)
    config = RunConfig(labels={"toxic": 5}, panel_size=3)
    generate(config, LABELLED, expert, stub.StubEngine(LABELLED), tmp_path / "run")
    _, data = split(write(tmp_path / "run", tmp_path / "report.html", LABELLED))
    assert all("·" in text for text in data["texts"])


def test_labels_have_symbols(tmp_path: Path) -> None:
    _, data = split(write(make(tmp_path / "out", LABELLED), tmp_path / "r.html", LABELLED))
    trace = data["figures"]["map"][0]["data"][-1]
    symbols = dict(zip(trace["meta"], trace["marker"]["symbol"], strict=True))
    assert symbols == {"non-toxic": "circle", "toxic": "square"}


def test_rejects_add_up(comparison: Path, tmp_path: Path) -> None:
    page, _ = split(write(comparison, tmp_path / "report.html"))
    table = page.split("Table: rejects by reason")[1].split("</table>")[0]
    rows = table.split("<tbody>")[1].split("</tr>")[:-1]
    for row, method in zip(rows, read_material(comparison).methods, strict=True):
        shares = [float(share) for share in re.findall(r"--share: ([\d.]+)", row)]
        assert sum(shares) == pytest.approx(len(method.run.rejects) / method.attempts, abs=1e-3)


def test_a_corrected_run_says_how_it_went(
    comparison: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steer.runs.generation.load_embedder", lambda name: WordEmbedder())
    real = stub.corpus(120)
    config = RunConfig(n=30, candidates=2, rows_per_panel=50)
    run = generate(config, real, stub.StubExpert(), NarrowEngine(real), tmp_path / "run")
    assert run.correction is not None
    page, _ = split(write([tmp_path / "run"], tmp_path / "report.html", real))
    table = page.split("Table: correction")[1].split("</table>")[0]
    assert f"30 of {run.correction.candidates} candidates" in table
    assert f"AUROC {run.correction.before:.3f}" in table
    other, _ = split(write(comparison, tmp_path / "other.html"))
    assert "Table: correction" not in other


def test_answer_letters(tmp_path: Path) -> None:
    questions = [
        f"Why {i}? A. a B. b C. c D. d E. e Answer: {letter}" for i, letter in enumerate("AAB")
    ]
    assert answer_shares([*questions, "no question"])[0] == 3
    assert answer_shares(questions)[1]["A"] == pytest.approx(2 / 3)
    real = Corpus((*questions, *REAL.texts), None, "real")
    folder = make(tmp_path / "out", REAL, {"name": "commonsense", "form": "question"})
    page, _ = split(write(folder, tmp_path / "report.html", real))
    assert "66.7%" in page.split("Table: answer letters")[1]


def edited(format: str = ".3f", **changed: Any) -> str:
    """An evaluation that is well formed but for what is changed."""
    column = {"key": "a", "group": "g", "title": "A", "aim": "lower", "format": format}
    row = {"name": "b", "a": {"value": 1.0}}
    whole = {"n": 3, "embedder": "e", "columns": [column], "rows": [row]}
    return json.dumps(whole | changed)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("comparison.json", "{", "is damaged"),
        ("evaluation.json", "{", "evaluate again"),
        ("evaluation.json", "[]", "evaluate again"),
        ("evaluation.json", '{"columns": [{}]}', "evaluate again"),
        ("evaluation.json", '{"columns": [{"key": "a"}], "rows": [{"name": "b"}]}', "n is"),
        ("evaluation.json", edited(rows=[{"name": "b"}]), "'b' lacks"),
        ("evaluation.json", edited(rows=[{"name": 3}]), "rows"),
        ("evaluation.json", edited(n="3"), "n is '3'"),
        ("evaluation.json", edited(format="9999999999d"), "format"),
        ("evaluation.json", "[" * 200_000, "nested too deeply"),
        ("comparison.json", edited(), "format"),
        ("comparison.json", '{"format": 1, "methods": [{"name": 3}]}', "command|methods"),
        ("comparison.json", "[" * 200_000, "nested too deeply"),
    ],
)
def test_damaged_files_are_named(
    comparison: Path, tmp_path: Path, name: str, content: str, message: str
) -> None:
    kept = (comparison / name).read_bytes()
    (comparison / name).write_text(content)
    try:
        with pytest.raises(SteerError, match=message):
            write(comparison, tmp_path / "report.html")
    finally:
        (comparison / name).write_bytes(kept)
    assert not list(tmp_path.iterdir())


def test_mistakes_leave_nothing(comparison: Path, tmp_path: Path) -> None:
    for source, out, message in [
        (tmp_path, tmp_path / "r.html", "is no run"),
        ([], tmp_path / "r.html", "nothing to report on"),
        ([comparison / "runs/0"] * 2, tmp_path / "r.html", "named twice"),
        (comparison, tmp_path, "cannot write"),
        (comparison, tmp_path / "no" / "r.html", "cannot write"),
    ]:
        with pytest.raises(SteerError, match=message):
            write(source, out)
    assert not list(tmp_path.iterdir())


def test_what_is_not_a_number_is_missing(comparison: Path, tmp_path: Path) -> None:
    found = evaluation([*METHODS, "real"])
    found["rows"][0]["fidelity_score"] = {"value": math.nan}
    kept = (comparison / "evaluation.json").read_bytes()
    (comparison / "evaluation.json").write_text(json.dumps(found))
    _, data = split(write(comparison, tmp_path / "report.html"))
    (comparison / "evaluation.json").write_bytes(kept)
    assert len(data["figures"]["trade"][1]["data"]) == 4


def test_many_methods_reuse_colours_in_other_shapes() -> None:
    found = styles([str(i) for i in range(30)])
    looks = [(look.colour, look.shape) for look in found.values()]
    assert len(set(looks)) == len(looks) == 31


def test_lengths_are_shares_of_all(comparison: Path, tmp_path: Path) -> None:
    _, data = split(write(comparison, tmp_path / "report.html"))
    for figure in data["figures"]["lengths"]:
        for trace in figure["data"]:
            assert sum(trace["y"]) == pytest.approx(1, abs=1e-2)
    bars = data["figures"]["lengths"][0]["data"][0]
    counts = [len(words(text)) for text in read_material(comparison).methods[0].texts]
    low, high = re.findall(r"\d+", bars["text"][0])
    share = sum(int(low) <= count <= int(high) for count in counts) / len(counts)
    assert bars["y"][0] == pytest.approx(share, abs=1e-3)
