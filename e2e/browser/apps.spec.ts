import { App, call } from './app.ts';
import { allow, codeFor, expect, look, signIn, test, untilAsked } from './person.ts';
import { issuer } from './server.ts';

test('without connected apps the page says so', async ({ page, email }, info) => {
  await page.goto(issuer());
  await signIn(page, email);
  await expect(page).toHaveURL(issuer() + '/connected-apps');
  await expect(page.getByRole('heading', { name: 'No connected apps yet' })).toBeVisible();
  await look(page, 'apps-none', info);
});

// Proves: MCP-AS-29
test('a person sees what an app may do, makes it read only, and takes it back', async ({ page, app, email }, info) => {
  await untilAsked(page, app, email);
  const tokens = await allow(page, app);
  await page.goto(issuer() + '/connected-apps');
  const row = page.getByRole('listitem').filter({ hasText: 'Notebook agent' });
  await expect(row).toContainText('Read your to-dos. Add, complete and delete your to-dos.');
  await expect(row).toContainText('Allowed today');
  await expect(row).toContainText('Unverified');
  await look(page, 'apps', info);

  await row.getByRole('button', { name: /^Make read only for Notebook agent$/ }).click();
  await expect(page.getByRole('status')).toContainText('Notebook agent can only read now.');
  await expect(row).not.toContainText('Add, complete');
  await expect(row.getByRole('button', { name: /Make read only/ })).toHaveCount(0);
  await look(page, 'apps-read-only', info);
  await refused(app, tokens.refresh_token); // what it holds says more than it may do now

  // Connected again, it is asked for what is gone.
  const again = await App.start();
  await page.goto(again.request());
  await expect(page.getByText('You already allow: read your to-dos. That stays.')).toBeVisible();
  const renewed = await allow(page, again);
  expect((await call('createTodo', { todoText: 'Buy milk' }, renewed.access_token)).status).toBe(200);
  await again.close();

  await page.goto(issuer() + '/connected-apps');
  await row.getByRole('button', { name: /^Take back from Notebook agent$/ }).click();
  await expect(page.getByRole('status')).toContainText('Access taken back from Notebook agent.');
  await page.getByText('Show them').click();
  await expect(page.getByText('Taken back today')).toBeVisible();
  await look(page, 'apps-taken-back', info);
  await refused(again, renewed.refresh_token);
});

async function refused(app: App, refreshToken: string) {
  const { status, body } = await app.refresh(refreshToken);
  expect(status).toBe(400);
  expect(body.error).toBe('invalid_grant');
}

test('one person does not see another person’s apps', async ({ page, app, email, anotherBrowser }) => {
  await untilAsked(page, app, email);
  await allow(page, app);
  const other = await anotherBrowser();
  await other.goto(issuer() + '/connected-apps');
  await signIn(other, 'other-' + email);
  await expect(other.getByRole('heading', { name: 'No connected apps yet' })).toBeVisible();
});

test('signing out asks first, and ends the session of this browser', async ({ page, email }, info) => {
  await page.goto(issuer() + '/connected-apps');
  await signIn(page, email);
  await page.getByRole('link', { name: 'Sign out' }).click();
  await expect(page.getByText(email)).toBeVisible();
  await look(page, 'sign-out', info);
  await page.getByRole('button', { name: 'Stay signed in' }).click();
  await expect(page.getByRole('heading', { name: 'My connected apps' })).toBeVisible();
  await page.getByRole('link', { name: 'Sign out' }).click();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await expect(page.getByRole('heading', { name: 'You are signed out' })).toBeVisible();
  await look(page, 'signed-out', info);
  await page.goto(issuer() + '/connected-apps');
  await expect(page.getByLabel('E-mail address')).toBeVisible();
});

// Waits until one address may have a second code, 20 s.
test('signing out everywhere ends the other browser too, and no connected app', { tag: '@once' }, async ({ page, app, email, anotherBrowser }) => {
  test.slow();
  const other = await anotherBrowser();
  await other.goto(issuer() + '/connected-apps');
  await signIn(other, email);
  await expect(other.getByRole('heading', { name: 'My connected apps' })).toBeVisible();

  const first = await codeFor(email);
  await page.goto(app.request());
  await page.getByLabel('E-mail address').fill(email);
  await expect(async () => {
    await page.getByRole('button', { name: 'Send me a code' }).click();
    await expect(page.getByRole('heading', { name: 'Check your mail' })).toBeVisible({ timeout: 500 });
  }).toPass({ intervals: [2000], timeout: 40_000 });
  await expect.poll(() => codeFor(email)).not.toBe(first);
  await page.getByLabel('Six-digit code').fill(await codeFor(email));
  await page.getByRole('button', { name: 'Continue' }).click();
  const tokens = await allow(page, app);

  await page.goto(issuer() + '/connected-apps');
  await page.getByRole('button', { name: 'Sign out everywhere' }).click();
  await expect(page.getByText('Every browser that was signed in to Todo is signed out.')).toBeVisible();
  await other.reload();
  await expect(other.getByLabel('E-mail address')).toBeVisible();
  expect((await app.refresh(tokens.refresh_token)).status).toBe(200);
});
