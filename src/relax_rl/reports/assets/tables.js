// Tables that can be sorted by a click on a heading, and filtered by a word or a condition such as "length > 40".
function conditionOf(text) {
  const found = text.match(/^\s*(\S.*?)\s*([<>=])\s*(-?\d+(?:\.\d+)?)\s*$/);
  if (!found) return null;
  const limit = Number(found[3]), isMet = { "<": (v) => v < limit, ">": (v) => v > limit, "=": (v) => v === limit }[found[2]];
  return { name: found[1].toLowerCase(), holds: (value) => typeof value === "number" && isMet(value) };
}

// The number or the words of a cell; null where it has neither.
function valueOf(cell) {
  const text = cell ? (cell.dataset.value ?? cell.textContent).trim() : "";
  const number = Number(text.replace("−", "-"));
  return text === "" || text === "–" ? null : Number.isNaN(number) ? text : number;
}

function sortBy(table, column, button) {
  const isDown = button.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
  button.setAttribute("aria-sort", isDown ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [valueOf(row.cells[column]), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return isDown ? -order : order;
  });
  body.append(...rows.map(([, row]) => row));
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    cell.tabIndex = 0;
    cell.classList.add("sorts");
    cell.addEventListener("click", () => sortBy(table, column, cell));
    cell.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sortBy(table, column, cell); }
    });
  });
  if (table.tBodies[0].rows.length < 8) return;
  const count = make("output");
  const field = make("input", { type: "search", placeholder: "a word, or length > 40" });
  field.addEventListener("input", () => {
    const word = field.value.toLowerCase(), condition = conditionOf(word);
    const column = condition ? [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.toLowerCase().startsWith(condition.name)) : -1;
    let left = 0;
    for (const row of table.tBodies[0].rows) {
      row.hidden = column >= 0 ? !condition.holds(valueOf(row.cells[column])) : !row.textContent.toLowerCase().includes(word);
      left += row.hidden ? 0 : 1;
    }
    count.textContent = `${left} of ${table.tBodies[0].rows.length}`;
  });
  table.parentElement.before(make("div", { class: "controls" }, labelled("filter", field), count));
}
