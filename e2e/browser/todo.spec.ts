import type { Page } from '@playwright/test';
import { expect, look, signIn, test } from './person.ts';
import { issuer, todo } from './server.ts';

/** Signs in to the to-do page through Postern. */
async function enter(page: Page, email: string) {
  await page.goto(todo());
  await page.getByRole('link', { name: 'Sign in' }).click();
  await signIn(page, email);
  await expect(page.getByRole('heading', { name: 'Your to-dos' })).toBeVisible();
}

test('a person signs in through Postern, adds, completes and deletes, and signs out', async ({ page, email }, info) => {
  await page.goto(todo());
  await expect(page.getByRole('heading', { name: 'Sign in to see your to-dos' })).toBeVisible();
  await look(page, 'todo-signed-out', info);
  await enter(page, email);
  await expect(page).toHaveURL(todo() + '/');
  await expect(page.getByText('Nothing to do yet.')).toBeVisible();
  await look(page, 'todo-empty', info);

  for (const text of ['Buy milk', 'Call the plumber']) {
    await page.getByLabel('What needs doing?').fill(text);
    await page.getByRole('button', { name: 'Add' }).click();
    await expect(page.getByText(text)).toBeVisible();
  }
  await page.getByRole('button', { name: 'Mark as done: Buy milk' }).click();
  await expect(page.getByText('Done: Buy milk')).toBeVisible();
  await expect(page.getByText('1 open')).toBeVisible();
  await look(page, 'todo', info);
  await page.getByRole('button', { name: 'Delete: Call the plumber' }).click();
  await expect(page.getByText('Call the plumber')).toHaveCount(0);

  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.goto(todo());
  await expect(page.getByRole('link', { name: 'Sign in' })).toBeVisible();
  await expect(page.getByText('Buy milk')).toHaveCount(0);
});

test('the MCP address can be copied', async ({ page, context }) => {
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: todo() });
  await page.goto(todo());
  await page.getByRole('button', { name: 'Copy' }).first().click();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(todo() + '/mcp');
});

test('issuer and app keep their cookies side by side in one browser', async ({ page, context, email }) => {
  await enter(page, email);
  const cookies = await context.cookies();
  const names = cookies.map((c) => c.name).sort();
  expect(names).toContainEqual(expect.stringMatching(/^postern-[0-9a-f]{8}-session$/));
  expect(names.filter((name) => !/^postern-[0-9a-f]{8}-/.test(name))).toEqual(['todo_session']);
  for (const cookie of cookies) {
    expect(cookie.httpOnly, cookie.name).toBe(true);
    expect(cookie.sameSite, cookie.name).toBe('Lax');
    expect(cookie.domain, cookie.name).toBe('localhost'); // host only: no leading dot
    expect(cookie.path, cookie.name).toBe('/');
  }
  expect(await page.evaluate(() => document.cookie)).toBe('');

  // Each ends alone.
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.goto(issuer() + '/connected-apps');
  await expect(page.getByRole('heading', { name: 'My connected apps' })).toBeVisible();
  await page.goto(todo());
  await page.getByRole('link', { name: 'Sign in' }).click(); // nobody is asked again
  await expect(page.getByRole('heading', { name: 'Your to-dos' })).toBeVisible();
  await page.goto(issuer() + '/sign-out');
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.goto(todo());
  await expect(page.getByRole('heading', { name: 'Your to-dos' })).toBeVisible();
});

test.describe('without JavaScript', () => {
  test.use({ javaScriptEnabled: false });

  test('the list works all the same', async ({ page, email }) => {
    await enter(page, email);
    await page.getByLabel('What needs doing?').fill('Buy milk');
    await page.getByRole('button', { name: 'Add' }).click();
    await page.getByRole('button', { name: 'Mark as done: Buy milk' }).click();
    await page.getByRole('button', { name: 'Delete: Buy milk' }).click();
    await expect(page.getByText('Nothing to do yet.')).toBeVisible();
  });
});
