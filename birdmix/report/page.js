"use strict";
const clips = [...document.querySelectorAll(".clip")];
const columns = ["path", "start_seconds", "end_seconds", "species", "confidence", "verdict"];
const byKey = { 1: "right", 2: "wrong", 3: "unsure" };
const verdicts = new Map();
let kept = true; // whether this browser keeps what a page asks it to

// A verdict is of a detection in these recordings, whatever page shows it.
const keyOf = ({ dataset: d }) =>
  JSON.stringify(["birdmix", document.body.dataset.recordings, d.path, d.start, d.end, d.species]);

function judge(clip, verdict) {
  if (verdict) verdicts.set(clip, verdict);
  else verdicts.delete(clip);
  try {
    if (verdict) localStorage.setItem(keyOf(clip), verdict);
    else localStorage.removeItem(keyOf(clip));
  } catch { kept = false; }
  show(clip);
}

function show(clip) {
  for (const button of clip.querySelectorAll("button"))
    button.setAttribute("aria-pressed", button.value === verdicts.get(clip));
  const section = clip.closest("section");
  const mine = [...section.querySelectorAll(".clip")];
  const judged = mine.filter(each => verdicts.has(each));
  const being = verdict => judged.filter(each => verdicts.get(each) === verdict);
  const [right, wrong, unsure] = ["right", "wrong", "unsure"].map(being);
  let tally = judged.length ? `; ${right.length} right of ${right.length + wrong.length} judged` : "";
  if (unsure.length) tally += `, ${unsure.length} unsure`;
  // The most confident stand first.
  if (wrong.length) tally += `, the most confident wrong one at ${Number(wrong[0].dataset.confidence).toFixed(2)}`;
  section.querySelector(".tally").textContent = tally;
  document.querySelector(`nav a[data-of=${section.id}]`).classList.toggle("done", judged.length === mine.length);
  document.getElementById("total").textContent = `${verdicts.size} of ${clips.length} judged`
    + (kept ? "" : "; this browser does not keep verdicts: save them before you leave");
}

// No cell is a formula in a spreadsheet: as birdmix.text has it.
function harmless(cell) {
  const number = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;
  return /^'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(cell) && !number.test(cell) ? `'${cell}` : cell;
}

function harmlessPath(path) {
  return /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(path) ? `./${path}` : path;
}

function save() {
  const quoted = cell => /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
  const rows = [...clips].filter(clip => verdicts.has(clip)).map(clip => {
    const d = clip.dataset;
    return [harmlessPath(d.path), d.start, d.end, harmless(d.species), d.confidence, verdicts.get(clip)];
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
      judge(clip, verdicts.get(clip) === button.value ? null : button.value));
  try {
    const before = localStorage.getItem(keyOf(clip));
    if (before) verdicts.set(clip, before);
  } catch { kept = false; }
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
    judge(clip, byKey[event.key]);
    audio.pause();
    go(clips[at + 1]);
    clips[at + 1]?.querySelector("audio").play();
  } else return;
  event.preventDefault();
});
