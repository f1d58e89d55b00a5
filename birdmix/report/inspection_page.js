"use strict";
const examples = [...document.querySelectorAll(".example")];
const audios = [...document.querySelectorAll("audio")];

function toggle(audio) {
  if (!audio) return;
  if (!audio.paused) { audio.pause(); return; }
  audio.currentTime = 0;
  audio.play();
}

// The cursor in the log-mel that belongs to a player.
const viewOf = audio => audio.parentElement.querySelector(".view");

function follow(audio) {
  if (audio.duration) viewOf(audio).style.setProperty("--played", audio.currentTime / audio.duration);
  if (!audio.paused) requestAnimationFrame(() => follow(audio));
}

for (const audio of audios) {
  const view = viewOf(audio);
  audio.addEventListener("play", () => {
    for (const other of audios) if (other !== audio) other.pause();
    view.parentElement.classList.add("playing");
    view.classList.add("playing");
    follow(audio);
  });
  audio.addEventListener("seeked", () => follow(audio));
  view.addEventListener("click", event => {
    const share = Math.min(event.offsetX / view.clientWidth, 0.999);
    const seek = () => { audio.currentTime = share * audio.duration; audio.play(); };
    if (audio.duration) seek();
    else {
      audio.addEventListener("loadedmetadata", seek, { once: true });
      audio.load();
    }
  });
}

function go(example) {
  for (const audio of audios) audio.pause();
  example.focus({ preventScroll: true });
  example.scrollIntoView({ block: "start" });
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const focused = document.activeElement;
  if (focused.tagName === "AUDIO") return; // the player has keys of its own
  const example = focused.closest(".example");
  const at = examples.indexOf(example);
  const step = ["ArrowDown", "ArrowRight", "j"].includes(event.key) ? 1
    : ["ArrowUp", "ArrowLeft", "k"].includes(event.key) ? -1 : 0;
  if (step && examples[at + step]) go(examples[at + step]);
  else if (event.key === " " && example && focused === example) toggle(example.querySelector("audio.mix"));
  else if (/^[1-9]$/.test(event.key) && example)
    toggle(example.querySelectorAll(".source audio")[Number(event.key) - 1]);
  else return;
  event.preventDefault();
});
