// The official MCP Inspector. It is no dependency of these tests; with Node
// 22.19 or newer:
//
//   npm install --prefix /some/folder @modelcontextprotocol/inspector
//   POSTERN_INSPECTOR=/some/folder npm test -- inspector guides
import { expect } from '@playwright/test';
import type { Page, TestInfo } from '@playwright/test';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { freePort } from './server.ts';

/** Whether it is installed here. */
export const installed = !!process.env.POSTERN_INSPECTOR;

/** Starts an Inspector for a server, opens it and connects: the next page is ours. */
export async function connect(page: Page, server: string, info: TestInfo) {
  const inspector = spawn(process.execPath, [
    join(process.env.POSTERN_INSPECTOR!, 'node_modules/.bin/mcp-inspector'), '--web', '--transport', 'http', '--server-url', server,
  ], {
    env: { ...process.env, CLIENT_PORT: String(await freePort()), MCP_AUTO_OPEN_ENABLED: 'false', MCP_INSPECTOR_SECRET_STORE: 'memory', HOME: info.outputDir },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  inspector.stdout.on('data', (text) => (said += text));
  try {
    await expect.poll(() => said, { timeout: 30_000 }).toContain('MCP_INSPECTOR_API_TOKEN=');
    await page.goto(said.match(/http:\/\/127\.0\.0\.1:\d+\S*MCP_INSPECTOR_API_TOKEN=\w+/)![0]);
    await page.getByRole('switch', { name: /^Connect or disconnect/ }).click({ force: true });
  } catch (e) {
    inspector.kill();
    throw e;
  }
  return inspector;
}
