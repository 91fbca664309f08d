"use strict";
// A cell of the map opens its story; the arrow keys walk over the map.
function show() {
  const cell = document.getElementById(location.hash.slice(1));
  if (cell instanceof HTMLDetailsElement) { cell.open = true; cell.scrollIntoView(); }
}
addEventListener("hashchange", show);
show();
document.querySelector(".map").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  const at = event.target.closest("td");
  if (!step || !at) return;
  const rows = [...document.querySelectorAll(".map tbody tr")];
  const row = rows[rows.indexOf(at.parentElement) + step[0]];
  const next = row && row.cells[at.cellIndex + step[1]];
  const link = next && next.querySelector("a");
  if (link) { link.focus(); event.preventDefault(); }
});
