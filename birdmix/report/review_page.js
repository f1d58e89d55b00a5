"use strict";
const clips = [...document.querySelectorAll(".clip")];
const columns = ["path", "start_seconds", "end_seconds", "species", "confidence", "verdict"];
const byKey = { 1: "right", 2: "wrong", 3: "unsure" };
const verdicts = new Map();
let hasStorage = true; // whether this browser stores data of the page

// A verdict belongs to a detection in these recordings, on every page that shows it.
const keyOf = ({ dataset: d }) =>
  JSON.stringify(["birdmix", document.body.dataset.recordings, d.path, d.start, d.end, d.species]);

function setVerdict(clip, verdict) {
  if (verdict) verdicts.set(clip, verdict);
  else verdicts.delete(clip);
  try {
    if (verdict) localStorage.setItem(keyOf(clip), verdict);
    else localStorage.removeItem(keyOf(clip));
  } catch { hasStorage = false; }
  show(clip);
}

function show(clip) {
  for (const button of clip.querySelectorAll("button"))
    button.setAttribute("aria-pressed", button.value === verdicts.get(clip));
  const section = clip.closest("section");
  const sectionClips = [...section.querySelectorAll(".clip")];
  const reviewed = sectionClips.filter(each => verdicts.has(each));
  const withVerdict = verdict => reviewed.filter(each => verdicts.get(each) === verdict);
  const [right, wrong, unsure] = ["right", "wrong", "unsure"].map(withVerdict);
  let tally = reviewed.length ? `; ${right.length} right of ${right.length + wrong.length} reviewed` : "";
  if (unsure.length) tally += `, ${unsure.length} unsure`;
  // Clips are in descending order of confidence.
  if (wrong.length) tally += `, the most confident wrong one at ${Number(wrong[0].dataset.confidence).toFixed(2)}`;
  section.querySelector(".tally").textContent = tally;
  document.querySelector(`nav a[data-of=${section.id}]`).classList.toggle("done", reviewed.length === sectionClips.length);
  document.getElementById("total").textContent = `${verdicts.size} of ${clips.length} reviewed`
    + (hasStorage ? "" : "; this browser does not store verdicts: save them before you close the page");
}

// Escape cells that spreadsheets would evaluate as formulas, as birdmix.text does.
function escapeFormula(cell) {
  const number = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;
  return /^'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(cell) && !number.test(cell) ? `'${cell}` : cell;
}

function escapeFormulaInPath(path) {
  return /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(path) ? `./${path}` : path;
}

function save() {
  const quoted = cell => /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
  const rows = [...clips].filter(clip => verdicts.has(clip)).map(clip => {
    const d = clip.dataset;
    return [escapeFormulaInPath(d.path), d.start, d.end, escapeFormula(d.species), d.confidence, verdicts.get(clip)];
  });
  const text = [columns, ...rows].map(row => row.map(quoted).join(",") + "\r\n").join("");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = "verdicts.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function go(clip) {
  if (!clip) return;
  clip.focus();
  clip.scrollIntoView({ block: "nearest" });
}

function follow(clip, audio) {
  clip.querySelector(".view").style.setProperty("--played", audio.currentTime / clip.dataset.seconds);
  if (!audio.paused) requestAnimationFrame(() => follow(clip, audio));
}

for (const clip of clips) {
  const audio = clip.querySelector("audio");
  const view = clip.querySelector(".view");
  audio.addEventListener("play", () => {
    for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
    clip.classList.add("playing");
    follow(clip, audio);
  });
  audio.addEventListener("seeked", () => follow(clip, audio));
  view.addEventListener("click", event => {
    const style = getComputedStyle(view);
    const [left, width] = ["left", "width"].map(name => Number(style.getPropertyValue(`--plot-${name}`)));
    const share = (event.offsetX / view.clientWidth - left) / width;
    audio.currentTime = Math.min(Math.max(share, 0), 0.999) * clip.dataset.seconds;
    audio.play();
  });
  for (const button of clip.querySelectorAll("button"))
    button.addEventListener("click", () =>
      setVerdict(clip, verdicts.get(clip) === button.value ? null : button.value));
  try {
    const stored = localStorage.getItem(keyOf(clip));
    if (stored) verdicts.set(clip, stored);
  } catch { hasStorage = false; }
}
for (const clip of clips) show(clip);
document.getElementById("save").addEventListener("click", save);

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const clip = document.activeElement.closest(".clip");
  const at = clips.indexOf(clip);
  const audio = clip?.querySelector("audio");
  if (event.key === "ArrowDown" || event.key === "j") go(clips[at + 1]);
  else if (event.key === "ArrowUp" || event.key === "k") go(clips[Math.max(at, 1) - 1]);
  else if (event.key === " " && document.activeElement === clip) audio.paused ? audio.play() : audio.pause();
  else if (clip && event.key in byKey) {
    setVerdict(clip, byKey[event.key]);
    audio.pause();
    go(clips[at + 1]);
    clips[at + 1]?.querySelector("audio").play();
  } else return;
  event.preventDefault();
});
