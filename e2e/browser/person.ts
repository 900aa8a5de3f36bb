// What a person does in a browser, and what every page owes them. Tests take
// `test` from here: its pages must neither complain on the console nor break
// the content policy.
import { test as base, expect } from '@playwright/test';
import type { BrowserContext, BrowserContextOptions, Page, TestInfo } from '@playwright/test';
import axe from 'axe-core';
import { randomUUID } from 'node:crypto';
import { App } from './app.ts';
import { issuer } from './server.ts';

export { expect };

/** Collects what a browser complains about. */
async function watch(context: BrowserContext, complaints: string[]) {
  await context.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI}`));
  });
  const pages = new Set<string>(); // a refusal is a page with its status, and Chromium calls that an error
  context.on('response', (r) => {
    if (r.request().isNavigationRequest() && r.status() >= 400) pages.add(r.url());
  });
  context.on('console', (m) => {
    const page = m.text().startsWith('Failed to load resource: the server responded with a status of 4') && pages.has(m.location().url);
    if (m.type() === 'error' && !page) complaints.push(`${m.text()} at ${m.location().url}`);
  });
  context.on('weberror', (e) => complaints.push(String(e.error())));
}

type Fixtures = {
  complaints: string[];
  /** A connected app that listens on this computer. */
  app: App;
  /** An address that nobody had before. */
  email: string;
  /** Another browser, without cookies. */
  anotherBrowser: (options?: BrowserContextOptions) => Promise<Page>;
};

export const test = base.extend<Fixtures>({
  complaints: async ({}, use) => {
    const complaints: string[] = [];
    await use(complaints);
    expect(complaints, 'console and content policy').toEqual([]);
  },
  context: async ({ context, complaints }, use) => {
    await watch(context, complaints);
    await use(context);
  },
  anotherBrowser: async ({ browser, complaints }, use) => {
    const contexts: BrowserContext[] = [];
    await use(async (options) => {
      const context = await browser.newContext(options);
      contexts.push(context);
      await watch(context, complaints);
      return context.newPage();
    });
    await Promise.all(contexts.map((c) => c.close()));
  },
  app: async ({}, use) => {
    const app = await App.start();
    await use(app);
    await app.close();
  },
  email: async ({}, use) => use(newAddress()),
});

export const newAddress = () => `person-${randomUUID().slice(0, 8)}@example.test`;

/** The newest one-time code for an address. */
export async function codeFor(email: string): Promise<string> {
  let code = '';
  await expect(async () => {
    const mails: { to: string; code: string }[] = await (await fetch(issuer() + '/dev/mailbox.json')).json();
    code = mails.find((m) => m.to === email)?.code ?? '';
    expect(code, 'a mail with a code for ' + email).not.toBe('');
  }).toPass({ intervals: [20, 50, 100], timeout: 5000 });
  return code;
}

/** Types address and code into the sign-in pages; the code is in a mail. */
export async function signIn(page: Page, email: string, mailed = codeFor) {
  await page.getByLabel('E-mail address').fill(email);
  await page.getByRole('button', { name: 'Send me a code' }).click();
  await expect(page.getByRole('heading', { name: 'Check your mail' })).toBeVisible();
  await page.getByLabel('Six-digit code').fill(await mailed(email));
  await page.getByRole('button', { name: 'Continue' }).click();
}

/** Opens the request of an app, signs in, and is asked. */
export async function untilAsked(page: Page, app: App, email: string, parameters: Record<string, string> = {}) {
  await page.goto(app.request(parameters));
  await signIn(page, email);
  await expect(page.getByRole('button', { name: 'Allow' })).toBeVisible();
}

/** Allows what is ticked and redeems the code; the token answer. */
export async function allow(page: Page, app: App) {
  await page.getByRole('button', { name: 'Allow' }).click();
  await expect(page.getByRole('heading', { name: 'Connected' })).toBeVisible();
  return redeemed(app);
}

/** Redeems the code that an app got; the token answer. */
export async function redeemed(app: App) {
  const answer = await app.answer;
  expect(answer.get('error'), answer.get('error_description') ?? '').toBeNull();
  const { status, body } = await app.redeem(answer.get('code'));
  expect(status, JSON.stringify(body)).toBe(200);
  return body;
}

/**
 * What every page owes: nothing serious for axe in light and dark, no scrolling
 * sideways at 320 px. Leaves a picture of the page in both.
 */
export async function look(page: Page, name: string, info: TestInfo) {
  const size = page.viewportSize()!;
  await page.evaluate(axe.source);
  for (const scheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme: scheme });
    const picture = { path: `test-results/pages/${name}-${size.width}-${scheme}.png`, fullPage: true, timeout: 20_000 };
    await page.screenshot(picture).catch(() => page.screenshot(picture)); // once in thousands Chromium never paints one
    const rules = scheme === 'dark' ? { runOnly: ['color-contrast', 'link-in-text-block'] } : {}; // what colours change
    const found = await page.evaluate((rules) => (window as any).axe.run(rules), rules);
    const bad = found.violations
      .filter((v: any) => v.impact === 'serious' || v.impact === 'critical')
      .map((v: any) => `${v.id}: ${v.nodes.map((n: any) => n.html).join(' | ')}`);
    expect.soft(bad, `axe on ${name}, ${scheme}, ${info.project.name}`).toEqual([]);
  }
  await page.emulateMedia({ colorScheme: null });
  await page.setViewportSize({ width: 320, height: 640 });
  expect.soft(await page.evaluate(() => document.scrollingElement!.scrollWidth), `${name} at 320 px`).toBeLessThanOrEqual(320);
  await page.setViewportSize(size);
}
