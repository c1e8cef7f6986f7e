// envs/core/randomness.py: SplitMix64, the same draws bit for bit.
"use strict";

const WORD = (1n << 64n) - 1n, GOLDEN = 0x9E3779B97F4A7C15n, TOP = 1n << 63n, SLOT = 0xFFFFn;

function mix(x) {
  x = ((x ^ (x >> 30n)) * 0xBF58476D1CE4E5B9n) & WORD;
  x = ((x ^ (x >> 27n)) * 0x94D049BB133111EBn) & WORD;
  return x ^ (x >> 31n);
}

class RandomStream {
  constructor(seed, episode) {
    const key = mix((BigInt(seed) + GOLDEN) & WORD);
    this.state = mix((mix(key) + BigInt(episode)) & WORD);
  }
  bits(k) {
    const found = [];
    for (let i = 0; i < k; i++) {
      this.state = (this.state + GOLDEN) & WORD;
      found.push(mix(this.state));
    }
    return found;
  }
  fractions(k) { return this.bits(k).map((x) => Number(x >> 11n) * 2 ** -53); }
  uniform(k, low, high) { return this.fractions(k).map((x) => low + (high - low) * x); }
  integers(k, low, high) { return this.fractions(k).map((x) => low + Math.trunc(x * (high - low))); }
  choose(k, n) { return sorted(this.bits(n).map((x, i) => (x & ~SLOT) | BigInt(i))).slice(0, k); }
  order(present) {
    return sorted(this.bits(present.length).map(
      (x, i) => ((x >> 1n) & ~SLOT) | BigInt(i) | (present[i] ? 0n : TOP)));
  }
}

function sorted(words) {
  return words.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0)).map((x) => Number(x & SLOT));
}

// envs/core/colours.py with 4 levels: number -> [r, g, b].
function latticeColour(i) { return [(i >> 4) / 3, ((i >> 2) & 3) / 3, (i & 3) / 3]; }
