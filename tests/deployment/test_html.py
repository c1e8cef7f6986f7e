"""The page: its rules are those of the environments, its module is up to date, it plays what Python plays."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import attn_rl
from attn_rl import make_agent, make_vec_env
from attn_rl.adapters import make_env
from attn_rl.backends.choose import using
from attn_rl.deployment.exportable import NotExportable
from attn_rl.deployment.html import PAGE, RULES
from attn_rl.training.loading import adapt
from tests.browser import headless_chromium, wait_for
from tests.toys import Toy

NODE = shutil.which("node")
SETTINGS = {
    "Seek": [{}, {"min_entities": 1, "max_entities": 1}, {"min_entities": 12, "max_entities": 30, "capacity": 33}],
    "Boxes": [{}, {"min_depth": 1, "max_depth": 1, "min_branches": 0, "capacity": 3},
              {"min_depth": 2, "max_depth": 5, "branch_length": 3, "max_branches": 2, "capacity": 40}],
}  # fmt: skip


def play(name, kwargs, seed, n_episodes, rng):
    """Episodes of random actions, half of them of the scripted policy, in the environment itself."""
    env = make_env(f"AttnRL/{name}-v0", **kwargs)
    settings = {setting: getattr(env.unwrapped.batch, setting) for setting in RULES[name]}
    for episode in range(n_episodes):
        observation, _ = env.reset(seed=seed if episode == 0 else None)
        actions, observations, outcomes, places = [], [observation], [], [env.unwrapped.entity_positions()]
        done = False
        while not done:
            scripted = rng.random() < 0.5
            actions.append(int(env.unwrapped.oracle(observation) if scripted else rng.integers(env.action_space.n)))
            observation, reward, terminated, truncated, info = env.step(actions[-1])
            done = terminated or truncated
            observations.append(observation)
            places.append(env.unwrapped.entity_positions())
            outcomes.append((reward, terminated, truncated, info["is_success"]))
        game = {"environment": name, "settings": settings, "seed": seed, "episode": episode, "actions": actions}
        yield game, observations, outcomes, places


@pytest.mark.skipif(NODE is None, reason="needs node")
@pytest.mark.parametrize("name", RULES)
def test_the_rules_are_those_of_the_environment(name):
    """Every observation and reward of 60 episodes, bit for bit."""
    rng = np.random.default_rng(0)
    played = [
        one for kwargs in SETTINGS[name] for seed in (0, 7, 2**40 + 1) for one in play(name, kwargs, seed, 7, rng)
    ]
    scripts = [PAGE / script for script in ("random.js", "seek.js", "boxes.js")]
    done = subprocess.run(
        [NODE, PAGE.parents[2] / "tests" / "deployment" / "rules.mjs", *scripts],
        input=json.dumps([game for game, *_ in played]),
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert len(found) == len(played) > 50
    for one, (_, observations, outcomes, places) in zip(found, played, strict=True):
        assert len(one["observations"]) == len(observations)
        for a, b in zip(one["observations"], observations, strict=True):
            for key, block in b.items():
                np.testing.assert_array_equal(np.float32(a[key]), block.ravel().astype(np.float32))
        for a, b in zip(one["outcomes"], outcomes, strict=True):
            assert (a["reward"], a["terminated"], a["truncated"], bool(a["success"])) == b
        for a, b in zip(one["places"], places, strict=True):
            shown = np.array([[np.nan, np.nan] if place is None else place for place in a])
            np.testing.assert_allclose(shown, b, atol=1e-12)


def test_the_module_is_built_from_the_sources_that_are_there():
    sources = (PAGE / "wasm.cpp").read_bytes() + (PAGE.parent / "runtime" / "attn_rl.hpp").read_bytes()
    stamp = f"sources:{hashlib.sha256(sources).hexdigest()}".encode()
    assert stamp in (PAGE / "attn_rl.wasm").read_bytes(), "run attn_rl/deployment/page/build.sh"


@pytest.mark.slow
def test_the_module_can_be_built_again(tmp_path):
    compiler = shutil.which("em++")
    if (
        compiler is None
        or " 3.1.6 " not in subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    ):
        pytest.skip("needs Emscripten 3.1.6")
    subprocess.run([PAGE / "build.sh", tmp_path / "again.wasm"], check=True)
    assert (tmp_path / "again.wasm").read_bytes() == (PAGE / "attn_rl.wasm").read_bytes()


def test_other_environments_are_refused_in_words(tmp_path):
    with pytest.raises(NotExportable, match=r"knows the rules of Seek and Boxes, as they are; this is AttnRL/Dodge-v0"):
        attn_rl.export(make_agent("AttnRL/Dodge-v0"), html=tmp_path / "page.html")
    model = make_agent(attn_rl.make_vec_env(Toy, 2))
    with pytest.raises(NotExportable, match="this is an environment without an id"):
        attn_rl.export(model, html=tmp_path / "page.html")
    with pytest.raises(NotExportable, match="give the algorithm"):
        attn_rl.export(model.policy, html=tmp_path / "page.html")


def test_the_page_loads_nothing(tmp_path):
    attn_rl.export(make_agent("AttnRL/Seek-v0"), html=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "{{" not in page
    assert "http" not in page.replace("<meta http-equiv", "")
    assert " src=" not in page
    assert len(page) < 600_000


# ---- in a browser ------------------------------------------------------------------------------------------------

N_EPISODES = 200


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    with headless_chromium(tmp_path_factory.mktemp("profile"), 1200, 860) as made:
        yield made


def agent(name):
    """An agent whose weights are random, but large: its actions differ from scene to scene."""
    made = make_agent(f"AttnRL/{name}-v0", seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in made.policy.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def actions_in_python(model, name, settings, seed):
    """What the policy does in the first episode of each seed."""
    env = make_vec_env(f"AttnRL/{name}-v0", N_EPISODES, seed=seed, env_kwargs=settings)
    larger = adapt(model, env)
    found, playing = [[] for _ in range(N_EPISODES)], np.ones(N_EPISODES, bool)
    observation = env.reset()
    while playing.any():
        with using(larger, "plain"):
            actions, _ = larger.predict(observation, deterministic=True)
        for i in np.flatnonzero(playing):
            found[i].append(int(actions[i]))
        observation, _, done, _ = env.step(actions)
        playing &= ~done
    return found


LARGER = {
    "Seek": {"min_entities": 12, "max_entities": 24, "capacity": 24, "penalty": 0, "shaping": 0.5},
    "Boxes": {"min_depth": 3, "max_depth": 4, "min_branches": 1, "max_branches": 3, "branch_length": 1, "capacity": 13,
              "shaping": 0.2},
}  # fmt: skip


@pytest.mark.browser
@pytest.mark.parametrize("name", RULES)
def test_the_page_plays_what_python_plays(name, browser, tmp_path):
    """Whole episodes among more entities than in training: the same actions, one by one."""
    model = agent(name)
    attn_rl.export(model, html=tmp_path / "page.html")
    browser.get((tmp_path / "page.html").as_uri())
    wait_for_script(browser, "return document.documentElement.dataset.ready === 'yes'")
    played = browser.execute_script("return playEpisodes(...arguments)", 3, N_EPISODES, LARGER[name])
    expected = actions_in_python(model, name, LARGER[name], 3)
    assert played == expected
    assert len({tuple(actions) for actions in played}) > N_EPISODES / 4
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert severe == []


@pytest.mark.browser
@pytest.mark.parametrize("name", RULES)
def test_the_controls_do_what_they_say(name, browser, tmp_path):
    attn_rl.export(agent(name), html=tmp_path / "page.html")
    browser.get((tmp_path / "page.html").as_uri())
    wait_for_script(browser, "return document.documentElement.dataset.ready === 'yes'")
    text = lambda part: browser.execute_script("return document.getElementById(arguments[0]).textContent", part)  # noqa: E731
    browser.find_element("id", "step").click()
    assert text("steps") == "1"
    browser.find_element("id", "next").click()
    assert text("steps") == "0"
    control = {"Seek": "items", "Boxes": "depth"}[name]
    browser.execute_script(
        "const x = document.getElementById(arguments[0]); x.value = x.max; x.dispatchEvent(new Event('input'))", control
    )
    assert "more than in training" in text(f"{control}-note")
    n = {"Seek": 32, "Boxes": 6 + 5 * 3}[name]
    assert text("summary").startswith(f"{n} ")
    browser.find_element("id", "play").click()
    wait_for_script(browser, "return Number(document.getElementById('steps').textContent) > 1")
    assert text("play") == "Pause"
    if folder := os.environ.get("ATTN_RL_SCREENSHOTS"):
        for theme in ("light", "dark"):
            browser.execute_script("document.documentElement.dataset.theme = arguments[0]; draw()", theme)
            browser.save_screenshot(str(Path(folder) / f"{name}-{theme}.png"))


def wait_for_script(browser, script):
    wait_for(browser, lambda b: b.execute_script(script))
