// Sign-in through an organization's own OpenID provider, which is played here,
// on a server of their own that trusts it.
import { createPrivateKey, createPublicKey, generateKeyPairSync, randomUUID, sign } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { App, atOKR } from './app.ts';
import { allow, expect, look, newAddress, signIn, test } from './person.ts';
import { certificate, office, postern, startDev } from './server.ts';

test.describe.configure({ mode: 'serial' });
test.use({ ignoreHTTPSErrors: true });

const ends: (() => unknown)[] = [];
let provider = '';

/** Starts the provider: whoever is hinted at is who signs in there. */
async function startProvider(cert: string, key: string): Promise<string> {
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const codes = new Map<string, URLSearchParams>();
  let known = '';
  const host = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, async (request, response) => {
    const url = new URL(request.url!, provider);
    const answer = (body: object) => response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
    switch (url.pathname) {
      case '/.well-known/openid-configuration':
        return answer({
          issuer: provider,
          authorization_endpoint: provider + '/authorize',
          token_endpoint: provider + '/token',
          jwks_uri: provider + '/keys',
          response_types_supported: ['code'],
          id_token_signing_alg_values_supported: ['ES256'],
          token_endpoint_auth_methods_supported: ['client_secret_post'],
        });
      case '/keys':
        return answer({ keys: [{ ...createPublicKey(createPrivateKey(pair.privateKey.export({ type: 'pkcs8', format: 'pem' }))).export({ format: 'jwk' }), kid: 'k' }] });
      case '/authorize': {
        const code = randomUUID();
        codes.set(code, url.searchParams);
        const back = new URL(url.searchParams.get('redirect_uri')!);
        back.search = String(new URLSearchParams({ code, state: url.searchParams.get('state')! }));
        return response.writeHead(200, { 'Content-Type': 'text/html' }).end(
          `<!doctype html><link rel="icon" href="data:,"><title>Provider</title><a href="${String(back).replaceAll('&', '&amp;')}">Go on</a>`);
      }
      case '/token': {
        let body = '';
        for await (const part of request) body += part;
        const form = new URLSearchParams(body);
        const asked = codes.get(form.get('code')!);
        if (!asked || form.get('client_secret') !== 'the-secret') return response.writeHead(400).end();
        const now = Math.floor(Date.now() / 1000);
        const email = known = asked.get('login_hint') ?? known; // whom it is told of, or had last
        const claims = { iss: provider, aud: asked.get('client_id'), sub: email, email, email_verified: true, nonce: asked.get('nonce'), iat: now, exp: now + 60 };
        const text = [{ alg: 'ES256', kid: 'k' }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
        const signature = sign('sha256', Buffer.from(text), { key: pair.privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url');
        return answer({ id_token: text + '.' + signature, access_token: 'x', token_type: 'Bearer' });
      }
    }
    response.writeHead(404).end();
  });
  await new Promise<void>((done) => host.listen(0, 'localhost', done));
  ends.push(() => (host.closeAllConnections(), host.close()));
  return `https://localhost:${(host.address() as AddressInfo).port}`;
}

test.beforeAll(async () => {
  const made = certificate();
  ends.push(() => rmSync(made.dir, { recursive: true, force: true }));
  provider = await startProvider(made.cert, made.key);
  ends.push(await startDev('--dev-ca', made.cert));
});

test.afterAll(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

const inOffice = async (...args: string[]) => JSON.parse(await postern(...args, '--project', office(), '--json'));

test('an administrator connects the provider, and a member signs in through it', async ({ page, anotherBrowser }, info) => {
  const { slug } = await inOffice('organization', 'create', 'Fennel Labs');
  const [admin, member] = [newAddress(), newAddress()];
  await inOffice('member', 'add', admin, '--organization', slug, '--role', 'admin');
  await inOffice('member', 'add', member, '--organization', slug);

  await page.goto(office() + '/organization/sso');
  await signIn(page, admin);
  await expect(page.getByRole('heading', { name: 'Connect your provider' })).toBeVisible();
  await look(page, 'sso-none', info);
  await page.getByLabel('Issuer').fill('https://localhost:1');
  await page.getByLabel('Client id').fill('postern');
  await page.getByLabel('Client secret').fill('the-secret');
  await page.getByRole('button', { name: 'Connect' }).click();
  await expect(page.getByRole('alert')).toContainText('metadata could not be read');
  await look(page, 'sso-refused', info);
  await page.getByLabel('Issuer').fill(provider);
  await page.getByLabel('Client secret').fill('the-secret');
  await page.getByRole('button', { name: 'Connect' }).click();
  await expect(page.getByRole('status')).toContainText('The connection is kept.');
  await page.getByRole('link', { name: 'Test' }).click();
  await page.getByRole('link', { name: 'Go on' }).click();
  await expect(page.getByRole('heading', { name: 'The test worked' })).toBeVisible();
  await expect(page.getByText('They are a member, and would be signed in.')).toBeVisible();
  await look(page, 'sso-tested', info);
  await page.getByRole('button', { name: 'Switch on' }).click();
  await expect(page.getByRole('status')).toContainText('Single sign-on is on.');
  await look(page, 'sso-on', info);

  // The member's address has to be proved once: its domain is not the
  // organization's. That makes them active.
  const other = await anotherBrowser({ ignoreHTTPSErrors: true });
  await other.goto(office() + '/switch-organization');
  await signIn(other, member);
  await expect(other.getByRole('heading', { name: 'My connected apps' })).toBeVisible();
  const app = await App.start({}, 200, atOKR);
  ends.push(() => app.close());
  await other.goto(app.request());
  await expect(other.getByRole('button', { name: 'Allow' })).toBeVisible();
  await other.getByRole('link', { name: /Change$/ }).click();
  await look(other, 'sso-choose', info);
  await other.getByRole('link', { name: 'Sign in with single sign-on' }).click();
  await other.getByRole('link', { name: 'Go on' }).click();
  await expect(other.getByText('Fennel Labs').first()).toBeVisible();
  await allow(other, app);

  // The next time they start with it, in a browser that knows nothing.
  const fresh = await anotherBrowser({ ignoreHTTPSErrors: true });
  await fresh.goto(office() + '/switch-organization');
  await fresh.getByRole('link', { name: 'Use single sign-on' }).click();
  await fresh.getByLabel('Short name of your organization').fill('nobody-has-this');
  await fresh.getByRole('button', { name: 'Continue' }).click();
  await expect(fresh.getByRole('alert')).toContainText('No organization with this short name has single sign-on.');
  await look(fresh, 'sso-find', info);
  await fresh.getByLabel('Short name of your organization').fill(slug);
  await fresh.getByRole('button', { name: 'Continue' }).click();
  await fresh.getByRole('link', { name: 'Go on' }).click();
  await expect(fresh.getByRole('heading', { name: 'My connected apps' })).toBeVisible();

  // What a role does not permit is greyed.
  await other.goto(office() + '/organization/sso');
  await expect(other.getByText('Your role, Member, does not include get of sso.')).toBeVisible();
  await look(other, 'sso-greyed', info);
  await page.getByRole('button', { name: 'Delete' }).click();
  await expect(page.getByText('The connection is deleted.')).toBeVisible();
  await other.reload();
  await expect(other.getByRole('button', { name: 'Send me a code' })).toBeVisible();
});
