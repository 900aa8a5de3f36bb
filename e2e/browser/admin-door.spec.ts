import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { administrator, choosePassword, code, link, passkeyDevice, password } from './administrator.ts';
import { expect, look, newAddress, test } from './person.ts';
import { freePort, issuer, postern } from './server.ts';

test('the first link of a new server makes its first administrator, by passkey', async ({ page, anotherBrowser }, info) => {
  const dir = mkdtempSync(join(tmpdir(), 'postern-first-'));
  const port = String(await freePort());
  const url = `http://localhost:${port}`;
  const server = spawn(join(process.env.POSTERN_PROGRAMS!, 'postern'), ['serve', '--mail-transport', 'console', '--listen', `127.0.0.1:${port}`, '--url', url], {
    cwd: dir,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = new Promise<void>((done) => server.once('exit', () => done()));
  let said = '';
  server.stderr.on('data', (part) => (said += part));
  try {
    await expect(async () => expect(said).toMatch(/#pst_setup_\w{70}\n/)).toPass({ timeout: 20_000 });
    const first = said.match(/http\S+#pst_setup_\w{70}/)![0];
    await page.goto(url + '/dashboard');
    await expect(page.getByText('Nobody looks after this deployment yet')).toBeVisible();
    await look(page, 'dashboard-unclaimed', info);

    await passkeyDevice(page);
    const asked: string[] = [];
    page.on('request', (r) => asked.push(r.url() + JSON.stringify(r.headers())));
    await page.goto(first);
    await expect(page.getByRole('heading', { name: 'Choose how you sign in' })).toBeVisible();
    expect(page.url(), 'the secret is out of the address').toBe(url + '/dashboard/setup');
    expect(asked.join('\n'), 'and in no address that was asked for').not.toContain('pst_setup_');
    await look(page, 'dashboard-setup', info);
    await page.getByLabel('E-mail address').fill('ada@example.test');
    await page.getByRole('button', { name: 'Make a passkey' }).click();
    await expect(page).toHaveURL(url + '/dashboard/projects');
    const visited = await page.evaluate(() => (window as any).navigation.entries().map((e: any) => e.url));
    expect(visited.join('\n'), 'nor in the history').not.toContain('pst_setup_');

    const late = await anotherBrowser();
    await late.goto(first);
    await expect(late.getByRole('alert')).toContainText('This link does not work');
    await look(late, 'dashboard-setup-refused', info);
  } finally {
    server.kill('SIGTERM');
    await ended;
    rmSync(dir, { recursive: true, force: true });
  }
});

test('a passkey is made and signs in, without a mouse', async ({ page, email }, info) => {
  const device = await passkeyDevice(page);
  await page.goto(await link(email));
  await expect(page.getByLabel('E-mail address')).toHaveValue(email);
  const press = async (name: string) => {
    const button = page.getByRole('button', { name, exact: true });
    for (let i = 0; i < 60 && !(await button.evaluate((b) => b === document.activeElement)); i++) await page.keyboard.press('Tab');
    await expect(button, 'reached by Tab').toBeFocused();
    await page.keyboard.press('Enter');
  };
  await press('Make a passkey');
  await expect(page).toHaveURL(/dashboard\/projects/);
  await page.goto(issuer() + '/dashboard/you');
  await expect(page.getByRole('heading', { name: 'You', exact: true })).toBeVisible();
  await look(page, 'dashboard-you', info);
  await press('Sign out here');
  await expect(page.getByRole('status').filter({ hasText: 'You are signed out' })).toBeVisible();

  await page.goto(issuer() + '/dashboard/you');
  await expect(page).toHaveURL(/sign-in\?next=/);
  await look(page, 'dashboard-sign-in', info);
  await device.owner(false);
  await press('Sign in with a passkey');
  await expect(page.getByRole('alert').filter({ hasText: 'No passkey was given' })).toBeVisible();
  await device.owner(true);
  await press('Sign in with a passkey');
  await expect(page).toHaveURL(issuer() + '/dashboard/you');
});

test('password and app sign in, a used code does not', async ({ page, anotherBrowser }, info) => {
  const { email, secret } = await administrator(page);
  const other = await anotherBrowser();
  const fill = async (text: string) => {
    await other.goto(issuer() + '/dashboard/sign-in');
    await other.getByLabel('E-mail address').fill(email);
    await other.getByLabel('Password').fill(password);
    await other.getByLabel('Code of your authenticator app').fill(text);
    await other.getByRole('button', { name: 'Sign in', exact: true }).click();
  };
  await fill('000000');
  await expect(other.getByRole('alert').filter({ hasText: 'do not belong together' })).toBeVisible();
  await expect(other.getByLabel('E-mail address')).toHaveValue(email);
  await look(other, 'dashboard-sign-in-refused', info);
  await fill(code(secret, 1)); // the one of the setup was used
  await expect(other).toHaveURL(/dashboard\/projects/);

  await page.goto(issuer() + '/dashboard/you');
  await expect(page.getByText('This browser')).toBeVisible();
  await page.getByRole('button', { name: 'Sign out everywhere else' }).click();
  await expect(page.getByRole('status').filter({ hasText: 'everywhere else' })).toBeVisible();
  await other.goto(issuer() + '/dashboard/you');
  await expect(other).toHaveURL(/sign-in/);
});

test('another passkey is added and removed, the last way stays', async ({ page }, info) => {
  await administrator(page);
  await passkeyDevice(page);
  await page.goto(issuer() + '/dashboard/you');
  await expect(page.getByRole('button', { name: 'Remove the password' })).toBeDisabled();
  await page.getByRole('button', { name: 'Add a way to sign in' }).click();
  await page.getByLabel('Name of the passkey').fill('Work laptop');
  await look(page, 'dashboard-add', info);
  await page.getByRole('button', { name: 'Make a passkey' }).click();
  await expect(page.getByText('You have another way to sign in')).toBeVisible();
  await page.getByRole('button', { name: 'Add a way to sign in' }).click();
  await page.getByRole('button', { name: 'Make a passkey' }).click();
  await expect(page.getByRole('alert').filter({ hasText: 'has a passkey for you already' })).toBeVisible();
  await page.getByRole('link', { name: 'Back', exact: true }).click();
  await page.getByRole('button', { name: 'Remove the passkey Work laptop' }).click();
  await expect(page.getByText('It no longer signs you in')).toBeVisible();
});

test('mistakes keep the secret of the app', async ({ page, email }, info) => {
  await page.goto(await link(email));
  await page.getByText('Use a password and an authenticator app', { exact: true }).click();
  const secret = await page.locator('#totp-secret').textContent();
  await page.getByLabel('Password', { exact: true }).fill('short');
  await page.getByRole('button', { name: 'Use password and app' }).click();
  await expect(page.getByRole('alert').filter({ hasText: 'at least 12 characters' })).toBeVisible();
  await expect(page.locator('#totp-secret')).toHaveText(secret!);
  await look(page, 'dashboard-setup-mistake', info);
  await choosePassword(page);
  await expect(page).toHaveURL(/dashboard\/projects/);
});

test('without JavaScript the secret is pasted, and a password is chosen', async ({ anotherBrowser }) => {
  const email = newAddress();
  const page = await anotherBrowser({ javaScriptEnabled: false });
  const [address, secret] = (await link(email)).split('#');
  await page.goto(address);
  await page.getByLabel('The part of the link behind the #').fill(secret);
  await page.getByRole('button', { name: 'Continue' }).click();
  await expect(page.getByText('A passkey needs JavaScript')).toBeVisible();
  await choosePassword(page);
  await expect(page).toHaveURL(/dashboard\/projects/);
  expect(await postern('admin', 'list')).toContain(email);
});
