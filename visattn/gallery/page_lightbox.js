const here = () => state.shown[state.photo];

function openBox(photo, map) {
  state.photo = state.shown.findIndex((each) => each.photo === photo);
  state.map = here().maps.indexOf(map);
  drawBox();
  if (!$("box").open) $("box").showModal();
}

function drawBox() {
  const { photo, maps: visible } = here();
  state.map = Math.min(Math.max(0, state.map), visible.length - 1);
  const map = visible[state.map];
  $("box-name").textContent = photo.name;
  $("box-name").title = photo.name;
  $("box-place").textContent = `${state.photo + 1} of ${state.shown.length}`;
  $("stage").replaceChildren(stack(photo, map, true));
  $("box-slider").hidden = map.status !== "ok" || Boolean(map.preview);
  $("about").className = `about ${map.status}`;
  $("about").replaceChildren(...about(photo, map));
  drawTabs(visible);
  drawComparison(photo, map);
}

function drawTabs(visible) {
  const nodes = [];
  visible.forEach((map, index) => {
    if (index === 0 || visible[index - 1].model !== map.model) nodes.push(el("h3", {}, map.model));
    const silent = map.statistics && map.statistics.no_signal;
    const note = map.status === "unsupported" ? "does not apply" : map.status === "ok" ? (silent ? "no signal" : "") : map.status;
    nodes.push(el("button", {
      type: "button", "aria-pressed": String(index === state.map),
      on: { click: () => { state.map = index; drawBox(); $("tabs").querySelectorAll("button")[index].focus(); } },
    }, el("kbd", {}, index < 9 ? String(index + 1) : "·"), el("span", {}, methodOf(map)), el("span", { class: `state ${map.status}` }, note)));
  });
  $("tabs").replaceChildren(...nodes);
}

const facts = (rows) =>
  el("dl", {}, ...rows.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))));

function about(photo, map) {
  const size = photo.width ? `${photo.width} × ${photo.height} pixels` : null;
  if (map.status !== "ok") {
    return [el("p", { class: "error" }, map.error ?? ""), facts([["Model", map.model], ["Method", map.method], ["Photo", size]])];
  }
  const s = map.statistics;
  const [top, left, bottom, right] = s.seen;
  const parts = [];
  if (s.no_signal) parts.push(el("p", { class: "notes" }, `No signal: ${s.no_signal}. There is nothing to draw.`));
  else parts.push(legend(s));
  parts.push(facts([
    ["Explains", map.label ?? "no class: the same map for every class"],
    ["Probability", map.probability === undefined ? null : number(map.probability)],
    ["Prediction", s.prediction ? named(s.prediction, s.prediction_probability) : null],
    ["Grid", map.grid ? `${map.grid[0]} rows × ${map.grid[1]} columns` : null],
    [map.frames ? "Frame" : "Photo", size],
    ["Clip", map.frames ? `${plural(map.frames, "frame")}, ${number(map.fps)} per second` : null],
    ["Seen", percent((bottom - top) * (right - left))],
  ]));
  if (map.frames) parts.push(el("p", { class: "notes" }, "Numbers below are means over the frames."));
  parts.push(facts([
    ["Entropy", `${number(s.entropy)} nats`],
    ["Gini", number(s.gini)],
    ["Top 5 % of cells", `${percent(s.top5_mass)} of the mass`],
    ["Prefix tokens", s.prefix_mass === null ? null : `${percent(s.prefix_mass)} of the attention`],
    ["Outlier tokens", s.outlier_tokens === null ? null : number(s.outlier_tokens)],
  ]));
  const notes = map.warnings.filter((text) => !s.no_signal || !text.includes(s.no_signal));
  if (notes.length) parts.push(el("ul", { class: "notes" }, ...notes.map((text) => el("li", {}, text))));
  parts.push(el("p", { class: "links" },
    el("a", { href: map.overlay, target: "_blank" }, map.frames ? "Annotated film" : "Annotated picture"),
    map.frames ? el("a", { href: map.preview, target: "_blank" }, "Animated picture") : null,
    el("a", { href: map.map, download: "" }, map.frames ? "Maps (.npz)" : "Map (.npz)")));
  if (!map.frames && data.attending.includes(map.model)) parts.push(sheets(photo, map));
  return parts;
}

// What a shell reads as one word.
const quoted = (word) => (/^[\w./:@%+=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

// The folder that the page was opened from; a server does not say where its files lie.
function folder() {
  if (location.protocol !== "file:") return "OUT_DIR";
  return path(location.pathname).replace(/\/[^/]*$/, "").replace(/^\/(?=[A-Za-z]:)/, "") || "/";
}

function sheets(photo, map) {
  const commands = ["layers", "heads"].map((kind) => {
    const words = ["visattn", "export", folder(), "--sheet", kind, "--photo", photo.name, "--model", map.model];
    const text = words.map(quoted).join(" "), code = el("code", {}, text);
    const copy = el("button", { type: "button", "aria-label": `Copy the command for ${kind}` }, "Copy");
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        copy.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
      }
    });
    return el("div", { class: "command" }, el("pre", { tabindex: "0" }, code), copy);
  });
  return el("details", { class: "sheets" }, el("summary", {}, "All layers or heads on a sheet"), ...commands);
}

function legend(s) {
  const [low, high] = s.scale;
  const colours = data.colormaps[s.colormap];
  // As in the heat: paint is as thick as the value is far from the unpainted end or middle.
  const diverging = s.normalization.startsWith("symmetric") || (low === -high && low < high);
  const stops = colours.map((colour, index) => {
    const place = index / (colours.length - 1);
    const alpha = Math.round(255 * (diverging ? Math.abs(2 * place - 1) : place));
    return colour + alpha.toString(16).padStart(2, "0");
  });
  const paint = el("div", { class: "heat" });
  paint.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  const ends = [`${s.minimum < low ? "≤ " : ""}${number(low)}`, `${s.maximum > high ? "≥ " : ""}${number(high)}`];
  const middle = diverging ? el("span", {}, "0") : null;
  return el("div", { class: "legend" },
    el("div", { class: "bar", role: "img", "aria-label": `Colours from ${ends[0]} to ${ends[1]}` }, paint),
    el("div", { class: "ends" }, el("span", {}, ends[0]), middle, el("span", {}, ends[1])),
    el("p", {}, `Raw values from ${number(s.minimum)} to ${number(s.maximum)}. Scale: ${s.normalization}; colours: ${s.colormap}.`));
}

function movePhoto(step) {
  const next = state.photo + step;
  if (next < 0 || next >= state.shown.length) return;
  const { model, method } = here().maps[state.map];
  state.photo = next;
  const same = here().maps.findIndex((map) => map.model === model && map.method === method);
  state.map = Math.max(0, same);
  drawBox();
}

function moveMap(step) {
  state.map += step;
  drawBox();
}

function closed() {
  stopBlinking();
  while (state.drawn <= state.photo && state.drawn < state.shown.length) drawMore();
  focusTile(state.photo, state.map);
}
