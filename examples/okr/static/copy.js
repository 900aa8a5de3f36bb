// The copy buttons. Without script, or where the browser has no clipboard,
// they stay hidden and the text can be selected.
if (navigator.clipboard) {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      const status = document.getElementById("copied");
      status.textContent = "Copied";
      button.classList.add("copied");
      setTimeout(() => {
        status.textContent = "";
        button.classList.remove("copied");
      }, 2000);
    });
  }
}
