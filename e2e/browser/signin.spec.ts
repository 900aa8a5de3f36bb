import { codeFor, expect, look, newAddress, signIn, test } from './person.ts';
import { issuer } from './server.ts';

test('a person signs in with a code from the mail', async ({ page, app, email }, info) => {
  await page.goto(app.request());
  await expect(page.getByRole('heading', { name: 'Sign in to Todo' })).toBeVisible();
  await expect(page.getByText('To connect Notebook agent, an unverified app')).toBeVisible();
  await look(page, 'sign-in', info);
  await page.getByLabel('E-mail address').fill(email);
  await page.getByRole('button', { name: 'Send me a code' }).click();
  await expect(page.getByText('We sent a code to ' + email)).toBeVisible();
  const until = await page.locator('time[data-clock]').getAttribute('datetime');
  const minutes = (Date.parse(until!) - Date.now()) / 60_000;
  expect(minutes, 'how long the code works').toBeGreaterThan(8);
  expect(minutes, 'how long the code works').toBeLessThanOrEqual(10);
  await look(page, 'code', info);
  await page.getByLabel('Six-digit code').fill(await codeFor(email));
  await page.getByRole('button', { name: 'Continue' }).click();
  await expect(page.getByRole('heading', { name: 'Notebook agent wants to act for you in Todo' })).toBeVisible();
  await expect(page.getByText(email)).toBeVisible();
});

test('what is no address is refused with a sentence at the field', async ({ page, app }, info) => {
  await page.goto(app.request());
  const field = page.getByLabel('E-mail address');
  await field.evaluate((input: HTMLInputElement) => (input.type = 'text')); // the browser would stop it
  await field.fill('nobody');
  await page.getByRole('button', { name: 'Send me a code' }).click();
  await expect(page.getByRole('alert')).toHaveText('Enter an e-mail address, such as you@company.com.');
  await expect(field).toHaveAccessibleDescription(/Enter an e-mail address/);
  await expect(field).toBeFocused();
  await look(page, 'sign-in-refused', info);
});

test('a wrong code is refused and counted, the right one still works', async ({ page, app, email }, info) => {
  await page.goto(app.request());
  await page.getByLabel('E-mail address').fill(email);
  await page.getByRole('button', { name: 'Send me a code' }).click();
  const code = await codeFor(email);
  const field = page.getByLabel('Six-digit code');
  await field.fill(code === '000000' ? '000001' : '000000');
  await page.getByRole('button', { name: 'Continue' }).click();
  await expect(page.getByRole('alert')).toHaveText('That code does not match. You have 4 tries left.');
  await expect(field).toHaveAccessibleDescription(/does not match/);
  await look(page, 'code-wrong', info);
  await field.fill(`${code.slice(0, 3)} ${code.slice(3)}`); // as it stands in the mail
  await page.getByRole('button', { name: 'Continue' }).click();
  await expect(page.getByRole('button', { name: 'Allow' })).toBeVisible();
});

test('after five wrong codes only a new one helps', async ({ page, app, email }, info) => {
  await page.goto(app.request());
  await page.getByLabel('E-mail address').fill(email);
  await page.getByRole('button', { name: 'Send me a code' }).click();
  const wrong = (await codeFor(email)) === '000000' ? '000001' : '000000';
  for (const left of [/4 tries left/, /3 tries left/, /2 tries left/, /1 try left/, /Too many tries\. Ask for a new code\./]) {
    await page.getByLabel('Six-digit code').fill(wrong);
    await page.getByRole('button', { name: 'Continue' }).click();
    await expect(page.getByRole('alert')).toHaveText(left);
  }
  await expect(page.getByLabel('Six-digit code')).toHaveCount(0);
  await expect(page.getByRole('button', { name: 'Send another code' })).toBeVisible();
  await look(page, 'code-too-many', info);
});

test('another code at once is refused with the time to wait, the first one still works', async ({ page, app, email }, info) => {
  await page.goto(app.request());
  await page.getByLabel('E-mail address').fill(email);
  await page.getByRole('button', { name: 'Send me a code' }).click();
  const code = await codeFor(email);
  await page.getByRole('button', { name: 'Send another code' }).click();
  await expect(page.getByRole('alert')).toHaveText(/Wait \d+ seconds? and try again/);
  await look(page, 'code-wait', info);
  await page.getByLabel('Six-digit code').fill(code);
  await page.getByRole('button', { name: 'Continue' }).click();
  await expect(page.getByRole('button', { name: 'Allow' })).toBeVisible();
});

test('a different address gets a code of its own', async ({ page, app, email }) => {
  const other = newAddress();
  await page.goto(app.request());
  await page.getByLabel('E-mail address').fill(email);
  await page.getByRole('button', { name: 'Send me a code' }).click();
  await codeFor(email);
  await page.getByRole('button', { name: 'Use a different address' }).click();
  await signIn(page, other);
  await expect(page.getByText(other)).toBeVisible();
});

test('login_hint stands in the field', async ({ page, app, email }) => {
  await page.goto(app.request({ login_hint: email }));
  await expect(page.getByLabel('E-mail address')).toHaveValue(email);
});

test('the code page of a development server leads to the mailbox', async ({ page, app, email }, info) => {
  await page.goto(app.request());
  await page.getByLabel('E-mail address').fill(email);
  await page.getByRole('button', { name: 'Send me a code' }).click();
  const code = await codeFor(email);
  const [mailbox] = await Promise.all([
    page.waitForEvent('popup'),
    page.getByRole('link', { name: 'Open the mailbox' }).click(),
  ]);
  await expect(mailbox).toHaveURL(issuer() + '/dev/mailbox');
  await mailbox.goto(issuer() + '/dev/mailbox?q=' + email);
  await expect(mailbox.getByText(`${code.slice(0, 3)} ${code.slice(3)}`).first()).toBeVisible();
  await look(mailbox, 'mailbox', info);
});

test.describe('without JavaScript', () => {
  test.use({ javaScriptEnabled: false });

  test('a person signs in all the same', async ({ page, app, email }) => {
    await page.goto(app.request());
    await signIn(page, email);
    await expect(page.getByRole('button', { name: 'Allow' })).toBeVisible();
  });
});
