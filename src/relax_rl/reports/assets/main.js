// What the page holds is drawn where its sections have a place for it.
function start() {
  document.documentElement.classList.add("live");
  const at = (name) => document.querySelector(`[data-part="${name}"]`);
  if (data.curves && at("curves")) showCurves(at("curves"), data.curves);
  for (const [name, panels] of Object.entries(data.panels || {})) if (at(name)) showPanels(at(name), panels);
  for (const [name, planes] of Object.entries(data.planes || {})) if (at(name)) showPlanes(at(name), planes);
  if (at("modes") && Object.keys(data.modes || {}).length) new ModeReader(at("modes"), data.modes);
  if (data.completions && at("completions")) new Browser(at("completions"), data.completions);
  for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
  watchLooks();
  followRun();
}
start();
