// The logos of a project and of a connected app whose document names one, on a
// server of their own: the others' pages stay as they are.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHTTP } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Page } from '@playwright/test';
import { App } from './app.ts';
import { expect, look, signIn, test } from './person.ts';
import { certificate, issuer, postern, startDev } from './server.ts';

test.describe.configure({ mode: 'serial' });

const ends: (() => unknown)[] = [];
let app: App;

test.beforeAll(async ({ browser }) => {
  const made = certificate();
  ends.push(() => rmSync(made.dir, { recursive: true, force: true }));
  const artist = await browser.newPage({ isMobile: false, viewport: { width: 160, height: 160 } });
  const draw = async (colour: string, radius: string) => {
    await artist.setContent(`<style>body{margin:0}div{width:160px;height:160px;border-radius:${radius};background:${colour}}</style><div></div>`);
    return artist.screenshot({ clip: { x: 0, y: 0, width: 160, height: 160 }, omitBackground: true });
  };
  const [ours, theirs] = [await draw('#8A5A2B', '24px'), await draw('#3F5B8C', '50%')];
  await artist.close();

  let id = '';
  const host = createServer({ cert: readFileSync(made.cert), key: readFileSync(made.key) }, (request, response) => {
    if (request.url === '/logo.png') {
      response.writeHead(200, { 'Content-Type': 'image/png' }).end(theirs);
      return;
    }
    response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify({
      client_id: id,
      client_name: 'Notebook agent',
      logo_uri: new URL('/logo.png', id),
      redirect_uris: ['http://127.0.0.1/callback'],
      token_endpoint_auth_method: 'none',
    }));
  });
  const callback = createHTTP((_, response) => response.writeHead(204).end());
  for (const server of [host, callback]) {
    await new Promise<void>((done) => server.listen(0, server === host ? 'localhost' : '127.0.0.1', done));
    ends.push(() => (server.closeAllConnections(), server.close()));
  }
  id = `https://localhost:${(host.address() as AddressInfo).port}/client.json`;
  app = App.known(id, `http://127.0.0.1:${(callback.address() as AddressInfo).port}/callback`);

  ends.push(await startDev('--dev-ca', made.cert));
  writeFileSync(join(made.dir, 'logo.png'), ours);
  await postern('project', 'set', 'logo', join(made.dir, 'logo.png'));
});

test.afterAll(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** Expects pictures that the browser loaded, from us and from nowhere else. */
async function expectLoaded(page: Page, selector: string) {
  const picture = page.locator(selector);
  await expect(picture).toHaveCount(1);
  await expect(picture).toHaveAttribute('alt', '');
  await expect.poll(() => picture.evaluate((img: HTMLImageElement) => img.complete && img.naturalWidth)).toBe(128);
  expect(new URL(await picture.evaluate((img: HTMLImageElement) => img.src)).origin).toBe(issuer());
}

test('the logos of project and connected app are on the pages, from our own host', async ({ page, email }, info) => {
  await expect(async () => {
    await page.goto(app.request()); // the server follows the command within a second
    await expect(page.locator('img.tile')).toHaveCount(1, { timeout: 100 });
  }).toPass();
  await expectLoaded(page, 'img.tile');
  await look(page, 'logo-sign-in', info);

  await signIn(page, email);
  await expect(page.getByText('Verified host')).toBeVisible();
  await expectLoaded(page, 'img.tile');
  await expectLoaded(page, '.asks .door img');
  await look(page, 'logo-consent', info);

  await page.getByRole('button', { name: 'Allow' }).click();
  await expect(page.getByRole('link', { name: 'Continue to Notebook agent' })).toBeVisible(); // 204: the browser stays
  await page.goto(issuer() + '/connected-apps');
  await expectLoaded(page, 'img.tile');
  await expectLoaded(page, '.app .door img');
  await look(page, 'logo-apps', info);
});
