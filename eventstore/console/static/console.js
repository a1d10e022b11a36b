// What htmx does not do: pauses while nobody looks, copies ids, moves the slider.
(() => {
  "use strict";
  const all = (selector, root = document) => root.querySelectorAll(selector);

  // Parts of the page that are asked for again: not while hidden, or while somebody is inside.
  const isBusy = (part) => {
    const selection = document.getSelection();
    const selects = selection && !selection.isCollapsed && part.contains(selection.anchorNode);
    return document.hidden || selects || part.contains(document.activeElement);
  };
  const stale = document.getElementById("stale");
  document.addEventListener("htmx:beforeRequest", (event) => {
    const part = event.target.closest("[data-watched]");
    if (part && isBusy(part)) event.preventDefault();
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (stale) stale.hidden = event.detail.successful;
    if (event.detail.xhr.status === 401) location.reload();
  });

  // Live events: a stream while the page is looked at.
  const source = document.getElementById("live-source");
  const state = document.getElementById("live-state");
  const rows = document.getElementById("live-rows");
  let stream = null;
  const say = (text) => {
    state.textContent = text;
    state.className = `badge ${text.startsWith("live") ? "good" : text === "paused" ? "none" : "warn"}`;
  };
  const begin = () => {
    if (!source || stream) return;
    stream = source.content.firstElementChild.cloneNode(true);
    source.after(stream);
    htmx.process(stream);
    say("connecting");
  };
  const end = () => {
    if (!stream) return;
    htmx.trigger(stream, "htmx:beforeCleanupElement");
    stream.remove();
    stream = null;
    say("paused");
  };
  document.addEventListener("htmx:sseMessage", () => {
    if (!rows) return;
    say(state.textContent);
    while (rows.children.length > Number(rows.dataset.rows)) rows.lastElementChild.remove();
    reveal(rows);
  });
  document.addEventListener("htmx:sseError", () => source && say("not reachable; trying again"));

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return end();
    begin();
    if (window.htmx) htmx.trigger(document.body, "look");
  });

  // Buttons that copy an id.
  const reveal = (root) => {
    if (navigator.clipboard) for (const each of all("button.copy[hidden]", root)) each.hidden = false;
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    await navigator.clipboard.writeText(button.dataset.copy);
    button.classList.add("copied");
    setTimeout(() => button.classList.remove("copied"), 1200);
  });
  document.addEventListener("htmx:afterSwap", (event) => reveal(event.target));

  // The slider shows its version while it moves, and opens it when it stops.
  for (const form of all("form[data-slider]")) {
    const range = form.querySelector("input[type=range]");
    range.addEventListener("input", () => { form.querySelector("output").value = range.value; });
    range.addEventListener("change", () => form.requestSubmit());
  }

  document.addEventListener("DOMContentLoaded", () => {
    reveal(document);
    if (!document.hidden) begin();
  });
  if (document.readyState !== "loading") { reveal(document); if (!document.hidden) begin(); }
})();
