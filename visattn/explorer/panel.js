/* ---------- panel: buttons, strips, legend and numbers ---------- */

// Text only ever enters the page as text nodes and attributes, never as markup.
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const number = (value, digits = 3) => {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)) return value.toExponential(digits - 1).replace("e-", " · 10⁻").replace(/⁻(\d+)$/, (_, power) => `⁻${[...power].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("")}`);
  return String(Number(value.toPrecision(digits)));
};
const percent = (share) => (share > 0 && share < 0.0005 ? "below 0.1 %" : `${Number((100 * share).toPrecision(share < 0.1 ? 2 : 3))} %`);
const plural = (many, noun) => `${many} ${noun}${many === 1 ? "" : "s"}`;
const MANY = 12; // prefix tokens that still get a button each

const layerName = (step) => (step === pool ? "head pooling" : `layer ${step.layer}`);
const operations = (step) => step.placements.map((placed) => placed.name).join(", ");
const headCount = (place = state.layer) => headsOf(layers[place]).length;
const hasHeads = () => state.view === "to" || state.view === "from";

/* ---------- what is built once ---------- */

function buildViews() {
  const unread = data.marks.every((each) => !each.norms);
  $("views").append(...Object.entries(VIEWS).map(([view, text]) => {
    const off = view === "norms" && unread;
    return el("button", {
      type: "button", value: view, disabled: off ? "" : null, on: { click: () => set({ view }) },
      title: off ? "Token norms are not read in this family of models" : null,
    }, text);
  }));
}

function prefixNames() {
  const found = new Set();
  for (const step of layers) [...step.before.prefix, ...step.after.prefix].forEach((name) => found.add(name));
  return [...found];
}

function tokenButton(selection, text) {
  return el("button", {
    type: "button", "data-token": JSON.stringify(selection), on: { click: () => set({ selection }) },
  }, el("span", {}, text), el("span", { class: "share" }));
}

function buildTokens() {
  const names = prefixNames(), nodes = [];
  if (data.readout) nodes.push(tokenButton({ kind: "read" }, `Head reads: ${data.reads}`));
  if (names.length <= MANY) nodes.push(...names.map((name) => tokenButton({ kind: "prefix", name }, name)));
  else {
    nodes.push(el("select", {
      id: "prefix", "aria-label": "Prefix token",
      on: { change: (event) => event.target.value && set({ selection: { kind: "prefix", name: event.target.value } }) },
    }, el("option", { value: "" }, `${plural(names.length, "prefix token")} …`), ...names.map((name) => el("option", { value: name }, name))));
  }
  nodes.push(el("span", { class: "chosen", id: "chosen" }));
  $("tokens").append(...nodes);
}

function thumb(label, act) {
  return el("button", { type: "button", class: "thumb", "aria-label": label, title: label, on: { click: act } },
    el("canvas", { "aria-hidden": "true" }), el("span", {}));
}

// Thumbnails stand in full rows where that can be.
function arrange(box) {
  const many = box.children.length, rest = (columns) => (columns - (many % columns)) % columns;
  box.style.setProperty("--columns", String([6, 7, 5].reduce((best, other) => (rest(other) < rest(best) ? other : best))));
}

function buildLayers() {
  $("layer").max = String(layers.length - 1);
  $("layers").append(...layers.map((step, place) => {
    const node = thumb(`${layerName(step)}: ${operations(step)}`, () => choose(place));
    node.lastChild.textContent = step === pool ? "pool" : String(step.layer);
    return node;
  }));
  arrange($("layers"));
}

const choose = (place) => set(state.view === "rollout" ? { until: place } : { layer: place });

function buildHeads() {
  const wanted = headCount() + 1, box = $("heads");
  if (box.children.length === wanted) return;
  box.replaceChildren(...Array.from({ length: wanted }, (_, i) => {
    const node = thumb(i ? `head ${i - 1}` : "mean of all heads", () => set({ head: i ? i - 1 : null }));
    node.lastChild.textContent = i ? String(i - 1) : "mean";
    return node;
  }));
  arrange(box);
}

function buildFacts() {
  const [cellY, cellX] = layers[0].before.cell.map((side) => number(side));
  const left = data.layers - data.embedded.length;
  $("facts").append(...[
    data.model, `${inputHeight} × ${inputWidth} input`, `${cellY} × ${cellX} patches`,
    left ? `${data.embedded.length} of ${data.layers} layers in this file` : plural(data.layers, "layer"),
    `visattn ${data.version}`,
  ].map((fact) => el("span", {}, fact)));
  $("colormap").append(...Object.keys(data.colormaps).map((name) => el("option", { value: name }, name)));
  const notes = [...data.notes, ...data.imageNotes];
  $("note-section").hidden = !notes.length;
  $("notes").append(...notes.map((text) => el("li", {}, `${text[0].toUpperCase()}${text.slice(1)}.`.replace(/\.\.$/, "."))));
  buildClasses();
}

function buildClasses() {
  if (data.noClasses) $("classes").append(el("p", { class: "quietly" }, data.noClasses));
  $("classes").append(...data.classes.map(({ label, index, probability }) => {
    const fill = el("i", {});
    fill.style.width = `${100 * (probability ?? 0)}%`;
    const value = probability === null ? "" : percent(probability);
    return el("div", { class: data.asked.includes(index) ? "class asked" : "class" },
      el("span", { class: "label", title: label }, label), el("span", { class: "gauge" }, fill), el("span", { class: "value" }, value));
  }));
}

/* ---------- what follows the state ---------- */

function describeSelection() {
  const { selection } = state, layout = shown()?.sourceLayout ?? layers[shownPlace()].after;
  if (selection.kind === "read") return `What the head reads (${data.reads})`;
  if (selection.kind === "prefix") return `Token “${selection.name}”`;
  if (!layout.grid[0]) return "Patch";
  const found = chosenTokens(layout, selection);
  if (found.length > 1) return `Region of ${found.length} patches`;
  const [row, col] = cellOf(layout, found[0]);
  return `Patch in row ${row}, column ${col}`;
}

function headWords() {
  if (!hasHeads()) return "";
  return state.head === null || state.head >= headCount() ? `, mean of ${plural(headCount(), "head")}` : `, head ${state.head}`;
}

function describe() {
  const who = describeSelection(), layer = layerName(layers[shownPlace()]), answer = shown();
  const where = state.view === "norms" ? `Norms of the tokens behind ${layer}`
    : state.view === "rollout" ? `Rollout from ${who[0].toLowerCase()}${who.slice(1)}, down to ${layer}`
      : `${layer[0].toUpperCase()}${layer.slice(1)}${headWords()}`;
  if (!answer) return `${where} …`;
  if (answer.reason) return `${where}.`;
  const values = cells(answer), high = largest(values);
  if (high === null) return `${where}.`;
  const [row, col] = cellOf(answer.layout, high + answer.layout.prefix.length);
  const place = `row ${row}, column ${col} (${number(values[high])})`, note = answer.note ? ` ${answer.note}` : "";
  if (!hasHeads()) return `${where}: largest in ${place}.${note}`;
  return `${who} ${state.view === "to" ? "looks most at" : "is looked at most from"} ${place}. ${where}.${note}`;
}

function largest(values) {
  let high = null;
  values.forEach((value, i) => { if (value !== null && (high === null || value > values[high])) high = i; });
  return high;
}

function followButtons() {
  const { selection } = state, answer = shown(), row = shownRow(answer);
  const pressed = (node, on) => node.setAttribute("aria-pressed", String(on));
  for (const node of $("views").children) pressed(node, node.value === state.view);
  for (const node of $("tokens").querySelectorAll("button")) {
    const own = JSON.parse(node.dataset.token);
    pressed(node, state.view !== "norms" && JSON.stringify(own) === JSON.stringify(selection));
    const place = row && own.kind === "prefix" ? answer.layout.prefix.indexOf(own.name) : -1;
    node.lastChild.textContent = place >= 0 && state.view !== "norms" ? number(row[place], 2) : "";
  }
  if ($("prefix")) $("prefix").value = selection.kind === "prefix" ? selection.name : "";
  const patch = ["point", "area"].includes(selection.kind) && state.view !== "norms";
  $("chosen").textContent = patch ? describeSelection() : "Click the photo for a patch";
  $("chosen").classList.toggle("on", patch);
}

function followLayers() {
  const place = shownPlace(), step = layers[place];
  $("layer-title").textContent = state.view === "rollout" ? "Rollout down to layer" : "Layer";
  $("layer").value = String(place);
  $("layer").setAttribute("aria-valuetext", layerName(step));
  $("layer-now").textContent = step === pool ? "head pooling" : `${step.layer} of 0 … ${data.layers - 1}`;
  $("layer-names").textContent = `${operations(step)} · ${step.before.grid[0]} × ${step.before.grid[1]} tokens`;
  [...$("layers").children].forEach((node, i) => node.setAttribute("aria-pressed", String(i === place)));
}

function followHeads() {
  $("head-section").hidden = !hasHeads();
  if (!hasHeads()) return;
  buildHeads();
  const own = state.head !== null && state.head < headCount() ? state.head : null;
  $("head-now").textContent = own === null ? `mean of ${headCount()}` : `${own} of 0 … ${headCount() - 1}`;
  [...$("heads").children].forEach((node, i) => node.setAttribute("aria-pressed", String(own === null ? i === 0 : i === own + 1)));
}

function followPaint() {
  $("opacity").value = String(Math.round(100 * state.opacity));
  $("opacity-value").textContent = `${Math.round(100 * state.opacity)} %`;
  Object.assign($("scale"), { value: state.scale, disabled: state.view === "norms" });
  $("colormap").value = state.colormap;
  $("smooth").checked = state.smooth;
  $("marks").checked = state.marks;
  $("marks-label").hidden = !data.marks.some((each) => each.norms || each.sinks);
}

function followLegend() {
  const answer = shown(), row = shownRow(answer);
  if (!row) {
    $("legend").replaceChildren();
    return;
  }
  const [low, high] = limits(cells(answer)), stops = data.colormaps[state.colormap];
  const paint = el("i", {});
  paint.style.background = `linear-gradient(to right, ${stops.map(([r, g, b], i) => `rgb(${r} ${g} ${b} / ${thickness(i / (stops.length - 1))})`).join(", ")})`;
  const marks = state.marks ? data.marks[layers[shownPlace()].layer] : null;
  const rings = marks?.outliers?.length ? el("span", {}, el("b", { class: "ring" }), ` high norm (${marks.outliers.length})`) : null;
  const sinks = marks?.sinks?.length ? el("span", {}, el("b", { class: "sink" }), ` sink (${marks.sinks.length})`) : null;
  const clipped = state.scale === "percentile" && state.view !== "norms" ? "≥ " : "";
  $("legend").replaceChildren(
    el("span", { class: "end" }, number(low, 2)),
    el("span", { class: "scale", role: "img", "aria-label": `Colours from ${number(low, 2)} to ${number(high, 2)}` }, paint),
    el("span", { class: "end" }, clipped + number(high, 2)),
    ...[rings, sinks].filter(Boolean));
}

function followNumbers() {
  const answer = shown(), row = shownRow(answer);
  const rows = [];
  if (row && state.view !== "norms") {
    const { layout } = answer, front = layout.prefix.length, end = front + layout.grid[0] * layout.grid[1];
    const patches = total(row.subarray(front, end)), prefix = total(row.subarray(0, front)), rest = total(row.subarray(end));
    const on = state.view === "from" ? "from" : "on";
    if (state.view === "from") rows.push(["Mean from patches", number(patches / (end - front))]);
    else {
      rows.push([`Share ${on} patches`, percent(patches)]);
      if (front) rows.push([`Share ${on} prefix tokens`, percent(prefix)]);
      if (rest > 0) rows.push([`Share ${on} the other branch`, percent(rest)]);
      const lost = 1 - patches - prefix - rest;
      if (lost > 1e-3 && answer.softmaxed !== false) rows.push(["Share on padding", percent(lost)]);
    }
    rows.push(["Entropy over patches", entropy(row.subarray(front, end))]);
  }
  if (row && state.view === "norms") {
    const values = cells(answer).slice().sort((a, b) => a - b), middle = values[Math.floor(values.length / 2)];
    rows.push(["Median norm", number(middle)], ["Largest norm", `${number(values.at(-1))} (${number(values.at(-1) / middle)} × the median)`]);
  }
  const marks = data.marks[layers[shownPlace()].layer];
  if (marks?.outliers) rows.push(["High-norm tokens", String(marks.outliers.length)]);
  if (marks?.sinks) rows.push(["Attention sinks", String(marks.sinks.length)]);
  $("numbers").replaceChildren(...rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

function entropy(values) {
  const sum = total(values);
  if (!(sum > 0)) return "–";
  let found = 0;
  for (const value of values) if (value > 0) found -= (value / sum) * Math.log(value / sum);
  return `${number(found)} of ${number(Math.log(values.length))} nats`;
}

function followEmpty() {
  const answer = shown(), row = shownRow(answer), scale = row ? limits(cells(answer)) : null;
  const waits = `Computing: ${sheet.answers.filter(Boolean).length} of ${plural(layers.length, "layer")} …`;
  const flat = scale && !(scale[1] > scale[0]) ? "No signal: all cells have the same value." : null;
  const text = answer ? answer.reason ?? flat : waits;
  $("empty").hidden = !text;
  $("empty").classList.toggle("waits", !answer);
  $("empty").textContent = text ?? "";
}

function followProgress() {
  const done = sheet.answers.filter(Boolean).length;
  $("busy").hidden = done === layers.length;
  $("busy").firstChild.style.width = `${(100 * done) / layers.length}%`;
}

/* ---------- thumbnails ---------- */

function paintThumbs() {
  [...$("layers").children].forEach((node, place) => {
    const answer = sheet.answers[place];
    node.classList.toggle("silent", Boolean(answer?.reason));
    paintThumb(node.firstChild, answer, shownRow(answer));
  });
  if (!hasHeads()) return;
  const answer = shown();
  [...$("heads").children].forEach((node, i) =>
    paintThumb(node.firstChild, answer, answer && !answer.reason ? (i ? answer.heads[i - 1] : answer.mean) : null));
}

let awaited = false;

/** Bring the page in line with the state, once for each frame. */
function follow() {
  if (awaited) return;
  awaited = true;
  requestAnimationFrame(() => {
    awaited = false;
    for (const part of [followButtons, followLayers, followHeads, followPaint, followLegend, followNumbers, followEmpty, followProgress]) part();
    paintStage();
    paintThumbs();
    $("status").textContent = describe();
  });
}
