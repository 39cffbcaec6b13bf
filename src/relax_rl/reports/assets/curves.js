// Curves against the step: one small plot a metric, with one crosshair for all of them.
const plots = [];
const look = { log: false, smoothing: 0 };
const sync = uPlot.sync("steps");

function smoothed(values, half) {
  if (!half) return values;
  return values.map((value, place) => {
    if (value === null) return null;
    let sum = 0, count = 0;
    for (let near = Math.max(0, place - half); near <= Math.min(values.length - 1, place + half); near += 1)
      if (values[near] !== null) { sum += values[near]; count += 1; }
    return sum / count;
  });
}

function tableOf(panel, isLog) {
  const lines = panel.values.map((values) => (isLog ? values.map((v) => (v > 0 ? v : null)) : values));
  const half = panel.smooth === false ? 0 : look.smoothing;
  return [panel.x, ...lines.flatMap((values) => [values, smoothed(values, half)]), ...bandsOf(panel)];
}

const bandsOf = (panel) => (panel.low ? panel.low.flatMap((low, place) => [low, panel.high[place]]) : []);

function seriesOf(panel) {
  const series = [{}];
  const few = panel.x.length <= 40;
  panel.lines.forEach((line) => {
    const stroke = () => colorOf(line.color);
    const show = !hidden.has(line.label);
    const isSmooth = look.smoothing > 0 && panel.smooth !== false;
    series.push({ stroke, width: 1, alpha: isSmooth ? 0.3 : 0, show, points: { show: false }, spanGaps: true });
    series.push({ stroke, width: 1.8, dash: dashOf(line.color), show, spanGaps: true, points: { show: few, size: 5, fill: stroke } });
  });
  if (panel.low) panel.lines.forEach((line) => {
    for (let end = 0; end < 2; end += 1)
      series.push({ stroke: () => colorOf(line.color), width: 0.5, dash: [2, 3], show: !hidden.has(line.label), points: { show: false } });
  });
  return series;
}

function readout(place, panel, index) {
  place.replaceChildren();
  const at = index === null || index === undefined ? panel.x.length - 1 : index;
  place.append(make("span", { class: "at" }, `${panel.xname || "step"} ${shown(panel.x[at])}`));
  panel.lines.forEach((line, number) => {
    if (hidden.has(line.label)) return;
    const value = panel.values[number][at];
    const ends = panel.low && panel.low[number][at] !== null
      ? ` [${shown(panel.low[number][at])}, ${shown(panel.high[number][at])}]` : "";
    place.append(make("span", {}, keyOf(line.color), `${line.label} ${shown(value)}${ends}`));
  });
}

function drawPanel(holder, panel) {
  const place = holder.querySelector(".readout");
  const isLog = look.log && panel.values.some((values) => values.some((v) => v > 0));
  const quiet = { stroke: () => css("--muted"), grid: { stroke: () => css("--grid"), width: 1 }, ticks: { stroke: () => css("--grid"), width: 1, size: 4 }, font: "11px system-ui, sans-serif" };
  const plot = new uPlot({
    width: holder.clientWidth, height: 190, series: seriesOf(panel), legend: { show: false },
    cursor: { sync: panel.xname ? undefined : { key: sync.key, scales: ["x", null] }, drag: { x: true, y: false }, points: { size: 6 } },
    bands: panel.low ? panel.lines.map((line, number) => ({
      series: [panel.lines.length * 2 + 2 + 2 * number, panel.lines.length * 2 + 1 + 2 * number],
      fill: () => colorOf(line.color) + "22" })) : [],
    scales: { x: { time: false, distr: panel.xlog ? 3 : 1, log: 2 }, y: { distr: isLog ? 3 : 1 } },
    axes: [{ ...quiet, size: 26 }, { ...quiet, size: 54, values: (_, ticks) => ticks.map((t) => (t === null ? "" : shown(t))) }],
    hooks: { setCursor: [(u) => readout(place, panel, u.cursor.left < 0 ? null : u.cursor.idx)] },
  }, tableOf(panel, isLog), holder.querySelector(".plot"));
  readout(place, panel, null);
  holder.plot = plot;
  plots.push({ holder, panel, plot });
}

function redrawAll() {
  const drawn = plots.splice(0);
  for (const { holder, panel, plot } of drawn) { plot.destroy(); drawPanel(holder, panel); }
}

function moveCursor(event, holder, panel) {
  const plot = holder.plot;
  if (!plot) return;
  const way = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
  if (event.key === "Escape") plot.setScale("x", { min: panel.x[0], max: panel.x[panel.x.length - 1] });
  if (way === undefined) return;
  event.preventDefault();
  const now = plot.cursor.idx ?? panel.x.length - 1;
  const next = Math.min(panel.x.length - 1, Math.max(0, now + way));
  plot.setCursor({ left: plot.valToPos(panel.x[next], "x"), top: 20 });
  readout(holder.querySelector(".readout"), panel, next);
}

function panelHolder(panel) {
  const holder = make("div", { class: "panel", tabindex: 0, role: "group",
    "aria-label": `${panel.title}: arrow keys move along the curve, Escape shows all steps`,
    onkeydown: (event) => moveCursor(event, holder, panel) },
  make("h4", { title: panel.key }, panel.title, panel.unit ? make("small", {}, ` ${panel.unit}`) : null),
  make("div", { class: "plot" }), make("div", { class: "readout", "aria-live": "polite" }));
  return holder;
}

function toggles(lines) {
  const row = make("div", { class: "toggles", role: "group", "aria-label": "Runs shown" });
  for (const line of lines) {
    const button = make("button", { type: "button", "aria-pressed": !hidden.has(line.label) ? "true" : "false",
      onclick: () => {
        if (!hidden.delete(line.label)) hidden.add(line.label);
        for (const act of whenLinesChange) act();
      } }, keyOf(line.color), line.label);
    whenLinesChange.push(() => button.setAttribute("aria-pressed", hidden.has(line.label) ? "false" : "true"));
    row.append(button);
  }
  return row;
}

function drawWhenSeen(holder, panel) {
  new IntersectionObserver((entries, watcher) => {
    if (!entries.some((entry) => entry.isIntersecting && holder.clientWidth)) return;
    watcher.disconnect();
    drawPanel(holder, panel);
  }, { rootMargin: "200px" }).observe(holder);
}

function showCurves(root, curves) {
  look.smoothing = curves.smoothing;
  const check = make("input", { type: "checkbox", onchange: () => { look.log = check.checked; redrawAll(); } });
  const most = Math.max(10, 2 * curves.smoothing);
  const half = slider(0, most, curves.smoothing, (value) => { look.smoothing = value; redrawAll(); },
    (value) => (value ? `${2 * value + 1} points` : "off"));
  root.append(make("div", { class: "controls" }, toggles(curves.lines), labelled("log axis", check), labelled("smoothing", half)),
    make("p", { class: "note screen" }, "Move over a plot to read the values. Drag to zoom, double-click to zoom out."));
  whenLinesChange.push(redrawAll);
  for (const group of curves.groups) {
    const grid = make("div", { class: "panels" });
    const box = make("details", { class: "group", open: group.open }, make("summary", {}, `${group.title} (${group.panels.length})`), grid);
    for (const panel of group.panels) {
      panel.x ??= curves.steps;
      const lines = panel.runs.map((run) => curves.lines[run]);
      const holder = panelHolder(Object.assign(panel, { lines }));
      grid.append(holder);
      drawWhenSeen(holder, panel);
    }
    root.append(box);
  }
}

function showPanels(root, panels) {
  const grid = make("div", { class: "panels" });
  for (const panel of panels) {
    const holder = panelHolder(panel);
    grid.append(holder);
    drawWhenSeen(holder, panel);
  }
  root.append(grid);
}

function watchLooks() {
  let timer = 0;
  addEventListener("resize", () => {
    clearTimeout(timer);
    timer = setTimeout(() => { for (const { holder, plot } of plots) plot.setSize({ width: holder.clientWidth, height: 190 }); }, 80);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.forEach(({ plot }) => plot.redraw()));
}
