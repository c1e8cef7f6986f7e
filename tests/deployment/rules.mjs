// Plays the JavaScript rules: standard input is [{environment, settings, seed, episode, actions}], standard output what
// was observed and earned at every step. Arguments: the scripts that hold the rules.
import { readFileSync } from "node:fs";
import vm from "node:vm";

const source = process.argv.slice(2).map((path) => readFileSync(path, "utf8")).join("\n");
const environments = vm.runInThisContext(`${source}\n({ Seek, Boxes })`);

function observe(game) {
  return Object.fromEntries(Object.entries(game.observe()).map(([name, x]) => [name, Array.from(x)]));
}

const found = JSON.parse(readFileSync(0, "utf8")).map(({ environment, settings, seed, episode, actions }) => {
  const game = new environments[environment](settings);
  game.reset(seed, episode);
  const observations = [observe(game)], places = [game.places()], outcomes = [];
  for (const action of actions) {
    outcomes.push(game.step(action));
    observations.push(observe(game)), places.push(game.places());
    if (outcomes.at(-1).terminated || outcomes.at(-1).truncated) break;
  }
  return { observations, outcomes, places };
});
process.stdout.write(JSON.stringify(found));
