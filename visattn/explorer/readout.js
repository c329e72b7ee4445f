/* ---------- readout: what follows the state ---------- */

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
      if (lost > 1e-3 && sumsToOne()) rows.push(["Share on padding", percent(lost)]);
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
  $("number-section").hidden = !rows.length;
  $("numbers").replaceChildren(...rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

// A rollout makes rows sum to 1 itself.
const sumsToOne = () => state.view === "rollout" || layers[state.layer].placements.every((placed) => placed.operation.softmax);

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
    $("status").textContent = amissWords() + describe();
  });
}
