// The few things that pages do by themselves. Everything works without them.
"use strict";

(() => {
  const root = document.documentElement;
  const THEME = "tollgate-theme";

  const stored = () => {
    try { return localStorage.getItem(THEME); } catch { return null; }
  };
  const isDark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  // Before anything is drawn, so that nothing flashes.
  if (stored()) root.dataset.theme = stored();

  const themeButton = () => {
    const button = document.querySelector("[data-theme-toggle]");
    if (!button) return;
    const say = () => { button.textContent = isDark() ? "Light" : "Dark"; };
    button.hidden = false;
    say();
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      try { localStorage.setItem(THEME, root.dataset.theme); } catch { /* It holds for this page. */ }
      say();
    });
  };

  // "/" goes to the search, unless somebody is writing.
  const searchKey = () => addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    const field = document.querySelector("[data-search]");
    if (!field) return;
    event.preventDefault();
    field.focus();
    field.select();
  });

  // How long it is until a time, beside the time itself.
  const left = (seconds) => {
    const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
    const place = parts.findIndex(([size]) => seconds >= size);
    if (place < 0) return "now";
    return parts.slice(place, place + 2).map(([size, name], index) => {
      const whole = Math.floor(index === 0 ? seconds / size : (seconds % parts[place][0]) / size);
      return `${whole} ${name}`;
    }).join(" ");
  };
  const countdowns = () => {
    for (const time of document.querySelectorAll("time[data-until]")) {
      const seconds = Math.round((new Date(time.dateTime) - Date.now()) / 1000);
      time.textContent = seconds >= 0 ? `in ${left(seconds)}` : `${left(-seconds)} ago`;
    }
  };

  // What a page shows is replaced by what the server sends for it; what somebody has opened stays open, and where the
  // keyboard is it stays.
  const AGAIN_MS = 10000;
  const replace = (place, html) => {
    if (!place) return;
    const opened = [...place.querySelectorAll("details")].map((details) => details.open);
    const able = "a, button, input, select, summary";
    const focused = [...place.querySelectorAll(able)].indexOf(document.activeElement);
    place.innerHTML = html;
    place.querySelectorAll("details").forEach((details, index) => { details.open = opened[index] ?? false; });
    if (focused >= 0) place.querySelectorAll(able)[focused]?.focus({ preventScroll: true });
  };
  const live = () => {
    const path = document.body.dataset.live;
    const state = document.querySelector("[data-live-state]");
    if (!path || !state) return;
    const say = (text) => { state.hidden = false; state.textContent = text; };
    const listen = () => {
      const source = new EventSource(path);
      source.addEventListener("open", () => say("Live"));
      source.addEventListener("fragment", (event) => {
        const { id, html } = JSON.parse(event.data);
        replace(document.getElementById(id), html);
        countdowns();
      });
      source.addEventListener("over", () => {
        source.close();
        say("Logged out: load the page again");
      });
      source.addEventListener("error", () => {
        say("Connecting again…");
        // The browser does not come back by itself when it was told that there is no room.
        if (source.readyState === EventSource.CLOSED) setTimeout(listen, AGAIN_MS);
      });
    };
    listen();
  };

  addEventListener("DOMContentLoaded", () => {
    themeButton();
    searchKey();
    countdowns();
    setInterval(countdowns, 1000);
    live();
  });
})();
