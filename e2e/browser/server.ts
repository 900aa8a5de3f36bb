// Starts what the tests look at: `postern dev` with the to-do example, built
// from this clone, on free ports, with a data folder of its own.
import { execFile, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

const clone = resolve(import.meta.dirname, '../..');

// Where everything is; workers inherit it from globalSetup.
export const issuer = () => process.env.POSTERN_ISSUER!;
export const todo = () => process.env.TODO_URL!;
const folder = () => process.env.POSTERN_FOLDER!;

/** Runs a set-up command beside the running server. */
export async function postern(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(join(folder(), 'postern'), args, { cwd: folder() });
  return stdout;
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, 'localhost', done));
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}

async function answering(address: string): Promise<boolean> {
  return fetch(address).then((r) => r.ok, () => false);
}

export default async function start() {
  const dir = mkdtempSync(join(tmpdir(), 'postern-browser-'));
  execFileSync('go', ['build', '-o', dir + '/', './cmd/postern', './examples/todo'], {
    cwd: clone,
    env: { ...process.env, CGO_ENABLED: '0' },
    stdio: 'inherit',
  });
  const [ours, theirs] = [await freePort(), await freePort()];
  const output = openSync(join(dir, 'output'), 'w');
  const { TODO_URL: _, ...env } = process.env;
  const child = spawn(join(dir, 'postern'), ['dev', '--', join(dir, 'todo')], {
    cwd: dir,
    env: { ...env, POSTERN_PORT: String(ours), TODO_PORT: String(theirs), NO_COLOR: '1' },
    stdio: ['ignore', output, output],
  });
  const ended = new Promise<void>((done) => child.once('exit', () => done()));
  process.env.POSTERN_FOLDER = dir;
  process.env.POSTERN_ISSUER = `http://localhost:${ours}`;
  process.env.TODO_URL = `http://localhost:${theirs}`;

  const patience = Date.now() + 30_000;
  while (!((await answering(issuer() + '/readyz')) && (await answering(todo() + '/healthz')))) {
    if (child.exitCode !== null || Date.now() > patience) {
      child.kill('SIGKILL');
      throw new Error('postern dev did not start:\n' + readFileSync(join(dir, 'output'), 'utf8'));
    }
    await new Promise((done) => setTimeout(done, 50));
  }
  return async () => {
    child.kill('SIGTERM');
    await ended;
    rmSync(dir, { recursive: true, force: true });
  };
}
