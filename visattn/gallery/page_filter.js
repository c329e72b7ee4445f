const maps = data.photos.flatMap((photo) => photo.maps);
const unique = (values) => [...new Set(values.filter(known))];
const CHOICES = {
  class: ["All classes", unique(maps.map(className)).sort((a, b) => a.localeCompare(b))],
  model: ["All models", unique(maps.map((map) => map.model))],
  method: ["All methods", unique(maps.map((map) => map.method))],
  status: ["Any status", unique(maps.map((map) => map.status))],
};

function fillSelects() {
  for (const [id, [all, values]] of Object.entries(CHOICES)) {
    $(id).append(el("option", { value: "" }, all), ...values.map((value) => el("option", { value }, value)));
    $(id).hidden = values.length < 2;
  }
}

function matches(photo, wanted) {
  const inName = photo.name.toLowerCase().includes(wanted.query);
  const ofClass = !wanted.class || photo.maps.some((map) => className(map) === wanted.class);
  if (!ofClass) return [];
  return photo.maps.filter((map) => {
    const own = className(map);
    return (
      (!wanted.class || own === wanted.class || own === null || own === undefined) &&
      (!wanted.model || map.model === wanted.model) &&
      (!wanted.method || map.method === wanted.method) &&
      (!wanted.status || map.status === wanted.status) &&
      (inName || [own, map.label, map.model, map.method, map.error].some(
        (text) => text && text.toLowerCase().includes(wanted.query)))
    );
  });
}

const VALUES = {
  probability: likelihood,
  entropy: (map) => (map.statistics ? map.statistics.entropy : null),
  unusual: (map) => strange.get(map)?.far ?? null,
};

function sorted(shown, order) {
  const [key, direction] = order.split("-");
  if (!VALUES[key]) return shown;
  const sign = direction === "down" ? -1 : 1;
  // Of several maps the first counts, and of unusual ones the most unusual.
  const value = ({ maps: visible }) => {
    const found = visible.map(VALUES[key]).filter(known);
    return found.length ? (key === "unusual" ? Math.max(...found) : found[0]) : null;
  };
  return shown
    .map((each) => [value(each), each])
    .sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * (a - b)))
    .map(([, each]) => each);
}

function refresh() {
  const wanted = { query: $("query").value.trim().toLowerCase() };
  for (const id of Object.keys(CHOICES)) wanted[id] = $(id).value;
  const shown = data.photos
    .map((photo) => ({ photo, maps: matches(photo, wanted) }))
    .filter((each) => each.maps.length);
  state.shown = sorted(shown, $("sort").value);
  state.drawn = 0;
  $("cards").replaceChildren();
  const count = state.shown.reduce((sum, each) => sum + each.maps.length, 0);
  const all = count === maps.length;
  $("found").textContent = all ? "" : `${plural(state.shown.length, "photo")}, ${plural(count, "map")} of ${maps.length}`;
  $("empty").hidden = state.shown.length > 0;
  for (const button of $("counts").children) {
    button.setAttribute("aria-pressed", String(button.value === wanted.status));
  }
  drawMore();
}

function reset() {
  $("tools").reset();
  showOpacity();
  refresh();
}
