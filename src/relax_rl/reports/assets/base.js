// Data, elements and colours that every part of the page uses. Text from a model enters the page as text nodes alone.
const data = JSON.parse(document.getElementById("report-data").textContent);
const hidden = new Set();
const whenLinesChange = [];

function make(tag, attributes = {}, ...children) {
  const element = tag === "svg" || make.isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function svg(tag, attributes = {}, ...children) {
  make.isSvg = true;
  try { return make(tag, attributes, ...children); } finally { make.isSvg = false; }
}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colorOf = (position) => css(`--c${position % 6}`);
const DASHES = [[], [8, 4], [2, 3], [8, 3, 2, 3]];
const dashOf = (position) => DASHES[Math.floor(position / 6) % 4];

// A dot, or the dashes of the line.
function keyOf(position) {
  const color = `var(--c${position % 6})`, [drawn, left] = dashOf(position);
  if (!drawn) return make("i", { style: `background:${color}` });
  return make("i", { class: "dashed", style: `background:repeating-linear-gradient(90deg, ${color} 0 ${drawn}px, transparent ${drawn}px ${drawn + left}px)` });
}

function shown(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  const size = Math.abs(value);
  return size >= 1e5 || (size > 0 && size < 1e-3) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

function labelled(text, control) {
  return make("label", { class: "control" }, make("span", {}, text), control);
}

function choice(options, chosen, act) {
  const control = make("select", { onchange: () => act(control.value) });
  for (const [value, text] of options) control.append(make("option", { value, selected: value === chosen }, text));
  return control;
}

function slider(least, most, value, act, words = String) {
  const output = make("output", {}, words(value));
  const control = make("input", { type: "range", min: least, max: most, step: 1, value });
  control.addEventListener("input", () => {
    output.textContent = words(Number(control.value));
    act(Number(control.value));
  });
  return make("span", { class: "slider" }, control, output);
}
