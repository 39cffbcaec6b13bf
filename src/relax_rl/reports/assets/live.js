// A served page is loaded again when its run has written something: not under the reader's hands, and as it was left.
const QUIET = 4000; // milliseconds without a key or a movement of the pointer

const partOf = (element) => element.closest("[data-part]")?.dataset.part || element.closest("section")?.querySelector("h2")?.textContent || "";
const nameOf = (control) => `${partOf(control)}/${control.closest("label")?.firstChild?.textContent || ""}`;

// Controls that are not as the page made them, by their names.
function changedControls() {
  const found = {};
  for (const control of document.querySelectorAll("input, select")) {
    if (control.type === "checkbox" ? control.checked !== control.defaultChecked
      : control.options ? !control.selectedOptions[0]?.defaultSelected : control.value !== control.defaultValue)
      found[nameOf(control)] = control.type === "checkbox" ? control.checked : control.value;
  }
  return found;
}

function keepView() {
  const groups = [...document.querySelectorAll("details")].map((each) => each.open);
  const off = [...document.querySelectorAll(".toggles [aria-pressed=false]")].map((button) => button.textContent);
  sessionStorage.setItem("view", JSON.stringify({ at: location.pathname, scroll: scrollY, groups, off, controls: changedControls() }));
}

function restoreView() {
  const kept = JSON.parse(sessionStorage.getItem("view") || "null");
  sessionStorage.removeItem("view");
  if (!kept || kept.at !== location.pathname) return;
  const groups = [...document.querySelectorAll("details")];
  if (groups.length === kept.groups.length) groups.forEach((each, place) => { each.open = kept.groups[place]; });
  for (const button of document.querySelectorAll(".toggles button")) if (kept.off.includes(button.textContent)) button.click();
  for (const control of document.querySelectorAll("input, select")) {
    const value = kept.controls[nameOf(control)];
    if (value === undefined) continue;
    if (control.type === "checkbox") control.checked = value;
    else control.value = value;
    for (const kind of ["input", "change"]) control.dispatchEvent(new Event(kind, { bubbles: true }));
  }
  requestAnimationFrame(() => scrollTo(0, kept.scroll));
}

function followRun() {
  if (!data.version) return;
  restoreView();
  let failures = 0, isPaused = sessionStorage.getItem("paused") === "yes", isOld = false, touched = 0;
  const words = make("span"), button = make("button", { type: "button" });
  document.getElementById("live")?.replaceChildren(words, " ", button);
  const say = () => {
    words.textContent = failures ? "The server is gone; this page is as it was." : isPaused ? "Paused." : isOld
      ? "Live: there is something new, shown when you pause for a moment." : "Live: follows what the runs write.";
    button.textContent = isPaused ? "follow" : "pause";
  };
  button.addEventListener("click", () => {
    isPaused = !isPaused;
    sessionStorage.setItem("paused", isPaused ? "yes" : "no");
    touched = 0;
    say();
  });
  for (const kind of ["pointermove", "pointerdown", "keydown", "wheel"]) addEventListener(kind, (event) => { if (event.target !== button) touched = Date.now(); }, { passive: true });
  const look = async () => {
    try {
      const answer = await fetch("/version?" + location.pathname.replace(/^\//, ""), { cache: "no-store" });
      const found = await answer.text();
      failures = 0;
      isOld = answer.ok && found !== data.version;
      if (isOld && !isPaused && !document.hidden && Date.now() - touched > QUIET) {
        keepView();
        location.reload();
        return;
      }
    } catch { failures += 1; }
    say();
    setTimeout(look, data.interval || 2000);
  };
  say();
  setTimeout(look, data.interval || 2000);
}
