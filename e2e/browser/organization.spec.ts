import type { Page } from '@playwright/test';
import { randomUUID } from 'node:crypto';
import { App } from './app.ts';
import { expect, look, newAddress, signIn, test } from './person.ts';
import { issuer, postern, todo } from './server.ts';

// A B2B project beside the first one, at the number of this computer instead of
// its name: the tests of this file use it.
const first = issuer();
const office = first.replace('localhost', '127.0.0.1');

test.beforeAll(async () => {
  // Another worker may have been here.
  await postern('project', 'create', 'Office', '--b2b', '--issuer', office).catch(() => {});
  await postern('resource', 'add', todo() + '/mcp', '--project', office, '--scope', 'read:todos=Read your to-dos', '--write-scope', 'write:todos=Add, complete and delete your to-dos').catch(() => {});
  await expect.poll(() => fetch(office + '/.well-known/oauth-authorization-server').then((r) => r.status)).toBe(200);
  process.env.POSTERN_ISSUER = office;
});

test.afterAll(() => {
  process.env.POSTERN_ISSUER = first;
});

/** An organization with an administrator, whose e-mail domain is nobody else's. */
async function organization(name: string): Promise<{ slug: string; admin: string; domain: string }> {
  const domain = `house-${randomUUID().slice(0, 8)}.example.test`;
  const admin = 'ada@' + domain;
  const made = JSON.parse(await postern('organization', 'create', name, '--project', office, '--json'));
  await postern('member', 'add', admin, '--role', 'admin', '--organization', made.slug, '--project', office);
  return { slug: made.slug, admin, domain };
}

async function open(page: Page, path: string, email: string) {
  await page.goto(office + path);
  await signIn(page, email);
  await expect(page).toHaveURL(office + path);
}

test('an administrator changes the settings', async ({ page }, info) => {
  const { slug, admin, domain } = await organization('Fennel Labs');
  await open(page, '/organization', admin);
  await expect(page.getByLabel('Slug')).toHaveValue(slug);
  await look(page, 'organization-settings', info);

  await page.getByLabel('Name of the organization').fill('Fennel and Sons');
  await page.getByRole('button', { name: 'Save name' }).click();
  await expect(page.getByRole('status')).toContainText('Saved.');
  await expect(page.getByLabel('Name of the organization')).toHaveValue('Fennel and Sons');

  await page.getByLabel('E-mail domains').fill(domain + '\nexample.com');
  await page.getByRole('button', { name: 'Save who can join' }).click();
  await expect(page.getByRole('alert')).toContainText('You can add only ' + domain);
  await look(page, 'organization-settings-refused', info);
  await page.getByLabel('E-mail domains').fill(domain);
  await page.getByLabel(/Everybody with an address/).check();
  await page.getByRole('button', { name: 'Save who can join' }).click();
  await expect(page.getByRole('status')).toContainText('Saved.');
  await expect(page.getByLabel(/Everybody with an address/)).toBeChecked();
});

test('an administrator invites somebody, gives a role, and takes it all back', async ({ page, anotherBrowser }, info) => {
  const { admin } = await organization('Quarry Lane');
  const guest = newAddress();
  await open(page, '/organization/members', admin);
  await look(page, 'organization-members', info);
  await page.getByText('Invite somebody').click();
  await page.getByLabel('E-mail address').fill(guest);
  await look(page, 'organization-invite', info);
  await page.getByRole('button', { name: 'Send invitation' }).click();
  await expect(page.getByRole('status')).toContainText('Invitation sent to ' + guest);
  const row = page.getByRole('listitem').filter({ has: page.getByRole('heading', { name: guest }) });
  await expect(row).toContainText('Invited');

  const other = await anotherBrowser();
  await other.goto(office + '/switch-organization');
  await signIn(other, guest);
  await expect(other.getByRole('heading', { name: 'My connected apps' })).toBeVisible();
  await other.getByRole('link', { name: 'see this one' }).click();
  await expect(other.getByText('Your role, Member, does not include update.info.name of organization.')).toBeVisible();
  await expect(other.getByRole('button', { name: 'Save name' })).toBeDisabled();
  await look(other, 'organization-settings-member', info);
  await other.getByRole('link', { name: 'Members' }).click();
  await expect(other.getByText(admin)).toHaveCount(0);
  await other.getByRole('link', { name: 'Connected apps', exact: true }).click();
  await expect(other.getByText('does not include get.connected-apps of organization.')).toBeVisible();
  await look(other, 'organization-apps-member', info);

  await page.reload();
  await row.getByText('Change').click();
  await look(page, 'organization-member', info);
  await row.getByLabel('Admin').check();
  await row.getByRole('button', { name: /^Save roles/ }).click();
  await expect(page.getByRole('status')).toContainText(`The roles of ${guest} are saved.`);
  await other.goto(office + '/organization');
  await expect(other.getByRole('button', { name: 'Save name' })).toBeEnabled();

  await row.getByText('Change').click();
  await row.getByRole('button', { name: /^Remove/ }).click();
  await expect(page.getByRole('status')).toContainText(`${guest} is removed.`);
  await expect(row).toHaveCount(0);
  await other.reload();
  await expect(other.getByLabel('E-mail address')).toBeVisible();

  const own = page.getByRole('listitem').filter({ has: page.getByRole('heading', { name: admin }) });
  await own.getByText('Change').click();
  await own.getByRole('button', { name: /^Remove/ }).click();
  await expect(page.getByRole('alert')).toContainText('This is the last administrator.');
  await expect(page.getByRole('alert')).toBeFocused();
});

test('an administrator sees what members connected, and takes it back', async ({ page, anotherBrowser }, info) => {
  const { slug, admin } = await organization('Harbour Trust');
  const member = newAddress();
  await postern('member', 'add', member, '--organization', slug, '--project', office);
  const app = await App.start({ client_name: 'Office agent' });
  const other = await anotherBrowser();
  await other.goto(app.request());
  await signIn(other, member);
  await other.getByRole('button', { name: 'Allow' }).click();
  const { body } = await app.redeem((await app.answer).get('code'));
  expect(body.refresh_token).toBeTruthy();

  await open(page, '/organization/connected-apps', admin);
  const row = page.getByRole('listitem').filter({ hasText: member });
  await expect(row).toContainText('Read your to-dos. Add, complete and delete your to-dos.');
  await look(page, 'organization-apps', info);
  await row.getByRole('button', { name: /^Take back/ }).click();
  await expect(page.getByRole('status')).toContainText('Access taken back.');
  await expect(page.getByRole('heading', { name: 'No connected apps' })).toBeVisible();
  expect((await app.refresh(body.refresh_token)).body.error).toBe('invalid_grant');
  await app.close();
});
