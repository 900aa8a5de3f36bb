import { App } from './app.ts';
import { expect, look, test, untilAsked } from './person.ts';
import { issuer } from './server.ts';

test('an unknown app is told on our page, with a trace code and without a way on', async ({ page, app }, info) => {
  await page.goto(app.request({ client_id: 'connected-app-test-0' }));
  await expect(page.getByRole('heading', { name: 'We do not know the program that sent you here' })).toBeVisible();
  await expect(page.locator('#trace')).toHaveText(/^[0-9A-Z]{3}-[0-9A-Z]{3}-[0-9A-Z]{3}$/);
  await expect(page.getByRole('listitem').and(page.locator('[aria-current]'))).toHaveText('The app’s');
  await expect(page.locator('main').getByRole('link')).toHaveCount(0);
  expect(page.url().startsWith(issuer())).toBe(true);
  await look(page, 'error-unknown-app', info);
});

test('a foreign redirect URI is told on our page, with both addresses and without a way there', async ({ page, app }, info) => {
  const requests: string[] = [];
  page.on('request', (r) => requests.push(r.url()));
  await page.goto(app.request({ redirect_uri: 'https://attacker.example.test/cb' }));
  await expect(page.getByRole('heading', { name: 'Notebook agent gave a return address it never registered' })).toBeVisible();
  await expect(page.locator('main')).toContainText('attacker.example.test');
  await expect(page.locator('main')).toContainText('127.0.0.1');
  await expect(page.locator('#trace')).toHaveText(/^[0-9A-Z]{3}-[0-9A-Z]{3}-[0-9A-Z]{3}$/);
  await expect(page.locator('main').getByRole('link')).toHaveCount(0);
  await look(page, 'error-return-address', info);
  expect(requests.filter((url) => !url.startsWith(issuer() + '/') && !url.startsWith('data:'))).toEqual([]);
});

test('a form from before a sign-in in another tab is refused, and its page leads on', async ({ page, context, app, email }, info) => {
  await page.goto(app.request());
  const tab = await context.newPage();
  await untilAsked(tab, app, email);
  await page.getByLabel('E-mail address').fill(email);
  await page.getByRole('button', { name: 'Send me a code' }).click();
  await expect(page.getByRole('heading', { name: 'This page did not come from us' })).toBeVisible();
  await look(page, 'error-form', info);
  await page.getByRole('link', { name: 'Go back' }).click();
  await expect(page.getByRole('button', { name: 'Allow' })).toBeVisible();
});

test('a page that is not there says so', async ({ page }, info) => {
  const response = await page.goto(issuer() + '/nothing-here');
  expect(response!.status()).toBe(404);
  await expect(page.getByRole('heading', { level: 1 })).toBeVisible();
  await look(page, 'error-not-found', info);
});

test('the words of an app stay words', async ({ page }) => {
  const app = await App.start({ client_name: '<img src=x onerror=alert(1)> {{.}}' });
  await page.goto(app.request());
  await expect(page.locator('main img')).toHaveCount(0);
  await expect(page.locator('main')).toContainText('<img src=x onerror=alert(1)>');
  await app.close();
});

test('no page can be put into a frame', async ({ page, app, anotherBrowser, complaints }) => {
  await page.goto(app.request());
  const ours = [page.url(), app.request(), app.request({ client_id: 'nobody' }), issuer() + '/connected-apps', issuer() + '/nothing-here'];
  const theirs = await anotherBrowser();
  await theirs.context().addCookies(await page.context().cookies());
  await theirs.goto(app.redirectURI);
  await theirs.evaluate((addresses) => {
    for (const address of addresses) {
      document.body.append(Object.assign(document.createElement('iframe'), { src: address }));
    }
  }, [...ours, app.redirectURI]);
  await expect.poll(() => theirs.frames().slice(1).map((frame) => frame.url())).toEqual([
    ...ours.map(() => 'chrome-error://chromewebdata/'),
    app.redirectURI, // which allows it
  ]);
  complaints.length = 0; // the browser says why
});
