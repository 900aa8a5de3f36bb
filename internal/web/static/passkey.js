// The door of the dashboard: passkeys, and the secret of a one-time link. Every
// page says what to do where this does not run.
"use strict";

{
  // The secret of a link stands behind its "#", where no server sees it. It goes
  // into the form, and out of the address bar and the history.
  const link = document.querySelector("form[data-link]");
  const takeSecret = () => {
    const text = location.hash.slice(1);
    if (!link || !text) return;
    history.replaceState(null, "", location.pathname);
    link.elements.link.value = text;
    link.requestSubmit();
  };
  addEventListener("hashchange", takeSecret);
  takeSecret();

  for (const note of document.querySelectorAll("[data-no-script]")) note.hidden = true;

  // A form with a passkey: the browser answers the options, and the answer is sent
  // in a hidden field.
  for (const form of document.querySelectorAll("form[data-passkey]")) {
    const said = form.querySelector("[data-passkey-said]");
    const say = (text) => {
      said.querySelector("[data-words]").textContent = text;
      said.hidden = !text;
    };
    let busy = false;
    form.addEventListener("submit", async (event) => {
      const button = event.submitter;
      if (busy) return event.preventDefault();
      if (button?.value !== "passkey" || form.elements.passkey.value) return;
      event.preventDefault();
      if (!window.PublicKeyCredential?.parseCreationOptionsFromJSON) {
        return say("This browser is too old for passkeys. Use a password and an authenticator app.");
      }
      busy = true;
      say("");
      button.setAttribute("aria-disabled", "true");
      try {
        form.elements.passkey.value = JSON.stringify(await answer(form));
        form.submit();
      } catch (error) {
        busy = false;
        button.removeAttribute("aria-disabled");
        say(words(error));
      }
    });
    addEventListener("pageshow", (event) => {
      if (!event.persisted) return;
      form.elements.passkey.value = "";
      busy = false;
      for (const button of form.querySelectorAll("[aria-disabled]")) button.removeAttribute("aria-disabled");
    });
  }

  async function answer(form) {
    if (form.dataset.options) {
      const options = JSON.parse(form.dataset.options);
      const name = form.elements.email?.value;
      if (name) options.user.name = options.user.displayName = name;
      return (await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })).toJSON();
    }
    const response = await fetch(form.dataset.challenge, { method: "POST" });
    if (!response.ok) throw new Error(response.status === 429 ? "often" : "server");
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(await response.json());
    return (await navigator.credentials.get({ publicKey })).toJSON();
  }

  function words(error) {
    if (error.name === "NotAllowedError") return "No passkey was given, or the time ran out. Try again, or use the other way.";
    if (error.name === "InvalidStateError") return "This device has a passkey for you already.";
    if (error.name === "SecurityError") return "Passkeys work only at the address that this server was set up with.";
    if (error.message === "often") return "That was too often. Wait a minute and try again.";
    if (error.message === "server") return "The server did not answer as it should. Load the page again.";
    return "This browser or device cannot use a passkey. Use the other way.";
  }
}
