"use strict";
(() => {
  // Theme: as the system, or as chosen.
  const theme = document.getElementById("theme");
  const choices = { auto: "system default", light: "light", dark: "dark" };
  const choose = (name) => {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    theme.textContent = `◐ ${name === "auto" ? "System" : name === "light" ? "Light" : "Dark"}`;
    theme.setAttribute("aria-label", `Colours: ${choices[name]}`);
  };
  let chosen = "auto";
  choose(chosen);
  theme.addEventListener("click", () => {
    const names = Object.keys(choices);
    chosen = names[(names.indexOf(chosen) + 1) % names.length];
    choose(chosen);
  });

  // The section that is being read.
  const links = new Map([...document.querySelectorAll(".links a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.classList.remove("here");
      links.get(entry.target.id)?.classList.add("here");
    }
  }, { rootMargin: "0px 0px -75% 0px" });
  for (const section of document.querySelectorAll("section[id]")) seen.observe(section);
})();
