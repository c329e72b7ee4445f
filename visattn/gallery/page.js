"use strict";
(() => {
  const PAGE = 24;
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const state = { shown: [], drawn: 0, photo: 0, map: 0 };

  // Text only ever enters the page as text nodes and attributes, never as markup.
  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined) continue;
      if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
      else if (name.startsWith("--")) node.style.setProperty(name, value);
      else node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  // Long names may break after their punctuation, and not in the middle of a word.
  function breakable(text) {
    const parts = text.split(/(?<=[_:/.-])/).flatMap((part) => [el("wbr"), part]);
    return el("span", { class: "name" }, ...parts.slice(1));
  }

  const number = (value, digits = 3) => {
    if (value === null || value === undefined) return "–";
    if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)) return value.toExponential(2);
    return String(Number(value.toPrecision(digits)));
  };
  const percent = (share) =>
    share === null || share === undefined ? "–" : `${number(100 * share, share < 0.1 ? 2 : 3)} %`;
  const chance = (p) => (p > 0 && p < 0.005 ? "below 0.01" : p.toFixed(2));
  const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
  const split = (name) => {
    const cut = name.lastIndexOf("/") + 1;
    return [name.slice(0, cut), name.slice(cut)];
  };
  const className = (map) =>
    map.index !== undefined ? map.label : map.statistics ? map.statistics.prediction : null;
  const likelihood = (map) =>
    map.probability ?? (map.statistics ? map.statistics.prediction_probability : null) ?? null;
  const named = (label, p) => (p === null || p === undefined ? label : `${label} ${chance(p)}`);

  /* ---------- filter and sort ---------- */

  const maps = data.photos.flatMap((photo) => photo.maps);
  const unique = (values) => [...new Set(values.filter((value) => value !== null && value !== undefined))];
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
  };

  function sorted(shown, order) {
    const [key, direction] = order.split("-");
    if (!VALUES[key]) return shown;
    const sign = direction === "down" ? -1 : 1;
    const value = ({ maps: visible }) => {
      const found = visible.map(VALUES[key]).find((each) => each !== null && each !== undefined);
      return found === undefined ? null : found;
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

  /* ---------- cards ---------- */

  function stack(photo, map, large) {
    const ratio = photo.width ? String(photo.width / photo.height) : "1.5";
    const box = el("div", { class: `stack ${map ? map.status : ""}`, "--ratio": ratio });
    if (map && map.status !== "ok" && !(large && photo.photo)) {
      const title = map.status === "failed" ? "Failed" : "Does not apply";
      box.append(el("div", { class: "message" }, el("b", {}, title), ...(large ? [] : [el("span", {}, map.error ?? "")])));
      return box;
    }
    const lazy = large ? {} : { loading: "lazy", decoding: "async" };
    const source = large ? photo.photo : photo.thumbnail;
    const picture = el("img", { src: source, alt: large || !map ? `Photo ${photo.name}` : "", ...lazy });
    box.append(picture);
    if (!map || map.status !== "ok") return box;
    const { statistics } = map;
    box.append(...seenPart(picture, statistics.seen, lazy));
    if (statistics.no_signal) box.append(el("span", { class: "badge" }, "no signal"));
    else box.append(el("img", { class: "heat", src: map.heat, alt: `Heat of ${map.method}, ${map.model}`, ...lazy }));
    return box;
  }

  // What the model did not see is grey: the photo once in grey, and once cut to what was seen.
  function seenPart(picture, seen, lazy) {
    if (!seen || (seen[0] < 0.005 && seen[1] < 0.005 && seen[2] > 0.995 && seen[3] > 0.995)) return [];
    const [top, left, bottom, right] = seen.map((part) => 100 * part);
    const inset = `${top}% ${100 - right}% ${100 - bottom}% ${left}%`;
    const bright = el("img", { src: picture.getAttribute("src"), alt: "", ...lazy });
    const frame = el("div", { class: "seen", title: "The model saw only this part" });
    picture.classList.add("unseen");
    bright.style.clipPath = `inset(${inset})`;
    frame.style.inset = inset;
    return [bright, frame];
  }

  function tile(photo, map, place) {
    const explained = map.label ? named(map.label, map.probability) : null;
    const words = el("span", { class: "words" }, el("b", {}, breakable(map.method)), el("span", {}, breakable(map.model)));
    if (explained) words.append(el("span", { class: "note" }, explained));
    const spoken = [`${map.method} of ${map.model}`, explained, map.status === "ok" ? null : map.status, photo.name];
    return el(
      "button",
      {
        type: "button", class: "tile", "data-map": String(place),
        "aria-label": spoken.filter(Boolean).join(", "),
        on: { click: () => openBox(photo, map) },
      },
      stack(photo, map, false), words,
    );
  }

  function wreck(photo, visible) {
    const errors = unique(visible.map((map) => map.error));
    const pairs = visible.map((map) => `${map.method} of ${map.model}`).join(", ");
    return el(
      "button",
      { type: "button", class: "tile wreck", "data-map": "0", on: { click: () => openBox(photo, visible[0]) } },
      el("b", {}, `${plural(visible.length, "map")} failed`), errors[0] ?? "", el("span", {}, pairs),
    );
  }

  function card({ photo, maps: visible }, place) {
    const [folder, name] = split(photo.name);
    const first = visible.map((map) => map.statistics).find((each) => each && each.prediction);
    const head = el("div", { class: "card-head" },
      el("h2", {}, el("span", { class: "folder" }, folder), name),
      first ? el("p", { class: "prediction" }, `Prediction: ${named(first.prediction, first.prediction_probability)}`) : null);
    // Tiles of all shapes get about the same area, so that no photo shouts.
    const ratio = photo.width ? photo.width / photo.height : 1.5;
    const width = Math.round(Math.min(300, Math.max(150, 190 * Math.sqrt(ratio))));
    const tiles = el("div", { class: "tiles", "--tile": `${width}px` });
    const error = visible[0].error;
    if (!photo.photo && visible.length > 1 && visible.every((map) => map.status === "failed" && map.error === error)) {
      return el("article", { class: "card", "data-photo": String(place) }, head, wreck(photo, visible));
    }
    if (photo.photo) {
      const size = `${photo.width} × ${photo.height}`;
      tiles.append(el("figure", {}, stack(photo, null, false),
        el("figcaption", { class: "words" }, el("b", {}, "photo"), el("span", {}, size))));
    }
    tiles.append(...visible.map((map, index) => tile(photo, map, index)));
    return el("article", { class: "card", "data-photo": String(place) }, head, tiles);
  }

  function drawMore() {
    const next = state.shown.slice(state.drawn, state.drawn + PAGE);
    $("cards").append(...next.map((each, index) => card(each, state.drawn + index)));
    state.drawn += next.length;
  }

  /* ---------- lightbox ---------- */

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
    $("box-slider").hidden = map.status !== "ok";
    $("about").className = `about ${map.status}`;
    $("about").replaceChildren(...about(photo, map));
    drawTabs(visible);
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
      }, el("kbd", {}, index < 9 ? String(index + 1) : "·"), el("span", {}, map.method), el("span", { class: `state ${map.status}` }, note)));
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
      ["Photo", size],
      ["Seen", percent((bottom - top) * (right - left))],
    ]));
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
      el("a", { href: map.overlay, target: "_blank" }, "Annotated picture"),
      el("a", { href: map.map, download: "" }, "Map (.npz)")));
    return parts;
  }

  function legend(s) {
    const [low, high] = s.scale;
    const colours = data.colormaps[s.colormap];
    // As in the heat: paint is as thick as the value is far from the unpainted end or middle.
    const diverging = s.normalization.startsWith("symmetric") || low === -high;
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
    while (state.drawn <= state.photo && state.drawn < state.shown.length) drawMore();
    focusTile(state.photo, state.map);
  }

  /* ---------- opacity ---------- */

  function showOpacity(value = Math.round(100 * data.opacity)) {
    document.documentElement.style.setProperty("--heat", String(value / 100));
    for (const id of ["opacity", "box-opacity"]) {
      $(id).value = String(value);
      $(`${id}-value`).textContent = `${value} %`;
    }
  }

  /* ---------- keyboard ---------- */

  function focusTile(photo, map) {
    const tiles = [...document.querySelectorAll(`.card[data-photo="${photo}"] .tile`)];
    if (!tiles.length) return;
    const target = tiles[Math.min(map, tiles.length - 1)];
    target.focus({ preventScroll: true });
    target.closest(".card").scrollIntoView({ block: "nearest" });
    target.scrollIntoView({ block: "nearest" });
  }

  function cursor() {
    const focused = document.activeElement.closest ? document.activeElement.closest(".tile") : null;
    if (!focused) return null;
    return { photo: Number(focused.closest(".card").dataset.photo), map: Number(focused.dataset.map) };
  }

  function walk(steps, sideways) {
    const at = cursor();
    if (!at) return focusTile(0, 0);
    if (sideways) return focusTile(at.photo, Math.max(0, at.map + sideways));
    const photo = Math.min(Math.max(0, at.photo + steps), state.shown.length - 1);
    while (state.drawn <= photo) drawMore();
    return focusTile(photo, at.map);
  }

  function inGrid(key) {
    if (key === "j" || key === "ArrowDown") walk(1, 0);
    else if (key === "k" || key === "ArrowUp") walk(-1, 0);
    else if (key === "ArrowRight") walk(0, 1);
    else if (key === "ArrowLeft") walk(0, -1);
    else if (/^[1-9]$/.test(key)) focusTile((cursor() ?? { photo: 0 }).photo, Number(key) - 1);
    else if (key === "/") $("query").focus();
    else return false;
    return true;
  }

  function inBox(key) {
    if (key === "j" || key === "ArrowDown") movePhoto(1);
    else if (key === "k" || key === "ArrowUp") movePhoto(-1);
    else if (key === "ArrowRight") moveMap(1);
    else if (key === "ArrowLeft") moveMap(-1);
    else if (/^[1-9]$/.test(key) && Number(key) <= here().maps.length) {
      state.map = Number(key) - 1;
      drawBox();
    } else return false;
    return true;
  }

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const typing = event.target.closest && event.target.closest("input, select, textarea");
    if (typing) {
      if (event.key === "Escape" && !$("box").open) typing.blur();
      return;
    }
    if ($("help").open) return;
    if (event.key === "?") $("help").showModal();
    else if (event.key === "h") document.documentElement.classList.toggle("bare");
    else if (!($("box").open ? inBox(event.key) : inGrid(event.key))) return;
    event.preventDefault();
  }

  /* ---------- start ---------- */

  function head() {
    const count = (key) => unique(maps.map((map) => map[key])).length;
    $("facts").textContent = [
      plural(data.photos.length, "photo"), plural(count("model"), "model"), plural(count("method"), "method"),
      `made ${data.made} with visattn ${data.version}`,
    ].join("  ·  ");
    const words = { ok: "ok", failed: "failed", unsupported: "do not apply" };
    $("counts").append(...Object.entries(words).filter(([status]) => data.counts[status]).map(([status, text]) =>
      el("button", {
        type: "button", class: status, value: status, "aria-pressed": "false",
        on: { click: () => { $("status").value = $("status").value === status ? "" : status; refresh(); } },
      }, `${data.counts[status]} ${text}`)));
  }

  fillSelects();
  head();
  showOpacity();
  refresh();

  $("tools").addEventListener("submit", (event) => event.preventDefault());
  $("query").addEventListener("input", refresh);
  for (const id of [...Object.keys(CHOICES), "sort"]) $(id).addEventListener("change", refresh);
  for (const id of ["opacity", "box-opacity"]) $(id).addEventListener("input", () => showOpacity(Number($(id).value)));
  $("reset").addEventListener("click", reset);
  $("help-button").addEventListener("click", () => $("help").showModal());
  $("box-previous").addEventListener("click", () => movePhoto(-1));
  $("box-next").addEventListener("click", () => movePhoto(1));
  $("box-close").addEventListener("click", () => $("box").close());
  $("box").addEventListener("close", closed);
  document.addEventListener("keydown", pressed);
  new IntersectionObserver((seen) => {
    if (seen.some((each) => each.isIntersecting)) drawMore();
  }, { rootMargin: "1200px" }).observe($("more"));
})();
