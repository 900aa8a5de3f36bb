// The suite's scenarios for MCP servers, against the fixture of the official Go
// SDK: bare, and behind guard. The suite cannot send a token, so a proxy that
// adds one stands in front of the gateway of the examples:
//
//   suite → bearer proxy (here) → examples/gateway → fixture, unchanged
//
// Guard must add no failure: what the guarded fixture fails, the bare one fails.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Browser } from './browser.mjs';
import { freePort, start } from './programs.mjs';
import { cli, read, reasons } from './results.mjs';

// The fixture serves 2026-07-28 without sessions only, 2025-11-25 with them.
const revisions = [
  { revision: '2025-11-25', stateless: false },
  { revision: '2026-07-28', stateless: true },
];

export async function lookAtGuard(postern, folder, results) {
  const version = execFileSync('go', ['list', '-m', '-f', '{{.Version}}', 'github.com/modelcontextprotocol/go-sdk'],
    { cwd: '../examples', encoding: 'utf8' }).trim();
  const runs = [];
  for (const { revision, stateless } of revisions) {
    const [fixture, gateway] = [`localhost:${await freePort()}`, `localhost:${await freePort()}`];
    const resource = `http://${gateway}/mcp`;
    const ends = [
      await start([`http://${fixture}/mcp`], 'go', ['run',
        `github.com/modelcontextprotocol/go-sdk/conformance/everything-server@${version}`, '-http', fixture, `-stateless=${stateless}`],
      { env: { ...process.env, GOWORK: 'off' } }),
      await start([resource], join(folder, 'gateway'),
        ['-issuer', postern.issuer, '-resource', resource, '-upstream', `http://${fixture}/mcp`]),
    ];
    const bearer = await bearerProxy(gateway, await tokenFor(postern, resource));
    try {
      const bare = await suite(`http://${fixture}/mcp`, revision, join(results, `bare-${revision}`));
      const guarded = await suite(`http://localhost:${bearer.address().port}/mcp`, revision, join(results, `guarded-${revision}`));
      runs.push(
        { name: `Go SDK fixture ${version}, ${revision}`, ...bare },
        { name: `Go SDK fixture ${version} behind guard, ${revision}`, ...guarded, wrong: [...guarded.wrong, ...added(bare, guarded)] },
      );
    } finally {
      bearer.close();
      bearer.closeAllConnections();
      for (const end of ends.reverse()) await end();
    }
  }
  return runs;
}

/** An access token for the resource, as a client gets it. */
async function tokenFor({ issuer, command }, resource) {
  command('resource', 'add', resource); // which reads the scopes from the gateway
  while (!(await (await fetch(issuer + '/.well-known/oauth-authorization-server')).text()).includes(resource)) await pause(50);
  const callback = http.createServer((_, response) => response.end('Connected.')).listen(0, '127.0.0.1');
  await once(callback, 'listening');
  const redirectURI = `http://127.0.0.1:${callback.address().port}/callback`;
  const { client_id: id } = command('client', 'create', '--name', 'Conformance suite', '--redirect-uri', 'http://127.0.0.1/callback');
  const verifier = 'a-verifier-that-needs-no-secret-here-'.repeat(2);
  const challenge = Buffer.from(await crypto.subtle.digest('SHA-256', Buffer.from(verifier))).toString('base64url');
  const query = new URLSearchParams({
    response_type: 'code', client_id: id, redirect_uri: redirectURI, state: 's', resource, code_challenge: challenge, code_challenge_method: 'S256',
  });
  const answer = await new Browser(issuer).allow(`${issuer}/oauth/authorize?${query}`, `suite-${id}@example.test`);
  callback.close();
  const response = await fetch(`${issuer}/v1/oauth2/token`, {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'authorization_code', client_id: id, code: new URL(answer.url).searchParams.get('code'), redirect_uri: redirectURI, code_verifier: verifier,
    }),
  });
  const tokens = await response.json();
  if (!tokens.access_token) throw new Error(`no token for ${resource}: ${response.status} ${JSON.stringify(tokens)}`);
  return tokens.access_token;
}

/** Passes requests on as they come, with a token, and answers as they come. */
async function bearerProxy(to, token) {
  const [hostname, port] = to.split(':');
  const proxy = http.createServer((request, response) => {
    const own = `localhost:${proxy.address().port}`;
    const forward = http.request({
      hostname, port, method: request.method, path: request.url,
      headers: { ...request.headers, host: request.headers.host === own ? to : request.headers.host, authorization: `Bearer ${token}` },
    }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      response.flushHeaders();
      answer.pipe(response);
    });
    forward.on('error', () => response.destroy());
    response.on('close', () => forward.destroy());
    request.pipe(forward);
  });
  proxy.listen(0, 'localhost');
  await once(proxy, 'listening');
  return proxy;
}

/** Runs what a revision requires of a server. */
async function suite(url, revision, folder) {
  mkdirSync(folder, { recursive: true });
  const child = spawn(process.execPath, [cli, 'server', '--url', url, '--requirements', revision,
    '--expected-failures', `expected-failures-${revision}.yml`, '-o', folder], { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.on('data', (text) => (said += text));
  const [code] = await once(child, 'close');
  const scenarios = read(folder);
  const known = new Map(reasons(revision));
  const wrong = code === 0 ? [] : [`The suite is not content with ${url} (${revision}):\n${said.split('\n').slice(-60).join('\n')}`];
  for (const { scenario, failed } of scenarios) { // those that the suite runs and does not count, too
    if (failed.length > 0 && !known.has(scenario)) wrong.push(`${scenario} fails at ${url} (${revision}) and is not among the expected failures: ${failed.join(', ')}.`);
  }
  return { scenarios, wrong };
}

/** What the guarded server fails and the bare one does not. */
function added(bare, guarded) {
  if (guarded.scenarios.length !== bare.scenarios.length) return [`Guard leaves out scenarios: ${guarded.scenarios.length} of ${bare.scenarios.length} ran.`];
  return guarded.scenarios.flatMap(({ scenario, failed, passed }) => {
    const before = bare.scenarios.find((s) => s.scenario === scenario);
    const more = failed.filter((id) => !before?.failed.includes(id));
    if (more.length > 0) return [`Guard adds a failure: ${scenario}: ${more.join(', ')}.`];
    return before && passed < before.passed ? [`Guard leaves out checks of ${scenario}: ${passed} passed, ${before.passed} without it.`] : [];
  });
}
