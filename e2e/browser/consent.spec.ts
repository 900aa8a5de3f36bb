import type { Page } from '@playwright/test';
import { App, call } from './app.ts';
import { allow, expect, look, newAddress, signIn, test, untilAsked } from './person.ts';
import { issuer, postern, todo } from './server.ts';

const read = (page: Page) => page.getByRole('checkbox', { name: 'Read your to-dos' });
const write = (page: Page) => page.getByRole('checkbox', { name: 'Add, complete and delete your to-dos' });
const count = (page: Page) => page.getByText(/^You are allowing/);

test('everything that was asked is ticked, and after Allow the tool that the person came for works', async ({ page, app, email }, info) => {
  await untilAsked(page, app, email);
  await expect(read(page)).toBeChecked();
  await expect(write(page)).toBeChecked();
  await expect(count(page)).toContainText('2 of 2');
  await look(page, 'consent', info);
  const tokens = await allow(page, app);
  expect(tokens.scope.split(' ').sort()).toEqual(['read:todos', 'write:todos']);
  const { status, text } = await call('createTodo', { todoText: 'Buy milk' }, tokens.access_token);
  expect(status, text).toBe(200);
  expect(text).toContain('Buy milk');
});

// Proves: MCP-AS-24
test('the page shows where the answer goes, and warns of a program on this computer', async ({ page, app, email }) => {
  await untilAsked(page, app, email);
  const facts = page.locator('dl');
  await expect(facts).toContainText('Answer goes to' + new URL(app.redirectURI).host);
  await expect(facts).toContainText('A program on this computer');
  await expect(facts).toContainText('An unverified app');
  await expect(page.getByText('Nobody has checked who made Notebook agent.')).toBeVisible();

  // Another host is named as well, and is no program on this computer.
  const elsewhere = App.known(await preRegistered('Elsewhere', 'https://app.example.test/cb'), 'https://app.example.test/cb');
  await page.goto(elsewhere.request());
  await expect(facts).toContainText('Answer goes toapp.example.test');
  await expect(facts).toContainText('Added by the people who run Todo');
  await expect(page.getByText('on this computer')).toHaveCount(0);
});

test('a name without a blank stays inside its page', async ({ page, email }, info) => {
  const app = await App.start({ client_name: 'W'.repeat(60) });
  await page.goto(app.request());
  await look(page, 'sign-in-long-name', info);
  await untilAsked(page, app, email);
  await look(page, 'consent-long-name', info);
  const card = (await page.locator('main').boundingBox())!;
  for (const part of await page.locator('main *:visible').all()) {
    const box = (await part.boundingBox())!;
    expect(box.x + box.width, await part.evaluate((e) => e.outerHTML.slice(0, 200))).toBeLessThanOrEqual(card.x + card.width);
  }
  await page.getByRole('button', { name: 'Allow' }).click();
  await app.close();
});

test('a box is named by its sentence and described by the line below it', async ({ page, app, email }) => {
  await untilAsked(page, app, email);
  await expect(read(page)).toHaveAccessibleName('Read your to-dos');
  await expect(read(page)).toHaveAccessibleDescription('Their texts, which ones are done, and who added them');
  await expect(write(page)).toHaveAccessibleDescription('Deleted to-dos cannot be brought back');
  await page.getByText('Deleted to-dos cannot be brought back').click(); // the whole row is the label
  await expect(write(page)).not.toBeChecked();
});

// Row: B26
test('a resource server of which nothing is asked is named, with what the token opens there', async ({ page, app, email }, info) => {
  const server = (address: string) => page.getByRole('group', { name: address.replace(/^.*:\/\//, '') });
  await untilAsked(page, app, email, { scope: 'openid' });
  await expect(server(todo() + '/mcp')).toContainText('Do what needs no permission there');
  await look(page, 'consent-open-part', info);

  const files = 'https://files.example.test/mcp';
  await page.goto(app.request({ resource: files, scope: 'openid' }));
  await expect(server(files)).toContainText('Do everything that you can there');
  await expect(server(files).getByRole('checkbox')).toHaveCount(0);
  await expect(page.getByRole('checkbox', { name: 'Know who you are' })).toBeChecked();
  await look(page, 'consent-whole-server', info);
});

test('what is unticked is not in the token, and its tool is refused', async ({ page, app, email }) => {
  await untilAsked(page, app, email);
  await write(page).uncheck();
  await expect(count(page)).toContainText('1 of 2');
  const tokens = await allow(page, app);
  expect(tokens.scope).toBe('read:todos');
  expect((await call('listTodos', {}, tokens.access_token)).status).toBe(200);
  expect((await call('createTodo', { todoText: 'No' }, tokens.access_token)).status).toBe(403);
});

test('Read only and Everything set the ticks and say which of them holds', async ({ page, app, email }, info) => {
  await untilAsked(page, app, email);
  const readOnly = page.getByRole('button', { name: 'Read only' });
  const everything = page.getByRole('button', { name: 'Everything' });
  const address = page.url();
  await expect(everything).toHaveAttribute('aria-pressed', 'true');
  await readOnly.click();
  await expect(read(page)).toBeChecked();
  await expect(write(page)).not.toBeChecked();
  await expect(readOnly).toHaveAttribute('aria-pressed', 'true');
  await expect(count(page)).toContainText('1 of 2');
  await look(page, 'consent-read-only', info);
  await everything.click();
  await expect(write(page)).toBeChecked();
  await read(page).uncheck();
  await expect(readOnly).toHaveAttribute('aria-pressed', 'false');
  await expect(everything).toHaveAttribute('aria-pressed', 'false');
  expect(page.url(), 'no new page was needed').toBe(address);
});

test('Allow with nothing ticked is an error, not a decision', async ({ page, app, email }, info) => {
  await untilAsked(page, app, email);
  await read(page).uncheck();
  await write(page).uncheck();
  await page.getByRole('button', { name: 'Allow' }).click();
  await expect(page.getByRole('alert')).toHaveText('Tick at least one permission, or choose Deny.');
  await expect(page.getByRole('alert')).toBeFocused();
  await expect(count(page)).toContainText('0 of 2');
  await look(page, 'consent-nothing', info);
  await read(page).check();
  expect((await allow(page, app)).scope).toBe('read:todos');
});

// Row: B17
test('the answer leaves by the hand-over page and arrives with code, state and iss', async ({ page, email }, info) => {
  const app = await App.start({}, 204); // the browser stays on our page
  await untilAsked(page, app, email);
  const posted = page.waitForResponse((r) => r.request().method() === 'POST');
  await page.getByRole('button', { name: 'Allow' }).click();
  const response = await posted;
  expect(response.status()).toBe(200);
  const headers = response.headers();
  expect(headers['refresh']).toBe(`0; url=${await page.getByRole('link', { name: 'Continue to Notebook agent' }).getAttribute('href')}`);
  expect(headers['content-security-policy']).toContain("form-action 'self'");
  expect(headers['content-security-policy']).not.toContain('127.0.0.1');
  const answer = await app.answer;
  expect([...answer.keys()].sort()).toEqual(['code', 'iss', 'state']);
  expect(answer.get('state')).toBe(app.state);
  expect(answer.get('iss')).toBe(issuer());
  await expect(page.getByRole('heading', { name: 'The door is open for Notebook agent' })).toBeVisible();
  await expect(page.getByText('You allowed it to read your to-dos, add, complete and delete your to-dos.')).toBeVisible();
  await look(page, 'hand-over', info);
  await app.close();
});

test('the browser ends up at the connected app', async ({ page, app, email }) => {
  await untilAsked(page, app, email);
  await page.getByRole('button', { name: 'Allow' }).click();
  await expect(page.getByRole('heading', { name: 'Connected' })).toBeVisible();
  expect(page.url().startsWith(app.redirectURI + '?')).toBe(true);
});

test('after Deny the person carries the refusal to an unverified app, or does not', async ({ page, app, email }, info) => {
  await untilAsked(page, app, email);
  const posted = page.waitForResponse((r) => r.request().method() === 'POST');
  await page.getByRole('button', { name: 'Deny' }).click();
  expect((await posted).headers()['refresh']).toBeUndefined();
  await expect(page.getByRole('heading', { name: 'You said no' })).toBeVisible();
  await look(page, 'denied', info);
  await page.getByRole('link', { name: 'Tell Notebook agent' }).click();
  const answer = await app.answer;
  expect(answer.get('error')).toBe('access_denied');
  expect(answer.get('state')).toBe(app.state);
  expect(answer.get('iss')).toBe(issuer());
  expect(answer.get('code')).toBeNull();
});

test('a decision holds: going back and choosing the other is too late', async ({ page, email }) => {
  const app = await App.start({}, 204);
  await untilAsked(page, app, email);
  await page.getByRole('button', { name: 'Deny' }).click();
  await expect(page.getByRole('heading', { name: 'You said no' })).toBeVisible();
  await page.goBack();
  if (await page.getByRole('button', { name: 'Allow' }).isVisible()) {
    await page.getByRole('button', { name: 'Allow' }).click();
  }
  await expect(page.getByRole('heading', { name: 'This link is too old' })).toBeVisible();
  await expect(page.getByRole('link', { name: 'My connected apps' })).toBeVisible();
  await app.close();
});

test('a page that a form drew can be loaded again', async ({ page, app, email }) => {
  await untilAsked(page, app, email);
  await write(page).uncheck();
  await read(page).uncheck();
  await page.getByRole('button', { name: 'Allow' }).click();
  await expect(page.getByRole('alert')).toBeVisible();
  await page.goto(page.url()); // Enter in the address bar
  await expect(page.getByRole('alert')).toHaveCount(0);
  expect((await allow(page, app)).scope).toContain('read:todos');
});

test('Not you? signs out and asks who is there, for the same request', async ({ page, app, email }) => {
  const other = newAddress();
  await untilAsked(page, app, email);
  await page.getByRole('button', { name: 'Not you?' }).click();
  await signIn(page, other);
  await expect(page.getByText(other)).toBeVisible();
  await expect(page.getByText(email)).toHaveCount(0);
  expect((await allow(page, app)).scope).toContain('read:todos');
});

test('a step-up asks only for what is new and keeps what was allowed', async ({ page, email }, info) => {
  const first = await App.start();
  await untilAsked(page, first, email, { scope: 'read:todos' });
  expect((await allow(page, first)).scope).toBe('read:todos');
  const second = await App.start();
  await page.goto(second.request());
  await expect(page.getByRole('heading', { name: 'Notebook agent asks for one more permission' })).toBeVisible();
  await expect(page.getByText('You already allow: read your to-dos. That stays.')).toBeVisible();
  await expect(page.getByRole('checkbox')).toHaveCount(1);
  await expect(write(page)).toBeChecked();
  await expect(page.getByRole('button', { name: 'Not now' })).toBeVisible();
  await look(page, 'consent-step-up', info);
  const tokens = await allow(page, second);
  expect(tokens.scope.split(' ').sort()).toEqual(['read:todos', 'write:todos']);
  await Promise.all([first.close(), second.close()]);
});

// Row: B17
test('an app with a private-use scheme gets a link and no Refresh', async ({ page, email }, info) => {
  const app = await App.withScheme('cursor://anysphere.cursor-mcp/oauth/callback');
  await untilAsked(page, app, email);
  await expect(page.locator('dl')).toContainText('The program that opens cursor links on this computer');
  await look(page, 'consent-scheme', info);
  const posted = page.waitForResponse((r) => r.request().method() === 'POST');
  await page.getByRole('button', { name: 'Allow' }).click();
  expect((await posted).headers()['refresh']).toBeUndefined();
  const link = new URL((await page.getByRole('link', { name: 'Continue to Notebook agent' }).getAttribute('href'))!);
  expect(link.protocol + '//' + link.host + link.pathname).toBe(app.redirectURI);
  expect(link.searchParams.get('state')).toBe(app.state);
  expect(link.searchParams.get('iss')).toBe(issuer());
  await look(page, 'hand-over-scheme', info);
  expect((await app.redeem(link.searchParams.get('code'))).status).toBe(200);
});

test.describe('without JavaScript', () => {
  test.use({ javaScriptEnabled: false });

  test('Read only and Everything ask the server, and Allow decides', async ({ page, app, email }) => {
    await untilAsked(page, app, email);
    await page.getByRole('button', { name: 'Read only' }).click();
    await expect(write(page)).not.toBeChecked();
    await expect(read(page)).toBeChecked();
    await expect(count(page)).toContainText('1 of 2');
    await page.getByRole('button', { name: 'Everything' }).click();
    await expect(write(page)).toBeChecked();
    await page.getByRole('button', { name: 'Read only' }).click();
    await expect(page.getByRole('button', { name: 'Read only' })).toHaveAttribute('aria-pressed', 'true');
    expect((await allow(page, app)).scope).toBe('read:todos');
  });
});

/** Registers a web app as an operator does. */
async function preRegistered(name: string, redirectURI: string): Promise<string> {
  return JSON.parse(await postern('client', 'create', '--json', '--name', name, '--redirect-uri', redirectURI)).client_id;
}

// Proves: MCP-AS-27
test('consent is per person, app and scope set, and holds only in the browser that began', async ({ page, anotherBrowser, email }) => {
  const callback = 'https://notes.example.test/cb';
  const notes = App.known(await preRegistered('Notes', callback), callback);
  const asked = (p: Page) => expect(p.getByRole('button', { name: 'Allow' })).toBeVisible();

  // Another browser cannot go on with this flow.
  await page.goto(notes.request({ scope: 'read:todos' }));
  const stranger = await anotherBrowser();
  await stranger.goto(page.url());
  await expect(stranger.getByRole('heading', { name: 'This link is too old' })).toBeVisible();

  await signIn(page, email);
  await page.route(callback + '?*', (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>Notes</title><h1>Connected</h1>' }));
  await page.getByRole('button', { name: 'Allow' }).click();
  await expect(page.getByRole('heading', { name: 'Connected' })).toBeVisible();
  expect(page.url().startsWith(callback + '?code=')).toBe(true);
  // The same again is not asked, because an operator vouches for Notes …
  const again = await page.request.get(notes.request({ scope: 'read:todos' }), { maxRedirects: 0 });
  expect(again.status()).toBe(303);
  expect(again.headers()['location'].startsWith(callback + '?code=')).toBe(true);
  // … but more is, and so is another app, and so is another person.
  await page.goto(notes.request());
  await asked(page);
  const others = App.known(await preRegistered('Other notes', 'https://other.example.test/cb'), 'https://other.example.test/cb');
  await page.goto(others.request({ scope: 'read:todos' }));
  await asked(page);
  await stranger.goto(notes.request({ scope: 'read:todos' }));
  await signIn(stranger, newAddress());
  await asked(stranger);
});

// Proves: MCP-AS-26
test('nobody is sent on before they acted, and a form is answered by a page or a 303', async ({ page, app, email }) => {
  const left: string[] = [];
  const answers = new Set<number>();
  page.on('response', (r) => {
    if (r.request().method() === 'POST') answers.add(r.status());
    if (!r.url().startsWith(issuer())) left.push(r.url());
  });
  const wrong = { code_challenge_method: 'plain' };

  // An app that registered itself: a page before sign-in, a link after it.
  await page.goto(app.request(wrong));
  await expect(page.getByText('Whose turn is it?')).toBeVisible();
  await expect(page.locator('main').getByRole('link')).toHaveCount(0);
  await untilAsked(page, app, email);
  await page.goto(app.request(wrong));
  await expect(page.getByRole('link', { name: 'Tell Notebook agent' })).toBeVisible();
  expect(left).toEqual([]);
  await page.getByRole('link', { name: 'Tell Notebook agent' }).click();
  expect((await app.answer).get('error')).toBe('invalid_request');

  // One that an operator registered gets its refusal by redirect.
  const trusted = App.known(await preRegistered('Trusted', 'http://127.0.0.1/callback'), app.redirectURI);
  await page.goto(trusted.request(wrong));
  expect(new URL(page.url()).searchParams.get('error')).toBe('invalid_request');

  expect([...answers].every((status) => status === 200 || status === 303), [...answers].join()).toBe(true);
});
