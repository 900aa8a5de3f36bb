// A browser without a window: it keeps cookies, sends forms and follows the
// Refresh header. It knows Postern's pages by the names of their fields.

export class Browser {
  #cookies = new Map();

  constructor(issuer) {
    this.issuer = issuer;
  }

  /**
   * Opens an authorization request, signs in with the code that the mailbox of
   * `postern dev` caught, allows what is ticked and carries the answer to the
   * connected app. Returns the app's answer.
   */
  async allow(address, email) {
    let page = await this.#open(address);
    page = await this.#submit(page, 'email', { email });
    page = await this.#submit(page, 'code', { code: await this.#code(email) });
    page = await this.#submit(page, 'allow', { action: 'allow' });
    const target = page.headers.get('refresh')?.replace(/^0; url=/, '');
    if (!target) throw new Error(`no Refresh header after Allow (${page.status}):\n${page.text}`);
    return fetch(target);
  }

  /** Follows redirects inside the issuer, and no others. */
  async #open(address, form) {
    const response = await fetch(address, {
      method: form ? 'POST' : 'GET',
      body: form,
      redirect: 'manual',
      headers: {
        Cookie: [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; '),
        ...(form && { Origin: this.issuer, 'Sec-Fetch-Site': 'same-origin' }),
      },
    });
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = line.match(/^([^=]+)=([^;]*)/);
      if (/;\s*max-age=(0|-)/i.test(line)) this.#cookies.delete(name);
      else this.#cookies.set(name, value);
    }
    const onward = response.headers.get('location');
    if (onward) {
      const next = new URL(onward, address).href;
      if (!next.startsWith(this.issuer + '/')) throw new Error(`sent away to ${next}`);
      return this.#open(next);
    }
    return { address, status: response.status, headers: response.headers, text: await response.text() };
  }

  /** Sends the form with the named field: hidden fields, ticked boxes, and values. */
  async #submit(page, field, values) {
    const forms = page.text.match(/<form[^]*?<\/form>/g) ?? [];
    const form = forms.find((text) => text.includes(`name="${field}"`));
    if (!form) throw new Error(`no form with ${field} at ${page.address} (${page.status}):\n${page.text}`);
    const fields = new URLSearchParams();
    for (const [input] of form.matchAll(/<input[^>]*>/g)) {
      if (/type="hidden"|\schecked/.test(input)) fields.append(attribute(input, 'name'), attribute(input, 'value'));
    }
    for (const [name, value] of Object.entries(values)) fields.set(name, value);
    const target = new URL(attribute(form.match(/<form[^>]*>/)[0], 'action') || page.address, page.address);
    return this.#open(target.href, fields);
  }

  async #code(email) {
    for (let tries = 0; tries < 100; tries++) {
      const mails = await (await fetch(this.issuer + '/dev/mailbox.json')).json();
      const code = mails.find((mail) => mail.to === email)?.code;
      if (code) return code;
      await new Promise((done) => setTimeout(done, 50));
    }
    throw new Error('no code arrived for ' + email);
  }
}

function attribute(tag, name) {
  const value = tag.match(new RegExp(`\\s${name}="([^"]*)"`))?.[1] ?? '';
  return value.replace(/&#(\d+);/g, (_, n) => String.fromCodePoint(n)).replace(/&quot;/g, '"').replace(/&lt;/g, '<').replace(/&gt;/g, '>').replace(/&amp;/g, '&');
}
