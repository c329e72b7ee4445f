// Statistics of the maps that are shown: how they are spread, and which lie far outside.
const BINS = [6, 24];
const STRANGE = 24;
const MEASURES = [
  ["entropy", "Entropy", "nats", (map) => map.statistics.entropy],
  ["gini", "Gini", "", (map) => map.statistics.gini],
  ["top5", "Mass in the top 5 % of cells", "share", (map) => map.statistics.top5_mass],
  ["prefix", "Attention on prefix tokens", "share", (map) => map.statistics.prefix_mass],
  ["outliers", "Outlier tokens", "", (map) => map.statistics.outlier_tokens],
  ["distance", "Attention distance", "pixels of the input", (map) => map.statistics.attention_distance],
  ["redundancy", "Head redundancy", "correlation", (map) => map.statistics.head_redundancy],
  ["probability", "Probability", "", likelihood],
];

function middle(sorted) {
  const upper = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[upper] : (sorted[upper - 1] + sorted[upper]) / 2;
}

// Distance from the median in units of the median distance, scaled to a normal's deviation; of the
// mean distance, scaled likewise, where more than half of the values are equal.
function strangeness(values) {
  const centre = middle([...values].sort((a, b) => a - b));
  const distances = values.map((each) => Math.abs(each - centre)).sort((a, b) => a - b);
  const mean = distances.reduce((sum, each) => sum + each, 0) / distances.length;
  const spread = 1.4826 * middle(distances) || 1.2533 * mean;
  return { centre, of: (value) => (spread > 0 ? Math.abs(value - centre) / spread : 0) };
}

const groups = (() => {
  const found = new Map();
  for (const map of maps) {
    if (map.status !== "ok" || map.statistics.no_signal) continue;
    const name = titled(map);
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(map);
  }
  return found;
})();

// Each map against the others of its model and method, in the measure in which it is strangest.
const strange = (() => {
  const found = new Map();
  for (const group of groups.values()) {
    if (group.length < 5) continue;
    for (const [, name, , value] of MEASURES) {
      const values = group.map(value);
      if (!values.every(known)) continue;
      const scale = strangeness(values);
      group.forEach((map, index) => {
        const far = scale.of(values[index]);
        if (far > (found.get(map)?.far ?? 0)) {
          found.set(map, { far, why: `${name} ${number(values[index])}, median ${number(scale.centre)}` });
        }
      });
    }
  }
  return found;
})();

function histogram(name, unit, values) {
  const low = values.reduce((a, b) => Math.min(a, b));
  const high = values.reduce((a, b) => Math.max(a, b));
  const bins = Math.round(Math.min(BINS[1], Math.max(BINS[0], 2 * Math.sqrt(values.length))));
  const counts = new Array(bins).fill(0);
  for (const value of values) counts[Math.min(bins - 1, Math.floor((bins * (value - low)) / (high - low || 1)))] += 1;
  const most = Math.max(...counts);
  const bars = counts.map((count) => {
    const bar = el("span", { title: plural(count, "map") });
    bar.style.height = `${count ? Math.max(3, (100 * count) / most) : 0}%`;
    return bar;
  });
  const centre = middle([...values].sort((a, b) => a - b));
  const spoken = `${name}: from ${number(low)} to ${number(high)}, median ${number(centre)}, ${plural(values.length, "map")}`;
  return el("figure", { class: "histogram" },
    el("figcaption", {}, name, unit ? el("span", {}, unit) : null),
    el("div", { class: "bars", role: "img", "aria-label": spoken }, ...bars),
    el("div", { class: "ends" }, el("span", {}, number(low)), el("span", {}, `median ${number(centre)}`), el("span", {}, number(high))));
}

function oddity(map, photo) {
  return el("li", {}, el("button", { type: "button", on: { click: () => { $("statistics").close(); openBox(photo, map); } } },
    stack(photo, map, false),
    el("span", { class: "words" }, el("b", {}, split(photo.name)[1]), el("span", {}, breakable(titled(map))), el("span", { class: "note" }, strange.get(map).why))));
}

function drawStatistics() {
  const shown = new Set(state.shown.flatMap((each) => each.maps));
  const parts = [];
  for (const [name, group] of groups) {
    const here = group.filter((map) => shown.has(map));
    if (!here.length) continue;
    const drawn = MEASURES.flatMap(([, label, unit, value]) => {
      const values = here.map(value).filter(known);
      return values.length ? [histogram(label, unit, values)] : [];
    });
    parts.push(el("section", {}, el("h3", {}, breakable(name), el("span", {}, plural(here.length, "map"))), el("div", { class: "histograms" }, ...drawn)));
  }
  const odd = state.shown
    .flatMap(({ photo, maps: visible }) => visible.filter((map) => strange.has(map)).map((map) => ({ map, photo })))
    .sort((a, b) => strange.get(b.map).far - strange.get(a.map).far)
    .slice(0, STRANGE);
  $("statistics-body").replaceChildren(
    el("section", {}, el("h3", {}, "Most unusual first"),
      odd.length
        ? el("ol", { class: "odd" }, ...odd.map(({ map, photo }) => oddity(map, photo)))
        : el("p", { class: "facts" }, "Unusual maps are found among five or more of one model and method.")),
    ...(parts.length ? parts : [el("p", { class: "facts" }, "No map of this selection carries a signal.")]));
}

function openStatistics() {
  drawStatistics();
  $("statistics").showModal();
}
