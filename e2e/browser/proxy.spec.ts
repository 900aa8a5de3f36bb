// Postern and the OKR manager as they stand on a host: behind one reverse proxy
// that speaks TLS, each under a name of its own. What the browser sends of
// proxies' headers is forged. docs/guide/deploy.md shows such a place.
import { execFile, execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createPlain, request as forward } from 'node:http';
import { createServer } from 'node:https';
import { createServer as createMailServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { expect, newAddress, test } from './person.ts';
import { certificate, freePort } from './server.ts';

const [authName, okrName] = ['auth.example.test', 'okr.example.test'];
const liar = 'evil.example';

test.use({
  ignoreHTTPSErrors: true,
  extraHTTPHeaders: { 'X-Forwarded-Host': liar, 'X-Forwarded-Proto': 'http', 'X-Forwarded-For': '203.0.113.9', Forwarded: `host=${liar};proto=http` },
  launchOptions: async ({ launchOptions }, use) => {
    const rules = `--host-resolver-rules=MAP ${authName} 127.0.0.1, MAP ${okrName} 127.0.0.1`;
    await use({ ...launchOptions, args: [...launchOptions.args!, rules] });
  },
});

const ends: (() => unknown)[] = [];
const backends: Record<string, number> = {};
const mails: { to: string; text: string }[] = [];
let issuer = '';
let okr = '';
let postern: (...args: string[]) => Promise<any>;

/** Takes mails by SMTP; the port. */
async function startMailServer(): Promise<number> {
  const server = createMailServer((socket) => {
    let mail = { to: '', text: '' };
    let rest = '';
    let data = false;
    socket.write('220 mail.example.test\r\n');
    socket.on('data', (chunk) => {
      const lines = (rest + chunk).split('\r\n');
      rest = lines.pop()!;
      for (const line of lines) {
        if (data && line !== '.') {
          mail.text += line + '\n';
          continue;
        }
        if (data) {
          mails.push(mail);
          mail = { to: '', text: '' };
          data = false;
        } else if (/^rcpt to:/i.test(line)) {
          mail.to = line.slice(8).replace(/[<> ]/g, '');
        }
        data ||= /^data$/i.test(line);
        socket.write(data ? '354 go on\r\n' : /^quit$/i.test(line) ? '221 bye\r\n' : '250 ok\r\n');
      }
    });
    socket.on('error', () => {});
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  ends.push(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** Starts the proxy, which sets Host and Proto itself and appends to For. */
async function startProxy(): Promise<{ port: number; cert: string }> {
  const made = certificate(`${authName},${okrName}`);
  ends.push(() => rmSync(made.dir, { recursive: true, force: true }));
  const server = createServer({ cert: readFileSync(made.cert), key: readFileSync(made.key) }, (inside, answer) => {
    const host = inside.headers.host!;
    const onward = forward({
      host: '127.0.0.1',
      port: backends[host.split(':')[0]],
      method: inside.method,
      path: inside.url,
      headers: {
        ...inside.headers,
        'x-forwarded-host': host,
        'x-forwarded-proto': 'https',
        'x-forwarded-for': [inside.headers['x-forwarded-for'], inside.socket.remoteAddress].filter(Boolean).join(', '),
      },
    }, (back) => {
      answer.writeHead(back.statusCode!, back.headers);
      back.pipe(answer);
    });
    onward.on('error', () => answer.writeHead(502).end());
    inside.pipe(onward);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  ends.push(() => (server.closeAllConnections(), server.close()));
  return { port: (server.address() as AddressInfo).port, cert: made.cert };
}

/** Runs a program until the tests have ended, and waits for its address. */
async function run(program: string, args: string[], cwd: string, env: Record<string, string>, health: string) {
  const child = spawn(program, args, { cwd, env: { PATH: process.env.PATH!, HOME: process.env.HOME!, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output += text));
  ends.push(() => new Promise<void>((done) => (child.once('exit', () => done()), child.kill('SIGTERM') || done())));
  await expect(async () => expect((await fetch(health)).status, output).toBe(200)).toPass({ timeout: 20_000 });
}

test.beforeAll(async () => {
  const clone = resolve(import.meta.dirname, '../..');
  const dir = mkdtempSync(join(tmpdir(), 'postern-proxy-'));
  ends.push(() => rmSync(dir, { recursive: true, force: true }));
  const [proxy, mail] = [await startProxy(), await startMailServer()];
  backends[authName] = await freePort();
  backends[okrName] = await freePort();
  issuer = `https://${authName}:${proxy.port}`;
  okr = `https://${okrName}:${proxy.port}`;

  const program = join(process.env.POSTERN_PROGRAMS!, 'postern');
  const env = {
    POSTERN_URL: issuer, POSTERN_LISTEN: `127.0.0.1:${backends[authName]}`, POSTERN_BEHIND_PROXY: '127.0.0.1/32', POSTERN_DATA: join(dir, 'data'),
    POSTERN_MAIL_HOST: '127.0.0.1', POSTERN_MAIL_PORT: String(mail), POSTERN_MAIL_SECURITY: 'none', POSTERN_MAIL_FROM: 'codes@example.test',
  };
  postern = async (...args) => JSON.parse((await promisify(execFile)(program, [...args, '--json'], { cwd: dir, env })).stdout);
  await run(program, ['serve'], dir, env, `http://127.0.0.1:${backends[authName]}/healthz`);
  await postern('project', 'create', 'OKR', '--b2b');
  await postern('policy', 'apply', '--yes', '-f', join(clone, 'examples/okr/policy.yaml'));
  const scopes = ['read:okrs', 'report_kr_status', 'manage:krs', 'manage:objectives'].flatMap((scope) => ['--scope', scope]);
  await postern('resource', 'add', okr + '/mcp', '--offline', ...scopes);
  const page = await postern('client', 'create', '--name', 'OKR', '--type', 'first-party-public', '--bypass-consent', '--redirect-uri', okr + '/callback');

  // The OKR manager finds its issuer by name, which no resolver of this computer knows.
  const overlay = join(dir, 'overlay.json');
  const names = join(clone, 'examples/e2e/testdata/names.go.txt');
  writeFileSync(overlay, JSON.stringify({ Replace: { [join(clone, 'examples/okr/names.go')]: names } }));
  execFileSync('go', ['build', '-overlay', overlay, '-o', join(dir, 'okr'), './examples/okr'], { cwd: clone, env: { ...process.env, CGO_ENABLED: '0' } });
  await run(join(dir, 'okr'), [], dir, {
    OKR_URL: okr, OKR_LISTEN: `127.0.0.1:${backends[okrName]}`, OKR_ISSUER: issuer, OKR_CLIENT_ID: page.client_id, OKR_DATA: join(dir, 'okr.db'),
    SSL_CERT_FILE: proxy.cert,
  }, `http://127.0.0.1:${backends[okrName]}/healthz`);
  const keys = { headers: { 'X-Forwarded-Host': new URL(issuer).host, 'X-Forwarded-Proto': 'https' } };
  await expect(async () => {
    const known = await fetch(`http://127.0.0.1:${backends[authName]}/.well-known/jwks.json`, keys);
    expect(await known.text()).toContain('RS256');
  }).toPass({ timeout: 20_000 });
});

test.afterAll(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

// Row: D15
test('sign-in and consent over TLS, with two names and forged headers @once', async ({ page, context }) => {
  const email = newAddress();
  const organization = await postern('organization', 'create', 'Fennel Labs');
  await postern('member', 'add', email, '--organization', organization.slug, '--role', 'manager');

  await page.goto(okr);
  await page.getByRole('link', { name: 'Sign in' }).click();
  await expect(page).toHaveURL((url) => url.origin === issuer);
  await page.getByLabel('E-mail address').fill(email);
  await page.getByRole('button', { name: 'Send me a code' }).click();
  await expect(page.getByRole('heading', { name: 'Check your mail' })).toBeVisible();
  let code = '';
  await expect(async () => {
    const mail = mails.find((m) => m.to === email);
    expect(mail?.text ?? '').not.toContain(liar);
    code = /^\s*(\d{3}) ?(\d{3})\s*$/m.exec(mail?.text ?? '')?.slice(1).join('') ?? '';
    expect(code).not.toBe('');
  }).toPass({ timeout: 10_000 });
  await page.getByLabel('Six-digit code').fill(code);
  await page.getByRole('button', { name: 'Continue' }).click();
  await expect(page.getByRole('heading', { level: 1, name: 'Objectives of Fennel Labs' })).toBeVisible();
  await expect(page).toHaveURL(okr + '/');

  const cookies = await context.cookies();
  expect(cookies.length).toBeGreaterThan(1);
  for (const cookie of cookies) expect(cookie, cookie.name).toMatchObject({ secure: true, httpOnly: true });
  const session = cookies.find((c) => c.name.endsWith('-session'))!;
  expect(session.name).toMatch(/^__Host-postern-[0-9a-f]{8}-session$/);
  expect(session).toMatchObject({ domain: authName, path: '/' });
  expect(cookies.find((c) => c.name === '__Host-okr_session')).toMatchObject({ domain: okrName });

  // A connected app: the same person is asked, and allows it.
  const listener = createPlain((_, response) => {
    response.writeHead(200, { 'Content-Type': 'text/html' }).end('<!doctype html><link rel="icon" href="data:,"><title>Connected</title><h1>Connected</h1>');
  });
  await new Promise<void>((done) => listener.listen(0, '127.0.0.1', done));
  const redirect = `http://127.0.0.1:${(listener.address() as AddressInfo).port}/callback`;
  const client = await postern('client', 'create', '--name', 'Notebook agent', '--redirect-uri', 'http://127.0.0.1/callback');
  const verifier = randomBytes(32).toString('base64url');
  await page.goto(issuer + '/oauth/authorize?' + new URLSearchParams({
    response_type: 'code', client_id: client.client_id, redirect_uri: redirect, scope: 'read:okrs', resource: okr + '/mcp', state: 's',
    code_challenge: createHash('sha256').update(verifier).digest('base64url'), code_challenge_method: 'S256',
  }));
  await expect(page.getByText('Notebook agent').first()).toBeVisible();
  await page.getByRole('button', { name: 'Allow' }).click();
  await expect(page.getByRole('heading', { name: 'Connected' })).toBeVisible();
  const answer = new URL(page.url()).searchParams;
  expect(answer.get('iss')).toBe(issuer);

  // The token, as an app in a browser gets it: from another origin, without credentials.
  await context.setExtraHTTPHeaders({}); // a page may not send such headers elsewhere
  const token = await page.evaluate(async ([address, form]) => {
    return (await fetch(address, { method: 'POST', body: new URLSearchParams(form) })).json();
  }, [issuer + '/v1/oauth2/token', {
    grant_type: 'authorization_code', client_id: client.client_id, redirect_uri: redirect, code_verifier: verifier, code: answer.get('code')!,
  }] as const);
  const claims = JSON.parse(Buffer.from(token.access_token.split('.')[1], 'base64url').toString());
  expect(claims).toMatchObject({ iss: issuer, aud: okr + '/mcp', scope: 'read:okrs' });
  listener.close();
});
