import { expect, signIn, test } from './person.ts';
import { issuer } from './server.ts';

// Proves: OIDC-3.1.2.1-a
test('an authorization request by a form of another site finds who is signed in', { tag: '@once' }, async ({ page, app, email }) => {
  await page.goto(issuer() + '/login');
  await signIn(page, email);
  await expect(page).toHaveURL(issuer() + '/connected-apps');
  await page.goto(app.redirectURI); // another site: 127.0.0.1, not localhost
  const sent = page.waitForRequest((r) => r.method() === 'POST' && new URL(r.url()).pathname === '/oauth/authorize');
  await page.evaluate((request) => {
    const url = new URL(request);
    const form = Object.assign(document.createElement('form'), { method: 'post', action: url.origin + url.pathname });
    for (const [name, value] of url.searchParams) {
      form.append(Object.assign(document.createElement('input'), { type: 'hidden', name, value }));
    }
    document.body.append(form);
    form.submit();
  }, app.request());
  expect((await (await sent).allHeaders()).cookie).toBeUndefined();
  await expect(page.getByRole('heading', { level: 1 })).toContainText('wants to act for you');
  await expect(page.locator('main')).toContainText(email);
});
