// Completions: filtered, sorted, and any two of them side by side with their differences.
const PAGE = 12;

function verdictOf(row) {
  if (row.score === null) return "not scored";
  return row.score >= 1 ? "right" : row.score <= 0 ? "wrong" : `score ${shown(row.score)}`;
}

function factsOf(row, source) {
  const facts = [verdictOf(row), source.label, source.stage];
  if (row.tokens !== null) facts.push(`${row.tokens} tokens`);
  if (row.truncated) facts.push("truncated");
  if (row.dsd !== null) facts.push(`DSD ${shown(row.dsd)}`);
  if (row.advantage !== null) facts.push(`advantage ${shown(row.advantage)}`);
  if (row.mode !== null) facts.push(`mode ${row.mode}`);
  return facts.join(" · ");
}

// The longest common subsequence of words; null where the texts are too long for a table of them.
function differences(first, second) {
  const split = (text) => text.match(/\d+|\p{L}+|\s+|[^\d\p{L}\s]/gu) || [];
  const a = split(first), b = split(second);
  if (a.length * b.length > 4e6) return null;
  const width = b.length + 1, best = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1)
    for (let j = b.length - 1; j >= 0; j -= 1)
      best[i * width + j] = a[i] === b[j] ? best[(i + 1) * width + j + 1] + 1
        : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
  const left = [], right = [];
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) { left.push([a[i], false]); right.push([b[j], false]); i += 1; j += 1; }
    else if (j >= b.length || (i < a.length && best[(i + 1) * width + j] >= best[i * width + j + 1])) { left.push([a[i], true]); i += 1; }
    else { right.push([b[j], true]); j += 1; }
  }
  return [left, right];
}

function marked(parts, tag) {
  const text = make("pre", { class: "text" });
  for (const [words, isOwn] of parts) text.append(isOwn ? make(tag, {}, words) : words);
  return text;
}

// Full colour at 2 nats: there the model was between some seven words. Null where the run did not keep it.
function byEntropy(row) {
  if (!row.tokens_text) return null;
  const body = shadedText(row.tokens_text, (at) => row.entropies[at] / 2, (at) => `entropy ${shown(row.entropies[at])} nats`, "var(--c4)");
  if (row.tokens !== null && row.tokens > row.tokens_text.length) body.append("\n…");
  return body;
}

// One advantage for all tokens of a completion: green where its tokens are made likelier, orange where less likely.
function byAdvantage(row) {
  if (row.advantage === null) return null;
  return shadedText([row.text], () => Math.abs(row.advantage) / 2, () => `advantage ${shown(row.advantage)}`, row.advantage < 0 ? "var(--c1)" : "var(--c2)");
}

class Browser {
  constructor(root, found) {
    this.sources = found.sources;
    this.rows = found.rows;
    this.thumbnails = found.thumbnails || {};
    this.filter = { run: "", word: "", verdict: "", mode: "", truncated: false };
    this.order = "step";
    this.page = 0;
    const stages = [...new Map(this.sources.map((s) => [s.order, s.stage])).entries()].sort((a, b) => a[0] - b[0]);
    this.stages = stages;
    this.stage = null;
    this.sides = [null, null];
    this.shading = "differences";
    this.list = make("tbody");
    this.status = make("output");
    this.pair = make("div", { class: "completions pair", "aria-live": "polite" });
    root.append(this.controls(), this.pair, this.table());
    this.choosePair();
    this.show();
  }

  controls() {
    const labels = [...new Set(this.sources.map((s) => s.label))];
    const change = (name) => (value) => { this.filter[name] = value; this.page = 0; this.show(); };
    const word = make("input", { type: "search", placeholder: "a word, or length > 40", oninput: () => change("word")(word.value.toLowerCase()) });
    const verdicts = [["", "all"], ["right", "right"], ["wrong", "wrong"], ["not scored", "not scored"], ["part", "in part"], ["truncated", "truncated"]];
    const modes = [...new Set(this.rows.map((row) => row.mode).filter((mode) => mode !== null))].slice(0, 200);
    const orders = [["step", "step"], ["score", "score"], ["length", "longest"], ["dsd", "largest DSD"], ["advantage", "advantage"]];
    const parts = [labelled("run", choice([["", "all"], ...labels.map((l) => [l, l])], "", change("run")))];
    if (this.stages.length > 1) parts.push(labelled("when", slider(-1, this.stages.length - 1, -1, (at) => {
      this.stage = at < 0 ? null : this.stages[at][0]; this.page = 0; this.show();
    }, (at) => (at < 0 ? "all" : this.stages[at][1]))));
    parts.push(labelled("verdict", choice(verdicts, "", change("verdict"))));
    if (modes.length) parts.push(labelled("mode", choice([["", "all"], ...modes.map((m) => [m, m])], "", change("mode"))));
    parts.push(labelled("sort by", choice(orders, "step", (value) => { this.order = value; this.page = 0; this.show(); })), labelled("find", word));
    if (this.rows.some((row) => row.tokens_text)) parts.push(labelled("shade by",
      choice([["differences", "differences"], ["entropy", "token entropy"], ["advantage", "advantage"]], "differences", (value) => { this.shading = value; this.showPair(); })));
    return make("div", { class: "controls browser" }, ...parts);
  }

  table() {
    const names = ["", "problem", "completion", "verdict", "tokens", "DSD", "run", "when"];
    const turn = (way) => () => { this.page += way; this.show(); };
    this.back = make("button", { type: "button", onclick: turn(-1) }, "back");
    this.next = make("button", { type: "button", onclick: turn(1) }, "next");
    return make("div", {}, make("div", { class: "wide" }, make("table", { class: "results rows" },
      make("thead", {}, make("tr", {}, ...names.map((name) => make("th", {}, name)))), this.list)),
    make("div", { class: "controls" }, this.back, this.next, this.status));
  }

  matches(row) {
    const { run, word, verdict, mode } = this.filter, source = this.sources[row.source];
    if (run && source.label !== run) return false;
    if (this.stage !== null && source.order !== this.stage) return false;
    if (mode && row.mode !== mode) return false;
    if (verdict === "truncated" ? !row.truncated : verdict === "part" ? !(row.score > 0 && row.score < 1) : verdict && verdictOf(row) !== verdict) return false;
    const condition = word ? conditionOf(word) : null;
    const number = condition ? { score: row.score, length: row.tokens, tokens: row.tokens, dsd: row.dsd, advantage: row.advantage }[condition.name] : undefined;
    if (number !== undefined) return condition.holds(number);
    return !word || `${row.problem}\n${row.prompt}\n${row.text}`.toLowerCase().includes(word);
  }

  sorted(rows) {
    const key = { score: (r) => r.score, length: (r) => r.tokens, dsd: (r) => r.dsd, advantage: (r) => r.advantage }[this.order];
    return key ? rows.sort((a, b) => (key(b) ?? -Infinity) - (key(a) ?? -Infinity)) : rows;
  }

  show() {
    const found = this.sorted(this.rows.filter((row) => this.matches(row)));
    const last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
    this.page = Math.min(last, Math.max(0, this.page));
    this.list.replaceChildren(...found.slice(this.page * PAGE, (this.page + 1) * PAGE).map((row) => this.line(row)));
    this.back.disabled = this.page === 0;
    this.next.disabled = this.page === last;
    this.status.textContent = `${found.length} of ${this.rows.length} completions, page ${this.page + 1} of ${last + 1}`;
  }

  line(row) {
    const source = this.sources[row.source];
    const put = (side, name) => make("button", { type: "button", title: `show as ${name}`, onclick: () => this.put(side, row) }, name);
    const cut = row.text.length > 160 ? `${row.text.slice(0, 160)}…` : row.text;
    return make("tr", { class: verdictOf(row) }, make("td", { class: "puts" }, put(0, "A"), put(1, "B")),
      make("td", { class: "id", title: row.prompt }, row.problem), make("td", { class: "cut" }, cut), make("td", {}, verdictOf(row)),
      make("td", { class: "number" }, shown(row.tokens)), make("td", { class: "number" }, shown(row.dsd)),
      make("td", {}, source.label), make("td", {}, source.stage));
  }

  // To begin with, one problem before and after training, or under two runs.
  choosePair() {
    const first = this.rows.find((row) => this.sources[row.source].stage === "after") || this.rows[0];
    const other = this.rows.findLast((row) => row.problem === first.problem && row.source !== first.source && this.sources[row.source].order >= 1e9)
      || this.rows.find((row) => row.problem === first.problem && row !== first) || this.rows[1];
    this.sides = [first, other || null];
    this.showPair();
  }

  put(side, row) {
    this.sides[side] = row;
    this.showPair();
    this.pair.scrollIntoView({ block: "nearest" });
  }

  showPair() {
    const [a, b] = this.sides;
    const found = a && b && a !== b ? differences(a.text, b.text) : null;
    this.pair.replaceChildren(...this.sides.map((row, side) => this.card(row, side, found)));
  }

  // Of an image that found no room in the page, the name.
  images(row) {
    if (!row.images) return [];
    const one = (name) => (this.thumbnails[name] ? make("img", { class: "thumbnail", src: this.thumbnails[name], alt: name, title: name }) : make("span", { class: "note" }, `[${name}] `));
    return [make("div", { class: "thumbnails" }, ...row.images.map(one))];
  }

  card(row, side, found) {
    if (!row) return make("div", { class: "completion" }, "Choose a completion below.");
    const plain = found ? marked(found[side], side ? "ins" : "del") : make("pre", { class: "text" }, row.text);
    const body = (this.shading === "entropy" ? byEntropy(row) : this.shading === "advantage" ? byAdvantage(row) : plain) || plain;
    return make("div", { class: `completion ${verdictOf(row)}` }, make("div", { class: "facts" }, make("b", {}, "AB"[side]), ` ${factsOf(row, this.sources[row.source])}`),
      ...this.images(row), make("pre", { class: "text prompt" }, row.prompt), body,
      make("div", { class: "facts" }, `problem ${row.problem}, gold answer ${row.answer}`));
  }
}
