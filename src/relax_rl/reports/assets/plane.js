// Points in a plane: eigenvalues, trajectories, reward against entropy. Each point can be asked what it is.
const WIDTH = 420;

function extent(values, pad = 0.06) {
  let low = Math.min(...values), high = Math.max(...values);
  if (!Number.isFinite(low)) { low = 0; high = 1; }
  const margin = (high - low || 1) * pad;
  return [low - margin, high + margin];
}

// Without the outermost half per cent: a few tokens of huge states would leave the others a point.
function middle(values) {
  const sorted = [...values].sort((a, b) => a - b), cut = Math.floor(sorted.length * 0.005);
  return sorted.slice(cut, sorted.length - cut);
}

function ticksOf([low, high], count = 5) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) found.push(Number(at.toPrecision(10)));
  return found;
}

// From the first token to the last, in colours that the reward does not use.
function timeColor(share) {
  const [first, second, at] = share < 0.5 ? ["--t0", "--t1", 2 * share] : ["--t1", "--t2", 2 * share - 1];
  return `color-mix(in oklab, var(${second}) ${Math.round(100 * at)}%, var(${first}))`;
}

// view: { title, x, y, circle, equal, by, modes, series: [{ label, color, line, points: [[x, y, hollow, shade, text, mode]] }] }
// With by "time" the shade is a place between the first token and the last, with modes a point leads to the tokens of its mode.
function drawPlane(view) {
  const height = view.equal ? WIDTH : 300, left = 52, bottom = 34, right = WIDTH - 10, top = 10;
  const points = view.series.flatMap((series) => series.points);
  const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
  const some = view.clip ? middle : (values) => values;
  const xr = view.range ? [-view.range, view.range] : extent(some(xs)), yr = view.range ? xr : extent(some(ys));
  const X = (v) => left + ((v - xr[0]) / (xr[1] - xr[0])) * (right - left);
  const Y = (v) => height - bottom - ((v - yr[0]) / (yr[1] - yr[0])) * (height - bottom - top);
  const root = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", tabindex: 0, class: "plane",
    "aria-label": `${view.title || view.y}: ${points.length} points; arrow keys go from point to point` });
  for (const tick of ticksOf(xr)) root.append(svg("line", { class: "grid", x1: X(tick), x2: X(tick), y1: top, y2: height - bottom }),
    svg("text", { x: X(tick), y: height - bottom + 14, "text-anchor": "middle" }, shown(tick)));
  for (const tick of ticksOf(yr)) root.append(svg("line", { class: "grid", x1: left, x2: right, y1: Y(tick), y2: Y(tick) }),
    svg("text", { x: left - 5, y: Y(tick) + 4, "text-anchor": "end" }, shown(tick)));
  root.append(svg("text", { class: "name", x: (left + right) / 2, y: height - 4, "text-anchor": "middle" }, view.x),
    svg("text", { class: "name", transform: `translate(11 ${(height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, view.y));
  if (view.circle) root.append(svg("ellipse", { class: "circle", cx: X(0), cy: Y(0), rx: X(1) - X(0), ry: Y(0) - Y(1) }));
  const marks = [];
  for (const series of view.series) {
    const isTimed = view.by === "time", color = isTimed ? "var(--rule)" : `var(--c${series.color % 6})`;
    if (series.line) root.append(svg("polyline", { fill: "none", stroke: color, "stroke-width": view.by ? 0.8 : 1.4, "stroke-opacity": view.by === "reward" ? 0.35 : 1, "stroke-dasharray": series.dash || "none",
      points: series.points.filter((p) => inside(p)).map((p) => `${X(p[0]).toFixed(1)},${Y(p[1]).toFixed(1)}`).join(" ") }));
    if (series.dots !== false) for (const point of series.points) {
      if (!inside(point)) continue;
      const shade = isTimed ? timeColor(point[3]) : point[2] ? "var(--muted)" : color;
      const mark = svg("circle", { cx: X(point[0]).toFixed(1), cy: Y(point[1]).toFixed(1), r: series.size || 4,
        "stroke-width": view.by ? 0.6 : 1.4, style: `stroke:${shade};fill:${point[2] ? "none" : shade}`,
        "fill-opacity": view.by ? 0.85 : point[3] ?? 0.85 });
      root.append(mark);
      marks.push({ mark, point, series, x: X(point[0]), y: Y(point[1]) });
    }
  }
  function inside(p) { return p[0] >= xr[0] && p[0] <= xr[1] && p[1] >= yr[0] && p[1] <= yr[1]; }
  const place = make("div", { class: "readout", "aria-live": "polite" }, "Move over a point to read it.");
  let chosen = -1;
  const ask = (number) => {
    if (!marks.length) return;
    if (chosen >= 0) marks[chosen].mark.classList.remove("asked");
    chosen = (number + marks.length) % marks.length;
    marks[chosen].mark.classList.add("asked");
    place.textContent = `${marks[chosen].series.label}: ${marks[chosen].point[4] || ""}`;
    if (leads(marks[chosen])) place.append(make("span", { class: "at" }, " Click or press Enter for its tokens."));
  };
  const leads = (each) => Boolean(view.modes) && each.point[5] !== null && each.point[5] !== undefined;
  const follow = () => { if (chosen >= 0 && leads(marks[chosen])) followMode(view.modes, marks[chosen].point[5]); };
  root.addEventListener("click", follow);
  const nearest = (event) => {
    const box = root.getBoundingClientRect(), scale = WIDTH / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    let best = -1, least = 24 ** 2;
    marks.forEach((each, number) => {
      const distance = (each.x - x) ** 2 + (each.y - y) ** 2;
      if (distance < least) { least = distance; best = number; }
    });
    if (best >= 0 && best !== chosen) ask(best);
  };
  for (const kind of ["pointermove", "pointerdown"]) root.addEventListener(kind, nearest);
  root.addEventListener("keydown", (event) => {
    const way = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (way) { event.preventDefault(); ask(chosen + way); }
    if (event.key === "Enter") follow();
  });
  return make("div", { class: "panel" }, view.title ? make("h4", {}, view.title) : null, root, place);
}

// Views with several steps have a slider: { name, steps: [text], views: [[view, ...] of each step] }
function showPlanes(root, planes) {
  const grid = make("div", { class: planes.views.some((views) => views.some((view) => view.by)) ? "panels four" : "panels" });
  const draw = (step) => grid.replaceChildren(...planes.views[step].map((view) => drawPlane(view)));
  const last = planes.views.length - 1;
  if (last > 0) root.append(make("div", { class: "controls" }, labelled(planes.name, slider(0, last, last, draw, (step) => planes.steps[step]))));
  root.append(grid);
  draw(last);
}
