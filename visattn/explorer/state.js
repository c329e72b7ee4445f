/* ---------- state: what is asked, and the answers as they come ---------- */

const VIEWS = {
  to: "Looks at", from: "Looked at from", rollout: "Rollout", norms: "Token norms",
};
const SLICE = 14; // milliseconds of work before the page may answer to its reader

const state = {
  view: "to",
  layer: layers.length - 1 - (pool && layers.length > 1 ? 1 : 0), // place among the embedded layers
  until: 0, // rollout: the layer down to which is walked
  head: null, // null: the mean
  selection: null,
  scale: "largest",
  colormap: Object.keys(data.colormaps)[0],
  opacity: 0.85,
  smooth: false,
  marks: true,
  heat: true,
};

// One answer for each layer: {heads, mean, layout, sourceLayout, window, note}, or {reason}.
const sheet = { answers: [], key: "", running: 0, seconds: 0 };
const listeners = [];
const changed = (what) => listeners.forEach((listener) => listener(what));

const pause = () => new Promise((done) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => done();
  port2.postMessage(null);
});

class Stale extends Error {}

/** One thing that was asked: it computes in slices, and gives up when something else is asked. */
class Job {
  constructor() {
    this.ticket = ++sheet.running;
    this.since = performance.now();
    this.run = this.run.bind(this);
  }

  check() { if (this.ticket !== sheet.running) throw new Stale(); }

  async run(work) {
    for (;;) {
      const { done, value } = work.next();
      if (done) return value;
      if (performance.now() - this.since < SLICE) continue;
      await pause();
      this.since = performance.now();
      this.check();
    }
  }

  put(place, answer) {
    this.check();
    sheet.answers[place] = answer;
    changed("answer");
  }
}

/* ---------- answers ---------- */

const PATCHES_SILENT = `Patches do not attend in this layer: choose ${data.readout ? "a prefix token or what the head reads" : "a prefix token"}.`;
const OTHER_BRANCH = "This layer attends within the other branch, whose tokens lie on another grid: choose what the head reads.";
const ONE_BRANCH = "Tokens of the other branch lie on another grid and are not shown here.";

async function readRow(step, run) {
  if (!data.readout) throw new RangeError(`${data.reads}.`);
  let row = Float64Array.from(await numbers(data.readout));
  if (step === pool) return row;
  if (pool) {
    await loadLayer(pool);
    row = mean(pool, await run(lookedAt(pool, row)));
  }
  for (let place = steps.length - 1; steps[place] !== step; place--) {
    if (!steps[place].residual) throw new RangeError("What the head reads cannot be followed down to this layer.");
    row = steps[place].residual.row(row);
  }
  return row;
}

async function sourceRow(step, run) {
  const { selection } = state;
  const row = selection.kind === "read" ? await readRow(step, run) : averaged(step.after, chosenTokens(step.after, selection));
  const attending = zeros(row.length);
  for (const { queries } of step.placements) queries.sums.forEach((sum, i) => { attending[i] = Math.max(attending[i], sum); });
  const share = row.reduce((sum, value, i) => sum + value * attending[i], 0);
  if (selection.kind === "prefix" && !total(row)) throw new RangeError(`There is no token “${selection.name}” in this layer.`);
  if (!(share > 0)) {
    const silent = step.after.suffix ? OTHER_BRANCH : PATCHES_SILENT;
    throw new RangeError(step === pool ? "Only the head's own query attends here: choose what the head reads." : silent);
  }
  return { row: row.map((value) => value / share), share };
}

async function answerTo(step, run) {
  const { row, share } = await sourceRow(step, run);
  const found = await run(lookedAt(step, row));
  const heads = found.map((each) => onGrid(step, each)[0]), [, layout] = onGrid(step, found[0]);
  const note = share < 0.9995 ? `Only ${percent(share)} of it attends in this layer.` : null;
  return {
    heads, mean: mean(step, heads), layout, sourceLayout: step.after,
    window: layout === step.before ? windowOf(step, row) : null, note,
  };
}

async function answerFrom(step, run) {
  const { selection } = state;
  if (selection.kind === "read") throw new RangeError("What the head reads is no token that others look at: choose a patch or a prefix token.");
  const tokens = chosenTokens(step.before, selection), chosen = zeros(count(step.before));
  if (!tokens.length) throw new RangeError(`There is no token “${selection.name}” in this layer.`);
  for (const token of tokens) chosen[token] = 1;
  if (step === pool) throw new RangeError("Only the head's own query attends here, not patches.");
  const heads = await run(lookedAtFrom(step, chosen));
  return {
    heads, mean: mean(step, heads), layout: step.after, sourceLayout: step.before,
    window: windowOnto(step, chosen), note: step.after.suffix ? ONE_BRANCH : null,
  };
}

async function answerNorms(step) {
  const marks = data.marks[step.layer];
  if (!marks || !marks.norms) throw new RangeError("Token norms were not read behind this layer.");
  const norms = await numbers(marks.norms), row = zeros(count(step.after));
  norms.forEach((value, patch) => { row[step.after.prefix.length + patch] = value; });
  return { heads: [], mean: row, layout: step.after, sourceLayout: step.after, window: null, note: null };
}

const ANSWERS = { to: answerTo, from: answerFrom, norms: answerNorms };

async function answerLayer(place, job) {
  const step = layers[place];
  try {
    if (state.view !== "norms") await loadLayer(step);
    job.check();
    job.put(place, await ANSWERS[state.view](step, job.run));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    job.put(place, { reason: error.message });
  }
}

/** Return the row behind the last layer in which a rollout starts. */
async function rolloutStart(job) {
  const { selection } = state, last = layers.length - 1;
  if (selection.kind !== "read") {
    const tokens = chosenTokens(data.end, selection);
    if (!tokens.length) throw new RangeError(`There is no token “${selection.name}” behind the last layer.`);
    if (pool) job.put(last, { reason: "The walk starts behind the last layer, not in the head." });
    return averaged(data.end, tokens);
  }
  if (!data.readout) throw new RangeError(`${data.reads}.`);
  const row = Float64Array.from(await numbers(data.readout));
  if (!pool) return row;
  await loadLayer(pool);
  const pooled = await job.run(transition(pool, row));
  job.put(last, rolloutAnswer(...onGrid(pool, pooled)));
  return pooled;
}

async function answerRollout(job) {
  try {
    const refusal = rolloutRefusal();
    if (refusal) throw new RangeError(refusal);
    const start = await rolloutStart(job);
    const end = await rolled(start, job.run, (step, row) => job.put(layers.indexOf(step), rolloutAnswer(...onGrid(step, row))));
    if (steps.length) job.put(0, rolloutAnswer(end, steps[0].before));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    for (const place of layers.keys()) job.put(place, { reason: error.message });
  }
}

/** Answer the shown layer first, then the others. */
async function answerLayers(job) {
  for (;;) {
    const place = sheet.answers[state.layer] ? layers.findIndex((_, i) => !sheet.answers[i]) : state.layer;
    if (place < 0) return;
    await answerLayer(place, job);
    if (place === state.layer) await pause();
    job.check();
  }
}

const PARTLY = "Layers that are not in this file are walked along their residual path alone.";

const rolloutAnswer = (row, layout) => ({
  heads: [], mean: row, layout, sourceLayout: data.end, window: null,
  note: data.embedded.length < data.layers ? PARTLY : null,
});

const shownPlace = () => (state.view === "rollout" ? state.until : state.layer);
const shown = () => sheet.answers[shownPlace()] ?? null;

/** Return the row of the shown layer, of the mean or of the chosen head. */
function shownRow(answer = shown()) {
  if (!answer || answer.reason) return null;
  return state.head !== null && answer.heads[state.head] ? answer.heads[state.head] : answer.mean;
}

/* ---------- asking ---------- */

let settled = Promise.resolve();

/** Answer what the state asks, unless it is what was asked before. */
function ask() {
  const key = JSON.stringify([state.view, state.view === "norms" ? null : state.selection]);
  if (key === sheet.key) return settled;
  sheet.key = key;
  sheet.answers = [];
  settled = answered(new Job());
  return settled;
}

async function answered(job) {
  const start = performance.now();
  changed("asked");
  try {
    await (state.view === "rollout" ? answerRollout(job) : answerLayers(job));
    sheet.seconds = (performance.now() - start) / 1000;
  } catch (error) {
    if (!(error instanceof Stale)) throw error;
  }
}

function set(changes) {
  Object.assign(state, changes);
  changed("state");
  return ask();
}
