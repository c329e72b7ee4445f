// Two maps of one photo: side by side under a line that can be dragged, or one after the other.
const compare = { other: null, wipe: 50, timer: null, round: 0 };
const BLINK = 700;

const comparable = (map) => here().maps.filter((each) => each !== map && each.status === "ok");
const titled = (map) => `${methodOf(map)} of ${map.model}`;
// What is compared stays the same map of the next photo.
const chosen = (map) =>
  comparable(map).find((each) => compare.other && titled(each) === compare.other) ?? null;

function drawComparison(photo, map) {
  const others = map.status === "ok" ? comparable(map) : [];
  const other = map.status === "ok" ? chosen(map) : null;
  $("compare").hidden = others.length === 0;
  $("other").replaceChildren(el("option", { value: "" }, "nothing"),
    ...others.map((each) => el("option", { value: titled(each) }, titled(each))));
  $("other").value = other ? titled(other) : "";
  $("compare-tools").hidden = !other;
  if (!other) return stopBlinking();
  const silent = other.statistics.no_signal;
  $("other-legend").replaceChildren(...(silent
    ? [el("p", {}, `${titled(other)} has no signal: ${silent}.`)]
    : [el("p", {}, `Colours of ${titled(other)}:`), legend(other.statistics)]));
  const above = stack(photo, other, true);
  above.classList.add("above");
  const name = map.model === other.model ? methodOf : titled;
  const line = el("div", { class: "line" });
  $("stage").firstChild.append(above, line,
    el("span", { class: "side left" }, breakable(name(map))), el("span", { class: "side right" }, breakable(name(other))));
  if (map.preview && other.preview && !STILL.matches) inStep([...$("stage").querySelectorAll("img.moving")]);
  return showWipe();
}

// Two clips begin again together, or the line would part two moments. Another address makes the
// browser start anew.
async function inStep(pictures) {
  compare.round += 1;
  const anew = pictures.map((each) => {
    const copy = each.cloneNode();
    copy.src = `${each.getAttribute("src")}?${compare.round}`;
    return copy;
  });
  try {
    await Promise.all(anew.map((each) => each.decode()));
  } catch {
    return; // a picture that is gone shows its words
  }
  pictures.forEach((each, index) => each.replaceWith(anew[index]));
}

function showWipe(value = compare.wipe) {
  compare.wipe = Math.min(100, Math.max(0, value));
  $("wipe").value = String(compare.wipe);
  const stage = $("stage").firstChild;
  if (stage) stage.style.setProperty("--wipe", `${compare.wipe}%`);
}

function exchange() {
  showWipe(compare.wipe > 50 ? 0 : 100);
}

function blinks() {
  return compare.timer !== null;
}

function stopBlinking() {
  if (blinks()) clearInterval(compare.timer);
  compare.timer = null;
  $("blink").setAttribute("aria-pressed", "false");
}

function toggleBlinking() {
  if (blinks()) return stopBlinking();
  exchange();
  compare.timer = setInterval(exchange, BLINK);
  return $("blink").setAttribute("aria-pressed", "true");
}

function dragged(event) {
  const stage = $("stage").firstChild;
  if ($("compare-tools").hidden || !(event.buttons & 1)) return;
  stopBlinking();
  const box = stage.getBoundingClientRect();
  showWipe(Math.round((100 * (event.clientX - box.left)) / box.width));
  event.preventDefault();
}
