// From a mode of a spectrum to the tokens where it is active: data.tokens[site] = { texts, modes: [[strengths of text]] }
function showTokens(point, series) {
  const place = document.querySelector('[data-part="tokens"]');
  const found = place && data.tokens.find((each) => each.site === series.site);
  if (!found || point[5] === undefined || !found.modes[point[5]]) return;
  place.replaceChildren(make("h4", {}, `${series.label}: where the mode ${point[4].split(",")[0]} is active`));
  found.modes[point[5]].forEach((strengths, number) => {
    const text = found.texts[number];
    const line = make("p", { class: "text" });
    text.tokens.forEach((token, at) => line.append(make("mark", { style: `--a:${Math.round(100 * strengths[at])}%`, title: `${token}: ${shown(strengths[at])}` }, token)));
    place.append(make("div", { class: "facts" }, text.id), line);
  });
  place.scrollIntoView({ block: "nearest" });
}
