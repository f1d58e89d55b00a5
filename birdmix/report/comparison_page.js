"use strict";
const parts = [...document.querySelectorAll("details")];
const unfold = document.getElementById("unfold");

unfold.hidden = false;
unfold.addEventListener("click", () => {
  const isOpen = unfold.getAttribute("aria-pressed") !== "true";
  unfold.setAttribute("aria-pressed", isOpen);
  unfold.textContent = isOpen ? "fold all" : "unfold all";
  for (const part of parts) part.open = isOpen;
});

// A link to a part of the page opens it, and all parts are printed.
for (const link of document.querySelectorAll("nav a"))
  link.addEventListener("click", () => {
    const first = document.querySelector(`${link.getAttribute("href")} details`);
    if (first) first.open = true;
  });
addEventListener("beforeprint", () => { for (const part of parts) part.open = true; });
