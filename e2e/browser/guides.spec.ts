// What the two guides to a remote MCP server ask a person to configure, in the
// order in which they ask it: from a server started in an empty folder to a
// connected app on the list, whose permission is taken back. Everything is done
// on the dashboard. The connected app is the official MCP Inspector where it is
// installed (inspector.ts says how); elsewhere it is played, and the dashboard's
// part is the same.
import type { Browser, Page, TestInfo } from '@playwright/test';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { choosePassword } from './administrator.ts';
import { App, call } from './app.ts';
import { connect, installed } from './inspector.ts';
import { expect, newAddress, redeemed, signIn, test } from './person.ts';
import { freePort } from './server.ts';

const clone = resolve(import.meta.dirname, '../..');
const ends: (() => unknown)[] = [];

test.slow();
test.afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** Runs a program until the test has ended; what it said so far. */
function run(name: string, args: string[], dir: string, env: Record<string, string> = {}): () => string {
  const child = spawn(join(process.env.POSTERN_PROGRAMS!, name), args, {
    cwd: dir,
    env: { PATH: process.env.PATH!, HOME: dir, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (said += text));
  ends.push(() => end(child));
  return () => said;
}

async function end(child: ChildProcess) {
  const gone = new Promise<void>((done) => child.once('exit', () => done()));
  if (child.exitCode === null && child.kill('SIGTERM')) await gone;
}

/** `postern serve` in an empty folder. */
async function serve() {
  const dir = mkdtempSync(join(tmpdir(), 'postern-guide-'));
  ends.push(() => rmSync(dir, { recursive: true, force: true }));
  const port = await freePort();
  const url = `http://localhost:${port}`;
  const said = run('postern', ['serve', '--mail-transport', 'console', '--listen', `127.0.0.1:${port}`, '--url', url], dir);
  const link = /http\S+#pst_setup_\w{70}/;
  await expect.poll(said, { timeout: 20_000 }).toMatch(link);
  return {
    dir,
    url,
    claim: said().match(link)![0],
    /** The newest code for an address, which the log has in place of a mail. */
    async code(email: string): Promise<string> {
      let code = '';
      await expect(async () => {
        const lines = said().split('\n').filter((line) => line.includes('mail to the console') && line.includes(email));
        code = /\b(\d{3}) ?(\d{3})\b/.exec(JSON.parse(lines.at(-1) ?? '{}').text)?.slice(1).join('') ?? '';
        expect(code, said()).not.toBe('');
      }).toPass({ timeout: 5000 });
      return code;
    },
  };
}

/** Claims the deployment and makes the project that a guide begins with. */
async function begin(desk: Page, server: { url: string; claim: string }, name: string, who: RegExp) {
  await desk.goto(server.claim);
  await choosePassword(desk, newAddress());
  await expect(desk.getByRole('heading', { name: 'No project yet' })).toBeVisible();
  await desk.getByLabel('Name', { exact: true }).fill(name);
  await expect(desk.getByLabel('Issuer', { exact: true })).toHaveValue(server.url);
  await desk.getByLabel(who).check();
  await desk.getByRole('button', { name: 'Make the project' }).click();
  await says(desk, name + ' is made');
  await desk.getByRole('link', { name: 'Open ' + name }).click();
  await expect(desk.getByRole('heading', { level: 1, name: 'Overview' })).toBeVisible();
}

/** What a form did stands at the top of the page. */
const says = (desk: Page, words: string) => expect(desk.getByRole('status').filter({ hasText: words })).toBeVisible();

/** Opens a section of the rail. */
async function open(desk: Page, section: string) {
  await desk.getByRole('navigation', { name: 'Dashboard' }).getByRole('link', { name: section }).click();
  await expect(desk.getByRole('heading', { level: 1, name: section })).toBeVisible();
}

/** "Project ID" and "Public token" of the project settings. */
async function noteSettings(desk: Page) {
  await open(desk, 'Settings');
  const noted = { projectID: await desk.locator('#project-id').innerText(), publicToken: await desk.locator('#public-token').innerText() };
  expect(noted.projectID).toMatch(/^project-test-[0-9a-f-]{36}$/);
  expect(noted.publicToken).toMatch(/^public-token-test-[0-9a-f-]{36}$/);
  return noted;
}

/** "Enable the Frontend SDK for http://localhost:3000": what Settings says of origins holds. */
async function frontEnd(desk: Page, issuer: string, origin: string) {
  await expect(desk.getByText('There is no list to keep. Pages of any origin may call the endpoints for clients')).toBeVisible();
  const answer = await fetch(issuer + '/.well-known/oauth-authorization-server', { headers: { Origin: origin } });
  expect(answer.headers.get('Access-Control-Allow-Origin')).toBe('*');
  const endpoint = (await answer.json()).token_endpoint;
  const asked = await fetch(endpoint, {
    method: 'OPTIONS',
    headers: { Origin: origin, 'Access-Control-Request-Method': 'POST', 'Access-Control-Request-Headers': 'content-type' },
  });
  expect(asked.ok).toBe(true);
  expect(asked.headers.get('Access-Control-Allow-Origin')).toBe('*');
}

/** "Allow dynamic client registration", which is off until the person allows it. */
async function allowRegistration(desk: Page, issuer: string) {
  const offered = async () => {
    const metadata = await (await fetch(issuer + '/.well-known/oauth-authorization-server')).json();
    return 'registration_endpoint' in metadata;
  };
  await open(desk, 'Connected apps');
  const allow = desk.getByRole('switch', { name: /dynamic client registration/i });
  for (const on of [false, true]) {
    await allow.setChecked(on, { force: true });
    await desk.getByRole('button', { name: 'Save', exact: true }).click();
    await says(desk, 'Saved');
    await expect(allow).toBeChecked({ checked: on });
    await expect.poll(offered).toBe(on);
  }
}

/** Registers the example's own web page; its client id. */
async function registerPage(desk: Page, name: string, url: string): Promise<string> {
  await open(desk, 'Connected apps');
  await desk.getByLabel('Name', { exact: true }).fill(name);
  await desk.getByLabel(/^First party, public/).check();
  await desk.getByLabel('Return addresses, one a line').fill(url + '/callback');
  await desk.getByLabel(/^Do not ask people/).check();
  await desk.getByRole('button', { name: 'Register', exact: true }).click();
  await says(desk, 'Registered');
  return desk.locator('#client-id').innerText();
}

/** Registers the example's MCP server with a secret for introspection. */
async function registerServer(desk: Page, name: string, uri: string, reads: string, writes: string) {
  await open(desk, 'Resource servers');
  await desk.getByLabel('URL that MCP clients call').fill(uri);
  await desk.getByLabel('Name', { exact: true }).fill(name);
  await desk.getByLabel('Scopes that only read').fill(reads);
  await desk.getByLabel('Scopes that change or delete').fill(writes);
  await desk.getByLabel(/^Make an introspection secret/).check();
  await desk.getByRole('button', { name: 'Register', exact: true }).click();
  await says(desk, name + ' is registered');
  return { id: await desk.locator('#made').innerText(), secret: await desk.locator('#secret').innerText() };
}

/** Starts an example and waits until it answers. */
async function start(name: string, url: string, dir: string, env: Record<string, string>) {
  const said = run(name, [], dir, env);
  await expect(async () => expect((await fetch(url + '/healthz')).status, said()).toBe(200)).toPass({ timeout: 20_000 });
}

/** A connected app that a person has let in. */
type Client = {
  /** Whether a call of its tool succeeds. */
  calls(): Promise<boolean>;
};

/** What a guide lets the connected app do. */
type Tool = { name: string; says: string };

/**
 * Connects the Inspector to a server, or what is played in its place. consent
 * looks at the page that asks, whose browser is signed in.
 */
async function letIn(person: Page, info: TestInfo, issuer: string, resource: string, tool: Tool, consent: () => Promise<void>): Promise<Client> {
  const asks = person.getByRole('button', { name: 'Allow', exact: true });
  if (!installed) {
    const { scopes_supported } = await (await fetch(new URL('/.well-known/oauth-protected-resource' + new URL(resource).pathname, resource))).json();
    const app = await App.start({ client_name: 'MCP Inspector' }, 200, () => ({ issuer, resource, scope: scopes_supported.join(' ') }));
    ends.push(app.close);
    await person.goto(app.request());
    await consent();
    await asks.click();
    const token = await redeemed(app);
    return { calls: async () => (await call(tool.name, {}, token.access_token, resource)).status === 200 };
  }
  const inspector = await connect(person, resource, info);
  ends.push(() => end(inspector));
  await consent();
  await asks.click();
  await person.getByText('Tools', { exact: true }).click();
  await person.getByRole('button', { name: tool.name }).click();
  return {
    calls: async () => {
      await person.getByRole('button', { name: 'Execute Tool' }).click();
      const told = person.getByText(tool.says).first();
      await expect(told.or(asks)).toBeVisible(); // refused, it asks for permission anew
      if (await asks.isVisible()) return false;
      await person.getByRole('button', { name: 'Close results' }).click();
      return true;
    },
  };
}

/** The guides' picture of the list: MCP Inspector has registered. Opens it. */
async function findInspector(desk: Page) {
  await open(desk, 'Connected apps');
  await desk.getByLabel('Search by name').fill('MCP Insp');
  await desk.getByRole('button', { name: 'Search' }).click();
  const row = desk.getByRole('row').filter({ has: desk.getByRole('link', { name: 'MCP Inspector' }) });
  await expect(row).toContainText('Registered itself');
  await expect(row).toContainText('Unverified');
  await expect(row).toContainText('Third party, public');
  await row.getByRole('link').click();
  await expect(desk.getByRole('heading', { level: 1, name: /MCP Inspector/ })).toBeVisible();
}

/** Finds the attempt that let it in, by the person's address. */
async function findAttempt(desk: Page, email: string, steps: string[]) {
  await desk.getByRole('navigation', { name: 'MCP Inspector' }).getByRole('link', { name: 'Attempts' }).click();
  await desk.getByRole('searchbox', { name: /Trace code/ }).fill(email);
  await desk.keyboard.press('Enter');
  await desk.getByRole('region', { name: 'Attempts' }).getByRole('listitem').filter({ hasText: email }).getByRole('link').click();
  await expect(async () => { // a first call is told a second later
    await desk.reload();
    for (const step of steps) {
      const told = desk.getByRole('listitem').filter({ has: desk.getByRole('heading', { level: 3, name: step }) });
      await expect(told.locator('.step-mark'), step).toHaveText('passed', { timeout: 1000 });
    }
  }).toPass({ timeout: 15_000 });
}

/** Takes back what a person allowed, and sees the next call refused. */
async function takeBack(desk: Page, email: string, client: Client) {
  expect(await client.calls(), 'before').toBe(true);
  await desk.getByRole('navigation', { name: 'MCP Inspector' }).getByRole('link', { name: /Grants/ }).click();
  await desk.getByRole('button', { name: 'Take back from ' + email }).click();
  await says(desk, 'Taken back');
  await expect(desk.getByRole('heading', { name: 'Nobody allows it anything' })).toBeVisible();
  await desk.waitForTimeout(5000); // for so long guard remembers an answer
  expect(await client.calls(), 'after').toBe(false);
}

/** A person in a browser of their own. The Inspector's pages may complain, so nobody listens to those. */
async function somebody(browser: Browser, anotherBrowser: () => Promise<Page>): Promise<Page> {
  if (!installed) return anotherBrowser();
  const context = await browser.newContext();
  ends.push(() => context.close());
  return context.newPage();
}

test('the guide for consumers: to-dos of each person', { tag: '@once' }, async ({ page: desk, browser, anotherBrowser }, info) => {
  const server = await serve();
  const todo = `http://localhost:${await freePort()}`;
  await begin(desk, server, 'Todo', /^Users/);

  // Configure.
  await noteSettings(desk);
  await frontEnd(desk, server.url, todo);
  await allowRegistration(desk, server.url);

  // Follow the example's README to get it running.
  const clientID = await registerPage(desk, 'Todo', todo);
  const secret = await registerServer(desk, 'Todo', todo + '/mcp', 'read:todos=Read your to-dos', 'write:todos=Add, complete and delete your to-dos');
  await start('todo', todo, server.dir, {
    TODO_URL: todo, POSTERN_ISSUER: server.url, TODO_CLIENT_ID: clientID, TODO_INTROSPECTION_ID: secret.id, TODO_INTROSPECTION_SECRET: secret.secret,
  });
  await open(desk, 'Resource servers');
  await desk.getByRole('link', { name: 'Todo', exact: true }).click();
  await desk.getByRole('link', { name: 'Protect it' }).click();
  for (const value of [server.url, todo + '/mcp', 'read:todos']) await expect(desk.locator('#code')).toContainText(`"${value}"`);
  await expect(desk.locator('#asking-settings')).toContainText('RESOURCE_ID=' + secret.id);
  await desk.getByRole('link', { name: 'Summary' }).click();
  await desk.getByRole('button', { name: 'Read them from the server' }).click();
  await says(desk, 'Read 2 scopes from ' + todo);

  // Explore it.
  const person = await somebody(browser, anotherBrowser);
  const email = newAddress();
  await person.goto(todo);
  await person.getByRole('link', { name: 'Sign in' }).click();
  await signIn(person, email, server.code);
  await expect(person.getByRole('heading', { level: 1, name: 'Your to-dos' })).toBeVisible();

  // Connect the Inspector, and find it in the dashboard.
  const client = await letIn(person, info, server.url, todo + '/mcp', { name: 'listTodos', says: '"todos"' }, async () => {
    await expect(person.getByRole('heading', { name: 'MCP Inspector wants to act for you in Todo' })).toBeVisible();
    await expect(person.getByRole('checkbox', { checked: true })).toHaveCount(2);
  });
  expect(await client.calls()).toBe(true);
  await findInspector(desk);
  await findAttempt(desk, email, ['Registration', 'Authorize', 'Consent', 'Token', 'First call']);
  await takeBack(desk, email, client);
});

test('the guide for organizations: objectives, roles and scopes', { tag: '@once' }, async ({ page: desk, browser, anotherBrowser }, info) => {
  const server = await serve();
  const okr = `http://localhost:${await freePort()}`;
  await begin(desk, server, 'OKR', /^Members of organizations/);

  // Configure.
  const { projectID } = await noteSettings(desk);
  await frontEnd(desk, server.url, okr);
  await allowRegistration(desk, server.url);
  await open(desk, 'Keys');
  await desk.getByLabel('Name of a new key').fill('update-policy');
  await desk.getByRole('button', { name: 'Make a key' }).click();
  await says(desk, 'The workspace key update-policy is made');
  const [keyID, secret] = [await desk.locator('#made').innerText(), await desk.locator('#secret').innerText()];

  // Follow the example's README: first its script says who may do what.
  const authorization = 'Basic ' + Buffer.from(`${keyID}:${secret}`).toString('base64');
  const put = (authorization: string) => fetch(`${server.url}/v1/projects/${projectID}/rbac_policy`, {
    method: 'PUT', headers: { Authorization: authorization, 'Content-Type': 'application/json' }, body: scriptDocument(projectID),
  });
  expect((await put('Basic ' + Buffer.from(`${keyID}:pst_wk_wrong`).toString('base64'))).status).toBe(401);
  const answer = await put(authorization);
  expect(answer.status, await answer.text()).toBe(200);
  await open(desk, 'Roles & scopes');
  const grantable = desk.getByRole('region', { name: 'Who can grant what' });
  for (const [scope, roles] of [['read:okrs', 3], ['report_kr_status', 3], ['manage:krs', 2], ['manage:objectives', 1]] as const) {
    const row = grantable.getByRole('row').filter({ has: desk.getByRole('rowheader', { name: scope }) });
    await expect(row.getByRole('cell', { name: 'can grant it', exact: true }), scope).toHaveCount(roles);
  }
  const roles = desk.getByRole('region', { name: 'Roles', exact: true });
  await expect(roles.getByRole('row').filter({ has: desk.getByRole('rowheader', { name: /^manager/ }) })).toContainText('key_result: everything');
  await expect(desk.getByLabel('Resources, roles and scopes, as YAML')).toHaveValue(/resource_id: objective[^]*resource_id: key_result/);

  const clientID = await registerPage(desk, 'OKR', okr);
  const introspection = await registerServer(desk, 'OKR', okr + '/mcp', 'read:okrs', 'report_kr_status\nmanage:krs\nmanage:objectives');
  await start('okr', okr, server.dir, {
    OKR_URL: okr, OKR_ISSUER: server.url, OKR_CLIENT_ID: clientID, OKR_INTROSPECTION_ID: introspection.id, OKR_INTROSPECTION_SECRET: introspection.secret,
  });

  // Explore it.
  const person = await somebody(browser, anotherBrowser);
  const email = newAddress();
  await person.goto(okr);
  await person.getByRole('link', { name: 'Sign in' }).click();
  await signIn(person, email, server.code);
  await person.getByLabel('Name of the organization').fill('Fennel Labs');
  await person.getByRole('button', { name: 'Make organization' }).click();
  await expect(person.getByRole('heading', { level: 1, name: 'Objectives of Fennel Labs' })).toBeVisible();

  // Connect the Inspector, and find it in the dashboard.
  const client = await letIn(person, info, server.url, okr + '/mcp', { name: 'listObjectives', says: '"objectives"' }, async () => {
    await expect(person.getByRole('heading', { name: 'MCP Inspector wants to act for you in OKR' })).toBeVisible();
    await expect(person.getByText('Fennel Labs').first()).toBeVisible();
    await expect(person.getByRole('checkbox', { checked: true })).toHaveCount(4);
  });
  expect(await client.calls()).toBe(true);
  await findInspector(desk);
  await findAttempt(desk, email, ['Registration', 'Authorize', 'Consent', 'Token', 'First call']);
  await takeBack(desk, email, client);

  // A key that nobody needs any more.
  await open(desk, 'Keys');
  await desk.getByText('Revoke', { exact: true }).click();
  await desk.getByLabel('Type update-policy to confirm').fill('update-policy');
  await desk.getByRole('button', { name: 'Revoke it' }).click();
  await says(desk, 'The workspace key is revoked');
  expect((await put(authorization)).status).toBe(401);
});

/** What the script of the guide sends: the same text as in the API's own tests. */
function scriptDocument(projectID: string): string {
  const transcript = readFileSync(join(clone, 'internal/api/testdata/compatible.txtar'), 'utf8');
  return transcript.split('PUT /v1/projects/{project}/rbac_policy\nKey: key\n\n')[1].split('\n-- ')[0].replaceAll('{project}', projectID);
}
