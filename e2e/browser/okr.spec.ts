import type { Page } from '@playwright/test';
import { App, atOKR, call } from './app.ts';
import { allow, expect, look, newAddress, signIn, test, untilAsked } from './person.ts';
import { office, okr, postern, todo } from './server.ts';

// The OKR manager and the project behind it, whose people are members of
// organizations. Every test has organizations of its own.

const inOffice = async (...args: string[]) => JSON.parse(await postern(...args, '--project', office(), '--json'));

/** Makes an organization; its slug. */
async function organization(name: string): Promise<string> {
  return (await inOffice('organization', 'create', name)).slug;
}

/** Adds a member with a role, or with none but everybody's; the address. */
async function member(slug: string, role = '', email = newAddress()): Promise<string> {
  await inOffice('member', 'add', email, '--organization', slug, ...(role ? ['--role', role] : []));
  return email;
}

/** Signs in to the OKR manager's page through Postern. */
async function enter(page: Page, email: string) {
  await page.goto(okr());
  await page.getByRole('link', { name: 'Sign in' }).click();
  await signIn(page, email);
}

/** Fills in the field of the open dialog and sends it. */
async function answer(page: Page, label: string, value: string, button: string, before = async () => {}) {
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel(label).fill(value);
  await before();
  await dialog.getByRole('button', { name: button, exact: true }).click();
}

const heading = (page: Page, name: string) => page.getByRole('heading', { level: 1, name });

test('an employee reads everything and reports; what is closed to them is greyed', async ({ page }, info) => {
  const email = await member(await organization('Fennel Labs'));
  await page.goto(okr());
  await expect(heading(page, 'Sign in to see your objectives')).toBeVisible();
  await look(page, 'okr-signed-out', info);
  await enter(page, email);
  await expect(heading(page, 'Objectives of Fennel Labs')).toBeVisible();
  await expect(page).toHaveURL(okr() + '/');

  const add = page.getByRole('button', { name: 'Add an objective' });
  await expect(add).toBeDisabled();
  await expect(add).toHaveAccessibleDescription(/your role does not include it/);
  for (const name of [/^Delete : /, /^Add a key result/]) {
    const all = await page.getByRole('button', { name }).all();
    expect(all.length, String(name)).toBeGreaterThan(0);
    for (const button of all) await expect(button).toBeDisabled();
  }
  await page.getByRole('button', { name: /^Update : Every team/ }).click();
  await answer(page, 'Per cent, from 0 to 100', '40', 'Save', () => look(page, 'okr-dialog', info));
  await expect(page.getByText('40%')).toBeVisible();
  await look(page, 'okr-employee', info);

  // What is greyed is refused by the server too.
  const id = await page.locator('form[action*="/keyresults/"]').first().getAttribute('action');
  const forged = await page.request.post(okr() + id!.replace(/\/attainment$/, '/delete'), { headers: { Origin: okr() } });
  expect(forged.status()).toBe(403);
  expect(await forged.text()).toContain('your role does not include it');

  await expect(page.getByRole('link', { name: 'Organization and members' })).toHaveAttribute('href', office() + '/organization');
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.goto(okr());
  await expect(heading(page, 'Sign in to see your objectives')).toBeVisible();
});

test('an administrator adds, reaches and deletes', async ({ page }, info) => {
  await enter(page, await member(await organization('Fennel Labs'), 'admin'));
  await page.getByRole('button', { name: 'Add an objective' }).click();
  await answer(page, 'What do we want to reach?', 'Be known', 'Add');
  await page.getByRole('button', { name: 'Add a key result : Be known' }).click();
  await answer(page, 'How does one see that it is reached?', 'Twenty customers say so', 'Add');
  await page.getByRole('button', { name: 'Update : Twenty customers say so' }).click();
  await answer(page, 'Per cent, from 0 to 100', '100', 'Save');
  await expect(page.getByText('Reached: Twenty customers say so')).toHaveCSS('text-decoration-line', 'line-through');
  await look(page, 'okr-admin', info);

  await page.getByRole('button', { name: 'Delete : Be known' }).click();
  await look(page, 'okr-delete', info);
  await page.getByRole('button', { name: 'Keep it' }).click();
  await expect(page.getByRole('heading', { name: 'Be known' })).toBeVisible();
  await page.getByRole('button', { name: 'Delete : Be known' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await expect(page.getByRole('heading', { name: 'Be known' })).toHaveCount(0);
});

// Row: O03
test('three roles are asked the same and can allow two, three and four', async ({ anotherBrowser }, info) => {
  const slug = await organization('Fennel Labs');
  for (const [role, title, scopes, reason] of [
    ['', 'Member', 2, 'Your role, Member, does not include create and delete of key result.'],
    ['manager', 'Manager', 3, 'Your role, Manager, does not include create, update and delete of objective.'],
    ['admin', 'Admin', 4, ''],
  ] as const) {
    const page = await anotherBrowser({ ...info.project.use, baseURL: undefined });
    const app = await App.start({}, 200, atOKR);
    await untilAsked(page, app, await member(slug, role));
    await expect(page.getByText('Fennel Labs')).toBeVisible();
    await expect(page.getByText('Your role: ' + title)).toBeVisible();
    const boxes = page.getByRole('checkbox');
    await expect(boxes).toHaveCount(4);
    await expect(boxes.and(page.locator(':disabled'))).toHaveCount(4 - scopes);
    await expect(page.getByRole('checkbox', { checked: true })).toHaveCount(scopes);
    if (reason) await expect(page.getByText(reason)).toBeVisible();
    await look(page, 'consent-' + title.toLowerCase(), info);
    const token = await allow(page, app);
    expect(token.scope.split(' ')).toHaveLength(scopes);
    const tried = await call('addObjective', { objectiveText: 'Be known' }, token.access_token, okr() + '/mcp');
    expect(tried.status).toBe(role === 'admin' ? 200 : 403);
    await app.close();
  }
});

test('a role that permits nothing of what is asked has nothing to tick, and Deny', async ({ page }, info) => {
  const app = await App.start({}, 200, atOKR);
  await page.goto(app.request({ scope: 'manage:krs manage:objectives' }));
  await signIn(page, await member(await organization('Fennel Labs')));
  await expect(page.getByText('Your role permits none of this. Ask an administrator of Fennel Labs.')).toBeVisible();
  await expect(page.getByRole('button', { name: 'Allow' })).toHaveCount(0);
  await look(page, 'consent-none', info);
  await page.getByRole('button', { name: 'Deny' }).click();
  await expect(heading(page, 'You said no')).toBeVisible();
  await app.close();
});

// Row: O02
test('a person of two organizations chooses, changes, and is shown the other one', async ({ page }, info) => {
  const email = newAddress();
  await member(await organization('Fennel Labs'), 'manager', email);
  await member(await organization('Quarry Lane'), '', email);
  const app = await App.start({}, 200, atOKR);
  await page.goto(app.request());
  await signIn(page, email);
  await expect(heading(page, 'Choose an organization')).toBeVisible();
  await expect(page.getByRole('button', { name: /Fennel Labs/ })).toContainText('You are invited');
  await look(page, 'chooser', info);

  await page.getByRole('button', { name: /Quarry Lane/ }).click();
  await expect(page.getByRole('checkbox').and(page.locator(':disabled'))).toHaveCount(2);
  await page.getByRole('link', { name: /Change/ }).click();
  await expect(page.getByRole('button', { name: /Quarry Lane/ })).toContainText('Your role: Member');
  await page.getByRole('button', { name: /Fennel Labs/ }).click();
  await expect(page.getByText('Your role: Manager')).toBeVisible();
  await expect(page.getByRole('checkbox').and(page.locator(':disabled'))).toHaveCount(1);
  const token = await allow(page, app);
  const listed = await call('listObjectives', {}, token.access_token, okr() + '/mcp');
  expect(listed.status).toBe(200);
  await app.close();

  // The OKR manager's page is where the person was last.
  await page.goto(okr());
  await page.getByRole('link', { name: 'Sign in' }).click();
  await expect(heading(page, 'Objectives of Fennel Labs')).toBeVisible();
  await page.getByRole('link', { name: 'Switch organization' }).click();
  await page.getByRole('button', { name: /Quarry Lane/ }).click();
  await expect(heading(page, 'Objectives of Quarry Lane')).toBeVisible();
  await expect(page.getByRole('button', { name: 'Add an objective' })).toBeDisabled();
});

test('a new person makes an organization and is its administrator', async ({ page }, info) => {
  await enter(page, newAddress());
  await expect(heading(page, 'Make your organization')).toBeVisible();
  await look(page, 'organization-make', info);
  await page.getByLabel('Name of the organization').fill('Sorrel');
  await page.getByRole('button', { name: 'Make organization' }).click();
  await expect(heading(page, 'Objectives of Sorrel')).toBeVisible();
  await expect(page.getByRole('button', { name: 'Add an objective' })).toBeEnabled();
});

test('an organization that lets no connected apps in says so before anything is asked', async ({ page }, info) => {
  const slug = await organization('Quarry Lane');
  await inOffice('organization', 'set', slug, '--third-party-apps', 'none');
  const app = await App.start({}, 200, atOKR);
  await page.goto(app.request());
  await signIn(page, await member(slug));
  await expect(heading(page, /does not/)).toBeVisible();
  await expect(page.getByRole('button', { name: 'Allow' })).toHaveCount(0);
  await look(page, 'app-refused', info);
  await app.close();
});

test('two issuers and two examples keep their cookies side by side in one browser', async ({ page, context, email }) => {
  await page.goto(todo());
  await page.getByRole('link', { name: 'Sign in' }).click();
  await signIn(page, email);
  await expect(heading(page, 'Your to-dos')).toBeVisible();
  await enter(page, await member(await organization('Fennel Labs')));
  await expect(heading(page, 'Objectives of Fennel Labs')).toBeVisible();
  const names = (await context.cookies()).map((c) => c.name).sort();
  expect(names.filter((name) => /^postern-[0-9a-f]{8}-session$/.test(name))).toHaveLength(2);
  expect(names.filter((name) => !/^postern-[0-9a-f]{8}-/.test(name))).toEqual(['okr_session', 'todo_session']);

  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.goto(todo());
  await expect(heading(page, 'Your to-dos')).toBeVisible();
});

test.describe('without JavaScript', () => {
  test.use({ javaScriptEnabled: false });

  test('the page works all the same', async ({ page }) => {
    await enter(page, await member(await organization('Fennel Labs'), 'admin'));
    await page.getByRole('button', { name: 'Add an objective' }).click();
    await answer(page, 'What do we want to reach?', 'Be known', 'Add');
    await expect(page.getByRole('heading', { name: 'Be known' })).toBeVisible();
  });
});
