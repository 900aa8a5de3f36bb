// The suite's scenarios for authorization servers, against Postern.
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Browser } from './browser.mjs';
import { freePort } from './programs.mjs';
import { cli, read } from './results.mjs';

const scenarios = ['authorization-server-metadata-endpoint', 'authorization-code-grant'];

/**
 * Runs both scenarios at once, for the second takes its metadata from the
 * first. The suite prints an authorization URL and waits for somebody to walk
 * from there to its callback; that is us.
 */
export async function lookAtIssuer({ issuer, resource, command }, results) {
  const folder = join(results, 'authorization');
  mkdirSync(folder, { recursive: true });
  const client = command('client', 'create', '--name', 'Conformance suite', '--redirect-uri', 'http://127.0.0.1/callback');
  const suite = spawn(process.execPath, [cli,
    'authorization', '--url', issuer, '--client-id', client.client_id, '--resource', resource, '-p', String(await freePort()), '-o', folder],
  { stdio: ['ignore', 'pipe', 'inherit'] });
  const patience = setTimeout(() => suite.kill(), 120_000);
  try {
    for await (const line of createInterface({ input: suite.stdout })) {
      const address = line.match(/https?:\/\/\S+/)?.[0];
      if (address?.startsWith(issuer + '/oauth/authorize?')) {
        await new Browser(issuer).allow(address, 'conformance@example.test');
      }
    }
  } finally {
    clearTimeout(patience);
    suite.kill();
  }
  const seen = read(folder);
  const wrong = [
    ...scenarios.filter((name) => !seen.some((s) => s.scenario === name)).map((name) => `${name} did not run.`),
    ...seen.filter((s) => s.failed.length).map((s) => `${s.scenario} failed: ${s.failed.join(', ')}.`),
  ];
  return { name: 'Postern, authorization server', scenarios: seen, wrong };
}
