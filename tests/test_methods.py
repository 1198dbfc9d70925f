import pytest

from steer.config import Guidance
from steer.errors import SteerError
from steer.guidance import Contexts, build_streams
from steer.methods import ALL, DEFAULT, METHODS, Method, find_methods, usual_method

ASKED = Contexts("p", negative=("n",), positive="q", others=("o",))


def test_names_are_unique_and_every_method_makes_a_run() -> None:
    assert len({method.name for method in METHODS}) == len(METHODS)
    for method in METHODS:
        config = method.configure({"n": 3, "seed": 5}, 17)
        assert (config.total, config.seed, config.sampling.max_new_tokens) == (3, 5, 17)
        assert config.guidance == method.guidance
        streams = build_streams(method.guidance, ASKED)
        assert streams[0].name == ("positive" if method.name == "few-shot" else "expert")
        published = method.guidance.weights == "published"
        total = 1 - method.guidance.eta if published else 1
        assert sum(stream.weight for stream in streams) == pytest.approx(total)


def test_only_the_plain_method_has_no_settings() -> None:
    assert [method.name for method in METHODS if not method.settings] == ["plain"]


def test_lists_of_names() -> None:
    found = find_methods("nucleus, steer", labelled=False)
    assert [method.name for method in found] == ["nucleus", "steer"]
    assert len(find_methods(DEFAULT, labelled=False)) == DEFAULT.count(",") + 1
    assert find_methods(ALL, labelled=True) == METHODS
    without = {method.name for method in find_methods(ALL, labelled=False)}
    assert {method.name for method in METHODS} - without == {"dexperts", "label-contrast"}


def test_settings_go_where_they_belong() -> None:
    (found,) = find_methods("steer:gamma=0.4:top_k=7:panel_size=3:adaptive=true", labelled=False)
    steer = next(method for method in METHODS if method.name == "steer")
    assert (found.guidance.gamma, found.guidance.adaptive) == (0.4, True)
    assert (found.guidance.eta, found.guidance.alpha) == (steer.guidance.eta, steer.guidance.alpha)
    assert (found.sampling.top_k, found.panel_size) == (7, 3)
    assert found.name == "steer:gamma=0.4:top_k=7:panel_size=3:adaptive=true"
    assert steer.guidance.gamma == Guidance().gamma


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        ((), "temperature"),
        (("top_k", "min_p"), "temperature"),
        (("temperature", "alpha"), "steer"),
        (("eta",), "steer"),
        (("panel_size",), "steer"),
    ],
)
def test_a_setting_of_guidance_steers(chosen: tuple[str, ...], name: str) -> None:
    assert usual_method(chosen) == name
    assert find_methods(name, labelled=False)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("nukleus", "no method 'nukleus'; choose from plain"),
        ("steer:gama=1", "'gama=1' is no setting"),
        ("steer:gamma", "'gamma' is no setting"),
        ("steer:gamma=much", "gamma is 'much'"),
        ("steer:panel_form=odd", "panel_form is 'odd'"),
        ("plain,plain", "names one twice"),
        ("dexperts", "needs labels"),
        ("beam:top_k=3", "a search draws no tokens"),
    ],
)
def test_mistakes(names: str, says: str) -> None:
    with pytest.raises(SteerError, match=says):
        find_methods(names, labelled=False)


def test_few_shot_prompting_is_the_base_model_after_a_panel_of_the_method() -> None:
    (found,) = find_methods("few-shot:panel_size=4:top_k=20", labelled=False)
    assert found.settings == {"few_shot": True, "top_k": 20} | {
        "panel_size": 4,
        "panel_form": "prompted",
        "panel_selection": "random",
    }
    with pytest.raises(SteerError, match=r"few_shot with gamma 0, eta 0, rho 0\.3"):
        find_methods("few-shot:rho=0.3", labelled=False)


def test_a_method_of_ones_own() -> None:
    own = Method(name="own", sampling={"top_k": 3})
    assert own.settings == {"top_k": 3}
