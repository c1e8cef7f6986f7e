// envs/boxes.py: the rules, number for number, and how they look.
"use strict";

const GEM = -1;

class Boxes {
  static ACTIONS = null; // one per box

  constructor(settings) {
    Object.assign(this, settings);
    this.max_entities = this.max_depth + (this.max_depth - 1) * this.max_branches * this.branch_length;
    this.max_steps = 3 * this.max_depth;
  }
  static settings(controls) {
    const [d, b] = [controls.depth, controls.branches];
    return { min_depth: d, max_depth: d, min_branches: b, max_branches: b, branch_length: 1, shaping: 0.2,
      capacity: d + (d - 1) * b };
  }
  static controls(trained) {
    return [
      { name: "depth", label: "boxes to the gem", least: 2, most: 6, start: trained.max_depth,
        trained: [trained.min_depth, trained.max_depth] },
      { name: "branches", label: "dead ends at a fork", least: 1, most: 5, start: trained.max_branches,
        trained: [trained.min_branches, trained.max_branches] }];
  }

  reset(seed, episode) {
    const random = (this.random = new RandomStream(seed, episode)), steps = this.max_depth;
    const depth = random.integers(1, this.min_depth, steps + 1)[0], boxes = [];
    for (let i = 0; i < steps; i++) {
      const content = i === depth - 1 ? GEM : Math.min(i + 1, steps - 1);
      boxes.push({ present: i < depth, lock: i, content, level: i });
    }
    this.addBranches(random, depth, boxes);
    const seat = random.choose(this.max_entities, this.max_entities);
    this.palette = random.choose(this.max_entities, 63).map((i) => i + 1);
    boxes.forEach((box, i) => { box.seat = seat[i]; });
    while (boxes.length < this.capacity) boxes.push({ present: false, lock: 0, content: 0, level: -1, seat: 0 });
    Object.assign(this, { boxes, key: 0, progress: 0, steps: 0 });
    this.shuffle();
  }
  addBranches(random, depth, boxes) {
    const forks = this.max_depth - 1, rows = this.max_branches, length = this.branch_length;
    if (!forks || !rows) return;
    const counts = random.integers(forks, this.min_branches, rows + 1);
    const lengths = random.integers(forks * rows, 1, length + 1);
    for (let fork = 0; fork < forks; fork++)
      for (let row = 0; row < rows; row++)
        for (let box = 0; box < length; box++) {
          const content = this.max_depth + (fork * rows + row) * length + box;
          const present = fork < depth - 1 && row < counts[fork] && box < lengths[fork * rows + row];
          boxes.push({ present, lock: box ? content - 1 : fork, content, level: -1 });
        }
  }
  shuffle() { this.boxes = this.random.order(this.boxes.map((b) => b.present)).map((i) => this.boxes[i]); }
  step(action) {
    const box = this.boxes[action], opened = box.present && box.lock === this.key;
    const gem = opened && box.content === GEM, right = opened && box.level === this.progress;
    if (opened) box.present = false, this.key = box.content;
    this.progress = right ? this.progress + 1 : opened ? -2 : this.progress;
    const stuck = !gem && !this.boxes.some((b) => b.present && b.lock === this.key);
    this.steps++;
    this.shuffle();
    const terminated = gem || stuck;
    return { reward: gem + this.shaping * (right && !gem) - 0.02, terminated,
      truncated: this.steps >= this.max_steps && !terminated, success: gem };
  }
  colour(i) { return latticeColour(i === GEM ? 0 : this.palette[i]); }
  observe() {
    const items = [];
    for (const { present, lock, content } of this.boxes) {
      const held = content === GEM ? [0, 0, 0, 1] : [...this.colour(content), 0];
      items.push(...(present ? [...this.colour(lock), ...held] : [0, 0, 0, 0, 0, 0, 0]));
    }
    const ego = [...this.colour(this.key), this.steps / this.max_steps];
    return { ego: Float32Array.from(ego), items: Float32Array.from(items),
      items_present: flags(this.boxes.map((b) => b.present)) };
  }

  // ---- how it looks ----

  describe() { return `${this.boxes.filter((b) => b.present).length} boxes; find the way to the gem`; }
  columns() { return Math.max(3, Math.ceil(Math.sqrt(this.max_entities))); }
  places() {
    const columns = this.columns(), rows = Math.ceil(this.max_entities / columns);
    return this.boxes.map(({ present, seat }) => present ? [
      0.96 * ((2 * (seat % columns) + 1) / columns - 1),
      0.94 - 1.62 * (Math.floor(seat / columns) + 0.5) / rows] : null);
  }
  swatches(i) {
    const { lock, content } = this.boxes[i];
    return [this.colour(lock), content === GEM ? null : this.colour(content)];
  }
  reach() { return 0.6 / this.columns(); }
  labelDistance() { return 0.78 * this.reach() - 0.01; } // across the lower edge, clear of the next row
  egoPlace() { return [0, -0.82]; }
  draw(pen, ego) {
    const half = 0.6 / this.columns();
    this.places().forEach((place, i) => {
      if (!place) return;
      const { lock, content } = this.boxes[i];
      pen.panel(place, half, 0.78 * half);
      if (content === GEM) pen.diamond([place[0], place[1] - 0.16 * half], 0.46 * half);
      else pen.key([place[0], place[1] - 0.16 * half], 0.5 * half, this.colour(content));
      pen.lock([place[0], place[1] + 0.78 * half], 0.36 * half, this.colour(lock));
    });
    if (this.key !== GEM) pen.key(ego, 0.11, this.colour(this.key));
    else pen.diamond(ego, 0.1);
  }
}
