function showOpacity(value = Math.round(100 * data.opacity)) {
  document.documentElement.style.setProperty("--heat", String(value / 100));
  for (const id of ["opacity", "box-opacity"]) {
    $(id).value = String(value);
    $(`${id}-value`).textContent = `${value} %`;
  }
}
