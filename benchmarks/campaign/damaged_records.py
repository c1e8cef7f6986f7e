"""Attention records from a stranger or a broken disk: each is shown or explained, none costs memory or an error 500."""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.plugins.base_plugin import TBContext
from werkzeug.test import Client, TestResponse

from attn_rl.inspection.measure.probe_record import ProbeRecord
from attn_rl.inspection.measure.record_file import record_path
from attn_rl.inspection.measure.record_format import FOLDER
from attn_rl.inspection.tensorboard.page.page import write_page
from attn_rl.inspection.tensorboard.page.plugin import AttentionPlugin
from benchmarks.campaign import Outcome
from benchmarks.campaign.forged_records import (
    DAMAGED,
    Damage,
    arrays_with,
    bomb,
    bound_socket,
    bytes_with,
    crowded,
    device,
    foreign_member,
    honest,
    link,
    linked_folder,
    listed_as,
    meta,
    meta_with,
    named,
    npy,
    overlapping,
    pictures,
    png,
    raw_npy,
    save,
    sparse,
    text,
    twice,
    zip64,
)

HEALTHY = 9
"""Training step of the healthy record beside it."""
SECONDS = 30
MEMORY = 512 << 20
"""Most memory that a trial may take beyond what the process has already, in bytes."""

KINDS: dict[str, Damage] = {
    "an empty file": lambda path: path.write_bytes(b"") and None,
    "a text": lambda path: path.write_text("step,loss\n1,2\n") and None,
    "only the start of a zip file": lambda path: path.write_bytes(b"PK\x03\x04 no zip at all") and None,
    "random bytes": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)) and None,
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"a": 1})) and None,
    "an .npy file": lambda path: path.write_bytes(npy(np.zeros(30))) and None,
    "cut in half": bytes_with(lambda whole: whole[: len(whole) // 2]),
    "cut by ten bytes": bytes_with(lambda whole: whole[:-10]),
    "its beginning missing": bytes_with(lambda whole: whole[1000:]),
    "junk behind it": bytes_with(lambda whole: whole + b"junk"),
    "a byte of an array flipped": bytes_with(lambda whole: whole[:300] + bytes([whole[300] ^ 1]) + whole[301:]),
    "zeros in the middle": bytes_with(lambda whole: whole[:2000] + bytes(2000) + whole[4000:]),
    "a ZIP64 locator": bytes_with(zip64),
    "20 GB, sparse": sparse,
    "60,000 arrays": crowded,
    "4,000 names for one array": overlapping,
    "two arrays of one name": twice,
    "compressed": lambda path: save(path, honest(), zipfile.ZIP_DEFLATED),
    "compressed with LZMA": lambda path: save(path, honest(), zipfile.ZIP_LZMA),
    "300 kB that become 300 MB": bomb,
    "unknown compression": listed_as(10, "<H", 99),
    "encrypted": listed_as(8, "<H", 1),
    "a member larger than the file": listed_as(24, "<L", 4_000_000_000),
    "a stored member larger than the file": listed_as(20, "<L", 4_000_000_000),
    "a member beyond the end": listed_as(42, "<L", 3_000_000_000),
    "a member where another lies": listed_as(42, "<L", 0),
    "a member that is no array": foreign_member("run.sh"),
    "a member outside the folder": foreign_member("../../../outside.sh"),
    "10^12 numbers declared": arrays_with(value=npy(np.zeros(3), shape=f"({10**12},)")),
    "10^12 numbers declared in png": arrays_with(png=npy(np.zeros(3, np.uint8), shape=f"({10**12},)")),
    "fewer numbers declared than there are": arrays_with(value=npy(np.zeros(9), shape="(3,)")),
    "a negative shape": arrays_with(value=npy(np.zeros(3), shape="(-3,)")),
    "10^9 empty texts": arrays_with(value=npy(np.zeros(0), descr="'<U0'", shape=f"({10**9},)")),
    "10^9 empty rows": arrays_with(**{"obs.items": npy(np.zeros(0), shape=f"(3, {10**9}, 0)")}),
    "a pickled array": arrays_with(value=np.array([{}, [], ()], object)),
    "a structured array": arrays_with(value=np.zeros(3, [("a", "f4"), ("b", "i4")])),
    "complex numbers": arrays_with(value=np.zeros(3, complex)),
    "dates": arrays_with(value=np.zeros(3, "datetime64[s]")),
    "code in a header": arrays_with(value=raw_npy("__import__('os').abort()")),
    "5,000 brackets in a header": arrays_with(value=raw_npy("(" * 5000)),
    "a header without an end": arrays_with(value=b"\x93NUMPY\x01\x00\xff\xff{'descr'"),
    "a header of NumPy 9": arrays_with(value=raw_npy("{}", version=b"\x09\x00")),
    "no meta": arrays_with(meta=None),
    "meta is a number": arrays_with(meta=np.array(3)),
    "meta is no JSON": arrays_with(meta=text("{'step': 7")),
    "meta is a list": arrays_with(meta=text([1, 2])),
    "meta of 3 million characters": meta_with(verdicts=["x" * 3_000_000]),
    "meta 100,000 brackets deep": arrays_with(meta=text("[" * 100_000)),
    "a number of 5,000 digits in meta": arrays_with(meta=text('{"step": ' + "9" * 5000 + "}")),
    "a relation of infinite strength": meta_with(strengths=[[0, 0, "a = b", float("inf")]]),
    "a relation of head 10^9": meta_with(strengths=[[0, 10**9, "a = b", 1.0]]),
    "relations of another form": meta_with(strengths={"a": 1}),
    "labels that are numbers": meta_with(labels=list(range(6))),
    "more labels than columns": meta_with(labels=["x"] * 7),
    "a lead beyond the columns": meta_with(lead=60),
    "a reader beyond the columns": meta_with(reader=60),
    "10^9 layers": meta_with(n_layers=10**9),
    "-1 layers": meta_with(n_layers=-1),
    "layers that are a text": meta_with(n_layers="2"),
    "names of features as a list": meta_with(feature_names=[]),
    "verdicts that are no texts": meta_with(verdicts=[None]),
    "a step that is true": meta_with(step=True),
    "no format": arrays_with(format=None),
    "format 2": arrays_with(format=np.array(2)),
    "format is a text": arrays_with(format=np.array("1")),
    "format is a vector": arrays_with(format=np.array([1, 1])),
    "a missing pattern": arrays_with(pattern_1=None),
    "a pattern of other slots": arrays_with(pattern_0=np.zeros((3, 2, 6, 9), np.float32)),
    "a pattern that is text": arrays_with(pattern_0=np.full((3, 2, 6, 6), "x")),
    "an effect of other states": arrays_with(absence_kl=np.zeros((2, 5), np.float32)),
    "an effect of its own that is text": arrays_with(meta=text(meta(effects=["mine_kl"])), mine_kl=np.full(3, "x")),
    "names of effects that are numbers": meta_with(effects=[1]),
    "weights of other rows read out": arrays_with(readout_rows=np.zeros((3, 9), np.float32)),
    "no states": arrays_with(scene=np.zeros(0, int)),
    "presence of other states": arrays_with(present=np.ones((4, 6), bool)),
    "states of scenes without a name": arrays_with(scene=np.array([0, 1, 5])),
    "an observation of other states": arrays_with(**{"obs.items": np.zeros((2, 5, 2))}),
    "5 million numbers": arrays_with(**{"obs.items": np.zeros((3, 5, 340_000), np.uint8)}),
    "pictures backwards": arrays_with(png_start=np.array([0, 50, 20, 60])),
    "pictures beyond the end": arrays_with(png_start=np.array([0, 10**6, 10**6, 10**6])),
    "a picture before the beginning": arrays_with(png_start=np.array([-50, -10, 0, 0])),
    "pictures that start at NaN": arrays_with(png_start=np.array([np.nan] * 4)),
    "a picture that is HTML": pictures(np.frombuffer(b"<script>alert(1)</script>" * 9, np.uint8)),
    "a picture of 3.6 billion pixels": pictures(png(60_000, 60_000)),
    "a link": link,
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a folder of links": linked_folder,
    "a FIFO": os.mkfifo,
    "a socket": bound_socket,
    "a folder": os.mkdir,
    "a device": device,
    "a name of a digit that is no number": named("²²²²²²²²²²²².npz"),
    "a name of Arabic digits": named("٠٠٠٠٠٠٠٠٠٠٠٧.npz"),
    "a short name": named("7.npz"),
    "a name with a sign": named("-00000000007.npz"),
    "a name of 200 digits": named("7" * 200 + ".npz"),
}
"""Kind -> what is done at the path of a record; none of these is ever shown."""

HARMLESS: dict[str, Damage] = {
    "nothing": arrays_with(),
    "NaN and inf in all arrays": arrays_with(
        **{name: np.full(array.shape, np.nan) for name, array in honest().items() if array.dtype == np.float32}
        | {"png_start": np.zeros(4, int), "value": np.array([np.inf, -np.inf, np.nan])}
    ),
    "NaN among the scalars": meta_with(scalars={"a": float("nan"), "b": float("-inf")}),
    "markup in all names": meta_with(
        labels=["</script><script>alert(1)</script>"] * 6, scene_names=["<b>", "&"], verdicts=["<img src=x>"]
    ),
    "names that are no UTF-8": meta_with(verdicts=["\ud800 \udcff"]),
    "an array nobody knows": arrays_with(tomorrow=np.zeros(3)),
    "another step inside than in the name": meta_with(step=123),
}
"""Kinds that must be shown: odd, but no damage."""


def damaged_records(folder: Path) -> Outcome:
    """Every kind beside a healthy record: the tab, the exported page and ``ProbeRecord.load``."""
    outcome = Outcome()
    for number, (kind, damage) in enumerate((KINDS | HARMLESS).items()):
        logdir = folder / f"kind{number}"
        fault = in_a_process_of_its_own(lambda: trial(logdir, damage, kind in HARMLESS))  # noqa: B023 (called at once)
        outcome.add(fault and f"{kind}: {fault}")
    return outcome


def trial(logdir: Path, damage: Damage, shown: bool) -> str | None:
    """Look at a run with a damaged record in all ways; returns what went wrong."""
    run = logdir / "run"
    path = record_path(run, DAMAGED)
    path.parent.mkdir(parents=True)
    save(record_path(run, HEALTHY), honest() | {"meta": text(meta(step=HEALTHY))})
    try:
        damage(path)
    except PermissionError:
        return None  # a device needs root
    linked = path.parent.is_symlink()
    return tab(logdir, shown, linked) or page(run, logdir / "page.html", shown, linked) or loaded(path, shown)


def tab(logdir: Path, shown: bool, linked: bool) -> str | None:
    """What the plugin answers: with or without the record, never with an error of the server."""
    plugin = AttentionPlugin(TBContext(logdir=str(logdir)))
    apps = plugin.get_plugin_apps()
    client = Client(lambda environ, start: apps[environ["PATH_INFO"]](environ, start))
    runs = client.get("/runs")
    if runs.status_code != 200 or not set(strict(runs)["runs"]["run"]) <= {DAMAGED, HEALTHY}:
        return f"/runs answers {runs.status_code}: {runs.text[:200]}"
    record, picture, healthy = (
        client.get(query)
        for query in (
            f"/record?run=run&step={DAMAGED}",
            f"/picture?run=run&step={DAMAGED}&state=0",
            f"/record?run=run&step={HEALTHY}",
        )
    )
    if record.status_code != (200 if shown else 404) or picture.status_code not in (200, 404):
        return f"answers {record.status_code}, {picture.status_code}: {record.text[:200]}"
    said = strict(record).get("error", "")
    if shown == bool(said) or "see TensorBoard's log" in said:
        return f"explains {said!r}"
    return None if (healthy.status_code == 200) != linked else "the healthy record is lost"


def page(run: Path, html: Path, shown: bool, linked: bool) -> str | None:
    """What ``attn-rl inspect`` writes: the healthy record always, and words about one that is left out."""
    skipped: list[str] = []
    try:
        written = write_page(run, html, skipped.append).read_text()
    except ValueError as error:
        return None if linked and "symbolic link" in " ".join(skipped) else f"the page fails: {error}"
    if f'"{HEALTHY}": {{' not in written or shown != (f'"{DAMAGED}": {{' in written):
        return "the page holds other records"
    left_out = not shown and record_path(run, DAMAGED).name in os.listdir(run / FOLDER)
    return None if len(skipped) == int(left_out) else f"the page says {skipped}"


def loaded(path: Path, shown: bool) -> str | None:
    """Whether the Python reader refuses it in words, or reads it."""
    try:
        ProbeRecord.load(path)
    except (ValueError, FileNotFoundError) as error:
        return f"ProbeRecord.load refuses: {error}" if shown else None
    return None


def strict(answer: TestResponse) -> Any:
    """JSON as a browser reads it: NaN is an error."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    return json.loads(answer.data, parse_constant=refuse)


def in_a_process_of_its_own(attempt: Callable[[], str | None]) -> str | None:
    """Run with bounded time and memory; what it returns, or how it died."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        os.write(theirs, (bounded(attempt) or "").encode(errors="replace")[:4000])
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return said or None


def bounded(attempt: Callable[[], str | None]) -> str | None:
    """Run with bounded time and memory; an exception is a fault."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + MEMORY,) * 2)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)
    try:
        return attempt()
    except BaseException as error:  # the child must not go on as if it were its parent
        return f"{type(error).__name__}: {error}"
