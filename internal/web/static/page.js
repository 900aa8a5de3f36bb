// Makes the pages a little nicer where scripts run. Every page works without.
"use strict";

// Copy buttons: shown only where copying works, they say "Copied" for 2 s.
for (const button of document.querySelectorAll("[data-copy], [data-copy-near]")) {
  const source = button.dataset.copy ? document.getElementById(button.dataset.copy) : button.previousElementSibling;
  if (!navigator.clipboard || !source) continue;
  const label = button.querySelector("[data-label]");
  const said = button.nextElementSibling;
  const rest = label.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(button.dataset.copyText || (source.value ?? source.textContent.trim()));
    } catch {
      if (source.select) source.select();
      else getSelection().selectAllChildren(source);
      return;
    }
    button.classList.add("done");
    label.textContent = said.textContent = "Copied";
    setTimeout(() => {
      button.classList.remove("done");
      label.textContent = rest;
      said.textContent = "";
    }, 2000);
  });
}

// Times of the day in the clock of the person who reads them.
for (const time of document.querySelectorAll("time[data-clock]")) {
  time.textContent = new Date(time.dateTime).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

// Consent: the count and the shortcuts follow the ticks without a new page.
const shortcuts = document.querySelector("[data-shortcuts]");
const count = document.getElementById("count");
if (count) {
  const boxes = [...document.querySelectorAll("input[name=allow]")];
  const open = boxes.filter((box) => !box.disabled);
  const wanted = { read_only: (box) => !("writes" in box.dataset), everything: () => true };
  const show = () => {
    count.firstElementChild.textContent = `${open.filter((box) => box.checked).length} of ${boxes.length}`;
    for (const button of shortcuts?.children ?? []) {
      button.setAttribute("aria-pressed", open.every((box) => box.checked === wanted[button.value](box)));
    }
  };
  for (const box of open) box.addEventListener("change", show);
  for (const button of shortcuts?.children ?? []) {
    button.addEventListener("click", (event) => {
      event.preventDefault();
      for (const box of open) box.checked = wanted[button.value](box);
      show();
    });
  }
  addEventListener("pageshow", show); // a page from the history keeps its ticks
}

// Forms that must be sent once: the second press waits for the first answer.
for (const form of document.querySelectorAll("form[data-once]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) return event.preventDefault();
    form.dataset.sent = "yes";
    const pressed = event.submitter;
    if (!pressed) return;
    pressed.setAttribute("aria-disabled", "true");
    if (pressed.dataset.busy) {
      pressed.dataset.rest = pressed.textContent;
      pressed.textContent = pressed.dataset.busy;
    }
  });
  addEventListener("pageshow", () => {
    delete form.dataset.sent;
    for (const button of form.querySelectorAll("[aria-disabled]")) {
      button.removeAttribute("aria-disabled");
      if (button.dataset.rest) button.textContent = button.dataset.rest;
    }
  });
}
