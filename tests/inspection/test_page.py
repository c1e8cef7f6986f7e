"""The page: its data, the TensorBoard plugin, the single file, and both in a real browser."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest
from tensorboard import default, program
from tensorboard.plugins.base_plugin import TBContext
from werkzeug.test import Client

from attn_rl import AttentionCallback, make_agent, make_vec_env
from attn_rl.inspection.tensorboard.page import data
from attn_rl.inspection.tensorboard.page.page import write_page
from attn_rl.inspection.tensorboard.page.plugin import AttentionPlugin

SEEK = "envs:AttnRL/Seek-v0"
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def logdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    if trained := os.environ.get("ATTN_RL_RUN"):  # for the pictures in the docs: a run that has learned something
        shutil.copytree(trained, root / "seek-run")
        return root
    agent = make_agent(make_vec_env(SEEK, 4, seed=0), seed=0, n_steps=8)
    probe_env = gym.make(SEEK, render_mode="rgb_array")
    callback = AttentionCallback(probe_env, root / "seek-run", every=1, n_scenes=3, n_pictures=2)
    agent.learn(64, callback=callback)
    return root


@pytest.fixture(scope="module")
def client(logdir: Path) -> Client:
    apps = AttentionPlugin(TBContext(logdir=str(logdir))).get_plugin_apps()
    return Client(lambda environ, start: apps[environ["PATH_INFO"]](environ, start))


def test_a_run_is_found_and_its_records_are_plain_json(logdir: Path):
    assert list(data.find_runs(logdir)) == ["seek-run"]
    assert list(data.find_runs(logdir / "seek-run")) == ["."]
    run = logdir / "seek-run"
    steps = data.steps_of(run)
    assert steps == sorted(steps)
    assert steps[0] == 32
    record = json.loads(json.dumps(data.read_record(run, steps[-1]), allow_nan=False))
    assert record["labels"][:2] == ["ego", "items 0"]
    n_states = len(record["states"]["scene"])
    assert len(record["layers"][0]["pattern"]) == n_states > 3
    assert record["features"]["items"]["names"][0] == "dx"
    assert data.read_picture(run, steps[-1], 0)[:4] == b"\x89PNG"
    assert data.read_picture(run, steps[-1], n_states) is None


def test_what_is_shown_is_what_was_recorded(logdir: Path):
    import numpy as np

    run = logdir / "seek-run"
    step = data.steps_of(run)[0]
    shown = np.array(data.read_record(run, step)["layers"][0]["pattern"])
    with np.load(run / "attention" / f"{step:012d}.npz") as file:
        assert np.abs(shown - file["pattern_0"]).max() <= 0.5e-4


def test_the_plugin_serves_runs_records_and_pictures(client: Client, logdir: Path):
    runs = client.get("/runs").json["runs"]
    step = runs["seek-run"][-1]
    assert client.get(f"/record?run=seek-run&step={step}").json["step"] == step
    assert client.get(f"/picture?run=seek-run&step={step}&state=0").data[:4] == b"\x89PNG"
    assert b"export async function render" in client.get("/index.js").data


@pytest.mark.parametrize("query", ["run=none&step=1", "run=../..&step=32", "run=seek-run&step=1", "run=seek-run", ""])
def test_a_request_for_something_else_is_answered_and_reads_nothing(client: Client, query: str):
    answer = client.get(f"/record?{query}")
    assert answer.status_code == 404
    assert "cannot be read" in answer.json["error"]
    assert client.get(f"/picture?{query}").status_code == 404


def test_a_damaged_record_is_explained(tmp_path: Path):
    folder = tmp_path / "run" / "attention"
    folder.mkdir(parents=True)
    (folder / "000000000007.npz").write_bytes(b"PK\x03\x04 no zip at all")
    apps = AttentionPlugin(TBContext(logdir=str(tmp_path))).get_plugin_apps()
    answer = Client(lambda environ, start: apps["/record"](environ, start)).get("/record?run=run&step=7")
    assert answer.status_code == 404
    assert "cannot be read" in answer.json["error"]


def test_the_tab_is_active_where_something_was_recorded(logdir: Path, tmp_path: Path):
    assert AttentionPlugin(TBContext(logdir=str(logdir))).is_active()
    assert not AttentionPlugin(TBContext(logdir=str(tmp_path))).is_active()
    assert not AttentionPlugin(TBContext(logdir=str(tmp_path / "missing"))).is_active()


def test_importing_the_plugin_imports_neither_torch_nor_stable_baselines():
    code = (
        "import sys, attn_rl.inspection.tensorboard.page.plugin;"
        "print([m for m in ('torch', 'stable_baselines3', 'gymnasium', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_single_file_holds_everything_and_needs_no_network(logdir: Path, tmp_path: Path):
    page = write_page(logdir / "seek-run", tmp_path / "out.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert '"items 0"' in page


def test_a_folder_without_records_has_no_page(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no attention records"):
        write_page(tmp_path, tmp_path / "out.html")


# ---- in a browser ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium and chromedriver on this machine: install both to run the browser tests")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    flags = "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    flags += "disable-component-update disable-sync disable-dev-shm-usage window-size=1500,1000"
    for flag in flags.split():
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def launch(logdir: Path) -> str:
    plugins = [plugin for plugin in default.get_plugins() if getattr(plugin, "plugin_name", "") != "attention"]
    board = program.TensorBoard([*plugins, AttentionPlugin])
    board.configure((None, "--logdir", str(logdir), "--port", "0", "--host", "127.0.0.1"))
    return board.launch()


def wait(browser, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 60).until(condition)


def find(browser, selector: str):
    return browser.find_elements("css selector", selector)


def check_page(browser, shot: Path) -> None:
    """The page that is open: it lists the run, changes with the step slider, and names what is hovered."""
    wait(browser, lambda b: find(b, "#drawing .entity"))
    assert [option.text for option in find(browser, "#runSelect option")] == ["seek-run"]
    folder = os.environ.get("ATTN_RL_SCREENSHOTS")  # the pictures in the docs: docs/images
    browser.save_screenshot(str(Path(folder or shot.parent) / shot.name))

    def drawn() -> str:
        return find(browser, "#scene")[0].get_attribute("innerHTML")

    assert "head 4: ego.cue = items.colour, " in find(browser, "#compared")[0].text
    last = drawn()
    browser.execute_script(
        "const s = document.getElementById('stepSlider'); s.value = 0; s.dispatchEvent(new Event('input'));"
    )
    wait(browser, lambda b: drawn() != last)
    from selenium.webdriver import ActionChains

    present = next(e for e in find(browser, "#drawing .entity") if e.is_displayed())
    ActionChains(browser).move_to_element(present).perform()
    tip = wait(browser, lambda b: find(b, "#tip")[0].text)
    assert tip.startswith(f"items {present.get_attribute('data-slot')}")
    assert "distance" in tip
    assert "weight" in tip


@pytest.mark.browser
def test_the_tab_in_tensorboard(browser, logdir: Path, tmp_path: Path):
    url = launch(logdir)
    browser.get(f"{url}#attention")
    frame = wait(browser, lambda b: find(b, "iframe"))[0]
    browser.switch_to.frame(frame)
    check_page(browser, tmp_path / "attention-tab.png")
    browser.switch_to.default_content()


@pytest.mark.browser
def test_the_tab_over_a_foreign_log_directory_says_what_to_do(browser, tmp_path: Path):
    browser.get(f"{launch(tmp_path)}data/plugin_entry.html?name=attention")
    wait(browser, lambda b: "No attention recorded here" in b.page_source)
    assert "python train.py" in browser.page_source


@pytest.mark.browser
def test_the_single_file(browser, logdir: Path, tmp_path: Path):
    browser.get(write_page(logdir / "seek-run", tmp_path / "out.html").as_uri())
    check_page(browser, tmp_path / "attention-file.png")
