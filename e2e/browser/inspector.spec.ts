// The official MCP Inspector against the to-do server. It is no dependency of
// these tests; with Node 22.19 or newer:
//
//   npm install --prefix /some/folder @modelcontextprotocol/inspector
//   POSTERN_INSPECTOR=/some/folder npm test -- inspector
import { expect, test } from '@playwright/test';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { newAddress, signIn } from './person.ts';
import { freePort, todo } from './server.ts';

test('the MCP Inspector connects through sign-in and consent and calls a tool', { tag: '@inspector' }, async ({ page }, info) => {
  test.slow();
  const inspector = spawn(process.execPath, [
    join(process.env.POSTERN_INSPECTOR!, 'node_modules/.bin/mcp-inspector'), '--web', '--transport', 'http', '--server-url', todo() + '/mcp',
  ], {
    env: { ...process.env, CLIENT_PORT: String(await freePort()), MCP_AUTO_OPEN_ENABLED: 'false', MCP_INSPECTOR_SECRET_STORE: 'memory', HOME: info.outputDir },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    let said = '';
    inspector.stdout.on('data', (text) => (said += text));
    await expect.poll(() => said, { timeout: 30_000 }).toContain('MCP_INSPECTOR_API_TOKEN=');
    await page.goto(said.match(/http:\/\/127\.0\.0\.1:\d+\S*MCP_INSPECTOR_API_TOKEN=\w+/)![0]);
    await page.getByRole('switch', { name: /^Connect or disconnect/ }).click({ force: true });
    await signIn(page, newAddress());
    await expect(page.getByRole('heading', { name: 'MCP Inspector wants to act for you in Todo' })).toBeVisible();
    await page.screenshot({ path: 'test-results/pages/inspector-consent.png' });
    await page.getByRole('button', { name: 'Allow' }).click();
    await page.getByText('Tools', { exact: true }).click();
    await page.getByRole('button', { name: 'createTodo' }).click();
    await page.getByRole('textbox', { name: 'todoText' }).fill('Buy milk');
    await page.getByRole('button', { name: 'Execute Tool' }).click();
    await expect(page.getByText('"Added."').first()).toBeVisible();
    await page.screenshot({ path: 'test-results/pages/inspector-called.png' });
  } finally {
    inspector.kill();
  }
});
