// From a mode of a spectrum to the tokens where it is active, and to the texts that hold them.
// A strength is a digit: 3 is the mode's root mean square over all tokens shown, 9 is three times that or more.
const AVERAGE = 3, MOST_TOKENS_LISTED = 15;
let followMode = () => {};

// The kinds of token at which a mode is strongest on average, each with its number.
function strongestTokens(texts, mode) {
  const sums = new Map();
  for (const text of texts) text.tokens.forEach((token, at) => {
    const key = token.trim() === "" ? JSON.stringify(token) : token.trim(), digit = Number(text.strengths[mode][at]);
    const found = sums.get(key) || [0, 0];
    sums.set(key, [found[0] + digit, found[1] + 1]);
  });
  return [...sums].map(([token, [sum, count]]) => ({ token, count, strength: sum / count / AVERAGE }))
    .sort((a, b) => b.strength - a.strength || b.count - a.count).slice(0, MOST_TOKENS_LISTED);
}

// Tokens as spans whose background says a share from 0 to 1; what each says when it is asked.
function shadedText(tokens, shareOf, wordsOf, color) {
  const body = make("pre", { class: "text shaded" });
  tokens.forEach((token, at) => {
    const share = Math.max(0, Math.min(1, shareOf(at)));
    body.append(make("span", { title: wordsOf(at), style: `background:color-mix(in srgb, ${color} ${Math.round(85 * share)}%, transparent)` }, token));
  });
  return body;
}

class ModeReader {
  constructor(root, views) {
    this.root = root;
    this.views = views;
    this.key = Object.keys(views).at(-1);
    this.mode = this.firstThatVaries();
    this.list = make("div", { class: "mode-view", "aria-live": "polite" });
    this.bar = make("div", { class: "controls" });
    root.append(this.bar, this.list);
    followMode = (key, mode) => {
      if (!views[key]) return;
      [this.key, this.mode] = [key, mode];
      this.show();
      root.scrollIntoView({ block: "start" });
    };
    this.show();
  }

  // The mode near 1 is the mean of all states, level everywhere: what comes after it says more.
  firstThatVaries() {
    const { texts, modes } = this.views[this.key];
    const varies = (mode) => texts.some((text) => [...text.strengths[mode]].some((digit) => Math.abs(Number(digit) - AVERAGE) > 2));
    return Math.max(0, modes.findIndex((_, mode) => varies(mode)));
  }

  show() {
    const view = this.views[this.key], keys = Object.keys(this.views);
    this.mode = Math.min(this.mode, view.modes.length - 1);
    const parts = [];
    if (keys.length > 1) parts.push(labelled("spectrum", choice(keys.map((key) => [key, key]), this.key, (key) => { this.key = key; this.show(); })));
    parts.push(labelled("mode", choice(view.modes.map((words, at) => [String(at), `${at + 1}: ${words}`]), String(this.mode),
      (at) => { this.mode = Number(at); this.show(); })));
    this.bar.replaceChildren(...parts);
    const rows = strongestTokens(view.texts, this.mode).map(({ token, count, strength }) => make("tr", {},
      make("td", {}, make("code", {}, token)), make("td", { class: "number" }, `${shown(strength)} ×`), make("td", { class: "number" }, String(count))));
    const table = make("table", { class: "results" }, make("thead", {}, make("tr", {}, ...["token", "strength", "times"].map((name) => make("th", {}, name)))),
      make("tbody", {}, ...rows));
    const texts = view.texts.map((text) => make("div", { class: "completion" }, make("div", { class: "facts" }, text.name),
      shadedText(text.tokens, (at) => Number(text.strengths[this.mode][at]) / 9,
        (at) => `strength ${shown(Number(text.strengths[this.mode][at]) / AVERAGE)} × the average`, "var(--c4)")));
    this.list.replaceChildren(make("div", {}, make("h4", {}, "Where it is strongest"), table), make("div", { class: "texts" }, ...texts));
  }
}
