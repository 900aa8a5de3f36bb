// Every page of the dashboard, filled by real people and apps: what each owes
// everybody, the list of them, and the work of an administrator by keyboard alone
// and without scripts. All on one server of their own, because they change it.
import type { Browser, BrowserContext, Locator, Page, TestInfo } from '@playwright/test';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { administrator, choosePassword } from './administrator.ts';
import { App, atOKR, call } from './app.ts';
import { allow, expect, look, newAddress, test, untilAsked } from './person.ts';
import { freePort, issuer, office, postern, startDev } from './server.ts';

test.describe.configure({ mode: 'default' }); // one after the other

const ends: (() => unknown)[] = [];
const markup = '<img src=x onerror=alert(1)> & "Bob’s" {{.}}';
const long = 'The connected app with a name that is as long as they get and breaksIntoNoPiecesBecauseItHasNone';
/** The browser of an administrator, as other browsers can begin. */
let signedIn: Awaited<ReturnType<BrowserContext['storageState']>>;
/** Each page by the pattern of its address, and one that is filled. */
let pages: Record<string, string>;
/** Pages again, with other things on them. */
let more: Record<string, string>;

const json = async (...args: string[]) => JSON.parse(await postern(...args, '--json'));
const inTodo = (...args: string[]) => json(...args, '--project', issuer());
const inOffice = (...args: string[]) => json(...args, '--project', office());

/** Runs something in a browser of its own. */
async function elsewhere<T>(browser: Browser, run: (page: Page) => Promise<T>): Promise<T> {
  const context = await browser.newContext();
  try {
    return await run(await context.newPage());
  } finally {
    await context.close();
  }
}

/** A person signs in and lets an app in; the app and its token answer. */
async function letIn(browser: Browser, email: string, metadata: object = {}, place?: Parameters<typeof App.start>[2]) {
  const app = await App.start(metadata, 200, place);
  ends.push(app.close);
  return elsewhere(browser, async (page) => {
    await untilAsked(page, app, email);
    return { app, tokens: await allow(page, app) };
  });
}

test.beforeAll(async ({ browser }) => {
  test.setTimeout(180_000);
  ends.push(await startDev());
  const ada = newAddress();
  const token = (await letIn(browser, ada)).tokens.access_token;
  expect((await call('listTodos', {}, token)).status).toBe(200);
  await letIn(browser, newAddress(), { client_name: markup });
  await letIn(browser, newAddress(), { client_name: long });
  await elsewhere(browser, async (page) => {
    const app = await App.start();
    ends.push(app.close);
    for (const wrong of [{ redirect_uri: 'https://attacker.example.test/' + 'a-long-path/'.repeat(12) }, { client_id: 'nobody' }]) await page.goto(app.request(wrong));
    await untilAsked(page, app, newAddress());
    await page.getByRole('button', { name: 'Deny' }).click();
    await expect(page.getByRole('heading', { name: 'You said no' })).toBeVisible();
  });
  const url = 'https://notes.example.com/' + 'a-long-path/'.repeat(8) + 'mcp';
  await inTodo('resource', 'add', url, '--offline', '--secret', '--name', markup, '--scope', 'read:notes=' + markup, '--write-scope', 'write:notes_' + 'x'.repeat(80) + '=' + long);
  await inTodo('client', 'create', '--name', 'Desk', '--type', 'first-party', '--redirect-uri', 'https://desk.example.com/callback', '--redirect-uri', url + '/callback', '--post-logout-redirect-uri', 'https://desk.example.com/');
  const shut = await inTodo('client', 'create', '--name', 'Shut out', '--redirect-uri', 'cursor://answer');
  await inTodo('client', 'block', shut.client_id);
  const logo = join(mkdtempSync(join(tmpdir(), 'postern-logo-')), 'logo.png');
  ends.push(() => rmSync(dirname(logo), { recursive: true }));
  writeFileSync(logo, 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64');
  await postern('project', 'set', 'logo', logo, '--project', issuer());
  await json('workspace-key', 'create', long);
  await json('workspace-key', 'create', markup);

  const slug = (await inOffice('organization', 'create', markup, '--slug', 'fennel', '--domain', 'fennel.example.test')).slug;
  await inOffice('organization', 'create', long);
  const lena = newAddress();
  const member = (email: string, ...options: string[]) => inOffice('member', 'add', email, '--organization', slug, ...options);
  await member(lena, '--role', 'manager', '--name', long);
  await member('somebody-with-an-address-that-is-as-long-as-it-gets@a-long-name-of-a-department.fennel.example.test', '--name', markup);
  await letIn(browser, lena, {}, atOKR);

  const page = await (await browser.newContext()).newPage();
  await administrator(page);
  signedIn = await page.context().storageState();
  await page.context().close();

  const all = await json('project', 'list');
  const at = (project: string) => '/dashboard/projects/' + all.find((p: any) => p.issuer === project).project_id;
  const [consumer, b2b] = [at(issuer()), at(office())];
  const apps: any[] = await inTodo('client', 'list');
  const app = (name: string) => `${consumer}/apps/${apps.find((c) => c.metadata.client_name.startsWith(name)).client_id}`;
  const servers: any[] = await inTodo('resource', 'list');
  const server = (uri: string) => `${consumer}/resources/${servers.find((r) => r.resource.startsWith(uri)).resource_server_id}`;
  const user = (await inTodo('user', 'list', ada))[0].user_id;
  const traces: any[] = await inTodo('trace');
  const attempt = (state: string) => traces.find((t) => t.state === state && t.client_id !== 'nobody').code;
  const members: any[] = await inOffice('member', 'list', '--organization', slug);
  const organization = `${b2b}/organizations/${(await inOffice('organization', 'list')).find((o: any) => o.slug === slug).organization_id}`;
  pages = {
    'projects': '/dashboard/projects',
    'you': '/dashboard/you',
    'activity': '/dashboard/activity',
    ':project': consumer,
    ':project/apps': consumer + '/apps',
    ':project/apps/:app': app('Notebook'),
    ':project/apps/:app/grants': app('Notebook') + '/grants',
    ':project/apps/:app/attempts': `${app('Notebook')}/attempts?code=${attempt('refused')}`,
    ':project/apps/:app/addresses': app('Desk') + '/addresses',
    ':project/apps/:app/settings': app('Desk') + '/settings',
    ':project/users': consumer + '/users',
    ':project/users/:user': `${consumer}/users/${user}`,
    ':project/organizations': b2b + '/organizations',
    ':project/organizations/:organization': organization,
    ':project/organizations/:organization/members': organization + '/members',
    ':project/organizations/:organization/members/:member': `${organization}/members/${members.find((m) => m.email === lena || m.email_address === lena).member_id}`,
    ':project/organizations/:organization/apps': organization + '/apps',
    ':project/organizations/:organization/sso': organization + '/sso',
    ':project/roles': b2b + '/roles',
    ':project/resources': consumer + '/resources',
    ':project/resources/:resource': server('https://notes'),
    ':project/resources/:resource/protect': server('https://notes') + '/protect',
    ':project/resources/:resource/settings': server('https://notes') + '/settings',
    ':project/resources/:resource/move': server('http://localhost') + '/move',
    ':project/keys': consumer + '/keys',
    ':project/activity': consumer + '/activity',
    ':project/attempts': consumer + '/attempts',
    ':project/attempts/:attempt': `${consumer}/attempts/${attempt('allowed')}`,
    ':project/settings': consumer + '/settings',
    ':project/settings/issuer': consumer + '/settings/issuer',
  };
  more = {
    'overview-b2b': b2b,
    'apps-none': consumer + '/apps?q=zzz',
    'app-markup': app('<img'),
    'app-long-grants': app('The connected') + '/grants',
    'app-block': app('The connected') + '/settings?open=block',
    'app-blocked': app('Shut out') + '/settings',
    'app-by-hand': app('Desk'),
    'users-none': consumer + '/users?q=zzz',
    'organizations-none': b2b + '/organizations?q=zzz',
    'roles-consumer': consumer + '/roles',
    'resource-move-nobody': server('https://notes') + '/move',
    'activity-refusals': consumer + '/activity?refused=yes',
    'activity-app': `${consumer}/activity?client=${app('Notebook').split('/').pop()}`,
    'activity-none': consumer + '/activity?person=nobody',
    'attempt-refused': `${consumer}/attempts/${attempt('refused')}`,
    'attempt-none': consumer + '/attempts/AAA-AAA-AAA',
    'settings-b2b': b2b + '/settings',
    'not-found': consumer + '/apps/nothing',
  };
});

test.afterAll(async () => {
  for (const end of ends.reverse()) await end();
});

test.use({
  storageState: async ({}, use) => use(signedIn),
});

/** The pattern of an address: what is an id is a name. */
function pattern(path: string): string {
  return path
    .replace(/^\/dashboard\/?/, '')
    .replace(/^projects\/[^/]+/, ':project')
    .replace(/(^|\/)(app|user|organization|member|resource|attempt)s\/[^/]+/g, '$1$2s/:$2');
}

/** What a page owes that a picture does not show. */
async function owes(page: Page, name: string) {
  expect.soft(await page.locator('h1').count(), `headings of ${name}`).toBe(1);
  expect.soft(await page.title(), `title of ${name}`).toMatch(/^\S.*\. Postern$/);
  const twice = await page.evaluate(() => {
    const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
    return ids.filter((id, i) => ids.indexOf(id) !== i);
  });
  expect.soft(twice, `ids of ${name}`).toEqual([]);
  expect.soft(await page.locator('img:not(.mark, .tile-logo, .logo-now)').count(), `pictures of ${name}`).toBe(0);
  const empty = await page.locator('img').evaluateAll((all) => all.filter((i) => !(i as HTMLImageElement).naturalWidth).map((i) => i.outerHTML));
  expect.soft(empty, `pictures of ${name} that are not shown`).toEqual([]);
  const sideways = await page.evaluate(() => document.scrollingElement!.scrollWidth - document.documentElement.clientWidth);
  expect.soft(sideways, `${name} scrolls sideways`).toBeLessThanOrEqual(0);
}

const sizes = [{ width: 360, height: 780 }, { width: 1280, height: 800 }];

for (const size of sizes) {
  test(`every page is in order, ${size.width} pixels wide`, { tag: '@once' }, async ({ page }, info) => {
    test.setTimeout(240_000);
    await page.setViewportSize(size);
    for (const [name, address] of Object.entries({ ...pages, ...more })) {
      const response = await page.goto(issuer() + address);
      expect.soft(response!.status(), address).toBe(name === 'not-found' || name === 'attempt-none' ? 404 : 200);
      await owes(page, name);
      await look(page, 'desk-' + name.replaceAll(/[:/]+/g, '-').replace(/^-/, ''), info);
    }
    if (size.width < 1000) {
      const nav = page.getByRole('navigation', { name: 'Dashboard' });
      await page.goto(issuer() + pages[':project']);
      await expect(nav).toBeHidden();
      await page.locator('summary', { hasText: 'Menu' }).press('Enter');
      await expect(nav).toBeVisible();
      await look(page, 'desk-menu', info);
    }
  });
}

test('an empty deployment says on each page what comes next', { tag: '@once' }, async ({ anotherBrowser }, info) => {
  test.setTimeout(240_000);
  const dir = mkdtempSync(join(tmpdir(), 'postern-empty-'));
  const port = await freePort();
  const url = `http://localhost:${port}`;
  const server = spawn(join(process.env.POSTERN_PROGRAMS!, 'postern'), ['serve', '--mail-transport', 'console', '--listen', `127.0.0.1:${port}`, '--url', url], {
    cwd: dir,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = new Promise<void>((done) => server.once('exit', () => done()));
  let said = '';
  server.stderr.on('data', (part) => (said += part));
  try {
    await expect.poll(() => said, { timeout: 20_000 }).toMatch(/#pst_setup_\w{70}\n/);
    const page = await anotherBrowser({ storageState: undefined });
    const everywhere = async (name: string) => {
      for (const size of sizes) {
        await page.setViewportSize(size);
        await owes(page, name);
        await look(page, 'desk-empty-' + name, info);
      }
    };
    await page.goto(said.match(/http\S+#pst_setup_\w{70}/)![0]);
    await choosePassword(page, newAddress());
    await expect(page.getByRole('heading', { name: 'No project yet' })).toBeVisible();
    await everywhere('projects');
    for (const [kind, at, people] of [[/^Users/, url, 'users'], [/^Members of organizations/, url.replace('localhost', '127.0.0.1'), 'organizations']] as const) {
      await page.goto(url + '/dashboard/projects');
      await page.getByLabel('Name', { exact: true }).fill('Project of ' + people);
      await page.getByLabel('Issuer', { exact: true }).fill(at);
      await page.getByLabel(kind).check();
      await page.getByRole('button', { name: 'Make the project' }).click();
      await page.getByRole('main').getByRole('link', { name: 'Open Project of ' + people }).click();
      const project = page.url();
      const same = people === 'users' ? ['', '/apps', '/resources', '/keys', '/activity', '/attempts', '/settings/issuer'] : [];
      for (const path of ['/roles', '/' + people, ...same]) {
        expect((await page.goto(project + path))!.status(), path).toBe(200);
        await everywhere(path ? path.slice(1).replace('/', '-') + (same.length ? '' : '-b2b') : 'overview');
      }
    }
  } finally {
    server.kill('SIGTERM');
    await ended;
    rmSync(dir, { recursive: true, force: true });
  }
});

test('the links of the dashboard lead to its pages and to nothing that is broken', { tag: '@once' }, async ({ page }) => {
  test.setTimeout(120_000);
  const found = new Map<string, Set<string>>();
  const perPattern = 8;
  const waiting = ['/dashboard'];
  const asked = new Set(waiting);
  while (waiting.length) {
    const path = waiting.pop()!;
    const response = await page.request.get(issuer() + path);
    expect.soft(response.status(), path).toBe(200);
    const here = new URL(response.url());
    if (response.headers()['content-disposition']) continue; // an export
    for (const [, href] of (await response.text()).matchAll(/<a\b[^>]*\shref="([^"]*)"/g)) {
      const to = new URL(href.replaceAll('&amp;', '&').replaceAll('&#43;', '+').replaceAll('&#39;', "'"), here);
      if (to.origin !== issuer() || !/^\/dashboard(\/|$)/.test(to.pathname)) continue;
      const next = to.pathname + to.search;
      const kind = pattern(to.pathname);
      const same = found.get(kind) ?? found.set(kind, new Set()).get(kind)!;
      if (asked.has(next) || same.size >= perPattern) continue;
      same.add(next);
      asked.add(next);
      waiting.push(next);
    }
  }
  const known = [...Object.keys(pages), '', 'sign-in', 'activity/export', ':project/activity/export'];
  expect([...found.keys()].filter((kind) => !known.includes(kind)), 'linked, and not on the list').toEqual([]);
  expect(Object.keys(pages).filter((kind) => !found.has(kind)), 'on the list, and not linked').toEqual([]);
});

test('the request of an attempt can be copied, and selected without scripts', { tag: '@once' }, async ({ context, page, anotherBrowser }) => {
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: issuer() });
  await page.goto(issuer() + more['attempt-refused']);
  const request = await page.getByLabel('The request').inputValue();
  expect(new URL(request).searchParams.get('redirect_uri')).toContain('attacker.example.test');
  await page.getByRole('button', { name: 'Copy the request' }).click();
  await expect(page.getByRole('status').filter({ hasText: 'Copied' })).toBeAttached();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(request);

  const plain = await anotherBrowser({ javaScriptEnabled: false });
  await plain.goto(issuer() + more['attempt-refused']);
  await expect(plain.getByLabel('The request')).toHaveValue(request);
  await expect(plain.getByLabel('The request')).toHaveAttribute('readonly');
  await expect(plain.getByRole('button', { name: 'Copy the request' })).toBeHidden();
});

/** How somebody works on a page. */
type Hand = {
  page: Page;
  fill(field: Locator, text: string): Promise<void>;
  press(button: Locator): Promise<void>;
  choose(radio: Locator): Promise<void>;
  /** Looks at what a form led to. */
  look(name: string): Promise<void>;
};

/** No mouse: Tab leads to everything, and what has the focus can be seen. */
function keyboard(page: Page, info: TestInfo): Hand {
  const to = async (target: Locator) => {
    const focused = () => target.evaluate((e) => e === document.activeElement);
    for (let i = 0; i < 250 && !(await focused()); i++) await page.keyboard.press('Tab');
    await expect(target, 'reached by Tab').toBeFocused();
    const { ring, seen } = await target.evaluate((e) => {
      const { outlineStyle, outlineWidth } = getComputedStyle(e);
      const { top, bottom } = e.getBoundingClientRect();
      return { ring: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2, seen: bottom > 0 && top < innerHeight };
    });
    expect.soft(ring, `focus of ${target}`).toBe(true);
    expect.soft(seen, `${target} in the window`).toBe(true);
  };
  return {
    page,
    async fill(field, text) {
      await to(field);
      await page.keyboard.press('Control+A');
      await page.keyboard.insertText(text);
    },
    async press(button) {
      await to(button);
      await page.keyboard.press('Enter');
    },
    async choose(radio) {
      // Tab stops once in a group; the arrows go through it.
      const name = await radio.getAttribute('name');
      await to(page.locator(`input[name="${name}"]:checked`));
      for (let i = 0; i < 10 && !(await radio.isChecked()); i++) await page.keyboard.press('ArrowDown');
      await expect(radio).toBeChecked();
    },
    async look(name) {
      for (const size of sizes) {
        await page.setViewportSize(size);
        await owes(page, name);
        await look(page, 'desk-' + name, info);
      }
    },
  };
}

const mouse = (page: Page): Hand => ({
  page,
  fill: (field, text) => field.fill(text),
  press: (button) => button.click(),
  choose: (radio) => radio.check(),
  look: async () => {}, // scripts look
});

/** The main work of an administrator. mark tells one run from another. */
async function work({ page, fill, press, choose, look }: Hand, browser: Browser, mark: string) {
  const says = (words: string | RegExp) => expect(page.getByRole('status').filter({ hasText: words })).toBeVisible();
  const button = (name: string | RegExp) => page.getByRole('button', { name, exact: true });
  const link = (name: string) => page.getByRole('main').getByRole('link', { name, exact: true });
  const rail = (name: string) => page.getByRole('navigation', { name: 'Dashboard' }).getByRole('link', { name, exact: true });

  // A project.
  await page.goto(issuer() + '/dashboard/projects');
  await fill(page.getByLabel('Name', { exact: true }), 'Project ' + mark);
  await fill(page.getByLabel('Issuer', { exact: true }), `https://${mark}.example.com`);
  await choose(page.getByLabel(/^Members of organizations/));
  await press(button('Make the project'));
  await says(`Project ${mark} is made`);
  await expect(page.locator('#secret')).toHaveText(/^\S{20,}$/);
  await look('project-made');
  await press(link('Open Project ' + mark));

  // A resource server.
  await press(rail('Resource servers'));
  await fill(page.getByLabel('URL that MCP clients call'), `https://notes-${mark}.example.com/mcp`);
  await fill(page.getByLabel('Name', { exact: true }), 'Notes');
  await fill(page.getByLabel(/^Scopes that only read/), 'read:notes=Read your notes');
  await press(button('Register'));
  await says('Notes is registered');
  await look('resource-registered');

  // What the project's people may do, changed.
  await press(rail('Roles & scopes'));
  await fill(page.getByLabel('Resources, roles and scopes, as YAML'), `resources:
  - resource_id: note
    description: A note
    actions: [read]
roles:
  - role_id: reader
    description: Reader
    permissions:
      - {resource_id: note, actions: [read]}
scopes:
  - scope: read:notes
    description: Read the notes of ${mark}
    read_only: true
    permissions:
      - {resource_id: note, actions: [read]}
`);
  await press(button('Show what would change'));
  await expect(page.getByRole('heading', { name: 'What would change' })).toBeVisible();
  await look('roles-planned');
  await press(button('Apply'));
  await says('The policy is applied');
  await expect(page.getByRole('region', { name: 'Roles', exact: true })).toContainText('reader');

  // A client of one's own and its secret; then it is shut out.
  await press(rail('Connected apps'));
  await fill(page.getByLabel('Name', { exact: true }), 'Client ' + mark);
  await choose(page.getByLabel(/^Third party, confidential/));
  await fill(page.getByLabel(/^Return addresses/), `https://${mark}.example.com/callback`);
  await press(button('Register'));
  await says(`Client ${mark} is registered`);
  await expect(page.locator('#secret')).toHaveText(/^\S{20,}$/);
  await look('client-registered');
  await press(link('Open Client ' + mark));
  await press(link('Block Client ' + mark));
  await fill(page.locator('#confirm-block'), 'something else');
  await press(button('Block it'));
  await expect(page.getByRole('alert')).toContainText(`Type Client ${mark}`);
  await look('block-refused');
  await fill(page.locator('#confirm-block'), 'Client ' + mark);
  await press(button('Block it'));
  await says('Blocked.');

  // A key for programs, and its end.
  await press(rail('Keys'));
  await fill(page.getByLabel('Name of a new key'), 'key-' + mark);
  await press(button('Make a key'));
  await says(`The workspace key key-${mark} is made`);
  await look('key-made');
  const row = page.getByRole('listitem').filter({ hasText: 'key-' + mark });
  await press(row.locator('summary'));
  await fill(page.getByLabel(`Type key-${mark} to confirm`), 'key-' + mark);
  await press(row.getByRole('button'));
  await says('The workspace key is revoked');

  // What a person allowed is taken back, and the app gets no more tokens.
  const email = newAddress();
  const { app, tokens } = await letIn(browser, email, { client_name: 'Agent ' + mark });
  const renewed = await app.refresh(tokens.refresh_token);
  expect(renewed.status).toBe(200);
  await page.goto(issuer() + pages[':project/apps']);
  await fill(page.getByLabel('Search by name'), 'Agent ' + mark);
  await press(button('Search'));
  await press(link('Agent ' + mark));
  await press(link('Grants 1'));
  await press(button('Take back from ' + email));
  await says('Taken back.');
  expect((await app.refresh(renewed.body.refresh_token)).status).toBe(400);
}

test('an administrator works by keyboard alone', { tag: '@once' }, async ({ page, browser }, info) => {
  test.setTimeout(120_000);
  await work(keyboard(page, info), browser, 'keyboard');
});

test('an administrator works without JavaScript', { tag: '@once' }, async ({ anotherBrowser, browser }) => {
  test.setTimeout(120_000);
  const page = await anotherBrowser({ javaScriptEnabled: false, storageState: signedIn });
  for (const [name, address] of Object.entries(pages)) {
    const response = await page.goto(issuer() + address);
    expect.soft(response!.status(), name).toBe(200);
    await expect.soft(page.locator('main h1'), name).toBeVisible();
    await expect.soft(page.getByRole('navigation', { name: 'Dashboard' }).or(page.locator('.rail-project')).first(), name).toBeVisible();
    expect.soft(await page.locator('.copy:visible').count(), `${name} offers copying`).toBe(0);
  }
  await work(mouse(page), browser, 'mouse');
});
