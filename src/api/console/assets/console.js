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
  // The server says something every few seconds; where nothing is heard for longer than this the connection is broken.
  const SILENT_MS = 30000;
  const clock = (at) => `${new Date(at).toISOString().slice(11, 19)} UTC`;
  const live = () => {
    const path = document.body.dataset.live;
    const state = document.querySelector("[data-live-state]");
    const lost = document.querySelector("[data-live-lost]");
    if (!path || !state || !lost) return;
    // When something was heard last, and when the figures were those of then.
    let source, heard = Date.now(), known = heard;
    const say = (text) => { state.hidden = false; state.textContent = text; };
    // Old figures are not to be taken for those of now.
    const warn = (text) => {
      if (lost.textContent !== text) lost.textContent = text;
      lost.hidden = false;
    };
    const hears = () => {
      heard = known = Date.now();
      lost.hidden = true;
      say("Live");
    };
    const isLate = () => {
      heard = Date.now();
      say("Late");
      warn(`Not updated since ${clock(known)}: the gateway has too much to do, or can't read its store.`);
    };
    const loggedOut = () => {
      source.close();
      source = undefined;
      say("Logged out");
      warn(`Logged out: not updated since ${clock(known)}. `);
      const link = document.createElement("a");
      link.href = `/console/login?next=${encodeURIComponent(location.pathname + location.search)}`;
      link.textContent = "Log in again";
      lost.append(link);
    };
    const waits = () => {
      say("Connecting again…");
      warn(`Not updated since ${clock(known)}. Connecting again…`);
    };
    // What refused to be listened to says why only to who asks for it otherwise.
    const isLoggedOut = async () => {
      const asked = new AbortController();
      try {
        const answer = await fetch(path, { headers: { accept: "text/event-stream" }, signal: asked.signal });
        return answer.status === 401;
      } catch {
        return false;
      } finally {
        asked.abort();
      }
    };
    const listen = () => {
      // A browser has six connections to one host for all of its tabs: those that nobody sees leave them to the others.
      if (document.hidden) return;
      const own = new EventSource(path);
      source = own;
      own.addEventListener("open", () => { heard = Date.now(); });
      own.addEventListener("still", hears);
      own.addEventListener("late", isLate);
      own.addEventListener("fragment", (event) => {
        hears();
        const { id, html } = JSON.parse(event.data);
        replace(document.getElementById(id), html);
        countdowns();
      });
      own.addEventListener("over", loggedOut);
      own.addEventListener("error", async () => {
        if (source !== own) return;
        waits();
        // The browser comes back by itself unless it was refused.
        if (own.readyState !== EventSource.CLOSED) return;
        const isOver = await isLoggedOut();
        if (source !== own) return;
        if (isOver) loggedOut();
        else setTimeout(() => { if (source === own) listen(); }, AGAIN_MS);
      });
    };
    listen();
    document.addEventListener("visibilitychange", () => {
      source?.close();
      source = undefined;
      // Whoever begins to listen is sent all that there is.
      listen();
    });
    setInterval(() => {
      if (!source || Date.now() - heard <= SILENT_MS) return;
      waits();
      // One that is closed is asked for again above.
      if (source.readyState !== EventSource.OPEN) return;
      source.close();
      listen();
    }, AGAIN_MS);
  };

  addEventListener("DOMContentLoaded", () => {
    themeButton();
    searchKey();
    countdowns();
    setInterval(countdowns, 1000);
    live();
  });
})();
