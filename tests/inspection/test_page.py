"""The page: its data, the TensorBoard plugin, the single file, and both in a real browser."""

import base64
import hashlib
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

from attn_rl import AttentionCallback, cli, make_agent, make_vec_env
from attn_rl.inspection.measure.record_file import record_path
from attn_rl.inspection.tensorboard.page import data
from attn_rl.inspection.tensorboard.page.page import write_page
from attn_rl.inspection.tensorboard.page.plugin import AttentionPlugin
from benchmarks.campaign.damaged_records import HARMLESS, KINDS, in_a_process_of_its_own, trial
from tests.browser import headless_chromium, wait_for

SEEK = "AttnRL/Seek-v0"
SLOW = {"300 kB that become 300 MB", "60,000 arrays"}
"""Kinds of damage that take seconds to make: in the campaign only."""
RISKY = {"a FIFO", "a device", "20 GB, sparse", "4,000 names for one array", "10^9 empty texts", "10^9 empty rows"}
"""Kinds that would stop or fill this process if they were read."""


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


@pytest.mark.parametrize("kind", [kind for kind in KINDS | HARMLESS if kind not in SLOW])
def test_a_damaged_record_is_explained_and_an_odd_one_is_shown(kind: str, tmp_path: Path):
    """In the tab, in the exported page, and by ``ProbeRecord.load``; the healthy record beside it stays readable."""

    def attempt() -> str | None:
        return trial(tmp_path, (KINDS | HARMLESS)[kind], kind in HARMLESS)

    assert (in_a_process_of_its_own(attempt) if kind in RISKY else attempt()) is None


def test_an_explanation_says_what_is_wrong(tmp_path: Path):
    apps = AttentionPlugin(TBContext(logdir=str(tmp_path))).get_plugin_apps()
    client = Client(lambda environ, start: apps["/record"](environ, start))
    words = {
        "a FIFO": "000000000007.npz is a FIFO; only plain files are opened",
        "a link": "is a symbolic link",
        "compressed": "is compressed",
        "10^12 numbers declared": "value.npy declares (1000000000000,) of float64, which",
        "a pattern of other slots": "pattern_0 holds (3, 2, 6, 9) of float32, expected numbers (S=3,H=2,Q=6,K=6)",
        "a lead beyond the columns": "meta has no 'lead' of the right form, but 60",
        "5 million numbers": "at most 4,194,304 are shown",
    }
    for number, (kind, said) in enumerate(words.items()):
        path = record_path(tmp_path / f"run{number}", 7)
        path.parent.mkdir(parents=True)
        KINDS[kind](path)
        answer = client.get(f"/record?run=run{number}&step=7")
        assert answer.status_code == 404
        assert said in answer.json["error"]


def test_a_fault_of_our_own_is_no_error_500(client: Client, monkeypatch: pytest.MonkeyPatch):
    def broken(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(data, "read_record", broken)
    answer = client.get("/record?run=seek-run&step=32")
    assert answer.status_code == 404
    assert "ZeroDivisionError, see TensorBoard's log" in answer.json["error"]


@pytest.mark.parametrize("step", ["²", "-32", "3_2", "1" * 5000, "١", " 32"])
def test_a_step_that_is_no_number_is_explained(client: Client, step: str):
    answer = client.get("/record", query_string={"run": "seek-run", "step": step})
    assert answer.status_code == 404
    assert "is no number of a step" in answer.json["error"]


def test_a_run_whose_name_is_no_text_can_be_asked_for(tmp_path: Path):
    run = Path(os.fsdecode(os.fsencode(tmp_path) + b"/run-\xff"))
    record_path(run, 7).parent.mkdir(parents=True)
    HARMLESS["nothing"](record_path(run, 7))
    (name,) = data.find_runs(tmp_path)
    assert name == r"run-\xff"
    assert r"Attention of run-\xff" in write_page(run, tmp_path / "out.html").read_text()


def test_the_tab_is_active_where_something_was_recorded(logdir: Path, tmp_path: Path):
    assert AttentionPlugin(TBContext(logdir=str(logdir))).is_active()
    assert not AttentionPlugin(TBContext(logdir=str(tmp_path))).is_active()
    assert not AttentionPlugin(TBContext(logdir=str(tmp_path / "missing"))).is_active()


def test_importing_the_plugin_imports_neither_torch_nor_stable_baselines():
    code = (
        "import sys, attn_rl.inspection.tensorboard.page.plugin;"
        "print([m for m in ('torch', 'stable_baselines3', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_single_file_holds_everything_and_needs_no_network(logdir: Path, tmp_path: Path):
    page = write_page(logdir / "seek-run", tmp_path / "out.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert '"items 0"' in page


def test_no_name_becomes_markup_and_only_the_viewer_may_run(tmp_path: Path):
    run = tmp_path / "<img src=x onerror=alert(1)>"
    record_path(run, 7).parent.mkdir(parents=True)
    HARMLESS["markup in all names"](record_path(run, 7))
    page = write_page(run, tmp_path / "out.html").read_text()
    assert "<title>Attention of &lt;img src=x onerror=alert(1)&gt;</title>" in page
    assert page.count("<script") == page.count("</script") == 2
    script = page.split('<script type="module">')[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.split("<title>")[0]
    assert "default-src 'none'" in page.split("<title>")[0]


def test_a_folder_without_records_has_no_page(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no attention records that can be read"):
        write_page(tmp_path, tmp_path / "out.html")
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_written_is_explained(logdir: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"out.html cannot be written: No such file or directory"):
        write_page(logdir / "seek-run", tmp_path / "missing" / "out.html")


def test_a_page_takes_the_place_of_nothing_but_a_file(logdir: Path, tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ValueError, match="fifo is a FIFO; expected a new file, or a regular one to replace"):
        write_page(logdir / "seek-run", tmp_path / "fifo")
    assert (tmp_path / "fifo").is_fifo()


def test_inspect_leaves_a_damaged_record_out_and_says_so(tmp_path: Path, monkeypatch, capsys):
    run = tmp_path / "run"
    record_path(run, 7).parent.mkdir(parents=True)
    KINDS["compressed"](record_path(run, 7))
    HARMLESS["nothing"](record_path(run, 8))
    html = tmp_path / "out.html"
    monkeypatch.setattr(sys, "argv", ["attn-rl", "inspect", str(run), "--html", str(html)])
    cli.main()
    said = capsys.readouterr()
    assert said.out == f"wrote {html}\n"
    assert said.err.startswith("record 7 is left out: ")
    assert "is compressed" in said.err


# ---- in a browser ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    with headless_chromium(tmp_path_factory.mktemp("profile"), 1600, 1150) as driver:
        yield driver


def launch(logdir: Path) -> str:
    plugins = [plugin for plugin in default.get_plugins() if getattr(plugin, "plugin_name", "") != "attention"]
    board = program.TensorBoard([*plugins, AttentionPlugin])
    board.configure((None, "--logdir", str(logdir), "--port", "0", "--host", "127.0.0.1"))
    return board.launch()


def find(browser, selector: str):
    return browser.find_elements("css selector", selector)


def check_page(browser, shot: Path) -> None:
    """The page that is open: it lists the run, changes with the step slider, and names what is hovered."""
    wait_for(browser, lambda b: find(b, "#drawing .entity"))
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
    wait_for(browser, lambda b: drawn() != last)
    from selenium.webdriver import ActionChains

    present = next(e for e in find(browser, "#drawing .entity") if e.is_displayed())
    ActionChains(browser).move_to_element(present).perform()
    tip = wait_for(browser, lambda b: find(b, "#tip")[0].text)
    assert tip.startswith(f"items {present.get_attribute('data-slot')}")
    assert "distance" in tip
    assert "weight" in tip


@pytest.mark.browser
def test_the_tab_in_tensorboard(browser, logdir: Path, tmp_path: Path):
    url = launch(logdir)
    browser.get(f"{url}#attention")
    frame = wait_for(browser, lambda b: find(b, "iframe"))[0]
    browser.switch_to.frame(frame)
    check_page(browser, tmp_path / "attention-tab.png")
    browser.switch_to.default_content()


@pytest.mark.browser
def test_the_tab_over_a_foreign_log_directory_says_what_to_do(browser, tmp_path: Path):
    browser.get(f"{launch(tmp_path)}data/plugin_entry.html?name=attention")
    wait_for(browser, lambda b: "No attention recorded here" in b.page_source)
    assert "attn-rl train" in browser.page_source


@pytest.mark.browser
def test_a_damaged_record_is_explained_where_it_would_be_drawn(browser, tmp_path: Path):
    run = tmp_path / "run"
    record_path(run, 7).parent.mkdir(parents=True)
    HARMLESS["nothing"](record_path(run, 6))
    KINDS["a pattern of other slots"](record_path(run, 7))
    browser.get(f"{launch(tmp_path)}data/plugin_entry.html?name=attention")
    wait_for(browser, lambda b: find(b, "#scene p") and "pattern_0 holds (3, 2, 6, 9)" in find(b, "#scene")[0].text)
    browser.save_screenshot(str(tmp_path / "damaged.png"))
    browser.execute_script(
        "const s = document.getElementById('headSelect'); s.dispatchEvent(new Event('change'));"
        "const t = document.getElementById('stepSlider'); t.value = 0; t.dispatchEvent(new Event('input'));"
    )
    wait_for(browser, lambda b: find(b, "#drawing .entity"))
    browser.execute_script(
        "const s = document.getElementById('stepSlider'); s.value = 1; s.dispatchEvent(new Event('input'));"
    )
    wait_for(browser, lambda b: not find(b, "#drawing"))
    assert find(browser, "#heads")[0].text == find(browser, "#verdicts")[0].text == ""


@pytest.mark.browser
def test_the_single_file_runs_no_script_but_its_own(browser, tmp_path: Path):
    run = tmp_path / "<script>document.title=1<"
    record_path(run, 7).parent.mkdir(parents=True)
    HARMLESS["markup in all names"](record_path(run, 7))
    html = write_page(run, tmp_path / "out.html")
    planted = "<script>document.title = 'planted'</script><img src='x' onerror='document.title = 1'>"
    html.write_text(html.read_text().replace("<body>", f"<body>{planted}"))  # as if something had slipped through
    browser.get(html.as_uri())
    wait_for(browser, lambda b: find(b, "#drawing .entity"))
    assert browser.title == "Attention of <script>document.title=1<"
    assert not find(browser, "#app script, #app img")


@pytest.mark.browser
def test_the_single_file(browser, logdir: Path, tmp_path: Path):
    browser.get(write_page(logdir / "seek-run", tmp_path / "out.html").as_uri())
    check_page(browser, tmp_path / "attention-file.png")


@pytest.mark.browser
@pytest.mark.parametrize("width", [420, 1600])
def test_nothing_lies_beyond_the_edge_of_a_narrow_or_a_wide_screen(browser, logdir: Path, tmp_path: Path, width: int):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        browser.get(write_page(logdir / "seek-run", tmp_path / "out.html").as_uri())
        wait_for(browser, lambda b: find(b, "#drawing .entity"))
        assert browser.execute_script("return document.documentElement.scrollWidth") == width
        browser.execute_script(  # every cell of the table is hovered over, the rightmost last
            "for (const cell of document.querySelectorAll('#heads rect')) {"
            "const at = cell.getBoundingClientRect(); cell.dispatchEvent(new MouseEvent('mousemove',"
            "{clientX: at.right - 2, clientY: at.top + 2})); }"
        )
        tip = find(browser, "#tip")[0].rect
        assert tip["width"] > 0
        assert tip["x"] + tip["width"] <= width
        assert "in nats" in find(browser, "#verdicts .note")[0].text  # what an effect is
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
