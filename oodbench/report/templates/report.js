"use strict";
// Sorting: a column's button sorts its table; pressed again, the other way round. Empty cells stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("thead th")];
  const body = table.tBodies[0];
  for (const [column, head] of heads.entries()) {
    head.setAttribute("aria-sort", "none");
    const button = head.querySelector("button");
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const next = now === "none" ? button.dataset.first : now === "ascending" ? "descending" : "ascending";
      for (const other of heads) other.setAttribute("aria-sort", other === head ? next : "none");
      const sign = next === "ascending" ? 1 : -1;
      const keyed = [...body.rows].map((row) => {
        const { value } = row.cells[column].dataset;
        return [row, value === undefined ? row.cells[column].textContent.trim() : value === "" ? "" : Number(value)];
      });
      keyed.sort(([, a], [, b]) => {
        if (a === "" || b === "") return (a === "") - (b === "");
        return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
      });
      body.append(...keyed.map(([row]) => row));
    });
  }
}

// Filtering: words are looked for in the names of a row, in any order.
const form = document.querySelector(".filters");
const rows = [...document.querySelectorAll("#every-row tbody tr")];
function filter() {
  const wanted = new FormData(form);
  const words = wanted.get("text").toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows) {
    const names = row.dataset;
    const text = Object.values(names).join(" ").toLowerCase();
    row.hidden = !(
      words.every((word) => text.includes(word)) &&
      ["detector", "set", "group", "model", "id"].every((key) => !wanted.get(key) || wanted.get(key) === names[key]) &&
      (wanted.has("controls") || !("control" in names))
    );
  }
  document.getElementById("none").hidden = rows.some((row) => !row.hidden);
  document.getElementById("count").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
}
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
// The reset happens after its event.
form.addEventListener("reset", () => setTimeout(filter));
filter();

// Of the tables of a block, the one of the metric asked for is shown.
for (const fields of document.querySelectorAll(".switch")) {
  fields.addEventListener("change", ({ target }) => {
    for (const table of fields.parentElement.querySelectorAll("[data-metric]")) {
      table.hidden = table.dataset.metric !== target.value;
    }
  });
}

// Pictures are made when the set that shows them is opened; a set's lie side by side in one image.
const sprites = JSON.parse(document.getElementById("pictures").textContent);
function picture(list, [place, index, score, wrong]) {
  const sprite = sprites[list.dataset.sprite];
  const item = document.createElement("li");
  const image = item.appendChild(document.createElement("span"));
  const [label, answer, file] = [sprite.labels, sprite.answers, sprite.files].map((words) => words?.[place]);
  const known = [label, answer, file].filter(Boolean);
  image.className = "thumbnail";
  image.role = "img";
  image.ariaLabel = image.title = [`${list.dataset.set}, image ${index}`, ...known].join(", ");
  const { source, across, rows, width, height } = sprite;
  const [x, y] = [(place % across) * width, Math.floor(place / across) * height];
  image.style.cssText = `width:${width}px;height:${height}px;background:${source} -${x}px -${y}px / ${across * width}px ${rows * height}px`;
  const shown = [`${score}${wrong ? "" : " (right)"}`, label, answer, file?.split("/").pop()];
  for (const text of shown.filter(Boolean)) {
    item.appendChild(document.createElement("small")).textContent = text;
  }
  return item;
}
function unpack(details) {
  for (const list of details.querySelectorAll(".thumbnails:empty")) {
    list.append(...JSON.parse(list.dataset.images).map((image) => picture(list, image)));
  }
}
for (const details of document.querySelectorAll("details.set")) {
  details.addEventListener("toggle", () => details.open && unpack(details));
}

// A link to plots opens the set that holds them.
function reveal() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  const details = target && target.closest("details");
  if (!details) return;
  details.open = true;
  target.tabIndex = -1;
  target.focus();
  target.scrollIntoView();
}
addEventListener("hashchange", reveal);
reveal();
