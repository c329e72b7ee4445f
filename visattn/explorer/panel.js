/* ---------- panel: what is built once ---------- */

const MANY = 12; // prefix tokens that still get a button each

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
