function stack(photo, map, large) {
  const ratio = photo.width ? String(photo.width / photo.height) : "1.5";
  const box = el("div", { class: `stack ${map ? map.status : ""}`, "--ratio": ratio });
  if (map && map.status !== "ok" && !(large && photo.photo)) {
    const title = map.status === "failed" ? "Failed" : "Does not apply";
    box.append(el("div", { class: "message" }, el("b", {}, title), ...(large ? [] : [el("span", {}, map.error ?? "")])));
    return box;
  }
  const lazy = large ? {} : { loading: "lazy", decoding: "async" };
  if (map && map.status === "ok" && map.preview) {
    const words = `Moving heat of ${map.method}, ${map.model}, over ${photo.name}`;
    const moving = el("img", { class: "moving", src: large ? map.preview : map.tile, alt: words, ...lazy });
    box.append(moving);
    if (STILL.matches) keepStill(moving, words, large);
    if (map.statistics.no_signal) box.append(el("span", { class: "badge" }, "no signal"));
    else if (!large) box.append(el("span", { class: "badge" }, "clip"));
    return box;
  }
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

// Who asked their system for less motion sees the first frame, and starts a clip by a button.
const STILL = matchMedia("(prefers-reduced-motion: reduce)");

function keepStill(moving, words, large) {
  moving.addEventListener("load", () => {
    const still = el("canvas", {
      class: "moving", role: "img", "aria-label": `First frame of: ${words}`,
      width: String(moving.naturalWidth), height: String(moving.naturalHeight),
    });
    still.getContext("2d").drawImage(moving, 0, 0);
    moving.replaceWith(still);
    if (!large) return;
    const play = el("button", { type: "button", class: "play", on: { click: () => {
      still.replaceWith(moving);
      play.remove();
    } } }, "Play");
    still.after(play);
  }, { once: true });
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
  const words = el("span", { class: "words" }, el("b", {}, breakable(methodOf(map))), el("span", {}, breakable(map.model)));
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
      el("figcaption", { class: "words" }, el("b", {}, photo.clip ? "first frame" : "photo"), el("span", {}, size))));
  }
  tiles.append(...visible.map((map, index) => tile(photo, map, index)));
  return el("article", { class: "card", "data-photo": String(place) }, head, tiles);
}

function drawMore() {
  const next = state.shown.slice(state.drawn, state.drawn + PAGE);
  $("cards").append(...next.map((each, index) => card(each, state.drawn + index)));
  state.drawn += next.length;
}
