// The policy in WebAssembly: what ../runtime/attn_rl.hpp computes.
"use strict";

class Runtime {
  static async open(wasm, weights) {
    const module = await WebAssembly.compile(wasm), imports = {};
    for (const { module: from, name } of WebAssembly.Module.imports(module))
      (imports[from] ??= {})[name] = () => 0; // files, which nobody opens
    const runtime = new Runtime((await WebAssembly.instantiate(module, imports)).exports);
    const place = runtime.put(weights);
    runtime.wasm.open_policy(place, weights.length);
    runtime.wasm.release(place);
    return runtime;
  }
  constructor(wasm) {
    this.wasm = wasm;
    wasm._initialize?.();
  }
  put(bytes) {
    const place = this.wasm.allocate(Math.max(bytes.length, 1));
    new Uint8Array(this.wasm.memory.buffer).set(bytes, place);
    return place;
  }
  part(i) {
    const n = this.wasm.count(i);
    return n ? Float32Array.from(new Float32Array(this.wasm.memory.buffer, this.wasm.numbers(i), n)) : null;
  }
  // An observation, {name: Float32Array}, to {action, probabilities, value, maps}.
  answer(observation) {
    for (const [name, x] of Object.entries(observation)) {
      const word = this.put(new TextEncoder().encode(name + "\0"));
      const place = this.put(new Uint8Array(x.buffer, x.byteOffset, x.byteLength));
      this.wasm.set_block(word, place, x.length);
      this.wasm.release(word), this.wasm.release(place);
    }
    const maps = Array.from({ length: this.wasm.respond() }, (_, i) => ({
      heads: this.wasm.map_heads(i), queries: this.wasm.map_queries(i), tokens: this.wasm.map_tokens(i),
      x: this.part(5 + i) }));
    return { action: this.part(0), probabilities: this.part(1), value: this.part(4)[0], maps };
  }
}

function bytesOf(base64) { return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)); }
