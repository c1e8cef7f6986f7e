// The page: plays the agent, draws where it looks. ENVIRONMENTS, RandomStream and Runtime stand above.
"use strict";

const config = JSON.parse(document.getElementById("config").textContent);
const Environment = { Seek, Boxes }[config.environment];
const at = (id) => document.getElementById(id);
const view = { playing: false, moved: 1, hovered: null, episode: 0, done: 0, won: 0 };
let runtime, game, answer;

// ---- playing ----

function settings() {
  const chosen = {};
  for (const control of Environment.controls(config.settings)) chosen[control.name] = Number(at(control.name).value);
  return Environment.settings(chosen);
}
function begin() {
  game = new Environment(settings());
  game.reset(Math.max(0, Math.floor(Number(at("seed").value) || 0)), view.episode);
  Object.assign(view, { sum: 0, over: false, moved: 1, from: null, hovered: null });
  look();
  say("");
}
function look() {
  answer = runtime.answer(game.observe());
  show();
}
function step() {
  if (view.over) return next();
  view.from = game.egoPlace();
  const played = game.step(answer.action[0]);
  view.sum += played.reward, view.moved = 0;
  look();
  if (played.terminated || played.truncated) finish(played);
}
function finish(played) {
  view.over = true, view.done++, view.won += played.success ? 1 : 0;
  say(played.success ? "Solved." : played.truncated ? "Out of time." : "Lost.", played.success);
  show();
}
function next() { view.episode++, begin(); }
function restart() { Object.assign(view, { episode: 0, done: 0, won: 0 }), begin(); }
function say(words, won = false) { at("verdict").textContent = words, at("verdict").className = won ? "won" : ""; }
function play(on) { view.playing = on, at("play").textContent = on ? "Pause" : "Play"; }

let last = 0;
function tick(now) {
  const pause = 1000 / Number(at("speed").value), waited = now - last;
  if (view.playing && waited > pause * (view.over ? 2.5 : 1)) step(), last = now;
  if (view.moved < 1) view.moved = Math.min(1, view.moved + 16 / Math.min(pause, 250)), draw();
  requestAnimationFrame(tick);
}

// ---- figures ----

function show() {
  at("steps").textContent = game.steps;
  at("return").textContent = view.sum.toFixed(2);
  at("value").textContent = answer.value.toFixed(2);
  at("solved").textContent = view.done ? `${view.won}/${view.done}` : "–";
  at("summary").textContent = game.describe();
  bars();
  draw();
}
function bars() {
  const chances = Array.from(answer.probabilities, (p, i) => ({ p, i }));
  const shown = chances.sort((a, b) => (Environment.ACTIONS ? a.i - b.i : b.p - a.p)).slice(0, 9);
  at("bars").replaceChildren(...shown.map(({ p, i }) => {
    const bar = document.createElement("div"), percent = `${(100 * p).toFixed(0)}%`;
    bar.className = i === answer.action[0] && !view.over ? "bar chosen" : "bar";
    for (const name of ["label", "track", "figure"]) bar.append(Object.assign(document.createElement("span"),
      { className: name }));
    bar.children[0].append(...(Environment.ACTIONS ? [Environment.ACTIONS[i]] : boxLabel(i)));
    bar.children[1].innerHTML = `<div class="fill" style="width:${percent}"></div>`;
    bar.children[2].textContent = percent;
    return bar;
  }));
}

// A box by its lock and what is in it; a slot that is empty by its number.
function boxLabel(i) {
  if (!game.places()[i]) return [`empty ${i}`];
  const [lock, content] = game.swatches(i).map((c) => Object.assign(document.createElement("b"),
    { className: "swatch", style: `background: ${c ? rgb(c) : "#8fd6ee"}` }));
  return [lock, "→", content];
}

// ---- the picture ----

// What a token gives the others, 0 to 1 each: the last block's pattern, one head or their mean.
function gaze(token) {
  const map = token ? [...answer.maps].reverse().find((m) => m.queries > 1) : answer.maps.at(-1);
  if (!map) return null;
  const chosen = at("head").value, heads = chosen === "all" ? [...Array(map.heads).keys()] : [Number(chosen)];
  return Array.from({ length: map.tokens }, (_, j) => heads.reduce(
    (sum, h) => sum + map.x[(h * map.queries + token) * map.tokens + j], 0) / heads.length);
}

// Draws in [-1, 1], y upwards.
class Pen {
  constructor(canvas) {
    this.size = canvas.clientWidth * devicePixelRatio;
    if (canvas.width !== Math.round(this.size)) canvas.width = canvas.height = Math.round(this.size);
    this.ink = canvas.getContext("2d");
    this.ink.clearRect(0, 0, canvas.width, canvas.height);
    this.probe = document.createElement("span"), document.body.append(this.probe);
  }
  close() { this.probe.remove(); }
  named(name) { this.probe.style.color = `var(${name})`; return getComputedStyle(this.probe).color; }
  at([x, y]) { return [(x + 1) * this.size / 2, (1 - y) * this.size / 2]; }
  length(r) { return r * this.size / 2; }
  path(fill, edge = this.named("--ink"), width = 0.011) {
    if (fill) this.ink.fillStyle = fill, this.ink.fill();
    if (edge) this.ink.strokeStyle = edge, this.ink.lineWidth = this.length(width), this.ink.stroke();
  }
  disc(place, r, fill) {
    this.ink.beginPath(), this.ink.arc(...this.at(place), this.length(r), 0, 7);
    this.path(rgb(fill));
  }
  ring(place, r) {
    this.ink.beginPath(), this.ink.arc(...this.at(place), this.length(r), 0, 7);
    this.path(null, this.named("--soft"), 0.008);
  }
  box([x, y], w, h, corner) {
    this.ink.beginPath();
    this.ink.roundRect(...this.at([x - w, y + h]), this.length(2 * w), this.length(2 * h), this.length(corner));
  }
  square(place, half, fill) { this.box(place, half, half, 0.015), this.path(rgb(fill), this.named("--ink"), 0.018); }
  panel(place, w, h) { this.box(place, w, h, 0.16 * h), this.path(this.named("--card"), this.named("--soft")); }
  lock([x, y], half, fill) {
    this.ink.beginPath(), this.ink.arc(...this.at([x, y + 0.4 * half]), this.length(0.62 * half), 0, 7);
    this.path(null, this.named("--ink"), 0.016);
    this.box([x, y], half, 0.68 * half, 0.2 * half), this.path(rgb(fill));
  }
  diamond([x, y], r) {
    this.ink.beginPath();
    [[0, 1], [1.15, 0], [0, -1], [-1.15, 0]].forEach(([a, b]) => this.ink.lineTo(...this.at([x + a * r, y + b * r])));
    this.ink.closePath(), this.path("#8fd6ee");
  }
  key([x, y], half, fill) {
    for (const [ink, grow] of [[this.named("--ink"), 0.022], [rgb(fill), 0]]) {
      const width = 0.28 * half + grow, more = grow / 2;
      this.line([x - 0.5 * half, y], [x + half + more, y], ink, width);
      for (const bit of [0.55, 0.85]) this.line([x + bit * half, y], [x + bit * half, y - 0.45 * half - more], ink, width);
      this.ink.beginPath(), this.ink.arc(...this.at([x - 0.6 * half, y]), this.length(0.45 * half + more), 0, 7);
      this.path(ink, null);
    }
  }
  line(from, to, ink, width) {
    this.ink.beginPath(), this.ink.moveTo(...this.at(from)), this.ink.lineTo(...this.at(to));
    this.path(null, ink, width);
  }
  beam(from, to, weight) {
    this.ink.globalAlpha = 0.2 + 0.7 * weight, this.ink.lineCap = "round";
    this.line(from, to, this.named("--gaze"), 0.006 + 0.07 * weight);
    this.ink.globalAlpha = 1, this.ink.lineCap = "butt";
  }
  halo(place, r, weight) {
    this.ink.beginPath(), this.ink.arc(...this.at(place), this.length(r), 0, 7);
    this.ink.globalAlpha = Math.min(1, 0.15 + weight);
    this.path(null, this.named("--gaze"), 0.008 + 0.03 * weight);
    this.ink.globalAlpha = 1;
  }
  // Below a place, or above it where the picture ends; never smaller than 11 pixels.
  label([x, y], away, text) {
    const size = Math.max(this.length(0.05), 11 * devicePixelRatio), below = y - away > -0.9;
    this.ink.font = `600 ${size}px system-ui, sans-serif`, this.ink.textAlign = "center";
    this.ink.textBaseline = below ? "top" : "bottom";
    this.ink.lineWidth = this.length(0.018), this.ink.strokeStyle = this.named("--floor");
    this.ink.fillStyle = this.named("--ink");
    const where = this.at([x, below ? y - away : y + away]);
    this.ink.strokeText(text, ...where), this.ink.fillText(text, ...where);
  }
}
function rgb(c) { return `rgb(${c.map((x) => Math.round(255 * x)).join(" ")})`; }

function egoNow() {
  const to = game.egoPlace(), from = view.from ?? to, t = view.moved * (2 - view.moved);
  return to.map((x, i) => from[i] + t * (x - from[i]));
}
function draw() {
  const pen = new Pen(at("scene")), places = game.places(), ego = egoNow();
  pen.box([0, 0], 0.99, 0.99, 0.05), pen.path(pen.named("--floor"), pen.named("--line"));
  const token = view.hovered === null ? 0 : config.n_lead + view.hovered, from = token ? places[view.hovered] : ego;
  const weights = gaze(token);
  const seen = places.map((place, i) => place && weights ? { place, w: weights[config.n_lead + i] } : null);
  if (from) seen.forEach((one) => one && one.w > 0.01 && one.place !== from && pen.beam(from, one.place, one.w));
  seen.forEach((one) => one && one.w > 0.04 && pen.halo(one.place, game.reach() + 0.02, one.w));
  game.draw(pen, ego);
  seen.forEach((one) => one && one.w > 0.04 && pen.label(one.place, game.labelDistance(),
    `${Math.round(100 * one.w)}%`));
  pen.close();
}
function hover(event) {
  const box = at("scene").getBoundingClientRect(), map = answer.maps.some((m) => m.queries > 1);
  const x = 2 * (event.clientX - box.left) / box.width - 1, y = 1 - 2 * (event.clientY - box.top) / box.height;
  const near = game.places().findIndex((p) => p && Math.hypot(p[0] - x, p[1] - y) < 0.1);
  const found = map && near >= 0 ? near : null;
  if (found !== view.hovered) view.hovered = found, draw();
}

// ---- controls ----

function addControl({ name, label, least, most, start, trained }) {
  at("fields").insertAdjacentHTML("beforeend",
    `<label for="${name}">${label}</label><input id="${name}" type="range" min="${least}" max="${most}" value="${start}">
     <output id="${name}-now"></output><small id="${name}-note"></small>`);
  const note = () => {
    const n = Number(at(name).value), [few, many] = trained, range = few === many ? few : `${few} to ${many}`;
    const beyond = n < few ? "fewer than" : n > many ? "more than" : "";
    at(`${name}-now`).textContent = n;
    at(`${name}-note`).textContent = `${beyond || "as"} in training (${range})`;
    at(`${name}-note`).className = beyond ? "beyond" : "";
  };
  at(name).addEventListener("input", () => { note(), restart(); });
  note();
}
function wire() {
  at("name").textContent = config.environment;
  at("about").textContent = `Trained for ${config.steps.toLocaleString("en")} steps with attn_rl ${config.version}. ` +
    "The policy runs in this page, in WebAssembly; nothing is loaded from anywhere.";
  at("play").addEventListener("click", () => play(!view.playing));
  at("step").addEventListener("click", () => { play(false), step(); });
  at("next").addEventListener("click", next);
  at("seed").addEventListener("change", restart);
  const speed = () => { at("speed-now").textContent = `${at("speed").value}/s`; };
  at("speed").addEventListener("input", speed), speed();
  at("head").append(new Option("mean of all heads", "all"));
  for (let h = 0; h < (answer.maps[0]?.heads ?? 0); h++) at("head").append(new Option(`head ${h + 1}`, h));
  at("head").addEventListener("change", draw);
  at("theme").addEventListener("click", () => {
    const dark = getComputedStyle(document.body).colorScheme === "dark" ||
      (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.dataset.theme = dark ? "light" : "dark", draw();
  });
  at("scene").addEventListener("pointermove", hover);
  at("scene").addEventListener("pointerleave", () => { view.hovered = null, draw(); });
  if (answer.maps.some((m) => m.queries > 1)) at("hint").textContent = "point at one to see where it looks";
  new ResizeObserver(draw).observe(at("scene"));
}

// For tests: all actions of the first episode of n seeds.
function playEpisodes(first, n, chosen) {
  const found = [], one = new Environment(chosen);
  for (let seed = first; seed < first + n; seed++) {
    const actions = [];
    one.reset(seed, 0);
    for (let ended = false; !ended;) {
      actions.push(runtime.answer(one.observe()).action[0]);
      const played = one.step(actions.at(-1));
      ended = played.terminated || played.truncated;
    }
    found.push(actions);
  }
  return found;
}

(async () => {
  runtime = await Runtime.open(bytesOf(config.wasm), bytesOf(config.weights));
  for (const control of Environment.controls(config.settings)) addControl(control);
  game = new Environment(settings()), game.reset(0, 0);
  answer = runtime.answer(game.observe());
  wire(), restart();
  document.documentElement.dataset.ready = "yes";
  requestAnimationFrame(tick);
})().catch((error) => { at("verdict").textContent = `This page does not run: ${error.message}`; });
