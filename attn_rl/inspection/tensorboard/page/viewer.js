// The attention viewer. TensorBoard loads this module and calls render(); a single-file page calls
// render(embedded(records)). Data: attn_rl/inspection/tensorboard/page/data.py.

const STYLE = `
  :root { color-scheme: light; }
  body { margin: 0; font: 14px/1.45 system-ui, sans-serif; color: #1f2933; background: #faf9f6; }
  #app { display: grid; grid-template-columns: 260px minmax(320px, 620px) minmax(320px, 1fr); gap: 24px; padding: 20px 24px; }
  @media (max-width: 1080px) { #app { grid-template-columns: 240px minmax(0, 1fr); } #app > :last-child { grid-column: 2; } }
  @media (max-width: 720px) { #app { display: block; padding: 12px; } }
  label { display: block; margin: 0 0 14px; color: #52606d; font-size: 12px; }
  label b { float: right; color: #1f2933; font-variant-numeric: tabular-nums; }
  select, input[type=range], button { width: 100%; box-sizing: border-box; margin-top: 4px; font: inherit; }
  button { padding: 6px; border: 1px solid #cbd2d9; border-radius: 6px; background: #fff; cursor: pointer; }
  h2 { margin: 0 0 10px; font-size: 14px; font-weight: 600; }
  .card { background: #fff; border: 1px solid #e4e0d8; border-radius: 10px; padding: 16px; margin-bottom: 18px; }
  .verdict { margin: 0 0 6px; } .note { color: #7b8794; font-size: 12px; }
  svg { display: block; width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: #52606d; }
  #tip { position: fixed; display: none; pointer-events: none; background: #1f2933; color: #fff; padding: 8px 10px;
         border-radius: 6px; font-size: 12px; white-space: pre; z-index: 9; }
  .empty { max-width: 640px; margin: 12vh auto; padding: 0 24px; } code { background: #efece5; padding: 1px 5px; border-radius: 4px; }
`;
// The colours of the pictures: attn_rl/inspection/draw/sheet.py; a test holds them equal.
export const PALETTE = {
  attention: "#185ca8", weighted: "#0d8070", effect: "#c0392b", pointer: "#7d3c98", target: "#d98c00",
  heads: ["#185ca8", "#ca5a12", "#008462", "#a6548d", "#785e28", "#3c8cbe", "#6464aa", "#963c46"],
};
const UNUSED_BELOW = 0.01; // nats: a smaller effect is none, attn_rl/inspection/measure/metrics.py
const SIZE = 400;
const EFFECTS = "Effects say how much the policy changes (KL divergence, in nats; below 0.01 there is nothing to explain): "
  + "without an entity (absence), without what it contributes (content), with equal weights (uniform), with shuffled "
  + "ones (permuted).";
const SHADES = "Shaded columns hold no entity. In a row of weights, full colour is 1; in the others, the largest of the scene.";

export async function render(source = server()) {
  document.head.append(element("style", {}, STYLE));
  const runs = await source.runs();
  const names = Object.keys(runs);
  if (!names.length) return showEmpty(source.place);
  const view = { source, runs, run: names[0], cache: new Map() };
  build(view);
  await chooseRun(view, names[0]);
}

// ---- where the data comes from ---------------------------------------------------------------------------------

function server() {
  const state = { place: "", runs: async () => {
    const answer = await (await fetch("./runs")).json();
    state.place = answer.logdir;
    return answer.runs;
  } };
  const query = (run, step) => `run=${encodeURIComponent(run)}&step=${step}`;
  state.record = async (run, step) => (await fetch(`./record?${query(run, step)}`)).json();
  state.picture = (run, step, _, i) => `./picture?${query(run, step)}&state=${i}`;
  return state;
}

export function embedded(records) {
  const steps = Object.entries(records).map(([run, found]) => [run, Object.keys(found).map(Number)]);
  return {
    place: "this file",
    runs: async () => Object.fromEntries(steps),
    record: async (run, step) => records[run][step],
    picture: (run, step, record, i) => `data:image/png;base64,${record.pictures[i]}`,
  };
}

// ---- the controls ----------------------------------------------------------------------------------------------

function build(view) {
  const controls = element("div", { class: "card" });
  const field = (name, text, control) => {
    const value = element("b");
    const label = element("label", {}, text);
    label.append(value, control);
    controls.append(label);
    view[name] = control;
    view[name + "Value"] = value;
    control.id = name;
    return control;
  };
  field("runSelect", "run", select(Object.keys(view.runs))).onchange = (e) => chooseRun(view, e.target.value);
  field("stepSlider", "training step", slider()).oninput = () => chooseStep(view);
  field("sceneSelect", "scene", select([])).onchange = () => chooseScene(view);
  field("timeSlider", "time in the scene", slider()).oninput = () => draw(view);
  field("layerSelect", "layer", select([])).onchange = () => draw(view);
  field("headSelect", "show", select([])).onchange = () => draw(view);
  const play = element("button", {}, "Play through training");
  play.onclick = () => playThrough(view, play);
  controls.append(play);
  view.scene = element("div", { class: "card", id: "scene" });
  view.heads = element("div", { class: "card", id: "heads" });
  view.verdicts = element("div", { class: "card", id: "verdicts" });
  view.tip = element("div", { id: "tip" });
  const app = element("div", { id: "app" });
  const left = element("div"), middle = element("div"), right = element("div");
  left.append(controls);
  middle.append(view.scene, view.verdicts);
  right.append(view.heads);
  app.append(left, middle, right);
  document.body.append(app, view.tip);
}

async function chooseRun(view, run) {
  view.run = run;
  view.steps = view.runs[run];
  view.stepSlider.max = view.steps.length - 1;
  view.stepSlider.value = view.steps.length - 1;
  await chooseStep(view);
}

async function chooseStep(view) {
  const asked = view.steps[view.stepSlider.value];
  view.stepSliderValue.textContent = asked.toLocaleString("en");
  const key = `${view.run}/${asked}`;
  if (!view.cache.has(key)) view.cache.set(key, await view.source.record(view.run, asked));
  if (asked !== view.steps[view.stepSlider.value]) return; // the slider has moved on meanwhile
  const record = view.cache.get(key);
  view.record = record.error ? null : record;
  if (record.error) return showError(view, record.error);
  refill(view.sceneSelect, record.scene_names.map((name, i) => [i, name]));
  refill(view.layerSelect, record.layers.map((_, i) => [i, `layer ${i + 1}`]));
  refill(view.headSelect, choices(record));
  chooseScene(view);
}

function showError(view, error) {
  view.heads.hidden = view.verdicts.hidden = true;
  view.scene.replaceChildren(element("p", {}, error));
}

// Effects of single entities, and of whole states: [name, title] each; a name is that of the array of the record.
function entityEffects(record) { return Object.entries(record.effects).filter(([name]) => ofEntities(record, name)); }
function stateEffects(record) { return Object.entries(record.effects).filter(([name]) => !ofEntities(record, name)); }
function ofEntities(record, name) { return Array.isArray(record.states[name][0]); }
function isEffect(record, kind) { return kind in record.effects; }

export function choices(record) {
  const heads = record.layers.length ? record.layers[0].pattern[0].map((_, h) => [`${h}`, `head ${h + 1}`]) : [];
  const maps = heads.length ? [["mean", "mean of heads"], ...heads, ["weighted", "weight x value"]] : [];
  const pointer = record.states.pointer ? [["pointer", "pointer probability"]] : [];
  return [...maps, ...pointer, ...entityEffects(record)];
}

function chooseScene(view) {
  if (!view.record) return;
  const chosen = Number(view.sceneSelect.value);
  view.members = view.record.states.scene.flatMap((scene, i) => (scene === chosen ? [i] : []));
  view.timeSlider.max = view.members.length - 1;
  view.timeSlider.value = Math.min(view.timeSlider.value, view.members.length - 1);
  view.timeSlider.parentElement.style.display = view.members.length > 1 ? "" : "none";
  draw(view);
}

async function playThrough(view, button) {
  if (view.playing) { view.playing = false; return; }
  view.playing = true;
  button.textContent = "Stop";
  for (let i = 0; i < view.steps.length && view.playing; i++) {
    view.stepSlider.value = i;
    await chooseStep(view);
    await new Promise((done) => setTimeout(done, 700));
  }
  view.playing = false;
  button.textContent = "Play through training";
}

// ---- what is drawn ---------------------------------------------------------------------------------------------

function draw(view) {
  if (!view.record) return;
  view.heads.hidden = view.verdicts.hidden = false;
  const state = view.members[view.timeSlider.value] ?? view.members[0];
  view.timeSliderValue.textContent = view.record.states.time[state];
  view.scene.replaceChildren(element("h2", {}, title(view, state)), sceneDrawing(view, state), caption(view, state));
  view.heads.replaceChildren(element("h2", {}, "Who looks at what"), headTable(view, state),
    comparisons(view), element("p", { class: "note" }, SHADES), ...matrix(view, state));
  const verdicts = view.record.verdicts.map((text) => element("p", { class: "verdict" }, text));
  view.verdicts.replaceChildren(element("h2", {}, "What to believe"), ...verdicts, element("p", { class: "note" }, EFFECTS));
}

function title(view, state) {
  const shown = view.headSelect.selectedOptions[0].textContent;
  return `${view.record.scene_names[view.record.states.scene[state]]}: ${shown}`;
}

function caption(view, state) {
  const { value, relevant } = view.record.states;
  const parts = [];
  if (relevant[state] >= 0) parts.push(`▼ the entity that matters: ${slotName(view.record, relevant[state])}`);
  if (value[state] !== null) parts.push(`value ${value[state].toFixed(2)}`);
  for (const [name, title] of stateEffects(view.record)) {
    const found = view.record.states[name][state];
    if (found !== null) parts.push(`${title} ${found.toFixed(3)} nats`);
  }
  return element("p", { class: "note" }, parts.join("   ·   "));
}

// What every head of the layer compares most: "head 1: ego.cue = items.colour, 69.1".
function comparisons(view) {
  const strongest = [];
  for (const [layer, head, name, value] of view.record.strengths ?? []) {
    if (layer !== Number(view.layerSelect.value)) continue;
    if (!strongest[head] || Math.abs(value) > Math.abs(strongest[head][1])) strongest[head] = [name, value];
  }
  const parts = strongest.map(([name, value], head) => `head ${head + 1}: ${name}, ${value.toPrecision(3)}`);
  return element("p", { class: "note", id: "compared" }, parts.length ? `Compares most: ${parts.join("; ")}` : "");
}

// The quantity shown, per slot: weights, effects or probabilities; null where absent.
export function quantity(view, state, kind = view.headSelect.value, layer = Number(view.layerSelect.value)) {
  const { record } = view;
  if (isEffect(record, kind)) return record.states[kind][state];
  if (kind === "pointer") return record.states.pointer[state];
  const columns = columnWeights(record, state, kind, layer);
  return columns.slice(record.lead).map((weight, i) => (record.states.present[state][i + record.lead] ? weight : null));
}

function columnWeights(record, state, kind, layer) {
  const heads = record.layers[layer].pattern[state].map((rows) => readRow(rows, record.states.readout_rows[state]));
  if (kind === "mean") return mean(heads);
  if (kind === "weighted") {
    const norms = record.layers[layer].value_norm[state];
    return heads[0].map((_, column) => heads.reduce((sum, row, h) => sum + row[column] * norms[h][column], 0));
  }
  return heads[Number(kind)];
}

// The rows of a pattern, each as far as the readout reads it; a last layer holds no more rows than are read.
function readRow(rows, read) {
  return rows[0].map((_, column) => rows.reduce((sum, row, q) => sum + read[q] * row[column], 0));
}

function mean(rows) {
  return rows[0].map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
}

// The value that is drawn in full colour: 1 for weights and probabilities, else the largest, as in the pictures.
export function fullColour(record, kind, values) {
  const absolute = !isEffect(record, kind) && kind !== "weighted";
  return absolute ? 1 : Math.max(UNUSED_BELOW, ...values.map((value) => value ?? 0));
}

function colourOf(view) {
  return colourOfKind(view.record, view.headSelect.value);
}

function colourOfKind(record, kind) {
  if (isEffect(record, kind)) return PALETTE.effect;
  if (kind === "weighted" || kind === "pointer") return PALETTE[kind];
  return kind === "mean" ? PALETTE.attention : PALETTE.heads[Number(kind) % PALETTE.heads.length];
}

function sceneDrawing(view, state) {
  const { record } = view;
  const drawing = shape("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, id: "drawing" });
  const pictured = record.pictured[state];
  if (pictured) {
    const href = view.source.picture(view.run, record.step, record, state);
    drawing.append(shape("image", { href, width: SIZE, height: SIZE }));
  } else {
    drawing.append(shape("rect", { width: SIZE, height: SIZE, rx: 12, fill: "#f4f1ea" }));
  }
  const weights = quantity(view, state);
  const scale = fullColour(record, view.headSelect.value, weights);
  const from = place(record.states.ego[state], [0.5, 0.5]);
  const colour = colourOf(view);
  weights.forEach((weight, slot) => {
    if (!record.states.present[state][slot + record.lead]) return;
    const at = place(record.states.positions[state][slot], onCircle(slot, record.slots));
    const share = Math.max(0, (weight ?? 0) / scale);
    if (share > 0.02) drawing.append(shape("line", { x1: from[0], y1: from[1], x2: at[0], y2: at[1], stroke: colour,
      "stroke-width": 1 + 7 * share, "stroke-opacity": 0.25 + 0.6 * share, "stroke-linecap": "round" }));
    if (!pictured) drawing.append(shape("circle", { cx: at[0], cy: at[1], r: 6, fill: "#9aa5b1" }));
    const halo = shape("circle", { cx: at[0], cy: at[1], r: 10 + 10 * share, fill: "transparent", stroke: colour,
      "stroke-width": 1 + 3 * share, "stroke-opacity": 0.2 + 0.8 * share, class: "entity", "data-slot": slot });
    hover(view, halo, () => describe(view, state, slot));
    drawing.append(halo);
    if (record.states.relevant[state] === slot) {
      const [x, y] = [at[0], at[1] - 22];
      drawing.append(shape("path", { d: `M${x - 7} ${y - 9} h14 l-7 11 z`, fill: PALETTE.target }));
    }
  });
  drawing.append(shape("circle", { cx: from[0], cy: from[1], r: 5, fill: "none", stroke: "#1f2933", "stroke-width": 2 }));
  return drawing;
}

function headTable(view, state) {
  const { record } = view;
  const kinds = choices(record).filter(([kind]) => kind !== "mean");
  const cell = Math.max(16, Math.min(46, 560 / (record.slots + 1)));
  const left = 120, top = 64;
  const columns = record.lead + record.slots;
  const table = shape("svg", { viewBox: `0 0 ${left + columns * cell} ${top + kinds.length * 30 + 6}` });
  record.labels.forEach((label, column) => {
    const x = left + (column + 0.5) * cell;
    table.append(shape("text", { x, y: top - 8, transform: `rotate(-50 ${x} ${top - 8})` }, label));
  });
  kinds.forEach(([kind, name], row) => {
    const layer = Number(view.layerSelect.value || 0);
    const isMap = !isEffect(record, kind) && kind !== "pointer";
    const values = isMap ? columnWeights(record, state, kind, layer)
      : [...Array(record.lead).fill(null), ...quantity(view, state, kind, layer)];
    const largest = fullColour(record, kind, values);
    const y = top + row * 30;
    table.append(shape("text", { x: left - 10, y: y + 18, "text-anchor": "end" }, name));
    values.forEach((value, column) => {
      const there = record.states.present[state][column];
      const share = there && value !== null ? Math.max(0, value / largest) : 0;
      const fill = there ? mix(colourOfKind(record, kind), share) : "#ece8df";
      const box = shape("rect", { x: left + column * cell + 1, y: y + 2, width: cell - 2, height: 26, rx: 3, fill });
      if (there && column >= record.lead) hover(view, box, () => describe(view, state, column - record.lead));
      table.append(box);
      if (there && value !== null && cell >= 28 && share >= 0.005) {
        table.append(shape("text", { x: left + (column + 0.5) * cell, y: y + 19, "text-anchor": "middle",
          fill: share > 0.5 ? "#fff" : "#52606d", style: `fill:${share > 0.5 ? "#fff" : "#52606d"};pointer-events:none` },
          value >= 10 ? value.toFixed(0) : value.toFixed(2)));
      }
    });
  });
  return table;
}

// The full matrix of a layer in which entities attend to entities.
function matrix(view, state) {
  const { record } = view;
  const kind = view.headSelect.value;
  const layer = record.layers[Number(view.layerSelect.value || 0)];
  if (!layer || layer.pattern[state][0].length < 2 || isEffect(record, kind) || kind === "pointer") return [];
  const heads = layer.pattern[state];
  const rows = kind === "mean" || kind === "weighted"
    ? heads[0].map((_, q) => mean(heads.map((head) => head[q]))) : heads[Number(kind)];
  const cell = Math.max(8, Math.min(28, 420 / rows[0].length)), left = 90;
  const drawing = shape("svg", { viewBox: `0 0 ${left + rows[0].length * cell} ${rows.length * cell + 4}` });
  rows.forEach((weights, q) => {
    drawing.append(shape("text", { x: left - 8, y: (q + 0.7) * cell, "text-anchor": "end" }, record.labels[q] ?? ""));
    weights.forEach((weight, column) => {
      const there = record.states.present[state][q] && record.states.present[state][column];
      const box = shape("rect", { x: left + column * cell, y: q * cell, width: cell - 1, height: cell - 1,
        fill: there ? mix(PALETTE.attention, weight) : "#ece8df" });
      hover(view, box, () => `${record.labels[q]} looks at ${record.labels[column]}\nweight ${weight.toFixed(3)}`);
      drawing.append(box);
    });
  });
  return [element("h2", { style: "margin-top:20px" }, "All rows of this layer"), drawing];
}

function describe(view, state, slot) {
  const { record } = view;
  const lines = [slotName(record, slot)];
  const [key, row] = ownerOf(record, slot);
  const block = record.features[key];
  const said = block ? block.values[state][row]?.filter((value) => typeof value === "string" && value !== "none") : [];
  if (said?.length) lines[0] += `: ${said.join(" ")}`;  // "items 3: red key"
  if (block) block.names.forEach((name, i) => lines.push(`${name.padEnd(12)} ${show(block.values[state][row]?.[i])}`));
  const layer = Number(view.layerSelect.value || 0);
  if (record.layers.length) {
    const weight = columnWeights(record, state, "mean", layer)[slot + record.lead];
    const norms = record.layers[layer].value_norm[state].map((head) => head[slot + record.lead]);
    lines.push("", `weight       ${show(weight)}`, `value norm   ${show(norms.reduce((sum, norm) => sum + norm, 0) / norms.length)}`);
  }
  const wide = (title) => title.replace(/ effect$/, "").padEnd(12);
  for (const [name, title] of entityEffects(record)) lines.push(`${wide(title)} ${show(record.states[name][state][slot])} nats`);
  return lines.join("\n");
}

// ---- small things ----------------------------------------------------------------------------------------------

function slotName(record, slot) { return record.labels[slot + record.lead]; }

// "items 3" -> ["items", 3]: the observation block and the row in it.
function ownerOf(record, slot) {
  const [, key, row] = slotName(record, slot).match(/^(.*) (\d+)$/) ?? [null, "", "0"];
  return [key in record.features ? key : "", Number(row)];
}

function show(value) {
  if (typeof value === "string") return value;
  return value === null || value === undefined ? "-" : value.toFixed(3);
}

function place(position, otherwise) {
  if (!position || position[0] === null) return [otherwise[0] * SIZE, otherwise[1] * SIZE];
  return [(position[0] + 1) / 2 * SIZE, (1 - position[1]) / 2 * SIZE];
}

function onCircle(slot, slots) {
  const angle = (2 * Math.PI * slot) / slots;
  return [0.5 + 0.4 * Math.cos(angle), 0.5 + 0.4 * Math.sin(angle)];
}

function mix(colour, share) {
  const target = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  return `rgb(${target.map((c) => Math.round(246 + (c - 246) * Math.min(1, share))).join(",")})`;
}

function hover(view, target, text) {
  target.addEventListener("mousemove", (event) => {
    view.tip.textContent = text();
    view.tip.style.display = "block";
    const beside = (at, size, edge) => `${Math.max(0, Math.min(at + 14, edge - size - 8))}px`; // it stays on the screen
    view.tip.style.left = beside(event.clientX, view.tip.offsetWidth, window.innerWidth);
    view.tip.style.top = beside(event.clientY, view.tip.offsetHeight, window.innerHeight);
  });
  target.addEventListener("mouseleave", () => { view.tip.style.display = "none"; });
}

function showEmpty(where) {
  const page = element("div", { class: "empty" });
  page.append(element("h2", {}, "No attention recorded here"));
  page.append(element("p", {}, `There are no records (attention/*.npz of a run) below ${where}.`));
  const how = element("p", {}, "Train with ");
  how.append(element("code", {}, "attn-rl train"), " or pass ",
    element("code", {}, "AttentionCallback(probe_env, run_dir=...)"), " to learn(), and point tensorboard --logdir at the ",
    "folder that holds the runs.");
  page.append(how);
  document.body.append(page);
}

function element(name, attributes = {}, text) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function shape(name, attributes = {}, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function select(names) {
  const made = element("select");
  refill(made, names.map((name) => [name, name]));
  return made;
}

function refill(target, options) {
  const before = target.value;
  target.replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
  if (options.some(([value]) => String(value) === before)) target.value = before;
  target.parentElement?.style.setProperty("display", options.length > 1 ? "" : "none");
}

function slider() { return element("input", { type: "range", min: 0, max: 0, value: 0, step: 1 }); }
