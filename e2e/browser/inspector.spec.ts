// The official MCP Inspector against both examples. Run by hand: inspector.ts
// says how.
import { expect, test } from '@playwright/test';
import { connect } from './inspector.ts';
import { newAddress, signIn } from './person.ts';
import { office, okr, todo } from './server.ts';

test('the MCP Inspector connects through sign-in and consent and calls a tool', { tag: '@inspector' }, async ({ page }, info) => {
  test.slow();
  const inspector = await connect(page, todo() + '/mcp', info);
  try {
    await signIn(page, newAddress());
    await expect(page.getByRole('heading', { name: 'MCP Inspector wants to act for you in Todo' })).toBeVisible();
    await page.screenshot({ path: 'test-results/pages/inspector-consent.png' });
    await page.getByRole('button', { name: 'Allow' }).click();
    await page.getByText('Tools', { exact: true }).click();
    await page.getByRole('button', { name: 'createTodo' }).click();
    await page.getByRole('textbox', { name: 'todoText' }).fill('Buy milk');
    await page.getByRole('button', { name: 'Execute Tool' }).click();
    await expect(page.getByText('"Added."').first()).toBeVisible();
    await page.screenshot({ path: 'test-results/pages/inspector-called.png' });
  } finally {
    inspector.kill();
  }
});

// What a new customer does: makes an organization, invites somebody, gives a
// role, and each lets the Inspector in.
test('two members of a new organization let the Inspector do what their roles permit', { tag: '@inspector' }, async ({ browser }, info) => {
  test.slow();
  const admin = newAddress();
  const guest = newAddress();
  const desk = await (await browser.newContext()).newPage();
  await desk.goto(office() + '/login');
  await signIn(desk, admin);
  await desk.getByLabel('Name of the organization').fill('Fennel Labs');
  await desk.getByRole('button', { name: 'Make organization' }).click();
  await desk.goto(office() + '/organization/members');
  await desk.getByText('Invite somebody').click();
  await desk.getByLabel('E-mail address').fill(guest);
  await desk.getByLabel('Manager').first().check();
  await desk.getByRole('button', { name: 'Send invitation' }).click();
  await expect(desk.getByRole('status')).toContainText('Invitation sent to ' + guest);

  for (const [email, title, scopes, tools] of [
    [guest, 'Manager', 3, ['listObjectives', 'addKeyResult', 'deleteKeyResult', 'setKeyResultAttainment']],
    [admin, 'Admin', 4, ['listObjectives', 'addObjective', 'deleteObjective', 'addKeyResult', 'deleteKeyResult', 'setKeyResultAttainment']],
  ] as const) {
    const page = email === admin ? await desk.context().newPage() : await browser.newPage();
    const inspector = await connect(page, okr() + '/mcp', info);
    try {
      if (email === guest) await signIn(page, email);
      await expect(page.getByRole('heading', { name: 'MCP Inspector wants to act for you in OKR' })).toBeVisible();
      await expect(page.getByText('Your role: ' + title)).toBeVisible();
      await expect(page.getByRole('checkbox', { checked: true })).toHaveCount(scopes);
      await page.screenshot({ path: `test-results/pages/inspector-consent-${title.toLowerCase()}.png`, fullPage: true });
      await page.getByRole('button', { name: 'Allow' }).click();
      await page.getByText('Tools', { exact: true }).click();
      for (const name of tools) await expect(page.getByRole('button', { name })).toBeVisible();
      await expect(page.getByRole('button', { name: 'addObjective' })).toHaveCount(title === 'Admin' ? 1 : 0);
      await page.screenshot({ path: `test-results/pages/inspector-tools-${title.toLowerCase()}.png` });
    } finally {
      inspector.kill();
    }
  }
});
