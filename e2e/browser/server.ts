// Starts what the tests look at: `postern dev` with the to-do example and the
// OKR manager, built from this clone, on free ports, with a data folder of its
// own.
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
/** The issuer whose people are members of organizations, and its example. */
export const office = () => process.env.OKR_ISSUER!;
export const okr = () => process.env.OKR_URL!;
const folder = () => process.env.POSTERN_FOLDER!;
const program = (name: string) => join(process.env.POSTERN_PROGRAMS!, name);

/** Runs a set-up command beside the running server. */
export async function postern(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(program('postern'), args, { cwd: folder() });
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

/** Builds the programs and starts the server that most tests look at. */
export default async function start() {
  const programs = mkdtempSync(join(tmpdir(), 'postern-programs-'));
  execFileSync('go', ['build', '-o', programs + '/', './cmd/postern', './examples/todo', './examples/okr'], {
    cwd: clone,
    env: { ...process.env, CGO_ENABLED: '0' },
    stdio: 'inherit',
  });
  process.env.POSTERN_PROGRAMS = programs;
  const stop = await startDev();
  return async () => {
    await stop();
    rmSync(programs, { recursive: true, force: true });
  };
}

/**
 * Starts `postern dev` with both examples in a folder of its own and points the
 * tests at it. What it returns ends it and points them back.
 */
export async function startDev(...options: string[]): Promise<() => Promise<void>> {
  const { POSTERN_ISSUER, TODO_URL, OKR_ISSUER, OKR_URL, POSTERN_FOLDER, ...env } = process.env;
  const dir = mkdtempSync(join(tmpdir(), 'postern-browser-'));
  const ports = new Set<number>();
  while (ports.size < 4) ports.add(await freePort());
  const [ours, theirs, second, okrs] = [...ports].map(String);
  const output = openSync(join(dir, 'output'), 'w');
  const policy = join(clone, 'examples/okr/policy.yaml');
  const child = spawn(program('postern'), ['dev', '--policy', policy, ...options, '--', program('todo'), '--', program('okr')], {
    cwd: dir,
    env: { ...env, POSTERN_PORT: ours, TODO_PORT: theirs, POSTERN_B2B_PORT: second, OKR_PORT: okrs, NO_COLOR: '1' },
    stdio: ['ignore', output, output],
  });
  const ended = new Promise<void>((done) => child.once('exit', () => done()));
  process.env.POSTERN_FOLDER = dir;
  process.env.POSTERN_ISSUER = `http://localhost:${ours}`;
  process.env.TODO_URL = `http://localhost:${theirs}`;
  process.env.OKR_ISSUER = `http://localhost:${second}`;
  process.env.OKR_URL = `http://localhost:${okrs}`;

  const patience = Date.now() + 30_000;
  const wanted = [issuer() + '/readyz', todo() + '/healthz', office() + '/readyz', okr() + '/healthz'];
  while (!(await Promise.all(wanted.map(answering))).every(Boolean)) {
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
    Object.assign(process.env, { POSTERN_ISSUER, TODO_URL, OKR_ISSUER, OKR_URL, POSTERN_FOLDER });
  };
}

/** Makes a certificate for names of hosts; its files, in a folder to remove. */
export function certificate(hosts = 'localhost'): { dir: string; cert: string; key: string } {
  const dir = mkdtempSync(join(tmpdir(), 'postern-certificate-'));
  const go = execFileSync('go', ['env', 'GOROOT'], { encoding: 'utf8' }).trim();
  execFileSync('go', ['run', join(go, 'src/crypto/tls/generate_cert.go'), '--host', hosts, '--ca', '--ecdsa-curve', 'P256', '--duration', '24h'], {
    cwd: dir,
    stdio: 'ignore',
  });
  return { dir, cert: join(dir, 'cert.pem'), key: join(dir, 'key.pem') };
}
