// envs/seek.py: the rules, number for number, and how they look.
"use strict";

class Seek {
  static ACTIONS = ["take", "→", "↗", "↑", "↖", "←", "↙", "↓", "↘"];
  static MAX_STEPS = 24;
  static MOVES = [ // as NumPy rounds them
    [0.0, 0.0], [0.15, 0.0],
    [0.10606601717798213, 0.10606601717798211], [9.184850993605149e-18, 0.15],
    [-0.10606601717798211, 0.10606601717798213], [-0.15, 1.8369701987210297e-17],
    [-0.10606601717798216, -0.10606601717798211], [-2.7554552980815445e-17, -0.15],
    [0.1060660171779821, -0.10606601717798216]];

  constructor(settings) {
    Object.assign(this, settings);
    this.cells = Math.max(6, Math.ceil(Math.sqrt(this.max_entities + 1)));
  }
  static settings(controls) {
    const n = controls.items;
    return { min_entities: n, max_entities: n, capacity: n, penalty: 0, shaping: 0.5 };
  }
  static controls(trained) {
    return [{ name: "items", label: "items", least: 2, most: 32, start: trained.max_entities,
      trained: [trained.min_entities, trained.max_entities] }];
  }

  reset(seed, episode) {
    const random = (this.random = new RandomStream(seed, episode)), most = this.max_entities;
    const count = random.integers(1, this.min_entities, most + 1)[0];
    const cell = random.choose(most + 1, this.cells ** 2), size = 2 / this.cells, reach = (size - 0.2) / 2;
    const offset = random.uniform(2 * (most + 1), -reach, reach);
    const things = cell.map((c, i) => [
      (c % this.cells) * size + (size / 2 - 1) + offset[2 * i],
      Math.floor(c / this.cells) * size + (size / 2 - 1) + offset[2 * i + 1]]);
    const colours = random.choose(most, 64);
    this.ego = things[0];
    this.present = [], this.position = [], this.colour = [], this.target = 0, this.steps = 0;
    for (let i = 0; i < this.capacity; i++) {
      this.present.push(i < count);
      this.position.push(i < most ? things[i + 1] : [0, 0]);
      this.colour.push(i < most ? latticeColour(colours[i]) : [0, 0, 0]);
    }
    this.shuffle();
  }
  shuffle() {
    const order = this.random.order(this.present);
    for (const name of ["present", "position", "colour"]) this[name] = order.map((i) => this[name][i]);
    this.target = order.indexOf(this.target);
  }
  distances() {
    return this.position.map(([x, y], i) => this.present[i] ? plane(x - this.ego[0], y - this.ego[1]) : Infinity);
  }
  step(action) {
    const before = this.distances(), nearest = before.indexOf(Math.min(...before));
    this.ego = this.ego.map((x, i) => Math.min(Math.max(x + Seek.MOVES[action][i], -1), 1));
    const taken = action === 0 && before[nearest] <= 0.15, right = taken && nearest === this.target;
    const [x, y] = this.position[this.target], left = plane(x - this.ego[0], y - this.ego[1]);
    const reward = right - this.penalty * (taken && !right) - 0.01 + this.shaping * (before[this.target] - left);
    this.steps++;
    this.shuffle();
    return { reward, terminated: taken, truncated: this.steps >= Seek.MAX_STEPS && !taken, success: right };
  }
  observe() {
    const items = [];
    this.position.forEach(([x, y], i) => {
      const [dx, dy] = [x - this.ego[0], y - this.ego[1]];
      items.push(...(this.present[i] ? [dx, dy, plane(dx, dy), ...this.colour[i]] : [0, 0, 0, 0, 0, 0]));
    });
    const ego = [...this.colour[this.target], ...this.ego, this.steps / Seek.MAX_STEPS];
    return { ego: Float32Array.from(ego), items: Float32Array.from(items), items_present: flags(this.present) };
  }

  // ---- how it looks: everything in [-1, 1], y upwards ----

  describe() { return `${this.present.filter(Boolean).length} items; take the one with the colour of the square`; }
  places() { return this.position.map((p, i) => this.present[i] ? p.map((x) => 0.92 * x) : null); }
  reach() { return 0.055; }
  labelDistance() { return 0.105; }
  egoPlace() { return this.ego.map((x) => 0.92 * x); }
  draw(pen, ego) {
    this.places().forEach((place, i) => place && pen.disc(place, 0.055, this.colour[i]));
    pen.ring(ego, 0.138);
    pen.square(ego, 0.055, this.colour[this.target]);
  }
}

function plane(x, y) { return Math.sqrt(x * x + y * y); }
function flags(present) { return Float32Array.from(present, Number); }
