// Starts Postern and lets the conformance suite of the Model Context Protocol
// look at it: node suite.mjs FOLDER RESULTS, where FOLDER has the programs and
// takes the data. Ends with 0 if every check of every scenario passed.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { Browser } from './browser.mjs';

const scenarios = ['authorization-server-metadata-endpoint', 'authorization-code-grant'];

const [folder, results] = process.argv.slice(2);
const [port, todoPort, callbackPort] = [await freePort(), await freePort(), await freePort()];
const issuer = `http://localhost:${port}`;
const resource = `http://localhost:${todoPort}/mcp`;

const server = await startPostern();
let passed = false;
try {
  const client = JSON.parse(execFileSync(join(folder, 'postern'),
    ['client', 'create', '--name', 'Conformance suite', '--redirect-uri', 'http://127.0.0.1/callback', '--json'],
    { cwd: folder, encoding: 'utf8' }));
  await runSuite(client.client_id);
  passed = report();
} finally {
  server.kill('SIGTERM');
  await once(server, 'exit');
}
process.exit(passed ? 0 : 1);

async function freePort() {
  const listener = createServer().listen(0, 'localhost');
  await once(listener, 'listening');
  const { port } = listener.address();
  listener.close();
  await once(listener, 'close');
  return port;
}

/** Starts `postern dev` with the to-do example and waits until both answer. */
async function startPostern() {
  const child = spawn(join(folder, 'postern'), ['dev', '--', join(folder, 'todo')], {
    cwd: folder,
    env: { ...process.env, POSTERN_PORT: String(port), TODO_PORT: String(todoPort) },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const patience = Date.now() + 30_000;
  for (const address of [`${issuer}/readyz`, `http://localhost:${todoPort}/healthz`]) {
    while (!(await fetch(address).then((r) => r.ok, () => false))) {
      if (child.exitCode !== null || Date.now() > patience) {
        child.kill('SIGKILL');
        throw new Error('postern dev did not start');
      }
      await pause(50);
    }
  }
  return child;
}

/**
 * Runs both scenarios at once, for the second takes its metadata from the
 * first. The suite prints an authorization URL and waits for somebody to walk
 * from there to its callback; that is us.
 */
async function runSuite(clientID) {
  mkdirSync(results, { recursive: true });
  const suite = spawn(process.execPath, ['node_modules/@modelcontextprotocol/conformance/dist/index.js',
    'authorization', '--url', issuer, '--client-id', clientID, '--resource', resource, '-p', String(callbackPort), '-o', results],
    { stdio: ['ignore', 'pipe', 'inherit'] });
  const patience = setTimeout(() => suite.kill(), 120_000);
  try {
    for await (const line of createInterface({ input: suite.stdout })) {
      console.log(line);
      const address = line.match(/https?:\/\/\S+/)?.[0];
      if (address?.startsWith(issuer + '/oauth/authorize?')) {
        await new Browser(issuer).allow(address, 'conformance@example.test');
      }
    }
  } finally {
    clearTimeout(patience);
    suite.kill();
  }
}

/** Prints every check; true if each scenario ran and nothing failed. */
function report() {
  const folders = readdirSync(results);
  let failures = 0;
  for (const scenario of scenarios) {
    const ran = folders.filter((name) => name.includes(scenario));
    if (ran.length === 0) {
      console.log(`FAILURE  ${scenario}: did not run`);
      failures++;
    }
    for (const name of ran) {
      for (const check of JSON.parse(readFileSync(join(results, name, 'checks.json'), 'utf8'))) {
        console.log(`${check.status.padEnd(8)} ${scenario}: ${check.id}`);
        failures += check.status === 'SUCCESS' || check.status === 'INFO' ? 0 : 1;
      }
    }
  }
  return failures === 0;
}
