// The programs that the suite looks at, started here and ended here.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

/** A port of this computer that nobody listens on. */
export async function freePort() {
  const listener = createServer().listen(0, 'localhost');
  await once(listener, 'listening');
  const { port } = listener.address();
  listener.close();
  await once(listener, 'close');
  return port;
}

/**
 * Starts a program and waits until every address answers, with anything but
 * "not ready" or another failure of the server.
 * Returns what ends it, with the programs that it started itself.
 */
export async function start(addresses, command, args, options) {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'], detached: true, ...options });
  const end = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    process.kill(-child.pid, 'SIGTERM');
    await once(child, 'exit');
  };
  const patience = Date.now() + 120_000;
  for (const address of addresses) {
    while (!(await fetch(address).then(async (r) => { await r.body?.cancel(); return r.status < 500; }, () => false))) {
      if (child.exitCode !== null || Date.now() > patience) {
        await end();
        throw new Error(`${command} ${args.join(' ')} did not start`);
      }
      await pause(50);
    }
  }
  return end;
}
